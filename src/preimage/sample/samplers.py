"""The samplers of paper 3, by name: each a setting of the one loop.

v is counted in units in which the published numbers mean something: a code's in tenths of its mean (of AlexNet's fc6,
mean 10, the paper's own), pixels' in 255ths. In units of v itself eps_2 is then scale^2 as large, and eps_3 scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from preimage.errors import RequestError, nearest

Space = Literal["code", "image"]
Pull = Literal["reconstruction", "noisy-reconstruction", "learned", "zero", "none"]


@dataclass(frozen=True)
class Sampler:
    """v <- v + eps_1 (r(v) - v) + eps_2 d log p(condition | v) / dv + N(0, eps_3^2) (paper 3, equations 5, 7 and 11).

    space: what v is. pull: which r. epsilons: (eps_1, eps_2, eps_3). source: of these numbers.
    move: None: as the equation has it. A number: all of that is divided by its mean absolute value and multiplied by
        this, as the released code has it (SPEC P.3), so that only the proportions of the three count. last: the share
        of it that is left at the end. clip: codes are kept between 0 and this (SPEC P.5-9).
    """

    name: str
    source: str
    says: str
    space: Space
    pull: Pull
    epsilons: tuple[float, float, float]
    move: float | None = None
    last: float = 1.0
    clip: float | None = None

    def as_the_paper(self) -> Sampler:
        """Equation 11 as it stands: no step of a given length, and no bounds."""
        return replace(self, move=None, last=1.0, clip=None)


_CODE = {"move": 1.0, "clip": 30.0}
_KNOWN = (
    Sampler(
        "noiseless-joint",
        "paper 3, section 3.5 (P10)",
        "codes are pulled towards what the encoder sees in their image",
        "code",
        "reconstruction",
        (1e-5, 1.0, 1e-17),
        **_CODE,
    ),
    Sampler(
        "joint",
        "paper 3, section 3.4 (P9)",
        "the same, with noise on code, image and features along the way",
        "code",
        "noisy-reconstruction",
        (1e-5, 1.0, 1e-5),
        **_CODE,
    ),
    Sampler(
        "ppgn-h",
        "paper 3, section 3.3 (P8)",
        "codes are pulled towards what a denoising autoencoder of codes makes of them",
        "code",
        "learned",
        (1e-5, 1.0, 1e-5),
        **_CODE,
    ),
    Sampler(
        "dgn-am",
        "paper 3, section S9.4 (P7); Nguyen et al. 2016",
        "codes climb and are pulled nowhere",
        "code",
        "none",
        (0.0, 1.0, 1e-17),
        **_CODE,
    ),
    Sampler(
        "ppgn-x",
        "paper 3, sections 3.1 and S11 (P6)",
        "images are pulled towards what a denoising autoencoder of images makes of them",
        "image",
        "learned",
        (1.0, 1e5, 25.6),
    ),
    Sampler(
        "joint-x",
        "paper 3, section S11 (P11; its numbers are not given: ours suit the prior 'cifar10')",
        "images are pulled towards what generator and encoder make of them",
        "image",
        "reconstruction",
        (0.1, 1e5, 1.0),
    ),
    Sampler(
        "gaussian",
        "paper 3, equation 14 (P4)",
        "images decay towards grey",
        "image",
        "zero",
        (0.01, 1e5, 0.0),
    ),
    Sampler(
        "no-prior",
        "paper 3, section S7 (P3)",
        "images climb and are pulled nowhere",
        "image",
        "none",
        (0.0, 1e5, 0.0),
    ),
)
SAMPLERS = {one.name: one for one in _KNOWN}


def find_sampler(name: str | Sampler) -> Sampler:
    """A sampler by name; raises `RequestError` that names those that there are."""
    if isinstance(name, Sampler):
        return name
    if name not in SAMPLERS:
        close = nearest(name, list(SAMPLERS))
        hint = f" (did you mean {', '.join(close)}?)" if close else ""
        raise RequestError(f"there is no sampler '{name}'{hint}; there are {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
