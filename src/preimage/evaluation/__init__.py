"""The papers' measures of how good a picture or an explanation is."""

from preimage.evaluation.agreement import Agreement, agreement
from preimage.evaluation.attack import Attack, attack
from preimage.evaluation.baselines import Centre, Random
from preimage.evaluation.deletion import Deletion, deletion_curve
from preimage.evaluation.deletion_game import DeletionGame
from preimage.evaluation.evaluating import evaluate
from preimage.evaluation.evaluation import Evaluation
from preimage.evaluation.faithfulness import Faithfulness
from preimage.evaluation.grid_pointing import GridPointing
from preimage.evaluation.insertion import Insertion
from preimage.evaluation.localisation import Localisation
from preimage.evaluation.measure import Case, Measure, Quantity
from preimage.evaluation.measures import find_measure, measures
from preimage.evaluation.parts import Parts
from preimage.evaluation.pointing import Pointing
from preimage.evaluation.representativeness import Representativeness
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
    "Evaluation",
    "Faithfulness",
    "GridPointing",
    "Insertion",
    "Localisation",
    "Measure",
    "Parts",
    "Pointing",
    "Quantity",
    "Random",
    "Representativeness",
    "Sensitivity",
    "Summary",
    "WeightRandomisation",
    "agreement",
    "attack",
    "deletion_curve",
    "evaluate",
    "find_measure",
    "measures",
]
