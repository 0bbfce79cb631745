"""Paper 3, figure S18 (SPEC P22): images of what a caption says.

    python experiments/sampling_captions.py
    python experiments/sampling_captions.py --quick

The captioner is trained here in a few minutes: E's features h1 (frozen) start a small recurrent decoder that writes,
word by word, captions such as "a frog on a dark green background". Captions of CIFAR-10's photos are made by a
template, from the class and from the photo's border, the outermost 4 pixels: "dark" where their mean luminance is below
0.35, "bright" above 0.6, nothing in between; "grey" where the saturation of their mean colour is below 0.12, otherwise
"red" (to yellow: hue below 70 or above 320 degrees), "green" (to 170) or "blue". Each of these is measured in samples
in the same way.

Chains are conditioned on log p(caption | image), the sum of the words' log-probabilities, with the released code's
numbers for captions (eps_1 = 1e-3, steps that shorten to 1e-10), and with those that suit this prior
(`sampling_table.py`: 100 steps, then 15 without noise or pull), by which the claims are judged. Two captions for each
class, of backgrounds that the class has often and seldom, 4 chains each; beside them the class alone, by
`sampling_setup.last_samples`. LRCN, which the paper asks, writes free captions of things that are no classes; this one
knows 21 words.

About 6 minutes on one core after `sampling_table.py`, whose samples of single classes it shares. Writes
`results/sampling_captions.json` and `.jpg`; the captioner is kept in $PREIMAGE_CACHE.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest
from torch import Tensor, nn

import preimage as pi
from cifar10 import LABELS, pictures
from figure import pictures_in_rows
from preimage.evaluation import judged
from preimage.images import written_whole
from preimage.objectives import Written, written
from registry import CACHE
from sampling_claims import Answer, Claim, Found, answers, of
from sampling_setup import STEPS, about, arguments, digest, digits, last_samples, opened, results, write_results

BORDER = 4
DARK, BRIGHT, GREY = 0.35, 0.6, 0.12
LUMINANCE = (0.2126, 0.7152, 0.0722)
BRIGHTNESS = ("dark", "", "bright")
COLOURS = ("grey", "red", "green", "blue")
END = "."
ARTICLE = {name: "an" if name[0] in "aeiou" else "a" for name in LABELS}
WORDS = (END, "a", "an", "on", "background", "dark", "bright", *COLOURS, *LABELS)
LENGTH = 8
"""Words of the longest caption, and its end."""
WIDTH, EPOCHS, BATCH, RATE = 192, 6, 256, 2e-3
EPSILONS, LAST = (1e-3, 1.0, 1e-17), 1e-10
TUNED, TUNED_STEPS, CLEAR = (3e-6, 1.0, 0.01), 100, 15
SELDOM = 0.02
"""The share of a class's photos that a background has at least, to be asked for."""


@dataclass(frozen=True)
class Background:
    """What a border looks like: numbers in `BRIGHTNESS` and `COLOURS`."""

    brightness: int
    colour: int

    def __str__(self) -> str:
        return " ".join(word for word in (BRIGHTNESS[self.brightness], COLOURS[self.colour]) if word)


