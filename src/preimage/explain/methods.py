"""All methods of `explain`, by name."""

from __future__ import annotations

from preimage.errors import RequestError, nearest
from preimage.explain.deconvnet import Deconvnet
from preimage.explain.excitation_backprop import ContrastiveExcitationBackprop, ExcitationBackprop
from preimage.explain.extremal import Extremal
from preimage.explain.grad_cam import GradCAM
from preimage.explain.gradient import Gradient
from preimage.explain.guided_backprop import GuidedBackprop
from preimage.explain.integrated_gradients import IntegratedGradients
from preimage.explain.mask import HybridMask, Mask, PreservingMask
from preimage.explain.method import Method
from preimage.explain.occlusion import Occlusion
from preimage.explain.published import PUBLISHED_MASKS
from preimage.explain.rise import RISE
from preimage.explain.smoothgrad import SmoothGrad
from preimage.explain.soft_occlusion import BlurOcclusion, VariableOcclusion

_ALL: tuple[Method, ...] = (
    Mask(),
    PreservingMask(),
    HybridMask(),
    Gradient(),
    GuidedBackprop(),
    Deconvnet(),
    ExcitationBackprop(),
    ContrastiveExcitationBackprop(),
    GradCAM(),
    Occlusion(),
    BlurOcclusion(),
    VariableOcclusion(),
    IntegratedGradients(),
    SmoothGrad(),
    RISE(),
    Extremal(),
)


class Methods(dict[str, Method]):
    """Methods by name; prints as a table."""

    def __str__(self) -> str:
        width, source = (max(map(len, column)) for column in (self, [one.source for one in self.values()]))
        return "\n".join(f"{name.ljust(width)}  {one.source.ljust(source)}  {one.says}" for name, one in self.items())


def methods() -> Methods:
    """Every method of `explain` with its published settings, by name."""
    return Methods({one.name: one for one in _ALL})


def find_method(asked: str | Method) -> Method:
    """The method of this name; `mask@SETTING` is one of `PUBLISHED_MASKS`.

    Raises `RequestError` that names the nearest.
    """
    if isinstance(asked, Method):
        return asked
    if not isinstance(asked, str):
        called = f"; write {asked.__name__}()" if isinstance(asked, type) else ""
        raise RequestError(f"a method is a name or a Method, not {type(asked).__name__}{called}")
    known: dict[str, Method] = {**methods(), **{f"mask@{name}": one for name, one in PUBLISHED_MASKS.items()}}
    if asked not in known:
        close = nearest(asked, known)
        hint = f"; the nearest are {', '.join(close)}" if close else ""
        raise RequestError(f"there is no method '{asked}'{hint} (preimage methods lists all)")
    return known[asked]
