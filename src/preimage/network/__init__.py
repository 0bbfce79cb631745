"""A trained module opened at taps; it knows nothing of its uses."""

from preimage.network.loading import load
from preimage.network.opened import OUTPUT, Network
from preimage.network.taps import Place, Tap, TapTable

__all__ = ["OUTPUT", "Network", "Place", "Tap", "TapTable", "load"]
