"""Images parametrized by their Fourier coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from preimage.parametrizations.parametrization import Parametrization
from preimage.parametrizations.pixels import coloured, logit, uncoloured

# The Lucid library divides by 4 before the sigmoid, so that its usual step of 0.05 suits (param/spatial.py).
_LUCID_CONTRAST = 1 / 4


@dataclass(frozen=True)
class Fourier(Parametrization):
    """P(v) = sigmoid(A irfft2(s(f) v) / 4), with the coefficients v of each channel (paper 1, P_fft and P_ffte).

    decay: s(f) = 1 / max(f, 1/longer side)^decay for the frequency f in cycles per pixel. 1 gives all scales the
        energy that they have in photographs (P_ffte, "energy scaling", Lucid's default); 0 is the unitary transform
        alone (P_fft). SPEC I2.
    colours: the matrix A [channels, channels]; None for independent channels.
    contrast: the factor before the sigmoid, Lucid's 1/4.
    centred: whether each channel's mean is held at zero, so that the picture as a whole has no tint. Otherwise it
        drifts (towards blue, on SqueezeNet).
    """

    decay: float = 1.0
    colours: Tensor | None = None
    contrast: float = _LUCID_CONTRAST
    centred: bool = False

    @property
    def prefers_smooth(self) -> bool:
        return self.decay > 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width // 2 + 1, 2)

    @cached_property
    def scale(self) -> Tensor:
        """s(f) times the contrast, [height, width // 2 + 1]."""
        down = torch.fft.fftfreq(self.height)[:, None]
        right = torch.fft.rfftfreq(self.width)[None, :]
        frequency = (down.square() + right.square()).sqrt().clamp_min(1 / max(self.height, self.width))
        scale: Tensor = self.contrast / frequency**self.decay
        if self.centred:
            scale[0, 0] = 0
        return scale

    def image(self, parameters: Tensor) -> Tensor:
        coefficients = torch.view_as_complex(parameters) * self.scale.to(parameters)
        flat = torch.fft.irfft2(coefficients, s=(self.height, self.width), norm="ortho")
        return torch.sigmoid(coloured(flat, self.colours))

    def parameters(self, images: Tensor) -> Tensor:
        flat = uncoloured(logit(images), self.colours)
        scale = self.scale.to(flat)
        coefficients = torch.fft.rfft2(flat, norm="ortho") * torch.where(scale > 0, 1 / scale, 0)
        return torch.view_as_real(coefficients).contiguous()
