"""What a unit sees of the input: one backward pass through the linearised network.

Paper 0, section 4.2 (SPEC A10): put a one at the centre of a channel, go backwards once, and the area of the
input where the gradient is not zero is the receptive field. ReLU and max pooling would hide part of it (SPEC
A.3-6), so the pass goes through a linear network that depends on the same inputs (`linearised`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from preimage.errors import RequestError
from preimage.network.linearised import Linearised
from preimage.network.running import Site, tensors, watching_everything
from preimage.network.stand_ins import Pair
from preimage.network.taps import token_grid

_LARGE = 192
"""Small images are probed at this size: a few units with dilation may miss them altogether, and it costs little."""

Field = tuple[Pair | None, Pair | None]
Steps = tuple[int | None, int | None]


class _More(NamedTuple):
    """By how much a probe's image and a map in it are larger than they are at the network's own input size."""

    pixels: Pair
    units: Pair


class _Map(NamedTuple):
    """How many units a tap has in a probe, and how far apart they are; `more`: None at the network's own input size."""

    units: Pair
    more: _More | None
    stride: Pair


@dataclass
class _Probe:
    """A run of the linearised network, and what was measured with it so far."""

    image: Tensor
    leans: dict[int, Tensor] = field(default_factory=dict)
    made_by: dict[int, list[Any]] = field(default_factory=dict)
    fields: dict[int, tuple[Pair, Pair]] = field(default_factory=dict)
    known: dict[Any, _Map] = field(default_factory=dict)
    everything: dict[Any, _Map] = field(default_factory=dict)

    @property
    def size(self) -> Pair:
        return self.image.shape[2], self.image.shape[3]


def receptive_fields(
    module: nn.Module, sites: Sequence[Site], channels: int, input_size: Pair, device: torch.device
) -> list[Field]:
    """The receptive field and stride (each height, width) of a central unit at every site.

    A unit that sees the whole input, or would see more if there were more, has the input's size. Nothing is raised
    if a network cannot be measured, or a site of it: its field is None then.
    """
    with _one_thread():
        return _measured(module, sites, channels, input_size, device)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Maps of one channel are too small to share: on two busy cores ResNet-50 takes 0.3 s this way, 5 s otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _measured(
    module: nn.Module, sites: Sequence[Site], channels: int, input_size: Pair, device: torch.device
) -> list[Field]:
    own = _probe(module, sites, channels, input_size, device)
    # An image of at least twice the size, so that no field is cut off by the border. Token networks are dear to
    # probe, and their fields end at windows or at the whole image anyway.
    large = None
    if own is not None and all(site.channel_axis == 1 for site in sites):
        scale = max(2, math.ceil(_LARGE / max(input_size)))
        large = _probe(module, sites, channels, (scale * input_size[0], scale * input_size[1]), device)
    fields: list[Field] = []
    for index in range(len(sites)):
        try:
            fields.append((None, None) if own is None else _measure(index, own, large, input_size))
        except Exception:  # whatever a network does, its taps are listed
            fields.append((None, None))
    return fields


