"""What chains are kept plausible by: a generator, its encoder, denoisers, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from preimage.errors import RequestError
from preimage.images import written_whole
from preimage.network import Network, Place
from preimage.network.borrowed import borrowed
from preimage.priors import Encoding
from preimage.sample.architectures import ARCHITECTURES, build, name_of

SHIPPED = {"cifar10": Path(__file__).parent / "weights" / "cifar10.safetensors"}
"""Priors that come with the package, by name."""

PAPERS_MEAN = 10.0
"""The mean of AlexNet's fc6, in whose units the paper's numbers are: noise of 1 is about 10 % of it (section S9.3)."""
_FORMAT = "preimage prior 1"
_LARGEST = 4 * 2**30


@dataclass(eq=False)
class Prior:
    """A generator G and what is known of its codes (paper 3, sections 2 and 3).

    generator: codes [N, *code_shape] -> images [N, channels, size, size] in [0, 1]; any torch module. None: there are
        none, and chains walk among images.
    encoder: the network in which codes are read; code: at which tap (behind its ReLU, as codes are); match: at which
        tap features were matched (h_1). A function images -> codes is an encoder, too, without taps.
    size: (height, width) of the images, or one side.
    code_shape: of one code; default: the generator's own `code_shape`, or what the encoder answers.
    mean_code, mean_match: mean activation of codes and of matched features on the data, in whose units noise and steps
        are counted. None: not known, and then they are counted in units of the code itself.
    noise: standard deviations that it was trained with, by "h", "h1" and "x" (of images in [0, 1]).
    denoiser: r(h), for the sampler `ppgn-h`. image_denoiser: r(x), for `ppgn-x`; both any module or function.
    name: as one calls it. trained: what else is known of its making, plain JSON types.
    """

    generator: nn.Module | None = None
    encoder: Network | Callable[[Tensor], Tensor] | None = None
    code: Place | None = None
    match: Place | None = None
    size: int | tuple[int, int] = 32
    code_shape: tuple[int, ...] | None = None
    channels: int = 3
    mean_code: float | None = None
    mean_match: float | None = None
    noise: Mapping[str, float] = field(default_factory=dict)
    denoiser: Callable[[Tensor], Tensor] | None = None
    image_denoiser: Callable[[Tensor], Tensor] | None = None
    name: str = "a prior"
    trained: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = (self.size, self.size) if isinstance(self.size, int) else (int(self.size[0]), int(self.size[1]))
        if isinstance(self.code, str):
            self.code = Place(self.code, after_relu=True)
        if isinstance(self.match, str):
            self.match = Place(self.match, after_relu=True)
        if isinstance(self.encoder, Network) and self.code is None:
            raise RequestError(f"at which tap of {self.encoder.name} are codes read? Say code=")
        if self.code_shape is None and self.generator is not None:
            self.code_shape = getattr(self.generator, "code_shape", None) or self._answered()
        if self.code_shape is not None:
            self.code_shape = tuple(int(n) for n in self.code_shape)
            self._check()

    @property
    def height(self) -> int:
        """Of its images, in pixels."""
        assert isinstance(self.size, tuple)
        return self.size[0]

    @property
    def width(self) -> int:
        """Of its images, in pixels."""
        assert isinstance(self.size, tuple)
        return self.size[1]

    @property
    def scale(self) -> float:
        """One unit of the paper's codes in units of these: a tenth of the mean, or 1 where that is not known."""
        return 1.0 if self.mean_code is None else self.mean_code / PAPERS_MEAN

    @property
    def device(self) -> torch.device:
        """Where the generator's weights are."""
        weights = [] if self.generator is None else list(self.generator.parameters())
        return weights[0].device if weights else torch.device("cpu")

    def to(self, device: str | torch.device) -> Prior:
        """The same prior, its own modules moved there; an encoder that is a network of one's own has to be there."""
        for one in (self.generator, self.denoiser, self.image_denoiser):
            if isinstance(one, nn.Module):
                one.to(device)
        if isinstance(self.encoder, Network) and type(self.encoder.module) in ARCHITECTURES.values():
            self.encoder.module.to(device)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Codes [N, *code_shape] of images [N, channels, height, width] in [0, 1]."""
        if isinstance(self.encoder, Network):
            assert self.code is not None and self.code_shape is not None
            return Encoding(self.encoder, self.code, self.code_shape)(images)
        if self.encoder is None:
            raise RequestError(f"{self.name} has no encoder, so an image has no code")
        return self.encoder(images)

    def _answered(self) -> tuple[int, ...]:
        if isinstance(self.encoder, Network) and self.code is not None:
            return self.encoder.tap(self.code.tap).shape
        if self.encoder is not None and not isinstance(self.encoder, Network):
            with torch.no_grad():
                blank = torch.full((1, self.channels, self.height, self.width), 0.5, device=self.device)
                return tuple(self.encoder(blank).shape[1:])
        raise RequestError("what codes does this generator take? Say code_shape=")

    @torch.no_grad()
    def _check(self) -> None:
        """That encoder, generator and sizes go together, by one run of each."""
        shape = self.code_shape
        assert shape is not None
        if isinstance(self.encoder, Network) and self.code is not None:
            answered = self.encoder.tap(self.code.tap).shape
            if self.encoder.input_size == self.size and tuple(answered) != shape:
                raise RequestError(
                    f"{self.encoder.name} answers with codes {[*answered]} at {self.code}, but the generator takes "
                    f"{[*shape]}"
                )
        if self.generator is None:
            return
        with borrowed(self.generator):
            try:
                made = self.generator(torch.zeros(1, *shape, device=self.device))
            except RuntimeError as error:
                raise RequestError(
                    f"the generator does not take codes {[*shape]}: {str(error).splitlines()[0]}"
                ) from error
        wanted = (1, self.channels, self.height, self.width)
        if not isinstance(made, Tensor) or tuple(made.shape) != wanted:
            got = [*made.shape[1:]] if isinstance(made, Tensor) else type(made).__name__
            raise RequestError(f"the generator makes images {got}, not {[*wanted[1:]]}; say size= and channels=")

    def save(self, path: str | Path) -> Path:
        """Write generator, denoisers and, where they are architectures of ours, the encoder into one file of
        safetensors, whole or not at all. A user's own encoder is not in it, only its name and taps.

        Raises `RequestError` for modules that are none of `preimage.sample.architectures`, which a file cannot hold
        without code.
        """
        path = Path(path)
        tensors: dict[str, Tensor] = {}
        said: dict[str, Any] = {"format": _FORMAT, "networks": {}}
        for part, module in self._parts().items():
            if module is None:
                continue
            if not isinstance(module, nn.Module):
                raise RequestError(f"a prior's file cannot hold {part}, which is a function")
            said["networks"][part] = {"is": name_of(module), "settings": module.settings}
            for key, value in module.state_dict().items():
                tensors[f"{part}.{key}"] = value.detach().cpu().contiguous()
        if isinstance(self.encoder, Network):
            said["encoder"] = {
                "name": self.encoder.name,
                "input_size": list(self.encoder.input_size),
                "mean": None if self.encoder.mean is None else list(self.encoder.mean),
                "std": None if self.encoder.std is None else list(self.encoder.std),
                "labels": list(self.encoder.labels or ()),
            }
        for one in fields(self):
            if one.name in ("generator", "encoder", "denoiser", "image_denoiser"):
                continue
            value = getattr(self, one.name)
            said[one.name] = dict(value) if isinstance(value, Mapping) else value
        with written_whole(path) as file:
            save_file(tensors, file, {"preimage": json.dumps(said)})
        return path

    def _parts(self) -> dict[str, Any]:
        encoder = self.encoder.module if isinstance(self.encoder, Network) else None
        ours = encoder is not None and type(encoder) in ARCHITECTURES.values()
        return {
            "generator": self.generator,
            "encoder": encoder if ours else None,
            "denoiser": self.denoiser,
            "image_denoiser": self.image_denoiser,
        }


def load_prior(
    what: str | Path | Prior | tuple[nn.Module, Callable[[Tensor], Tensor]], *, encoder: Network | None = None
) -> Prior:
    """A prior: `cifar10`, which comes with the package; a file that `Prior.save` or `preimage train-prior` wrote; or a
    pair (generator, encoder) of one's own.

    encoder: the network in which codes are read, where the file does not hold it.

    Raises `RequestError` for what is none of these, files that are broken or hold something else, and an encoder that
    does not fit.
    """
    if isinstance(what, Prior):
        return what
    if isinstance(what, tuple):
        generator, own = what
        return Prior(generator, own, name="a pair of generator and encoder")
    path = SHIPPED.get(str(what), Path(what))
    if not path.is_file():
        here = [repr(name) for name, file in SHIPPED.items() if file.is_file()]
        known = f"one of {', '.join(here)}, or " if here else ""
        raise RequestError(f"there is no prior '{what}': give {known}a file that preimage train-prior wrote")
    if path.stat().st_size > _LARGEST:
        raise RequestError(f"'{path}' is larger than any prior of ours ({_LARGEST >> 30} GiB)")
    try:
        with safe_open(path, "pt") as file:
            said = json.loads((file.metadata() or {}).get("preimage", "null"))
            if not isinstance(said, dict) or said.get("format") != _FORMAT:
                raise RequestError(f"'{path}' is no prior: it was not written by preimage")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise RequestError(f"'{path}' cannot be read as a prior: {str(error).splitlines()[0]}") from error
    try:
        return _opened(said, tensors, encoder, path)
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"'{path}' does not say what a prior has to say ({error})") from error


def _opened(said: dict[str, Any], tensors: dict[str, Tensor], encoder: Network | None, path: Path) -> Prior:
    parts: dict[str, nn.Module] = {}
    for part, one in said["networks"].items():
        module = build(one["is"], one["settings"])
        own = {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}
        try:
            module.load_state_dict({key: value.float() for key, value in own.items()})
        except RuntimeError as error:
            raise RequestError(f"'{path}' holds other weights than its {part} has") from error
        if any(not bool(value.isfinite().all()) for value in own.values()):
            raise RequestError(f"'{path}' holds weights of its {part} that are not finite")
        parts[part] = module.eval()
    opened: Network | None = encoder
    if encoder is None and "encoder" in parts:
        about = said["encoder"]
        opened = Network(
            parts["encoder"],
            input_size=tuple(about["input_size"]),
            mean=about["mean"],
            std=about["std"],
            labels=about["labels"] or None,
            name=about["name"],
        )
    elif encoder is None and said.get("encoder"):
        raise RequestError(
            f"'{path}' reads its codes in the network {said['encoder']['name']} at {said['code'][0]}, which it does "
            "not hold: give it as encoder="
        )
    return Prior(
        generator=parts.get("generator"),
        encoder=opened,
        code=Place(*said["code"]) if said["code"] else None,
        match=Place(*said["match"]) if said["match"] else None,
        size=tuple(said["size"]),
        code_shape=tuple(said["code_shape"]) if said["code_shape"] else None,
        channels=int(said["channels"]),
        mean_code=said["mean_code"],
        mean_match=said["mean_match"],
        noise={str(key): float(value) for key, value in said["noise"].items()},
        denoiser=parts.get("denoiser"),
        image_denoiser=parts.get("image_denoiser"),
        name=str(said["name"]),
        trained=said["trained"],
    )
