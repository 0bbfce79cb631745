"""Training on several devices at once: one process for each, started by torchrun.

    torchrun --nproc-per-node 4 -m preimage.cli train-prior ...

PyTorch's own collectives are enough for that: every process computes its part of each batch, and gradients and losses
are averaged. All randomness is drawn for the whole batch in every process, so that it does not matter how many there
are: the result differs by rounding only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from preimage.errors import RequestError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; alone by default."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """The one that writes files and shows progress."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """This process's share of what belongs to a whole batch [N, ...]."""
        size = len(batch) // self.count
        return batch[self.rank * size : (self.rank + 1) * size]

    def check(self, batch: int) -> None:
        """Raise `RequestError` unless every process gets as many of a batch."""
        if batch % self.count:
            raise RequestError(f"{self.count} processes cannot share batches of {batch} equally")

    def average(self, numbers: dict[str, float]) -> dict[str, float]:
        """Each number's mean over all processes."""
        if self.count == 1 or not numbers:
            return numbers
        values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=_device())
        dist.all_reduce(values)
        return dict(zip(numbers, (values / self.count).tolist(), strict=True))

    def average_gradients(self, modules: Iterable[nn.Module]) -> None:
        """Put the mean over all processes in the place of every weight's gradient."""
        if self.count == 1:
            return
        gradients = [weight.grad for module in modules for weight in module.parameters() if weight.grad is not None]
        if not gradients:
            return
        # One message instead of one for each weight.
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started, this one among them; one alone if it was not torchrun that did.

    device: of this process's network, which decides how they talk to each other.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


def writes() -> bool:
    """Whether this is the process that prints and writes, before and after they are `joined`."""
    return os.environ.get("RANK", "0") == "0"


def local_device(device: str | None) -> str | None:
    """`cuda` means another GPU in each process that torchrun started on this machine."""
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