def seen_area(
    module: nn.Module, site: Site, channels: int, size: Pair, unit: Pair | None, device: torch.device
) -> tuple[Pair, Pair] | None:
    """What one unit (default: the central one) sees of an image of this size: (top, left), (height, width).

    None where it cannot be measured; a unit that sees nothing has height 0.
    """
    with _one_thread():
        # A network that does not get to its end with a small image may well get to this site.
        probe = _probe(module, [site], channels, size, device, need_end=False)
        if probe is None or 0 not in probe.leans:
            return None
        prefix, height, width = _grid(probe.leans[0])
        where = unit or ((height - 1) // 2, (width - 1) // 2)
        if not (0 <= where[0] < height and 0 <= where[1] < width):
            raise RequestError(f"there are units (0, 0) to ({height - 1}, {width - 1}), not {where}")
        (rows, _), (columns, _) = _extents(_gradient(probe, probe.leans[0], prefix, (height, width), where))
        return (rows[0], columns[0]), (rows[1] - rows[0] + 1, columns[1] - columns[0] + 1)


def _probe(
    module: nn.Module,
    sites: Sequence[Site],
    channels: int,
    size: Pair,
    device: torch.device,
    *,
    need_end: bool = True,
) -> _Probe | None:
    # Two images: in the first the central unit is asked, in the second its neighbour below and to the right.
    image = torch.ones(2, 1, *size, dtype=torch.float64, device=device, requires_grad=True)
    probe = _Probe(image)
    wanted = {(id(site.module), site.call, site.path): index for index, site in enumerate(sites)}
    calls: dict[int, int] = {}
    mode = Linearised()

    def note(part: nn.Module, output: Any) -> None:
        number = calls[id(part)] = calls.get(id(part), -1) + 1
        for path, value in tensors(output):
            index = wanted.get((id(part), number, path))
            if index is None or value.ndim < 2 or value.shape[0] != len(image):
                continue  # a part that gives the same for every image
            axis = sites[index].channel_axis
            value = mode.now(value)
            lean = mode.lean(value) if axis == 1 else value.movedim(axis, 1).mean(1, keepdim=True)
            probe.leans[index] = lean
            probe.made_by[index] = [fn for fn in (value.grad_fn, lean.grad_fn) if fn is not None]

    try:
        with torch.enable_grad(), watching_everything(note, module):
            given = mode.spread(image.clone(), channels)
            with mode:
                module(given)
    except Exception:  # a network that takes no other size, or does what cannot be linearised
        return None if need_end else probe
    return probe


def _measure(index: int, own: _Probe, large: _Probe | None, input_size: Pair) -> Field:
    if index not in own.leans:
        return None, None
    units = _grid(own.leans[index])[1:]
    probe, more = own, None
    if large is not None and index in large.leans:
        there = _grid(large.leans[index])[1:]
        # A map that is not larger in the larger image (of an adaptive pooling) is not the one that is asked for.
        if all(one == 1 or two > one for one, two in zip(units, there, strict=True)):
            pixels = large.size[0] - own.size[0], large.size[1] - own.size[1]
            probe, more = large, _More(pixels, (there[0] - units[0], there[1] - units[1]))
    size, stride = _in_probe(index, probe, more, input_size)
    if units == (1, 1):
        return size, None
    return size, (stride[0] if units[0] > 1 else input_size[0], stride[1] if units[1] > 1 else input_size[1])


def _in_probe(index: int, probe: _Probe, more: _More | None, input_size: Pair) -> tuple[Pair, Pair]:
    # A convolution, its normalisation and its activation are one tensor here: ask it once. And what is computed
    # from units that see everything sees everything: that needs no pass of its own.
    lean = probe.leans[index]
    if id(lean) in probe.fields:
        return probe.fields[id(lean)]
    prefix, height, width = _grid(lean)
    units = height, width
    source = _ancestor(probe.made_by[index], probe.everything)
    if source is not None and (units == (1, 1) or (source.units, source.more) == (units, more)):
        found = input_size, source.stride
    else:
        centre = (units[0] - 1) // 2, (units[1] - 1) // 2
        size, stride = _read(_gradient(probe, lean, prefix, units, centre), more)
        if None in stride and units != (1, 1):
            # Of units at the border one end is cut off for certain, but the other one may well be seen.
            step = _high_ends(_gradient(probe, lean, prefix, units, (0, 0)), more)
            likely = _likely(probe.size, units, more, _ancestor(probe.made_by[index], probe.known))
            stride = (stride[0] or step[0] or likely[0], stride[1] or step[1] or likely[1])
        whole = (min(size[0], input_size[0]), min(size[1], input_size[1])) if source is None else input_size
        found = whole, (stride[0] or 1, stride[1] or 1)
    probe.fields[id(lean)] = found
    here = dict.fromkeys(probe.made_by[index], _Map(units, more, found[1]))
    probe.known |= here
    if found[0] == input_size:
        probe.everything |= here
    return found


def _ancestor(nodes: list[Any], known: dict[Any, _Map]) -> _Map | None:
    """What is known of the first of the graph's `known` nodes that `nodes` were computed from."""
    waiting, visited = list(nodes), set(nodes)
    while waiting:
        node = waiting.pop()
        if node in known:
            return known[node]
        for following, _ in node.next_functions:
            if following is not None and following not in visited:
                visited.add(following)
                waiting.append(following)
    return None


def _grid(lean: Tensor) -> tuple[int, int, int]:
    """How the units lie: (those before the first position, rows, columns)."""
    if lean.ndim == 2:
        return 0, 1, 1
    if lean.ndim >= 4:
        return 0, math.prod(lean.shape[2:-1]), lean.shape[-1]
    return token_grid(lean.shape[2]) or (0, 1, lean.shape[2])


def _gradient(probe: _Probe, lean: Tensor, prefix: int, units: Pair, unit: Pair) -> Tensor:
    """Of a unit of the first image and of its diagonal neighbour of the second: what each sees, [2, H, W]."""
    (height, width), (y, x) = units, unit
    flat = lean.reshape(2, -1)
    below, right = min(y + 1, height - 1), min(x + 1, width - 1)
    seed = flat[0, prefix + y * width + x] + flat[1, prefix + below * width + right]
    (gradient,) = torch.autograd.grad(seed, probe.image, retain_graph=True)
    return gradient.ne(0).any(1)


def _likely(size: Pair, units: Pair, more: _More | None, source: _Map | None) -> Pair:
    """The stride as the sizes of image and map suggest it, for units of which neither end is seen."""
    out = []
    for axis in (0, 1):
        # By how much the map grows with the image is free of what it loses at its borders.
        is_free = more is not None and more.units[axis] > 0
        stride = more.pixels[axis] / more.units[axis] if more and is_free else size[axis] / units[axis]
        known = source.stride[axis] if source is not None else 1
        out.append(max(1, round(stride / known) * known if stride >= known else round(stride)))
    return out[0], out[1]


def _read(seen: Tensor, more: _More | None) -> tuple[Pair, Steps]:
    """The extent of two neighbouring units, and the step between them where it can be read off."""
    size, steps = [], []
    for axis, ((low, high), (low2, high2)) in enumerate(_extents(seen)):
        first, second, side = high - low, high2 - low2, seen.shape[1 + axis]
        size.append(max(first, second) + 1)
        # The border cuts the first unit off below or the second one above: the wider of them is whole.
        step = low2 - low if first >= second else high2 - high
        is_cut = min(first, second) < 0 or (low == 0 and high2 == side - 1)
        steps.append(step if not is_cut and _fits(step, axis, more) else None)
    return (size[0], size[1]), (steps[0], steps[1])


def _high_ends(seen: Tensor, more: _More | None) -> Steps:
    """The step between the lower right ends of what two neighbouring units see, unless those are cut off."""
    steps: list[int | None] = []
    for axis, ((_, high), (_, high2)) in enumerate(_extents(seen)):
        side = seen.shape[1 + axis]
        steps.append(high2 - high if high2 < side - 1 and _fits(high2 - high, axis, more) else None)
    return steps[0], steps[1]


def _fits(step: int, axis: int, more: _More | None) -> bool:
    """Whether a step fits the sizes of image and map; a unit with dilation may be cut off and not touch the border."""
    if more is None or more.units[axis] == 0:
        return step > 0
    return step > 0 and abs(more.pixels[axis] / step - more.units[axis]) < 1.5


def _extents(seen: Tensor) -> list[tuple[Pair, Pair]]:
    """The first and last row, and the first and last column, that each of two units sees."""
    rows, columns = seen.any(2), seen.any(1)
    return [(_extent(lines[0]), _extent(lines[1])) for lines in (rows, columns)]


def _extent(lines: Tensor) -> Pair:
    where = lines.nonzero()
    return (int(where[0]), int(where[-1])) if len(where) else (0, -1)
