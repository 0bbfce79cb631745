"""Fixtures of the real networks, for every test in this folder."""

import pytest
from real_networks import bundled, photographs, resnet50, squeezenet

__all__ = ["bundled", "photographs", "resnet50", "squeezenet"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Real networks are large enough for all threads."""
