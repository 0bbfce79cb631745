"""Who pauses, by the paper's table: D if r < 0.1, G if r > 10, where r is D's loss over G's."""

from __future__ import annotations

import pytest

from preimage import RequestError
from preimage.training import Pausing


@pytest.mark.parametrize(
    ("d_loss", "g_loss", "d_learns", "g_learns"),
    [
        (1.386, 0.693, True, True),
        (0.1, 1.0, True, True),
        (0.0999, 1.0, False, True),
        (0.0, 5.0, False, True),
        (1.0, 0.1, True, True),
        (1.01, 0.1, True, False),
        (3.0, 0.0, True, False),
        (0.0, 0.0, True, True),
    ],
)
def test_the_paper_s_table(d_loss: float, g_loss: float, d_learns: bool, g_learns: bool) -> None:
    assert Pausing().learns(d_loss, g_loss) == (d_learns, g_learns)


def test_other_bounds() -> None:
    assert Pausing(0.5, 2.0).learns(0.4, 1.0) == (False, True)
    assert Pausing(0.5, 2.0).learns(2.1, 1.0) == (True, False)


@pytest.mark.parametrize("bounds", [(10.0, 0.1), (-0.1, 10.0), (1.0, 1.0)])
def test_bounds_in_the_wrong_order(bounds: tuple[float, float]) -> None:
    with pytest.raises(RequestError, match="D pauses below a ratio, G above a larger one"):
        Pausing(*bounds)
