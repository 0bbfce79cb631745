"""What `sample` returns: chains of images, and all that it takes to go on with them."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from preimage.errors import RequestError
from preimage.images import to_pil, writable_folder, written_whole
from preimage.objectives import EachItsOwn
from preimage.optimization import Climb
from preimage.result import figure_html, file_stem, number
from preimage.sample.conditions import Asked, Judges
from preimage.sample.samplers import Sampler

_AT_ONCE = 64
"""Images that are made of codes, and judged, together."""
_MOST_FRAMES = 100
_FRAME, _REST = 100, 1500
"""For how many milliseconds each frame of a film stands, and the last."""
_SIDE = 128
_QUALITY = 90
Generators = tuple[Sequence[torch.Generator], Sequence[torch.Generator], torch.Generator]


@dataclass
class Chain:
    """Chains of images; chain i was asked `objectives[i]`.

    samples: the kept images, float32 [kept, chains, C, H, W] in [0, 1]. kept: after which steps.
    codes: v of the kept samples, [kept, chains, ...]: codes of the generator, or pixels counted from grey.
    scores: what each kept sample was asked for, [kept, chains]; of classes the log-probability.
    trace: the same of every step, float32 [steps, chains]. done: how many steps were gone, in all.
    objectives: how they are written. settings: all that determines the images.
    state: v after the last step, [chains, ...]; with `randomness` all that it takes to go on.
    interrupted: whether Ctrl-C ended the run early.
    """

    samples: Tensor
    kept: list[int]
    codes: Tensor
    scores: Tensor
    trace: Tensor
    done: int
    objectives: list[str]
    settings: dict[str, Any]
    state: Tensor
    randomness: dict[str, Tensor] = field(repr=False)
    interrupted: bool = False

    def __repr__(self) -> str:
        some = ", ".join(dict.fromkeys(self.objectives))
        return f"Chain({self.samples.shape[1]} chains, {self.done} steps, {len(self.kept)} samples of each: {some})"

    @property
    def images(self) -> Tensor:
        """The last sample of each chain, float32 [chains, C, H, W] in [0, 1]."""
        return self.samples[-1]

    @property
    def probabilities(self) -> Tensor:
        """exp of the scores: what the network gave each kept sample for what it was asked, [kept, chains]; for
        conditions that are log-probabilities."""
        return self.scores.exp()

    def confident(self, above: float = 0.97) -> Tensor:
        """The kept samples whose probability lies above this (figures S11 and S19), [n, C, H, W]."""
        return self.samples[self.probabilities > above]

    @classmethod
    def of(
        cls,
        judges: Judges,
        asked: Sequence[Asked],
        reached: Climb,
        settings: dict[str, Any],
        before: int,
        generators: Generators,
        earlier: Chain | None,
    ) -> Chain:
        """The chains that a climb has walked."""
        visited = list(reached.visited)
        done = before + len(reached.trace)
        if not visited or visited[-1][0] != done:
            visited.append((done, reached.parameters.cpu()))
        samples, scores = [], []
        for _, v in visited:
            made, judged = _seen(judges, asked, reached, v)
            samples.append(made)
            scores.append(judged)
        trace = torch.stack(reached.trace).float().cpu() if reached.trace else torch.empty(0, len(asked))
        found = cls(
            torch.stack(samples),
            [steps for steps, _ in visited],
            torch.stack([v for _, v in visited]),
            torch.stack(scores),
            trace,
            done,
            [str(one) for one in asked],
            settings,
            reached.parameters.cpu(),
            _states(generators),
            reached.interrupted,
        )
        return found if earlier is None else found._after(earlier)

    def _after(self, earlier: Chain) -> Chain:
        # (a last sample that was kept only because the run ended there is none of the whole chain's)
        every = int(self.settings["every"])
        whole = [i for i, steps in enumerate(earlier.kept) if steps % every == 0]
        self.samples = torch.cat([earlier.samples[whole], self.samples])
        self.codes = torch.cat([earlier.codes[whole], self.codes])
        self.scores = torch.cat([earlier.scores[whole], self.scores])
        self.trace = torch.cat([earlier.trace, self.trace])
        self.kept = [earlier.kept[i] for i in whole] + self.kept
        return self

    def go_on(
        self,
        noise: Sequence[torch.Generator],
        pulls: Sequence[torch.Generator],
        views: torch.Generator,
        objectives: list[str],
        sampler: Sampler,
    ) -> int:
        """Give generators the state that they had at the end of these chains; how many steps were done.

        Raises `RequestError` where the chains would go on as others than they were.
        """
        if objectives != self.objectives:
            raise RequestError(
                f"these chains were asked {', '.join(dict.fromkeys(self.objectives))}, not "
                f"{', '.join(dict.fromkeys(objectives))}"
            )
        if sampler.last != 1.0 or self.settings.get("last", 1.0) != 1.0:
            raise RequestError("chains whose steps become shorter (last=) have an end, and cannot go on")
        for name, some in (("noise", noise), ("pulls", pulls), ("views", [views])):
            states = self.randomness[name]
            if len(states) != len(some):
                raise RequestError(f"there are {len(states)} chains to go on with, not {len(some)}")
            for one, state in zip(some, states, strict=True):
                one.set_state(state.clone())
        return self.done

    def image_names(self) -> list[str]:
        """One PNG name per chain, made of its objective."""
        digits = len(str(len(self.objectives)))
        return [f"{i:0{digits}}-{file_stem(said)}.png" for i, said in enumerate(self.objectives)]

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` holds."""
        return {
            "preimage": version("preimage"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            **self.settings,
            "done": self.done,
            "interrupted": self.interrupted,
            "kept": self.kept,
            "images": [
                {"objective": said, "score": number(float(score)), "file": name}
                for said, score, name in zip(self.objectives, self.scores[-1], self.image_names(), strict=True)
            ],
            "scores": [[number(value) for value in row] for row in self.scores.tolist()],
        }

    def save(self, folder: str | Path) -> Path:
        """Write each chain's last image, a strip of all its samples (`...-chain.png`), `result.json`, and `chain`
        (safetensors, to go on with), each file whole or not at all."""
        path = writable_folder(folder)
        for i, name in enumerate(self.image_names()):
            with written_whole(path / name) as file:
                to_pil(self.images[i]).save(file)
            strip = torch.cat(list(self.samples[:, i]), 2)
            with written_whole(path / f"{Path(name).stem}-chain.png") as file:
                to_pil(strip).save(file)
        tensors = {
            "samples": self.samples,
            "codes": self.codes,
            "scores": self.scores,
            "trace": self.trace,
            "state": self.state,
            "kept": torch.tensor(self.kept),
            **{f"randomness.{name}": value for name, value in self.randomness.items()},
        }
        about = {
            "done": self.done,
            "objectives": self.objectives,
            "settings": self.settings,
            "interrupted": self.interrupted,
        }
        with written_whole(path / "chain.safetensors") as file:
            plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            save_file(plain, file, {"preimage": json.dumps(about)})
        with written_whole(path / "result.json") as file:
            file.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")
        return path

    def save_animations(self, folder: str | Path) -> list[Path]:
        """Write each chain as a film that repeats (`...-chain.webp`, an animated WebP), each whole or not at all; their
        paths.

        A frame is a kept sample (100 at most, evenly chosen, the first and the last among them) and stands for 0.1 s,
        the last for 1.5 s. Pictures whose shorter side has at most 64 pixels are enlarged to about 128, pixel by pixel,
        and kept exactly; larger ones are compressed a little. Where a sample equals the one before, the file holds it
        once and for longer.

        Raises `RequestError` for a folder that cannot be written to, and where Pillow was built without WebP.
        """
        path = writable_folder(folder)
        Image.init()
        if "WEBP" not in Image.SAVE_ALL:
            raise RequestError("this Pillow was built without animated WebP; install one of its own wheels")
        chosen = spread(len(self.kept), _MOST_FRAMES)
        durations = [_FRAME] * (len(chosen) - 1) + [_REST]
        factor = max(1, _SIDE // min(self.samples.shape[-2:]))
        exact = {"lossless": True} if factor > 1 else {"quality": _QUALITY}
        films = []
        for i, name in enumerate(self.image_names()):
            frames = [_enlarged(to_pil(self.samples[t, i]), factor) for t in chosen]
            films.append(path / f"{Path(name).stem}-chain.webp")
            with written_whole(films[-1]) as file:
                frames[0].save(
                    file, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, **exact
                )
        return films

    @classmethod
    def load(cls, folder: str | Path) -> Chain:
        """The chains that `save` wrote; raises `RequestError` where there are none, or they are broken."""
        path = Path(folder) / "chain.safetensors"
        if not path.is_file():
            raise RequestError(f"'{folder}' holds no chains to go on with (no chain.safetensors)")
        try:
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["preimage"])
            found = load_file(path)
            return cls(
                found["samples"],
                [int(steps) for steps in found["kept"]],
                found["codes"],
                found["scores"],
                found["trace"],
                int(about["done"]),
                [str(said) for said in about["objectives"]],
                dict(about["settings"]),
                found["state"],
                {name: found[f"randomness.{name}"] for name in ("noise", "pulls", "views")},
                bool(about.get("interrupted", False)),
            )
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise RequestError(f"the chains in '{path}' cannot be read: {error}") from error

    def _repr_html_(self) -> str:
        shown = zip(self.images, self.objectives, self.scores[-1], strict=True)
        return "".join(figure_html(image, said, f"{float(score):.4g}") for image, said, score in shown)


def spread(count: int, most: int) -> list[int]:
    """At most so many of `count` places in order, evenly from the first to the last."""
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _enlarged(picture: Image.Image, factor: int) -> Image.Image:
    wide, high = picture.size
    return picture.convert("RGB").resize((wide * factor, high * factor), Image.Resampling.NEAREST)


@torch.no_grad()
def _seen(judges: Judges, asked: Sequence[Asked], reached: Climb, v: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures of some parameters, and the score of each, on the CPU."""
    pictures, scores = [], []
    for first in range(0, len(v), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        picture = reached.parametrization.picture(v[some].to(reached.parameters.device))
        members = EachItsOwn(tuple(asked[some]))
        scores.append(members.score(judges.run(picture, members.places())).float().cpu())
        pictures.append(picture.float().cpu())
    return torch.cat(pictures), torch.cat(scores)


def _states(generators: Generators) -> dict[str, Tensor]:
    noise, pulls, views = generators
    return {
        "noise": torch.stack([one.get_state() for one in noise]),
        "pulls": torch.stack([one.get_state() for one in pulls]),
        "views": views.get_state()[None],
    }
