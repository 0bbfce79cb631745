"""Are samples copies of training images? Their distances beside those of real images that were never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.nearest_images import NEAREST, Nearest, nearest_images
from preimage.network import Network, Place

LEVEL = 0.01
"""A sample that is nearer than all but this share of the held-out images is suspicious."""


@dataclass(frozen=True)
class MemoryCheck:
    """samples, held_out: the nearest training images of each."""

    samples: Nearest
    held_out: Nearest

    def quantiles(self, *, relative: bool = False) -> Tensor:
        """For each sample the share of held-out images that are as near to a training image or nearer, 0 to 1, [N].

        relative: by `Nearest.relative`, which asks whether one training image is nearer than its neighbours. Samples
        that are smoother than photographs are nearer in pixels to all of them, without being copies of any.
        """
        own, control = (one.relative if relative else one.distances[:, 0] for one in (self.samples, self.held_out))
        sorted_control = control.double().sort().values
        rank = torch.searchsorted(sorted_control, own.double(), right=True)
        return rank.double() / len(control)

    def suspicious(self, level: float = LEVEL, *, relative: bool = False) -> Tensor:
        """Whether fewer than `level` of the held-out images are as near to a training image, bool [N].

        Of samples that are no nearer than held-out images, a share of `level` is suspicious by chance.
        """
        if not 0 < level < 1:
            raise RequestError(f"the level lies between 0 and 1, not {level}")
        return self.quantiles(relative=relative) < level

    def __str__(self) -> str:
        found = int(self.suspicious().sum())
        return (
            f"in {self.samples.space}, {found} of {len(self.samples.indices)} samples are nearer to a training image "
            f"than {1 - LEVEL:.0%} of {len(self.held_out.indices)} held-out images are"
        )

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types: of each sample its nearest training images, and how unusual that is."""
        said: dict[str, Any] = {
            "space": self.samples.space,
            "nearest": self.samples.indices.tolist(),
            "distances": self.samples.distances.tolist(),
            "quantiles": self.quantiles().tolist(),
            "suspicious": self.suspicious().tolist(),
            "held_out": len(self.held_out.indices),
            "median_distance": float(self.samples.distances[:, 0].quantile(0.5)),
            "median_held_out_distance": float(self.held_out.distances[:, 0].quantile(0.5)),
        }
        if self.samples.distances.shape[1] > 1:
            said["relative_quantiles"] = self.quantiles(relative=True).tolist()
            said["relative_suspicious"] = self.suspicious(relative=True).tolist()
        return said


def memory_check(
    samples: Tensor,
    training: Tensor,
    held_out: Tensor,
    count: int = NEAREST,
    *,
    network: Network | None = None,
    tap: str | Place | None = None,
) -> MemoryCheck:
    """The nearest training images of samples, and of real images that were not trained on.

    samples, training, held_out: [N, C, H, W], floats in [0, 1] or bytes. Others as in `nearest_images`.

    With fewer than 1 / `LEVEL` held-out images only a sample nearer than all of them can be suspicious, and it is so
    more often by chance; that is refused. Raises `RequestError`, also as `nearest_images` does.
    """
    if not isinstance(held_out, Tensor) or len(held_out) < 1 / LEVEL:
        raise RequestError(f"it takes at least {1 / LEVEL:.0f} held-out images to tell what is unusually near")
    made, control = (
        nearest_images(images, training, count, network=network, tap=tap) for images in (samples, held_out)
    )
    return MemoryCheck(made, control)
