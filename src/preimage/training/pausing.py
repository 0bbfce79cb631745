"""Which of G and D learns in a step, so that neither wins for good."""

from __future__ import annotations

from dataclasses import dataclass

from preimage.errors import RequestError


@dataclass(frozen=True)
class Pausing:
    """D pauses while its loss is below `d_below` times G's adversarial loss, G while it is above `g_above` times it
    (paper 3, S9.1; SPEC P26).

    Both losses are taken as equations 21 and 22 have them, without weights: a weight says how much G cares for D's
    opinion, not who is winning.
    """

    d_below: float = 0.1
    g_above: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.d_below < self.g_above:
            raise RequestError(
                f"D pauses below a ratio, G above a larger one; not below {self.d_below:g} and above {self.g_above:g}"
            )

    def learns(self, d_loss: float, g_loss: float) -> tuple[bool, bool]:
        """Whether D learns, and whether G does."""
        # Not as a quotient, because both may be zero.
        return d_loss >= self.d_below * g_loss, d_loss <= self.g_above * g_loss