def backgrounds(images: Tensor) -> list[Background]:
    """Of images [N, 3, H, W] in [0, 1]."""
    inside = torch.zeros(images.shape[2:], dtype=torch.bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    colour = images[:, :, ~inside].mean(2)
    bright = colour @ torch.tensor(LUMINANCE)
    level = (bright > DARK).long() + (bright > BRIGHT).long()
    top, bottom = colour.amax(1), colour.amin(1)
    spread = (top - bottom).clamp_min(1e-6)
    saturation = (top - bottom) / top.clamp_min(1e-6)
    red, green, blue = colour.unbind(1)
    sector = torch.where(
        top == red,
        ((green - blue) / spread) % 6,
        torch.where(top == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    hue = 60 * sector
    which = torch.full_like(level, COLOURS.index("blue"))
    which[(hue >= 70) & (hue < 170)] = COLOURS.index("green")
    which[(hue < 70) | (hue > 320)] = COLOURS.index("red")
    which[saturation < GREY] = COLOURS.index("grey")
    return [Background(int(b), int(c)) for b, c in zip(level, which, strict=True)]


def caption(label: int, background: Background) -> str:
    """What is written of a photo."""
    return f"{ARTICLE[LABELS[label]]} {LABELS[label]} on a {background} background"


def tokens(said: str) -> list[int]:
    """The words' numbers, and the end's, as often as it takes to fill `LENGTH`."""
    words = [WORDS.index(word) for word in said.split()]
    return words + [0] * (LENGTH - len(words))


class Captioner(nn.Module):
    """h1 -> words: a gated recurrent unit whose first state is a linear function of the features.

    eye: E, frozen. Takes images as E does, [N, 3, 32, 32].
    """

    def __init__(self, eye: nn.Module, features: int, width: int = WIDTH):
        super().__init__()
        self.eye = eye.requires_grad_(False)
        self.begin = nn.Linear(features, width)
        self.embed = nn.Embedding(len(WORDS), width // 2)
        self.cell = nn.GRUCell(width // 2, width)
        self.say = nn.Linear(width, len(WORDS))

    def features(self, images: Tensor) -> Tensor:
        """h1 (pool5) of images, [N, features], all about 1."""
        eye: Any = self.eye
        found: Tensor = eye.pool5(eye.conv4(eye.conv3(eye.pool2(eye.conv2(eye.pool1(eye.conv1(images)))))))
        return found.flatten(1)

    def log_probabilities(self, features: Tensor, words: Tensor) -> Tensor:
        """log p of each word after those before it; words: [N, LENGTH] -> [N, LENGTH]."""
        return self.after(features, words).gather(2, words[..., None])[..., 0]

    def after(self, features: Tensor, words: Tensor) -> Tensor:
        """log p of all words at each place, given those before it in `words`: [N, LENGTH, words]."""
        state = torch.tanh(self.begin(features))
        previous = torch.zeros(len(features), dtype=torch.long, device=features.device)
        said = []
        for place in range(words.shape[1]):
            state = self.cell(self.embed(previous), state)
            said.append(self.say(state).log_softmax(1))
            previous = words[:, place]
        return torch.stack(said, 1)

    @torch.no_grad()
    def write(self, features: Tensor) -> Tensor:
        """The likeliest word each time: [N, LENGTH]."""
        words = torch.zeros(len(features), LENGTH, dtype=torch.long, device=features.device)
        state = torch.tanh(self.begin(features))
        previous = words[:, 0]
        for place in range(LENGTH):
            state = self.cell(self.embed(previous), state)
            previous = words[:, place] = self.say(state).argmax(1)
        return words


class Told(nn.Module):
    """How likely a captioner is to write one caption: images -> log p of each of its words, [N, words]."""

    def __init__(self, captioner: Captioner, said: str):
        super().__init__()
        self.captioner = captioner
        words = tokens(said)
        # up to its end, which belongs to it
        self.register_buffer("words", torch.tensor(words[: len(said.split()) + 1]))

    def forward(self, images: Tensor) -> Tensor:
        features = self.captioner.features(images)
        return self.captioner.log_probabilities(features, self.words.expand(len(images), -1))


def condition(captioner: Captioner, encoder: pi.Network, said: str) -> tuple[pi.Network, Written]:
    """A caption as a condition of `pi.sample`: the network that is asked, and what."""
    network = pi.Network(Told(captioner, said), encoder.input_size, encoder.mean, encoder.std, name="captioner")
    return network, written(lambda words: words.sum(1), name=f"log p of '{said}'")


# --- training ---------------------------------------------------------------------------------------------------------


def trained(encoder: pi.Network, photos: int, epochs: int, seed: int, device: str) -> tuple[Captioner, Found]:
    """The captioner, from $PREIMAGE_CACHE if it is there, and how well it writes about test photos."""
    torch.manual_seed(seed)
    captioner = (
        Captioner(encoder.module, encoder.tap("pool5").channels * 16).to(device).eval()
    )  # (E's means stay as they are)
    path = CACHE / f"captioner-{digest(encoder.module)}-{photos}-{epochs}-{seed}.safetensors"
    own = {name for name in captioner.state_dict() if not name.startswith("eye.")}
    if path.exists():
        captioner.load_state_dict(load_file(path), strict=False)
    else:
        taught(captioner, encoder, photos, epochs, seed, device)
        with written_whole(path) as file:
            save_file({name: value.cpu() for name, value in captioner.state_dict().items() if name in own}, file)
    images, labels = (one[:2000] for one in pictures("test"))
    wanted = targets(images, labels)
    features = seen(captioner, encoder, images, device)
    wrote = torch.cat([captioner.write(some.to(device).float()).cpu() for some in features.split(500)])
    places = {"class": 1, "all words": slice(None)}
    found = {what: digits((wrote[:, at] == wanted[:, at]).double().mean()) for what, at in places.items()}
    background = [wrote[:, i] == wanted[:, i] for i in range(4, LENGTH)]
    return captioner, {
        "word for word": digits((wrote == wanted).all(1).double().mean()),
        "background": digits(torch.stack(background).all(0).double().mean()),
        **found,
        "photos": len(images),
    }


def taught(captioner: Captioner, encoder: pi.Network, photos: int, epochs: int, seed: int, device: str) -> None:
    """Teacher forcing: each word from those before it in the caption, whatever the captioner would have written."""
    images, labels = (one[:photos] for one in pictures("train"))
    wanted = targets(images, labels)
    features = seen(captioner, encoder, images, device)
    learning = [value for name, value in captioner.named_parameters() if not name.startswith("eye.")]
    optimizer = torch.optim.Adam(learning, RATE)
    batches = max(1, len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * batches)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        total = 0.0
        for some in torch.randperm(len(images), generator=generator)[: batches * BATCH].split(BATCH):
            words = wanted[some].to(device)
            ending = (words == 0).cumsum(1) <= 1  # (all words, and the first end)
            loss = -(captioner.log_probabilities(features[some].to(device).float(), words) * ending).sum() / len(some)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"captioner, epoch {epoch + 1}: {total / batches:.3f} nats a caption", flush=True)


def targets(images: Tensor, labels: Tensor) -> Tensor:
    """The captions' words, [N, LENGTH]."""
    of_each = backgrounds(images.float() / 255)
    return torch.tensor([tokens(caption(int(i), one)) for i, one in zip(labels, of_each, strict=True)])


@torch.no_grad()
def seen(captioner: Captioner, encoder: pi.Network, images: Tensor, device: str) -> Tensor:
    """h1 of photos, float16 [N, features]."""
    parts = [
        captioner.features(encoder.prepare((some.float() / 255).to(device))).half().cpu() for some in images.split(250)
    ]
    return torch.cat(parts)


# --- samples ----------------------------------------------------------------------------------------------------------


def main() -> None:
    asked = arguments(__doc__).parse_args()
    began = time.process_time()
    world = opened(asked)
    encoder = world.prior.encoder
    assert isinstance(encoder, pi.Network)
    photos, epochs = (2000, 2) if asked.quick else (50_000, EPOCHS)
    captioner, quality = trained(encoder, photos, epochs, asked.seed, asked.device)
    print(quality, flush=True)
    asks = chosen()[:4] if asked.quick else chosen()
    chains, steps, noisy, alone = (2, 10, 10, 4) if asked.quick else (4, STEPS, TUNED_STEPS, 100)
    rows, cells = [], []
    for label, background in asks:
        said = caption(label, background)
        network, objective = condition(captioner, encoder, said)
        going = {"prior": world.prior, "chains": chains, "seed": asked.seed, "progress": False}
        published = pi.sample(network, objective, steps=steps, every=steps, epsilons=EPSILONS, last=LAST, **going)
        made = pi.sample(network, objective, steps=noisy, every=noisy, epsilons=TUNED, **going)
        going |= {"start": made, "steps": CLEAR, "every": CLEAR, "epsilons": (0.0, 1.0, 0.0)}
        made = pi.sample(network, objective, **going)
        plain = last_samples(world, "noiseless-joint", label, alone, steps=steps, seed=asked.seed)
        row = {
            "caption": said,
            "log p": digits(made.scores[-1].mean()),
            **kept(world.judge, made.images, label, background),
            "published": kept(world.judge, published.images, label, background),
            "alone": kept(world.judge, plain, label, background),
        }
        rows.append(row)
        shown = [(image, "") for image in made.images[:4]] + [(image, "published") for image in published.images[:2]]
        cells.append((f"{LABELS[label]}\n{background}", shown + [(image, "class alone") for image in plain[:2]]))
        print(row, flush=True)
    pictures_in_rows(cells, results(asked) / "sampling_captions.jpg", inches=1.1)
    measured = summary(rows, quality)
    write_results(
        "sampling_captions",
        asked,
        {
            **about(world, asked, began),
            "captioner": quality,
            "epsilons": {"tuned": list(TUNED), "published": list(EPSILONS)},
            "claims": answers(CLAIMS, measured),
            "summary": measured,
            "captions": rows,
        },
    )


def chosen() -> list[tuple[int, Background]]:
    """For each class the background that its training photos have most often, and the rarest that one in fifty has."""
    images, labels = pictures("train")
    found = []
    for label in range(len(LABELS)):
        own = images[labels == label][:1000]
        counts = Counter(map(str, backgrounds(own.float() / 255)))
        known = {str(one): one for one in backgrounds(own.float() / 255)}
        often = [name for name, count in counts.most_common() if count >= SELDOM * len(own)]
        found += [(label, known[often[0]]), (label, known[often[-1]])]
    return found


def kept(judge: pi.Network, images: Tensor, label: int, background: Background) -> Found:
    """How many images have what the caption says: the class (by the judge), brightness and colour (measured)."""
    found = backgrounds(images)
    return {
        "class": digits((judged(judge, images).argmax(1) == label).double().mean()),
        "brightness": digits(sum(one.brightness == background.brightness for one in found) / len(found)),
        "colour": digits(sum(one.colour == background.colour for one in found) / len(found)),
        "background": digits(sum(one == background for one in found) / len(found)),
        "samples": len(images),
    }


def summary(rows: Sequence[Found], quality: Found) -> dict[str, Found]:
    """Means over captions; and in how many the background is more, or less, frequent than under the class alone."""
    what = ("class", "brightness", "colour", "background")
    told = {name: digits(sum(row[name] for row in rows) / len(rows)) for name in what}
    beside = {
        which: {name: digits(sum(row[which][name] for row in rows) / len(rows)) for name in what}
        for which in ("published", "alone")
    }
    more = sum(row["background"] > row["alone"]["background"] for row in rows)
    less = sum(row["background"] < row["alone"]["background"] for row in rows)
    return {
        "told": told,
        **beside,
        "captions": {"more": more, "less": less, "of": len(rows)},
        "captioner": quality,
    }


# --- claims -----------------------------------------------------------------------------------------------------------


def drawn_as_told(measured: dict[str, Found]) -> Answer:
    """Samples show the class that the caption names (judge) in at least half of the cases; and the caption's background
    is more frequent than under the class alone in more captions than chance allows (sign test, one-sided, p below
    0.05)."""
    quality = of(measured, "told", "class")
    more, less = (int(of(measured, "captions", which)) for which in ("more", "less"))
    p = binomtest(more, more + less, alternative="greater").pvalue if more + less else 1.0
    numbers = {
        "class": quality,
        "more, less": [more, less],
        "p": digits(p),
        **{w: measured[w] for w in ("told", "published", "alone")},
    }
    return quality >= 0.5 and p < 0.05, numbers


def class_is_not_lost(measured: dict[str, Found]) -> Answer:
    """The class is seen no less often than under the class alone, by more than 0.05. Undecided where that is below
    0.3."""
    told, alone = (of(measured, which, "class") for which in ("told", "alone"))
    if alone < 0.3:
        return None, {"told": told, "alone": alone}
    return told >= alone - 0.05, {"told": told, "alone": alone}


CLAIMS = (
    Claim("The model can be given a text and asked to generate the described image (figure S18).", drawn_as_told),
    Claim("More conditions cost no recognisability (ours).", class_is_not_lost),
)

if __name__ == "__main__":
    main()
