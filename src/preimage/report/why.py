"""Why the network answers a photograph as it does: a mask for each of its strongest classes, and other methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation import deletion_curve
from preimage.explain import Mask, explain, methods
from preimage.explain.overlay import masked, overlay
from preimage.network import Network
from preimage.objectives import Label, label
from preimage.report.plot import falling

BASELINES = (
    "gradient",
    "guided-backprop",
    "deconvnet",
    "excitation-backprop",
    "contrastive-excitation-backprop",
    "grad-cam",
    "occlusion",
    "integrated-gradients",
    "smoothgrad",
)
"""Without those that take minutes on a CPU (RISE, extremal perturbations) and the variants of occlusion."""


@dataclass
class Reason:
    """A class and its mask.

    file: what is important, over the photograph; kept_file: what the mask leaves of it. marked: the share of the
    photograph that the mask perturbs. before, after: the probability of the class, without and under the mask.
    curve: SVG path of the probability while the most important pixels are blurred away; half: after which share of
    them it has fallen to half.
    """

    title: str
    file: str
    kept_file: str
    marked: float
    before: float
    after: float
    curve: str
    half: str
    notes: list[str]


@dataclass
class Other:
    """What another method says of the strongest class; where there is no file, `says` tells why."""

    method: str
    says: str
    file: str | None = None
    curve: str = ""
    half: str = ""


@dataclass
class Why:
    """The reasons for a photograph's strongest classes, and other methods on the strongest."""

    reasons: list[Reason] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    interrupted: bool = False


def why(
    network: Network,
    photo: Tensor,
    classes: Sequence[Label],
    write: Callable[[Tensor, str], None],
    prefix: str,
    *,
    titles: Sequence[str],
    seed: int = 0,
    iterations: int | None = None,
    progress: bool | None = None,
) -> Why:
    """Masks for these classes of a photo [C, H, W], and the `BASELINES` for the first of them.

    write: takes a picture [3, H, W] and the name of its file, which begins with `prefix`. titles: of the classes.
    iterations: of the masks; None: the published number. Ctrl-C ends it with what is finished.
    """
    out = Why()
    options: dict[str, object] = {"seed": seed, "least_probability": 0.0, "progress": progress}
    mask = Mask() if iterations is None else Mask(iterations=iterations)
    asked = [label(one.label, "prob").bind(network) for one in classes]
    try:
        made = explain(network, [photo], list(classes), method=mask, **options)  # type: ignore[call-overload]
        curves = deletion_curve(network, photo.expand(len(made), -1, -1, -1), made.heatmaps, asked[: len(made)])
        for i, (one, title, curve) in enumerate(zip(made, titles, curves, strict=False)):
            name, kept_name = f"{prefix}-why{i}.png", f"{prefix}-kept{i}.png"
            write(overlay(photo, one.heatmap), name)
            write(masked(photo, one.mask), kept_name)
            marked, scores = 1 - float(one.mask.mean()), one.scores
            found = (marked, scores["photo"], scores["masked"], falling(curve.tolist()), _half(curve), one.notes)
            out.reasons.append(Reason(title, name, kept_name, *found))
        out.interrupted = made.interrupted
        for name in () if out.interrupted else BASELINES:
            out.others.append(_other(network, photo, classes[0], asked[0], name, write, prefix, options))
    except KeyboardInterrupt:
        out.interrupted = True
    return out


def _other(
    network: Network,
    photo: Tensor,
    asked: Label,
    probability: Label,
    name: str,
    write: Callable[[Tensor, str], None],
    prefix: str,
    options: dict[str, object],
) -> Other:
    method = methods()[name]
    try:
        made = explain(network, photo, asked, method=method, **options)  # type: ignore[call-overload]
    except RequestError as error:  # it has no rule for something in this network
        return Other(name, str(error))
    curve = deletion_curve(network, photo[None], made.heatmap[None], [probability])[0]
    file = f"{prefix}-{name}.png"
    write(overlay(photo, made.heatmap), file)
    return Other(name, f"{method.says} ({method.source})", file, falling(curve.tolist()), _half(curve))


def _half(curve: Tensor) -> str:
    """After which share of the pixels the score has fallen to half of what it was."""
    below = (curve <= curve[0] / 2).nonzero()
    return f"{100 * int(below[0]) / (len(curve) - 1):.0f} %" if len(below) else "never"
