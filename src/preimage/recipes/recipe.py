"""A way of making images, by name: a parametrization and the stages that the loop runs through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from preimage.errors import RequestError
from preimage.optimization import Optimizer, Stage
from preimage.parametrizations import Parametrization
from preimage.transforms import Window, WindowsAround

MakeParametrization = Callable[[int, int, int, Tensor | None], Parametrization]
"""(channels, height, width, colour matrix or None) -> parametrization."""


Regularization = Literal["explicit", "implicit", "both", "none"]


@dataclass(frozen=True)
class Recipe:
    """name: as one types it. source: where it was published. says: what it does, in a sentence.

    parametrization: made when the size is known. stages: what the loop runs through.
    canvas: how much larger than what the network sees at once the picture is, a share of the sides. Above 1 the stages
        have a `Window`.
    """

    name: str
    source: str
    says: str
    parametrization: MakeParametrization
    stages: tuple[Stage, ...]
    canvas: float = 1.0

    def __post_init__(self) -> None:
        if self.canvas < 1 or (self.canvas > 1 and not self.has_window):
            raise RequestError(
                f"a canvas of {self.canvas:g} times what the network sees takes a Window that moves over it"
            )

    @property
    def steps(self) -> int:
        """How many steps all stages have together."""
        return sum(stage.steps for stage in self.stages)

    def stretched(self, steps: int | None) -> Recipe:
        """The same recipe with `steps` steps in all, shared out among the stages as before; None changes nothing."""
        if steps is None:
            return self
        if steps < 1:
            raise RequestError(f"there must be at least one step, not {steps}")
        ends = [0]
        for stage in self.stages:
            ends.append(ends[-1] + stage.steps)
        scaled = [round(end * steps / ends[-1]) for end in ends]
        stages = [replace(s, steps=b - a) for s, a, b in zip(self.stages, scaled, scaled[1:], strict=False)]
        return replace(self, stages=tuple(stages))

    def windowed(self, height: int, width: int) -> Recipe:
        """The same recipe for a network that sees height x width pixels at once."""
        return replace(
            self,
            stages=tuple(
                replace(
                    stage,
                    transforms=tuple(
                        t.fitted(height, width) if isinstance(t, (Window, WindowsAround)) else t
                        for t in stage.transforms
                    ),
                )
                for stage in self.stages
            ),
        )

    @property
    def has_window(self) -> bool:
        """Whether the network sees a part of the picture at a time."""
        return any(isinstance(t, (Window, WindowsAround)) for stage in self.stages for t in stage.transforms)

    @property
    def own_window(self) -> tuple[int, int] | None:
        """The size of the window where the recipe says one."""
        for stage in self.stages:
            for t in stage.transforms:
                if isinstance(t, (Window, WindowsAround)) and t.height and t.width:
                    return t.height, t.width
        return None

    @property
    def regularization(self) -> Regularization:
        """How the pictures are kept plausible, in paper 2's terms (section 4.2, table 2; SPEC S13).

        explicit: an energy is added, or, which comes to the same, the solution is filtered or pulled. implicit: the
        space of pictures or its metric is another one: the update is filtered, the parameters are such that smooth
        pictures come easily, or small pictures come first. both, or none. What moves the picture (jitter) is neither.

        Table 2 itself prints fluid demons with a Sobolev filter among the explicit, elastic ones among the implicit;
        its text says the opposite, as does the theory, and this follows the text.
        """
        return self._regularization(self.parametrization(3, 8, 8, None))

    def _regularization(self, parametrization: Parametrization) -> Regularization:
        explicit = any(s.regularizers or s.smooth_solution is not None or s.denoiser is not None for s in self.stages)
        implicit = parametrization.prefers_smooth or any(
            s.smooth_update is not None or s.scale != 1 for s in self.stages
        )
        if explicit and implicit:
            return "both"
        return "explicit" if explicit else "implicit" if implicit else "none"

    def with_optimizer(self, optimizer: Optimizer) -> Recipe:
        """The same recipe with another optimizer in every stage that does not go on with the one before."""
        changed = (s if s.optimizer is None else replace(s, optimizer=optimizer) for s in self.stages)
        return replace(self, stages=tuple(changed))

    def still(self) -> Recipe:
        """The same recipe without anything that moves or resizes the picture: the network sees it as it is."""
        stages = tuple(replace(stage, transforms=(), hold=1, scale=1.0) for stage in self.stages)
        moves = any(stage.transforms or stage.scale != 1 for stage in self.stages)
        says = f"{self.says}; here with the picture held still" if moves else self.says
        return replace(self, says=says, stages=stages, canvas=1.0)

    def without_noise(self) -> Recipe:
        """The same recipe, starting from parameters that are all zero."""
        return replace(self, parametrization=lambda *size: replace(self.parametrization(*size), spread=0.0))

    def describe(self, parametrization: Parametrization | None = None) -> dict[str, Any]:
        """Every setting, as plain JSON types; `parametrization`, where one has been made already."""
        stages = [stage.describe() for stage in self.stages]
        return {
            "name": self.name,
            "source": self.source,
            "says": self.says,
            "regularization": self._regularization(parametrization or self.parametrization(3, 8, 8, None)),
            "canvas": self.canvas,
            "stages": stages,
        }
