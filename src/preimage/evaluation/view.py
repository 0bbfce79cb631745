"""From the pixels of a file to those that the network is shown, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from preimage.evaluation.data.example import Box
from preimage.images import centre_crop

Fit = Literal["squash", "crop"]
"""`squash`: the whole photo is resampled to the network's size, whatever its shape (paper 4; SPEC M.5-12). `crop`: the
largest centred part that has the shape, as `explain` takes it."""


@dataclass(frozen=True)
class View:
    """How a photo of `file` (height, width) is brought to `shown` (height, width)."""

    file: tuple[int, int]
    shown: tuple[int, int]
    fit: Fit = "squash"

    @property
    def _whole(self) -> tuple[int, int]:
        """(height, width) to which the file is resampled, before anything is cut off; rounded as `centre_crop` does."""
        if self.fit == "squash":
            return self.shown
        scale = max(shown / file for shown, file in zip(self.shown, self.file, strict=True))
        height, width = (max(round(side * scale), shown) for side, shown in zip(self.file, self.shown, strict=True))
        return height, width

    @property
    def _scale(self) -> tuple[float, float]:
        """Shown pixels for each pixel of the file, down and across."""
        return self._whole[0] / self.file[0], self._whole[1] / self.file[1]

    @property
    def _cut(self) -> tuple[int, int]:
        """Shown pixels that are cut off at the top and at the left."""
        return (self._whole[0] - self.shown[0]) // 2, (self._whole[1] - self.shown[1]) // 2

    def image(self, picture: Tensor) -> Tensor:
        """The photo [C, height, width] as the network is shown it."""
        if self.fit == "crop":
            return centre_crop(picture, self.shown)
        resized = F.interpolate(picture[None], self.shown, mode="bilinear", antialias=True, align_corners=False)
        return resized[0].clamp(0, 1)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the file is shown, (x, y) in pixels; outside of the picture if it was cut off."""
        (down, across), (top, left) = self._scale, self._cut
        return x * across - left, y * down - top

    def box(self, box: Box) -> Box | None:
        """What is shown of a box; None if nothing is."""
        left, top = self.point(box[0], box[1])
        right, bottom = self.point(box[2], box[3])
        left, right = max(left, 0.0), min(right, float(self.shown[1]))
        top, bottom = max(top, 0.0), min(bottom, float(self.shown[0]))
        return (left, top, right, bottom) if left < right and top < bottom else None

    def file_box(self, box: Box) -> Box:
        """The part of the file that a shown box covers."""
        (down, across), (top, left) = self._scale, self._cut
        return (box[0] + left) / across, (box[1] + top) / down, (box[2] + left) / across, (box[3] + top) / down

    def region(self, region: NDArray[np.bool_]) -> Tensor:
        """bool [height, width] of the file as bool [H, W] of what is shown: the nearest pixel's."""
        (down, across), (top, left) = self._scale, self._cut
        rows = ((torch.arange(self.shown[0]) + 0.5 + top) / down).long().clamp(0, self.file[0] - 1)
        columns = ((torch.arange(self.shown[1]) + 0.5 + left) / across).long().clamp(0, self.file[1] - 1)
        return torch.from_numpy(region[rows.numpy()[:, None], columns.numpy()])
