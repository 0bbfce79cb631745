"""Fixtures of the real networks, for every test in this folder."""

from real_networks import bundled, photographs, resnet50, squeezenet

__all__ = ["bundled", "photographs", "resnet50", "squeezenet"]
