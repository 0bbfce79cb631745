"""The papers' measures of how good a picture, an explanation or a sample is."""

from preimage.evaluation.agreement import Agreement, agreement
from preimage.evaluation.attack import Attack, attack
from preimage.evaluation.baselines import Centre, Random
from preimage.evaluation.deletion import Deletion, deletion_curve
from preimage.evaluation.deletion_game import DeletionGame
from preimage.evaluation.diversity import Diversity, diversity
from preimage.evaluation.embedding import by_features, embedded, in_pixels
from preimage.evaluation.evaluating import evaluate
from preimage.evaluation.evaluation import Evaluation
from preimage.evaluation.faithfulness import Faithfulness
from preimage.evaluation.grid_map import grid_map
from preimage.evaluation.grid_pointing import GridPointing
from preimage.evaluation.inception_score import inception_score
from preimage.evaluation.insertion import Insertion
from preimage.evaluation.judging import judged
from preimage.evaluation.localisation import Localisation
from preimage.evaluation.measure import Case, Measure, Quantity
from preimage.evaluation.measures import find_measure, measures
from preimage.evaluation.memory import MemoryCheck, memory_check
from preimage.evaluation.mixing import Mixing, mixing
from preimage.evaluation.ms_ssim import ms_ssim, ssim
from preimage.evaluation.nearest_images import Nearest, nearest_images
from preimage.evaluation.parts import Parts
from preimage.evaluation.pointing import Pointing
from preimage.evaluation.representativeness import Representativeness
from preimage.evaluation.sample_table import SampleRow, SampleTable, sample_table
from preimage.evaluation.sensitivity import Sensitivity
from preimage.evaluation.summary import Summary
from preimage.evaluation.weight_randomisation import WeightRandomisation

__all__ = [
    "Agreement",
    "Attack",
    "Case",
    "Centre",
    "Deletion",
    "DeletionGame",
    "Diversity",
    "Evaluation",
    "Faithfulness",
    "GridPointing",
    "Insertion",
    "Localisation",
    "Measure",
    "MemoryCheck",
    "Mixing",
    "Nearest",
    "Parts",
    "Pointing",
    "Quantity",
    "Random",
    "Representativeness",
    "SampleRow",
    "SampleTable",
    "Sensitivity",
    "Summary",
    "WeightRandomisation",
    "agreement",
    "attack",
    "by_features",
    "deletion_curve",
    "diversity",
    "embedded",
    "evaluate",
    "find_measure",
    "grid_map",
    "in_pixels",
    "inception_score",
    "judged",
    "measures",
    "memory_check",
    "mixing",
    "ms_ssim",
    "nearest_images",
    "sample_table",
    "ssim",
]
