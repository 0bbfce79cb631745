"""The atlas: every unit of whole layers, on one machine or a cluster, and a site to wander through."""

from preimage.atlas.building import atlas
from preimage.atlas.plan import whole_network
from preimage.atlas.reading import Batch, Example, Incoming, Unit, about, tunings, units_of
from preimage.atlas.status import Atlas, status
from preimage.atlas.verifying import Verification, verify

__all__ = [
    "Atlas",
    "Batch",
    "Example",
    "Incoming",
    "Unit",
    "Verification",
    "about",
    "atlas",
    "status",
    "tunings",
    "units_of",
    "verify",
    "whole_network",
]
