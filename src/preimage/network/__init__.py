"""A trained module opened at taps; it knows nothing of its uses."""

from preimage.network.loading import load
from preimage.network.opened import OUTPUT, Answering, Beyond, Network
from preimage.network.smoothing import Smoothed, smooth_max_pool, smoothed
from preimage.network.taps import Place, Tap, TapTable

__all__ = [
    "OUTPUT",
    "Answering",
    "Beyond",
    "Network",
    "Place",
    "Smoothed",
    "Tap",
    "TapTable",
    "load",
    "smooth_max_pool",
    "smoothed",
]
