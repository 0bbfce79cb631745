"""Long work in units that are finished one by one, safe against being killed at any moment."""

from preimage.jobs.fingerprint import fingerprint
from preimage.jobs.folder import JobFolder
from preimage.jobs.workers import check_workers, finished, gpus_on

__all__ = ["JobFolder", "check_workers", "fingerprint", "finished", "gpus_on"]
