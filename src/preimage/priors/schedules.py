"""When to blur, when to deblur, and how much."""

from __future__ import annotations

import math
from dataclasses import dataclass

from preimage.errors import RequestError
from preimage.priors.deblurring import Deblur
from preimage.priors.kernels import Gaussian
from preimage.priors.prior import Kernel, Schedule


@dataclass(frozen=True)
class Every(Schedule):
    """`kernel` after step `first` (counted from 1) and then after every `period` steps."""

    kernel: Kernel
    period: int
    first: int = 1

    def __post_init__(self) -> None:
        if self.period < 1 or self.first < 1:
            raise RequestError(
                f"a schedule repeats every 1, 2, 3 ... steps and begins after step 1 or later, "
                f"not every {self.period} from step {self.first}"
            )

    def at(self, step: int, steps: int) -> Kernel | None:
        since = step + 1 - self.first
        return self.kernel if since >= 0 and since % self.period == 0 else None

    def check(self, steps: int) -> None:
        if steps < self.first:
            raise never(str(self.kernel), self.first, steps)


@dataclass(frozen=True)
class FallingBlur(Schedule):
    """A Gaussian after every step, whose sigma falls linearly from `first` to `last` pixels (SPEC A5).

    Øygard's deepdraw, and paper 0's "image blurring": coarse shapes settle first, then finer ones.
    """

    first: float
    last: float

    def __post_init__(self) -> None:
        Gaussian(sigma=self.first), Gaussian(sigma=self.last)  # refuses what is not above zero

    def at(self, step: int, steps: int) -> Kernel:
        return Gaussian(sigma=self.first + step / max(steps - 1, 1) * (self.last - self.first))

    def settled(self, steps: int) -> int:
        return steps


@dataclass(frozen=True)
class BlurAndDeblur(Schedule):
    """Paper 0's method: in every round of `period` steps blur once, and deblur some steps later (SPEC A6).

    The round's sigma falls by a constant factor from round to round, from `first` to `fall` times as much at the
    last step, but not below `last`; deblurring uses `ratio` times as much. The published code takes 0.99 a round over
    150 rounds, which is the default fall however many steps there are.
    size: of both kernels in pixels (the code draws one side from 5 to 10; 7 is its other side).
    """

    first: float = 1.2
    last: float = 0.5
    fall: float = 0.99**150
    ratio: float = 0.8
    size: int = 7
    period: int = 10
    blur_after: int = 1
    deblur_after: int = 6
    iterations: int = 10
    base: str = "minimum"

    def __post_init__(self) -> None:
        self._deblur(self.first), self._deblur(self.last)  # refuse a kernel without width
        if not 0 < self.fall <= 1:
            raise RequestError(f"sigma falls to a share of itself above 0 and at most 1, not {self.fall}")
        for after in (self.blur_after, self.deblur_after):
            if not 1 <= after <= self.period:
                raise RequestError(f"a round of {self.period} steps has steps 1 to {self.period}, not {after}")

    def at(self, step: int, steps: int) -> Kernel | None:
        rounds, within = divmod(step, self.period)
        sigma = max(self.last, self.first * self.fall ** (rounds * self.period / steps))
        if within + 1 == self.blur_after:
            return Gaussian(self.size, sigma=sigma)
        return self._deblur(sigma) if within + 1 == self.deblur_after else None

    def settled(self, steps: int) -> int:
        if self.fall == 1 or self.first <= self.last:
            return 0
        rounds = math.log(self.last / self.first) / math.log(self.fall) * steps / self.period
        return min(math.ceil(rounds) * self.period, steps)

    def check(self, steps: int) -> None:
        if steps < self.blur_after:
            raise never("blurring", self.blur_after, steps)
        if steps < self.deblur_after:
            raise never("deblurring", self.deblur_after, steps)

    def _deblur(self, sigma: float) -> Deblur:
        return Deblur(Gaussian(self.size, sigma=self.ratio * sigma), self.iterations, self.base)


def never(what: str, first: int, steps: int) -> RequestError:
    """What is planned for a step that is never reached."""
    return RequestError(
        f"{what} comes after step {first} for the first time, so in {steps} steps it never happens; "
        f"ask for at least {first} steps"
    )
