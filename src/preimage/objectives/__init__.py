"""What is asked of a network: objects that score activations, and the strings that name them."""

from preimage.objectives.classes import Label, label, log_probabilities
from preimage.objectives.directions import Direction, direction, floored_cosines
from preimage.objectives.objective import Activations, EachItsOwn, Objective, WeightedSum
from preimage.objectives.strings import parse, resolve
from preimage.objectives.units import Channel, Unit, channel, neuron, unit

__all__ = [
    "Activations",
    "Channel",
    "Direction",
    "EachItsOwn",
    "Label",
    "Objective",
    "Unit",
    "WeightedSum",
    "channel",
    "direction",
    "floored_cosines",
    "label",
    "log_probabilities",
    "neuron",
    "parse",
    "resolve",
    "unit",
]
