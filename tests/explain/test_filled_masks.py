"""Masks whose region a prior fills in: in worlds in which what is there follows from the rest of a photo, or does not.

The network's first class is as likely as a square of the photo is bright. The priors are linear: one knows that all of
a photo is equally bright, the other that the square tells nothing of the rest, nor the rest of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from squares import inside, overlap, weighted
from torch import Tensor, nn

import preimage as pi
from command import Run
from preimage import Network, Prior, RequestError
from preimage.explain import Explanation, Filling, Mask, Question
from preimage.explain.filling import _Worth
from preimage.explain.learning import MaskRun
from preimage.network import Place
from preimage.objectives import resolve
from preimage.parametrizations import MaskOver
from preimage.sample.architectures.encoder import Encoder
from preimage.sample.architectures.generator import Generator

SIDE, BOX, BRIGHT = 32, (8, 12, 8, 8), 0.8
SQUARE = inside(BOX, SIDE)
PHOTO = torch.full((3, SIDE, SIDE), BRIGHT)


class Linear(nn.Module):
    """Codes [N, k] -> images, the sum of k patterns."""

    def __init__(self, *patterns: Tensor) -> None:
        super().__init__()
        self.register_buffer("patterns", torch.stack([one.float().expand(3, SIDE, SIDE) for one in patterns]))

    def forward(self, codes: Tensor) -> Tensor:
        return torch.einsum("nk,kchw->nchw", codes, self.patterns).clamp(0, 1)


def prior(*patterns: Tensor) -> Prior:
    def encode(images: Tensor) -> Tensor:
        return torch.stack([images[:, :, one].flatten(1).mean(1) for one in patterns], 1)

    return Prior(
        Linear(*patterns), encode, size=SIDE, code_shape=(len(patterns),), mean_code=BRIGHT, name="a linear prior"
    )


def same_everywhere() -> Prior:
    return prior(torch.ones(SIDE, SIDE, dtype=torch.bool))


def square_by_itself() -> Prior:
    return prior(SQUARE, ~SQUARE)


class Brighter(nn.Module):
    def __init__(self, inner: nn.Module, by: float) -> None:
        super().__init__()
        self.inner, self.by = inner, by

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.inner(images + self.by)
        return out


def network(box: tuple[int, int, int, int] = BOX, mean: float = 0.0) -> Network:
    """Whose constant perturbation is as bright as `mean`."""
    here = inside(box, SIDE)
    plain = weighted(here.float().expand(3, SIDE, SIDE) / (3 * here.sum()))
    return Network(Brighter(plain.module, mean), (SIDE, SIDE), mean=(mean,) * 3)


def filled(
    given: Prior,
    photo: Tensor = PHOTO,
    method: dict[str, Any] | None = None,
    net: Network | None = None,
    **more: Any,
) -> Explanation:
    """An explanation with black as the usual perturbation, of which one knows what it takes away."""
    options = {
        "first": "constant",
        "epsilons": (1.0, 1.0, 0.0),
        "rounds": 1,
        "chains": 3,
        "steps": 40,
        "grow": 14.0,
        "last": 0.02,
    }
    mask = Mask(**{"iterations": 120, "mask_blur": 0.0, "jitter": 0, "tv": 0.0, "start": "ones", **(method or {})})
    filling = Filling(given, **{**options, **more})
    made = pi.explain(net or network(), photo, "class:0", method=mask, perturbation=filling)
    assert isinstance(made, Explanation)
    return made


# --- what is known of these worlds ------------------------------------------------------------------------------------


def test_what_follows_from_the_rest_is_put_back_and_no_mask_survives() -> None:
    made = filled(same_everywhere())
    first, last = made.details["rounds"]
    assert first["masked"] < 0.1 * BRIGHT  # black takes it away
    last_move = (1 - 39 / 40 * 0.98) * BRIGHT / 10  # mean change of the code in the last of 40 steps
    assert first["filled"] == pytest.approx([BRIGHT] * 3, abs=last_move)
    assert last["removed"] == last["survives"] == last["overlap"] == 0
    assert made.heatmap.max() < 0.1
    assert "puts it back" in made.notes[-1]


def test_what_does_not_follow_from_the_rest_is_gone_and_the_mask_survives() -> None:
    made = filled(square_by_itself())
    first, last = made.details["rounds"]
    assert max(first["filled"]) < 0.5 * BRIGHT
    assert max(last["filled"]) < 0.5 * BRIGHT
    assert last["survives"] > 0.9 and last["overlap"] > 0.9
    assert made.mask is not None
    assert overlap(made.mask < 0.5, SQUARE) > 0.9
    assert made.scores["filled"] == pytest.approx(sum(last["filled"]) / 3, abs=1e-6)
    assert len(made.notes) == 1 and "is still removed" in made.notes[0]


def test_a_mask_may_grow_into_what_is_filled_in() -> None:
    """A first mask of a part of the square is continued by later rounds, `grow` pixels in each."""
    start = torch.ones(8, 8)
    start[2, 3:5] = 0  # its upper half, 4 rows of 8 pixels
    # The first perturbation changes nothing, and no weight pulls at the mask, so that it stays as it was given.
    ask = {"net": network(mean=BRIGHT), "method": {"start": start, "l1": 0.0}}
    fixed, grown = (filled(square_by_itself(), **ask, grow=grow) for grow in (0.0, 28.0))
    for made in (fixed, grown):
        assert made.details["rounds"][0]["removed"] == pytest.approx(32 / SIDE**2)
    assert fixed.mask is not None and grown.mask is not None
    assert fixed.details["rounds"][1]["removed"] == pytest.approx(32 / SIDE**2)
    assert torch.equal(grown.mask < 0.5, SQUARE)
    assert grown.details["rounds"][1]["overlap"] == pytest.approx(0.5)
    assert grown.details["rounds"][1]["survives"] == 1


# --- what is filled in ------------------------------------------------------------------------------------------------


def question(net: Network | None = None, photo: Tensor = PHOTO, seed: int = 7) -> Question:
    net = net or network()
    (objective,) = resolve("prob:0", net)
    return Question(net, (photo,), (objective,), (SIDE, SIDE), (seed,))


def test_pixels_that_are_not_removed_are_the_photos_bit_for_bit() -> None:
    photo = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    made = filled(square_by_itself(), photo, rounds=1, epsilons=(1.0, 1.0, 20.0))
    assert made.fills is not None and made.mask is not None
    removed = made.mask < 0.5
    assert made.fills.shape == (3, 3, SIDE, SIDE)
    assert removed.any() and not removed.all()
    for one in made.fills:
        assert torch.equal(one[:, ~removed], made.photo[:, ~removed])
        assert not torch.equal(one[:, removed], made.photo[:, removed])
    scores = network().class_scores(made.fills).softmax(1)[:, 0]
    assert made.details["rounds"][-1]["filled"] == pytest.approx(scores.tolist(), abs=1e-6)


def test_what_was_removed_cannot_be_told_from_what_is_filled_in() -> None:
    """Neither from the pixels that were there, nor from the network or the class that is explained."""
    filling = Filling(square_by_itself(), chains=3, steps=10)
    made = filling.filled(question(), SQUARE[None], 0)
    assert made is not None
    other = PHOTO.clone()
    other[:, SQUARE] = 0.1
    hidden = filling.filled(question(photo=other), SQUARE[None], 0)
    elsewhere = filling.filled(question(network((0, 0, 8, 8))), SQUARE[None], 0)
    assert hidden is not None and elsewhere is not None
    assert torch.equal(made, hidden)
    assert torch.equal(made, elsewhere)
    assert not torch.equal(made[0, 0], made[0, 1])  # chains are different
    again = filling.filled(question(), SQUARE[None], 1)
    assert again is not None and not torch.equal(made, again)


def test_the_context_is_what_chains_go_by() -> None:
    """An encoder to which everything is black pulls to black; the pixels around the square say otherwise."""
    blind = Prior(
        Linear(torch.ones(SIDE, SIDE)),
        lambda images: torch.zeros(len(images), 1),
        size=SIDE,
        code_shape=(1,),
        mean_code=1.0,
    )
    options: dict[str, Any] = {"chains": 2, "steps": 60, "epsilons": (1.0, 1.0, 0.0), "last": 0.02}
    made = Filling(blind, **options).filled(question(), SQUARE[None], 0)
    faint = Filling(blind, **options, context=1e-12).filled(question(), SQUARE[None], 0)
    assert made is not None and faint is not None
    assert made[0, :, :, SQUARE].min() > 0.9 * BRIGHT
    assert faint[0, :, :, SQUARE].max() < 0.1 * BRIGHT


def test_as_it_comes_chains_end_at_what_surrounds_them_and_are_not_one_chain() -> None:
    """The pull of known pixels outweighs the noise: an error is at most the length of a step, of the last but two."""
    made = Filling(same_everywhere()).filled(question(), SQUARE[None], 0)
    assert made is not None
    last_but_two = (1 - 57 / 60 * 0.7) * BRIGHT / 10
    assert (made - BRIGHT).abs().max() < last_but_two
    assert len({float(one[0, 8, 12]) for one in made[0]}) == 4


def test_where_nothing_is_removed_it_is_the_photo_and_where_everything_is_the_priors() -> None:
    given = same_everywhere()
    filling = Filling(given, chains=2, steps=5)
    nothing = filling.filled(question(), torch.zeros(1, SIDE, SIDE, dtype=torch.bool), 0)
    everything = filling.filled(question(), torch.ones(1, SIDE, SIDE, dtype=torch.bool), 0)
    assert nothing is not None and everything is not None
    assert torch.equal(nothing, PHOTO.expand(1, 2, -1, -1, -1))
    assert (everything.flatten(2) == everything[:, :, :1, 0, 0]).all()  # all of one brightness, as the prior has it
    assert (everything < BRIGHT - 0.05).all()  # and not that of a photo of which it knows nothing


def test_a_first_mask_that_removes_nothing_says_so() -> None:
    made = filled(square_by_itself(), method={"start": "ones", "iterations": 1, "step_size": 1e-6})
    assert made.notes[-1] == "less than half of any pixel is removed by the first mask, so nothing was filled in"
    assert made.details["rounds"][0]["overlap"] is None
    assert made.fills is not None and torch.equal(made.fills, PHOTO.expand(3, -1, -1, -1))


def test_a_mask_that_lives_on_the_pictures_it_was_learned_with_is_told() -> None:
    """By what it leaves where its region is filled in anew."""
    worth = _Worth(question(), 0)
    dark, bright = 0.1 * PHOTO.expand(2, -1, -1, -1), 0.9 * PHOTO.expand(2, -1, -1, -1)
    for masked, fills in ((0.01, dark), (0.02, bright)):
        worth.add("blur", torch.zeros(SIDE, SIDE), SQUARE, masked, fills)
    assert worth.mean == pytest.approx(0.9 * BRIGHT)
    assert len(worth.notes()) == 2 and "it lives on those" in worth.notes()[1]
    worth.add("blur", torch.zeros(SIDE, SIDE), SQUARE, 0.02, dark)
    assert len(worth.notes()) == 1


# --- the run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [0, 4])
def test_without_rounds_it_is_the_usual_mask(jitter: int) -> None:
    photo = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    usual = Mask(iterations=20, jitter=jitter)
    plain = pi.explain(network(), photo, "class:0", method=usual)
    made = pi.explain(network(), photo, "class:0", method=usual, perturbation=Filling(square_by_itself(), rounds=0))
    assert torch.equal(made.heatmap, plain.heatmap)
    assert made.trace is not None and plain.trace is not None and torch.equal(made.trace, plain.trace)
    assert {name: made.scores[name] for name in plain.scores} == plain.scores
    assert len(made.details["rounds"]) == 1


def test_a_run_depends_on_its_seed_and_not_on_its_company() -> None:
    photos = [0.5 + 0.5 * torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    ask: dict[str, Any] = {
        "method": Mask(iterations=25),
        "perturbation": Filling(square_by_itself(), rounds=1, chains=2, steps=10, first="constant"),
    }
    both, alone = pi.explain(network(), photos, "class:0", **ask), pi.explain(network(), photos[1], "class:0", **ask)
    torch.testing.assert_close(both[1].heatmap, alone.heatmap, rtol=0, atol=1e-4)
    assert both[1].trace is not None and len(both[1].trace) == 50
    assert torch.equal(alone.heatmap, pi.explain(network(), photos[1], "class:0", **ask).heatmap)
    other = pi.explain(network(), photos[1], "class:0", seed=1, **ask)
    assert other.details["rounds"][0]["filled"] != alone.details["rounds"][0]["filled"]


def test_all_is_in_the_result_and_in_its_folder(tmp_path: Path) -> None:
    made = pi.explain(
        network(),
        PHOTO,
        "class:0",
        method=["mask", "gradient"],
        perturbation=Filling(square_by_itself(), rounds=0, first="constant"),
    )
    (described,) = (one for one in made.settings["methods"] if one["name"] == "mask")
    assert described["perturbation"] == "filled in by a linear prior"
    assert described["filling"]["rounds"] == 0 and described["filling"]["prior"] == "a linear prior"
    made.save(tmp_path)
    document = json.loads((tmp_path / "result.json").read_text())
    mask, gradient = document["explanations"]
    assert "fills_file" not in gradient
    strip = np.asarray(Image.open(tmp_path / mask["fills_file"]))
    assert strip.shape == (SIDE, 4 * SIDE, 3)
    assert made[0].fills is not None
    np.testing.assert_allclose(strip[:, :SIDE] / 255, made[0].fills[0].permute(1, 2, 0), atol=0.5 / 255 + 1e-6)
    assert mask["details"]["rounds"][0]["perturbed by"] == "constant"


def test_several_perturbed_pictures_of_each_photo_share_its_mask() -> None:
    drawn = torch.Generator().manual_seed(0)
    photos, perturbed = torch.rand(2, 3, 6, 6, generator=drawn), torch.rand(2, 4, 3, 6, 6, generator=drawn)
    masks = torch.rand(2, 1, 3, 3, generator=drawn)
    over = MaskOver(1, 3, 3, photos=photos, perturbed=perturbed.flatten(0, 1), seen=(6, 6))
    shown = over.as_seen(masks, lambda images: images).view(2, 4, 3, 6, 6)
    for k in range(4):
        one = MaskOver(1, 3, 3, photos=photos, perturbed=perturbed[:, k], seen=(6, 6))
        assert torch.equal(shown[:, k], one.as_seen(masks, lambda images: images))


def test_later_rounds_weigh_scores_as_the_first() -> None:
    """Of anything but a probability, the unit is how far the first perturbation brings the score down."""
    net = network()
    (objective,) = resolve("output:0", net)
    asked = Question(net, (PHOTO,), (objective,), (SIDE, SIDE), (0,))
    first = MaskRun(Mask(perturbation="constant", jitter=0), asked)
    given = 0.9 * PHOTO.expand(2, 3, SIDE, SIDE)
    later = MaskRun(Mask(jitter=0), asked, (given, given), first.factors)
    assert later.factors == pytest.approx(first.factors)
    # By itself it would be how far a tenth less of brightness does.
    own = MaskRun(Mask(jitter=0), asked, (PHOTO[None] * 0.9,) * 2)
    assert own.factors == pytest.approx([1 / np.log(0.9)], rel=1e-3)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_cannot_be_filled_in_is_refused(tmp_path: Path) -> None:
    given = square_by_itself()
    for game in ("preservation", "both"):
        with pytest.raises(RequestError, match=f"play the game 'deletion', not '{game}'"):
            Mask(game=game, perturbation=given)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="takes no cells and no perturbation"):
        Mask(at="0", perturbation=given)
    with pytest.raises(RequestError, match="takes a generator and an encoder"):
        Filling(Prior(size=SIDE))
    with pytest.raises(RequestError, match="rounds of 0 or more"):
        Filling(given, rounds=-1)
    with pytest.raises(RequestError, match="chains of 1 or more"):
        Filling(given, chains=0)
    with pytest.raises(RequestError, match="context above zero"):
        Filling(given, context=0.0)
    with pytest.raises(RequestError, match="only masks take a perturbation, not gradient"):
        pi.explain(network(), PHOTO, "class:0", method="gradient", perturbation=given)
    with pytest.raises(RequestError, match="there is no prior"):
        pi.explain(network(), PHOTO, "class:0", perturbation=tmp_path / "none.safetensors")
    small = weighted(torch.ones(3, 16, 16) / 800)
    with pytest.raises(RequestError, match="makes images of 3 x 32 x 32, but the network is shown 3 x 16 x 16"):
        pi.explain(small, PHOTO, "class:0", perturbation=given)


def test_a_prior_a_pair_and_a_filling_are_the_same() -> None:
    given = same_everywhere()
    assert Mask(perturbation=given).perturbation == Filling(given)
    assert given.generator is not None and callable(given.encoder)
    pair = Mask(perturbation=(given.generator, given.encoder)).perturbation  # type: ignore[arg-type]
    assert isinstance(pair, Filling) and pair.prior.generator is given.generator
    assert Mask(perturbation="blur").perturbation == "blur"


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_takes_a_prior_file(preimage: Run, tiny: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = Network(Encoder(3, 32, 4, width=2, code=8).eval(), (32, 32), mean=(0.5,) * 3, std=(0.25,) * 3, name="e")
    generator = Generator((8,), 3, 32, width=4, widest=8, hidden=8).eval()
    Prior(generator, encoder, Place("fc6", after_relu=True), size=32, mean_code=1.0, name="made up").save(
        tmp_path / "prior.safetensors"
    )
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    ask = ["explain", f"{tiny}:net", "photo.png", "-o", "out", "--method", "mask", "--faint", "--json"]
    done = preimage(*ask, "--perturbation", "prior.safetensors")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["methods"][0]["perturbation"] == "filled in by made up"
    assert [one["perturbed by"] for one in document["explanations"][0]["details"]["rounds"]][1:] == ["made up"] * 2
    assert (tmp_path / "out" / document["explanations"][0]["fills_file"]).is_file()
    done = preimage(*ask, "--perturbation", "constant")
    assert json.loads(done.stdout)["methods"][0]["perturbation"] == "constant"
    refused = preimage(*ask, "--perturbation", "none.safetensors")
    assert refused.returncode == 2 and "there is no prior 'none.safetensors'" in refused.stderr
