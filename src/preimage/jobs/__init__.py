"""Long work in units that are finished one by one, safe against being killed at any moment."""

from preimage.jobs.folder import JobFolder
from preimage.jobs.workers import finished

__all__ = ["JobFolder", "finished"]
