"""A trained network, opened at named taps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from preimage.errors import RequestError, UnknownTapError, nearest
from preimage.network.borrowed import borrowed, precise
from preimage.network.receptive_field import receptive_fields, seen_area
from preimage.network.running import Found, Site, discover, run_to
from preimage.network.taps import Place, Tap, TapTable

OUTPUT = "output"
"""The name of the tap at the network's own output."""


class Answering(Protocol):
    """What the loop knows of a network, or of a part of one."""

    def held(self) -> AbstractContextManager[None]:
        """Borrow the module for many runs at once."""

    def run(self, images: Tensor, taps: Iterable[str | Place]) -> dict[Place, Tensor]:
        """Activations [N, channels, *positions] of each tap."""


class Network:
    """Any trained `torch.nn.Module` that takes images, opened at every module inside it.

    Images go in as [N, C, H, W] in [0, 1]; the network's own preprocessing (`mean`, `std`) is applied here. The
    module is only borrowed: whenever a call returns, training flags, `requires_grad`, hooks, dtype, device and
    buffers are what they were before.

    module: the network; its output may be a tensor or a tuple, list or mapping with tensors.
    input_size: (height, width), or one number for both, in pixels. Default: `module.input_size`, else 224.
    mean, std: one number per channel, on the [0, 1] scale; the module gets (image - mean) / std. Default: none.
    labels: the classes' names, in the order of the outputs. Default: `module.labels`, if there.
    channels: how many the input has. Default: the length of `mean`, else what the first convolution takes, else 3.
    logits: the tap that holds the class scores. Default: the output, or the entry `logits` or the first of several.
    name: what it is called in reports.

    Raises `RequestError` where these do not fit together.
    """

    def __init__(
        self,
        module: nn.Module,
        input_size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        labels: Sequence[str] | None = None,
        *,
        channels: int | None = None,
        logits: str | None = None,
        name: str | None = None,
    ):
        if not isinstance(module, nn.Module):
            raise RequestError(f"a network must be a torch.nn.Module, not {type(module).__name__}")
        self.module = module
        self.name = name or type(module).__name__
        self.input_size = _pair(input_size if input_size is not None else getattr(module, "input_size", 224))
        self.channels = channels or _channels(module, mean)
        for what, numbers in (("mean", mean), ("std", std)):
            if numbers is not None and len(numbers) != self.channels:
                raise RequestError(f"{what} has {len(numbers)} numbers, but the input has {self.channels} channels")
        if std is not None and not all(s > 0 for s in std):
            raise RequestError(f"every std must be above zero, not {list(std)}")
        self.mean, self.std = (None if n is None else tuple(map(float, n)) for n in (mean, std))
        found = labels if labels is not None else getattr(module, "labels", None)
        self.labels: tuple[str, ...] | None = None if found is None else tuple(map(str, found))
        self._logits = logits
        # Convolutions run up to twice as fast in this layout on CPUs, with the weights as they are (`make bench`).
        self._layout = torch.channels_last
        self._held = 0
        self._answers_in = torch.float32
        self._sites: dict[str, Site] | None = None
        self._aliases: dict[str, str] = {}
        self._rows: dict[str, Tap] = {}
        self._has_receptive_fields = False

    def __repr__(self) -> str:
        height, width = self.input_size
        return f"Network({self.name}, {self.channels} x {height} x {width})"

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next((p.device for p in _tensors(self.module)), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type that the module computes in."""
        return next((p.dtype for p in _tensors(self.module) if p.is_floating_point()), torch.float32)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Borrow the module for many runs at once; every run outside such a block borrows it by itself."""
        if self._held:
            yield
            return
        with borrowed(self.module):
            self._held += 1
            try:
                yield
            finally:
                self._held -= 1

    @contextmanager
    def in_float64(self) -> Iterator[None]:
        """Borrow the module, with its weights in float64; within the block `run` answers in it too.

        Raises `RequestError` for a network that computes in half precision, whose answers are too coarse for that.
        """
        if self._answers_in is torch.float64:
            yield
            return
        if self.dtype in (torch.float16, torch.bfloat16):
            raise RequestError(
                f"{self.name} computes in {str(self.dtype).removeprefix('torch.')}, too coarse for what is done in "
                "float64 here; give it as module.float()"
            )
        with self.held(), precise(self.module):
            self._answers_in = torch.float64
            try:
                yield
            finally:
                self._answers_in = torch.float32

    def taps(self) -> TapTable:
        """Every place that can be asked, in the order in which the network computes them."""
        self._open()
        if not self._has_receptive_fields:
            assert self._sites is not None
            with torch.inference_mode(False), self.held():
                fields = receptive_fields(
                    self.module, list(self._sites.values()), self.channels, self.input_size, self.device
                )
            for name, (field, stride) in zip(self._sites, fields, strict=True):
                row = self._rows[name]
                self._rows[name] = Tap(row.name, row.kind, row.shape, row.channels, field, stride)
            self._has_receptive_fields = True
        return TapTable(self._rows.values())

    def sees(
        self, tap: str, size: tuple[int, int] | None = None, unit: tuple[int, int] | None = None
    ) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """What one unit of a tap sees of an image of this size: (top, left) and (height, width) in pixels.

        size: default the network's input size. unit: (row, column), default the central one. None where it cannot be
        measured. Its receptive field cut off by the image's border, that is.

        Raises `RequestError` if there is no such unit.
        """
        name = self.tap(tap).name
        assert self._sites is not None
        with torch.inference_mode(False), self.held():
            return seen_area(self.module, self._sites[name], self.channels, size or self.input_size, unit, self.device)

    def tap(self, name: str) -> Tap:
        """The row of one tap, without receptive field if nobody asked for those yet.

        Raises `UnknownTapError`, which names the nearest existing ones.
        """
        self._open()
        name = self._aliases.get(name, name)
        if name not in self._rows:
            close = nearest(name, self._rows)
            hint = f"; the nearest are {', '.join(close)}" if close else ""
            raise UnknownTapError(f"{self.name} has no tap '{name}'{hint} (preimage taps lists all {len(self._rows)})")
        return self._rows[name]

    @property
    def logits(self) -> str:
        """The tap that holds the class scores."""
        self._open()
        if self._logits is not None:
            return self.tap(self._logits).name
        for name in (OUTPUT, f"{OUTPUT}[logits]", f"{OUTPUT}[out]", f"{OUTPUT}[0]"):
            if name in self._rows:
                return name
        outputs = [name for name in self._rows if name.startswith(OUTPUT)]
        raise RequestError(
            f"{self.name} has no output that can be asked for classes; name its tap with logits= "
            f"({', '.join(outputs) or 'it returns no float tensor'})"
        )

    def run(
        self, images: Tensor, taps: Iterable[str | Place], *, instead: tuple[str, Tensor] | None = None
    ) -> dict[Place, Tensor]:
        """Run as far as the deepest of `taps`, and no further.

        images: float [N, C, H, W] in [0, 1]; any H and W that the network takes.
        taps: names, or `Place`s to say on which side of a final ReLU. Values are asked before it (SPEC A11).
        instead: a tap and activations [N, channels, *positions] with which the network goes on from there (behind a
            ReLU that the tap ends in), whatever it made of the images; see `beyond`.
        Returns float32 activations [N, channels, *positions], keyed by place; gradients flow back to `images`.

        Raises `UnknownTapError`, or `RequestError` if the images do not have the shape that the network takes.
        """
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise RequestError(f"{self.name} takes images [N, {self.channels}, H, W], not {list(images.shape)}")
        places = [place if isinstance(place, Place) else Place(place) for place in taps]
        names = {place: self.tap(place.tap).name for place in places}
        assert self._sites is not None
        sites = {place: self._sites[name] for place, name in names.items()}
        if instead is not None:
            exchanged = self.tap(instead[0]).name
            for place, name in names.items():
                if name == exchanged and not place.after_relu and sites[place].rectifiers:
                    raise RequestError(
                        f"{place.tap} is exchanged behind its ReLU, before which nothing stands; ask after:{place.tap}"
                    )
        # Two places may be the same site (an alias): run_to keys by site.
        wanted = {(site, place.after_relu): place for place, site in sites.items()}
        keep = frozenset().union(*(s.rectifiers for p, s in sites.items() if not p.after_relu))
        with self.held():
            try:
                given = None if instead is None else (self._sites[self.tap(instead[0]).name], instead[1])
                values = run_to(self.module, self.prepare(images), wanted, keep, given)
            except RuntimeError as error:
                if tuple(images.shape[2:]) == self.input_size:
                    raise
                raise self._does_not_run(tuple(images.shape[2:]), error) from error
        return {place: values[wanted[site, place.after_relu]].to(self._answers_in) for place, site in sites.items()}

    @torch.no_grad()
    def class_scores(self, images: Tensor, chunk: int = 16, *, softmax: bool = False) -> Tensor:
        """What the network answers to images [N, C, H, W]: logits, float32 [N, classes] on the CPU.

        chunk: how many go through it at once. softmax: probabilities instead. Of a network that answers position by
        position, the mean over them.
        """
        place = Place(self.logits, after_relu=True)
        found = []
        with self.held():
            for some in torch.split(images, chunk):
                scores = self.run(some.to(self.device), [place])[place].cpu()
                scores = scores.softmax(1) if softmax else scores
                found.append(scores.flatten(2).mean(2) if scores.ndim > 2 else scores)
        return torch.cat(found)

    def beyond(self, tap: str, images: Tensor) -> Beyond:
        """The part of the network behind a tap, which takes the tap's activations instead of images.

        images: [N, C, H, W], from which everything is computed that reaches the taps behind on another way.
        """
        return Beyond(self, self.tap(tap).name, images)

    def prepare(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the module wants them: preprocessed, on its device, in its dtype."""
        given = images
        images = images.to(self.device)
        for numbers, apply in ((self.mean, torch.sub), (self.std, torch.div)):
            if numbers is not None:
                images = apply(images, torch.tensor(numbers, device=images.device).view(1, -1, 1, 1))
        # (a module without parameters has no type of its own)
        dtype = torch.float64 if self._answers_in is torch.float64 else self.dtype
        prepared = images.to(dtype, memory_format=self._layout)
        # The network may write into what it is given, and that must not be the caller's own tensor.
        return prepared.clone() if prepared.data_ptr() == given.data_ptr() else prepared

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise `RequestError` unless the network runs on images of this (height, width)."""
        if size != self.input_size:
            self._discover(size)

    def _open(self) -> None:
        """Find all taps, by one run at the network's input size."""
        if self._sites is not None:
            return
        names: dict[int, list[str]] = {}
        for name, part in self.module.named_modules(remove_duplicate=False):
            # The network's own output keeps its name; a part that is called so gets another.
            names.setdefault(id(part), []).append({"": OUTPUT, OUTPUT: f"{OUTPUT}_"}.get(name, name))
        sites: dict[str, Site] = {}
        found = self._discover(self.input_size)
        outputs: dict[tuple[int, int], int] = {}
        for one in found:
            key = (id(one.site.module), one.site.call)
            outputs[key] = outputs.get(key, 0) + 1
        for one in found:
            site, own = one.site, names[id(one.site.module)]
            # A module known by as many names as it is called (a shared ReLU in a Sequential) goes by its names.
            if len(own) == one.calls:
                name = own[site.call]
            else:
                name = own[0] + (f"#{site.call + 1}" if site.call else "")
                self._aliases |= dict.fromkeys(own[1:], own[0])
            if outputs[id(site.module), site.call] > 1:
                name += "".join(f"[{key}]" for key in site.path)
            if name not in sites:
                sites[name] = site
                self._rows[name] = Tap(name, type(site.module).__name__, one.shape, one.shape[0])
        self._sites = sites

    def _discover(self, size: tuple[int, int]) -> list[Found]:
        image = torch.full((1, self.channels, *size), 0.5)
        with torch.inference_mode(False), self.held():
            try:
                return discover(self.module, self.prepare(image))
            except RequestError:
                raise
            except Exception as error:
                # A network that calls `view` on a convolution's output takes the default layout only.
                if self._layout is torch.channels_last and self._sites is None:
                    self._layout = torch.contiguous_format
                    return self._discover(size)
                raise self._does_not_run(size, error) from error

    def _does_not_run(self, size: tuple[int, ...], error: Exception) -> RequestError:
        own = f"its own input size is {self.input_size[0]} x {self.input_size[1]}"
        return RequestError(
            f"{self.name} does not run on {self.channels} x {size[0]} x {size[1]} images "
            f"({type(error).__name__}: {_first_line(error)}); "
            + (own if size != self.input_size else "say what it takes with input_size= and channels=")
        )


class Beyond:
    """What lies behind a tap of a network (see `Network.beyond`)."""

    def __init__(self, network: Network, tap: str, images: Tensor):
        self._network, self._tap, self._images = network, tap, images

    def held(self) -> AbstractContextManager[None]:
        """As `Network.held`."""
        return self._network.held()

    def run(self, values: Tensor, taps: Iterable[str | Place]) -> dict[Place, Tensor]:
        """As `Network.run`, from activations [N, channels, *positions] of the tap, image by image.

        There may be several of each image in turn: n of the first, n of the second, and so on.
        """
        views, left = divmod(len(values), len(self._images))
        if left or not views:
            raise RequestError(f"{len(values)} activations of {self._tap}, but {len(self._images)} images")
        images = self._images if views == 1 else self._images.repeat_interleave(views, 0)
        return self._network.run(images, taps, instead=(self._tap, values))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(int(side) for side in size)[-2:]
    if len(pair) != 2 or min(pair) < 1:
        raise RequestError(f"input_size must be a height and a width in pixels, not {size}")
    return pair


def _channels(module: nn.Module, mean: Sequence[float] | None) -> int:
    if mean is not None:
        return len(mean)
    convolutions = (part for part in module.modules() if isinstance(part, (nn.Conv2d, nn.LazyConv2d)))
    first = next(convolutions, None)
    return first.in_channels if first is not None and first.in_channels else 3
