"""What is asked of a network: objects that score activations, and the strings that name them."""

from preimage.objectives.classes import Label, class_gradients, find_label, label, log_probabilities, probabilities
from preimage.objectives.directions import (
    Aggregate,
    Direction,
    aggregated,
    as_directions,
    direction,
    floored_cosines,
    floored_directions,
)
from preimage.objectives.features import Distance, Features, features, features_of_each
from preimage.objectives.objective import Activations, EachItsOwn, Objective, WeightedSum
from preimage.objectives.sequence import InSequence, in_sequence, residual
from preimage.objectives.shares import Share, as_shares
from preimage.objectives.strings import parse, resolve
from preimage.objectives.tiled import Tiling, tiled
from preimage.objectives.units import Channel, Unit, channel, neuron, unit
from preimage.objectives.views import EachView, each_view
from preimage.objectives.written import Written, of_images, written

__all__ = [
    "Activations",
    "Aggregate",
    "Channel",
    "Direction",
    "Distance",
    "EachItsOwn",
    "EachView",
    "Features",
    "InSequence",
    "Label",
    "Objective",
    "Share",
    "Tiling",
    "Unit",
    "WeightedSum",
    "Written",
    "aggregated",
    "as_directions",
    "as_shares",
    "channel",
    "class_gradients",
    "direction",
    "each_view",
    "features",
    "features_of_each",
    "find_label",
    "floored_cosines",
    "floored_directions",
    "in_sequence",
    "label",
    "log_probabilities",
    "neuron",
    "of_images",
    "parse",
    "probabilities",
    "residual",
    "resolve",
    "tiled",
    "unit",
    "written",
]
