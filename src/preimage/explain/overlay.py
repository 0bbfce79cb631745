"""Heat maps and masks as pictures, alone and over the photo that they are about."""

from __future__ import annotations

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.priors import Gaussian

_FOR = (
    (0.000, 0.000, 0.000),
    (0.277, 0.000, 0.018),
    (0.459, 0.000, 0.031),
    (0.655, 0.000, 0.044),
    (0.830, 0.144, 0.034),
    (0.941, 0.344, 0.012),
    (1.000, 0.539, 0.047),
    (1.000, 0.739, 0.151),
    (1.000, 0.919, 0.244),
)
_AGAINST = (
    (0.000, 0.000, 0.000),
    (0.026, 0.051, 0.408),
    (0.043, 0.087, 0.692),
    (0.036, 0.230, 0.858),
    (0.018, 0.392, 0.930),
    (0.001, 0.543, 0.997),
    (0.129, 0.698, 1.000),
    (0.260, 0.848, 1.000),
    (0.546, 0.978, 1.000),
)
"""Black to yellow by way of red, and black to light blue: the points at which CIELAB lightness is 0, 11.5, ... 92.

Even steps of lightness are what makes a map readable in order (Kovesi 2015, "Good Colour Maps: How to Design Them",
arXiv:1509.03700), also in grey and by people who do not tell red from green, and yellow from blue is what they tell.
"""

MOST = 0.99
"""The share of a heat map's values that is not clipped: gradients have a few that are many times all others."""

_LEAST_OF_LARGEST = 0.1
_STRONGEST, _EARLY, _SHADED, _FAINTEST = 0.75, 0.8, 0.15, 0.25
_DIM, _BLUR = 0.35, 1 / 28
_LUMA = (0.299, 0.587, 0.114)


def scaled(heatmap: Tensor) -> Tensor:
    """A heat map [..., H, W] as it is coloured, map by map: [-1, 1], 1 = most important, -1 = speaks most against it.

    Where a map has negative values, zero stays zero and both sides have one scale; otherwise its smallest value
    becomes 0. 1 is what `MOST` of the values do not exceed, but no less than a tenth of the largest: a map of a few
    bright points is not to be drowned in its own noise. A map that is the same everywhere becomes 0, and so does what
    is not finite.
    """
    known = heatmap.isfinite()
    values = torch.where(known, heatmap.detach().double(), torch.nan).flatten(-2)
    low = torch.nan_to_num(values, nan=torch.inf).amin(-1, keepdim=True)
    # Only negative values give zero a meaning: RISE's and the masks' maps may lie anywhere above it.
    values = torch.where(low < 0, values, values - low)
    sizes = torch.nan_to_num(values.abs(), nan=0.0)
    largest = sizes.amax(-1, keepdim=True)
    most = sizes.kthvalue(max(1, round(MOST * sizes.shape[-1])), dim=-1, keepdim=True).values
    unit = torch.maximum(most, _LEAST_OF_LARGEST * largest)
    shares = torch.where(unit > 0, values / unit, 0.0).clamp(-1, 1)
    return torch.nan_to_num(shares, nan=0.0).view(heatmap.shape).float()


def coloured(heatmap: Tensor) -> Tensor:
    """A heat map [H, W] in colours, [3, H, W] in [0, 1].

    Black: of no importance; red, orange, yellow: important, the lighter the more; blue to light blue: speaks against
    it. Grey: not finite. How values become colours: `scaled`.
    """
    colours = _ramp(scaled(_map(heatmap)))
    return torch.where(heatmap.isfinite(), colours, 0.5)


def overlay(photo: Tensor, heatmap: Tensor) -> Tensor:
    """What is important in a photo [C, H, W] in [0, 1], in the colours of `coloured` over the photo in grey: [3, H, W].

    The more important (or the more it speaks against), the more colour, and where it does not matter none; a quarter of
    the photo's contrast is left everywhere. A photo of other than 1 or 3 channels is shown as the mean over them.
    """
    share = scaled(_map(heatmap))
    grey = _grey(_same_size(photo, heatmap))
    one = torch.ones(())
    # Where opacity says how much it matters, black would only hide what matters a little.
    tint = _ramp(share.sign() * torch.lerp(torch.tensor(_FAINTEST), one, share.abs()))
    # The photo shades the colour, so that what lies under it can still be told.
    tint = tint * torch.lerp(one, grey, _SHADED)
    return torch.lerp(grey, tint, _STRONGEST * share.abs() ** _EARLY).clamp(0, 1)


def masked(photo: Tensor, mask: Tensor) -> Tensor:
    """A photo [C, H, W] in [0, 1] where the mask [H, W] in [0, 1] keeps it, blurred and dark elsewhere: [3, H, W].

    It shows where the mask is, whatever the network was shown there.
    """
    colour = pictured(_same_size(photo, mask))
    blurred = Gaussian(sigma=max(0.5, min(mask.shape) * _BLUR))(colour[None])[0]
    return torch.lerp(_DIM * blurred, colour, mask.detach().to(colour).clamp(0, 1)).clamp(0, 1)


def pictured(photo: Tensor) -> Tensor:
    """A photo [C, H, W] in [0, 1] as one picture [3, H, W]: if it has other than 3 channels, their mean in grey."""
    image = photo.detach().float().cpu().clamp(0, 1)
    return image if image.shape[0] == 3 else image.mean(0).expand(3, -1, -1)


def _ramp(share: Tensor) -> Tensor:
    """[H, W] in [-1, 1] as colours [3, H, W]."""
    anchors = torch.tensor([_AGAINST, _FOR], dtype=share.dtype, device=share.device)
    position = share.abs() * (anchors.shape[1] - 1)
    below = position.floor().long().clamp(max=anchors.shape[1] - 2)
    side = (share >= 0).long()
    colours = torch.lerp(anchors[side, below], anchors[side, below + 1], (position - below)[..., None])
    return colours.movedim(-1, 0)


def _grey(photo: Tensor) -> Tensor:
    """How light a photo [C, H, W] is: [1, H, W]."""
    weights = torch.tensor(_LUMA).view(3, 1, 1)
    return (pictured(photo) * weights).sum(0, keepdim=True)


def _map(heatmap: Tensor) -> Tensor:
    if heatmap.ndim != 2 or 0 in heatmap.shape:
        raise RequestError(f"a heat map has shape [H, W], not {list(heatmap.shape)}")
    return heatmap.detach().float().cpu()


def _same_size(photo: Tensor, over: Tensor) -> Tensor:
    if photo.ndim != 3 or photo.shape[1:] != over.shape:
        raise RequestError(f"a map {list(over.shape)} is not of a photo {list(photo.shape)}, but of one [C, H, W]")
    return photo
