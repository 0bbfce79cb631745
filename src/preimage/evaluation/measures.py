"""All measures of `evaluate`, by name."""

from __future__ import annotations

from preimage.errors import RequestError, nearest
from preimage.evaluation.deletion import Deletion
from preimage.evaluation.deletion_game import DeletionGame
from preimage.evaluation.faithfulness import Faithfulness
from preimage.evaluation.grid_pointing import GridPointing
from preimage.evaluation.insertion import Insertion
from preimage.evaluation.localisation import Localisation
from preimage.evaluation.measure import Measure
from preimage.evaluation.parts import Parts
from preimage.evaluation.pointing import Pointing
from preimage.evaluation.representativeness import Representativeness
from preimage.evaluation.sensitivity import Sensitivity
from preimage.evaluation.weight_randomisation import WeightRandomisation

_ALL: tuple[Measure, ...] = (
    Deletion(),
    Insertion(),
    DeletionGame(),
    Representativeness(),
    GridPointing(),
    Pointing(),
    Localisation(),
    Parts(),
    Faithfulness(),
    Sensitivity(),
    WeightRandomisation(),
)


class Measures(dict[str, Measure]):
    """Measures by name; prints as a table."""

    def __str__(self) -> str:
        rows = [(name, one.source, f"needs {one.needs}", one.says) for name, one in self.items()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def measures() -> Measures:
    """Every measure with its published settings, by name."""
    return Measures({one.name: one for one in _ALL})


def find_measure(asked: str | Measure) -> Measure:
    """The measure of this name. Raises `RequestError` that names the nearest."""
    if isinstance(asked, Measure):
        return asked
    known = measures()
    if asked not in known:
        close = nearest(asked, known)
        hint = f"the nearest are {', '.join(close)}" if close else f"there are {', '.join(known)}"
        raise RequestError(f"there is no measure '{asked}'; {hint}")
    return known[asked]
