"""Running a module as far as its taps, and no further."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from preimage.errors import RequestError
from preimage.network.layout import ChannelAxes
from preimage.network.rectifiers import BeforeRectifiers

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Site:
    """Where a tap is found: which module, which of its calls, which of its outputs, and how to read it.

    `rectifiers` holds the numbers of the ReLU calls that the value ends in (empty: it does not end in a ReLU).
    """

    module: nn.Module
    call: int
    path: Path
    channel_axis: int
    rectifiers: frozenset[int]


@dataclass(frozen=True)
class Found:
    """One output seen during a run that watched everything."""

    site: Site
    shape: tuple[int, ...]
    calls: int


class _Enough(BaseException):
    """Ends a run whose last tap was reached. Not an Exception: a module may catch those."""


def run_to(
    module: nn.Module,
    images: Tensor,
    wanted: Mapping[tuple[Site, bool], Any],
    keep: frozenset[int],
    instead: tuple[Site, Tensor] | None = None,
) -> dict[Any, Tensor]:
    """Run `module` on `images` until every wanted site was reached.

    wanted: (site, after_relu) -> key under which the value is returned; values have their channels second.
    keep: the numbers of all ReLU calls whose input is needed.
    instead: a site, and what the network goes on with from there, whatever it computed up to it; channels second.
    """
    by_call: dict[tuple[int, int], list[tuple[Site, bool]]] = defaultdict(list)
    for site, after in wanted:
        by_call[id(site.module), site.call].append((site, after))
    values: dict[Any, Tensor] = {}
    calls: dict[int, int] = defaultdict(int)
    rectifiers = BeforeRectifiers(keep) if keep else None

    def reached(part: nn.Module, _: Any, output: Any) -> Any:
        number = calls[id(part)]
        calls[id(part)] += 1
        changed = None
        if instead is not None and instead[0].module is part and instead[0].call == number:
            changed = output = _with(output, *instead)
        here = by_call.get((id(part), number), ())
        is_last = len(values) + len(here) == len(wanted)
        for site, after in here:
            value = dict(tensors(output)).get(site.path)
            if value is None:
                raise RequestError(f"the network's {type(part).__name__} gave other outputs than when it was opened")
            if after or not site.rectifiers:
                # What runs on may write into this tensor (an in-place ReLU, a residual `+=`).
                value = value if is_last else value.clone()
            else:
                before = rectifiers.before(value) if rectifiers else None
                if before is None:
                    raise RequestError(
                        f"the network's {type(part).__name__} took another path than when it was opened, "
                        "so what stands before its ReLU is not known; ask after the ReLU instead (after:TAP:CHANNEL)"
                    )
                value = before
            values[wanted[site, after]] = value.movedim(site.channel_axis, 1)
        if is_last and here:
            raise _Enough
        return changed

    watched = [site.module for site, _ in wanted] + ([] if instead is None else [instead[0].module])
    with ExitStack() as stack:
        for part in {id(one): one for one in watched}.values():
            stack.callback(part.register_forward_hook(reached).remove)
        stack.enter_context(rectifiers or nullcontext())
        with suppress(_Enough):
            module(images)
    if len(values) < len(wanted):
        raise RequestError(
            "the network did not reach every tap this time; it takes different paths on different inputs"
        )
    return values


def _with(output: Any, site: Site, value: Tensor) -> Tensor:
    """A module's output with another value in its place."""
    if site.path:
        raise RequestError(
            f"the network's {type(site.module).__name__} gives several tensors at once, of which none can be exchanged "
            "alone; take a tap inside it, or behind it"
        )
    given = value.movedim(1, site.channel_axis)
    if given.shape != output.shape:
        raise RequestError(f"there the network has {list(output.shape)}, not {list(given.shape)}")
    # What runs on may write into it.
    return given.to(output.dtype).clone()


@contextmanager
def watching_everything(callback: Callable[[nn.Module, Any], None], module: nn.Module) -> Iterator[None]:
    """Call `callback(part, output)` after every part of `module` that runs within the block."""
    parts = {id(part) for part in module.modules()}

    def hook(part: nn.Module, _: Any, output: Any) -> None:
        if id(part) in parts:
            callback(part, output)

    handle = torch.nn.modules.module.register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def discover(module: nn.Module, images: Tensor) -> list[Found]:
    """Run once and list every output of every part, in the order in which they are computed."""
    seen: list[tuple[nn.Module, int, Path, int, frozenset[int], tuple[int, ...]]] = []
    calls: dict[int, int] = defaultdict(int)
    axes, rectifiers = ChannelAxes(), BeforeRectifiers(None)

    def note(part: nn.Module, output: Any) -> None:
        number = calls[id(part)]
        calls[id(part)] += 1
        for path, value in tensors(output):
            if value.is_floating_point() and value.ndim >= 2 and value.shape[0] == images.shape[0]:
                axis = axes.axis(value)
                shape = tuple(value.movedim(axis, 1).shape[1:])
                seen.append((part, number, path, axis, rectifiers.origin(value), shape))

    with torch.no_grad(), watching_everything(note, module), axes, rectifiers:
        module(images)
    return [
        Found(Site(part, number, path, axis, origin), shape, calls[id(part)])
        for part, number, path, axis, origin, shape in seen
    ]


def tensors(output: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor in a module's output, which may be nested in tuples, lists, dicts and dataclass-like mappings."""
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from tensors(value, (*path, key))
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for index, value in enumerate(output):
            yield from tensors(value, (*path, index))
