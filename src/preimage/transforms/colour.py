"""Changes of brightness and contrast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.transforms.transform import Transform, View


@dataclass(frozen=True)
class ColourJitter(Transform):
    """Each channel is stretched around mid-grey and shifted, by up to these shares of the range either way.

    What a network answers should not hang on the exact colour of a light.
    """

    contrast: float
    brightness: float

    def draw(self, generator: torch.Generator) -> View:
        # Enough for any image; the number of channels is known only later.
        drawn = torch.rand(2, _MOST_CHANNELS, generator=generator) * 2 - 1

        def view(images: Tensor) -> Tensor:
            stretch, shift = drawn[:, torch.arange(images.shape[1]) % _MOST_CHANNELS].to(images)[:, None, :, None, None]
            changed: Tensor = (images - 0.5) * (1 + self.contrast * stretch) + (0.5 + self.brightness * shift)
            return changed

        return view


_MOST_CHANNELS = 16
