"""Training of G and D: gradients against autograd, known optima, resuming, and what is refused."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_worlds import (
    CODE,
    PLAIN,
    SIDE,
    encoder,
    linear_encoder,
    linear_generator,
    pictures,
    same,
    small_discriminator,
    trained,
)
from torch import Tensor, nn

from preimage import Network, Place, RequestError
from preimage.sample.architectures import Generator
from preimage.training import DivergedError, Pausing, PhotoTensor, Schedule, train_prior
from preimage.training.checkpoints import read_checkpoint
from preimage.training.encoding import Encoding
from preimage.training.losses import adversarial_loss, discriminator_loss, squared_distance
from preimage.training.prior_training import GeneratorTask
from preimage.training.processes import Processes

QUIET = {"x": 0.0, "h1": 0.0, "h": 0.0}


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "losses.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_one_step_s_gradients_are_autograd_s() -> None:
    """Of the weighted sum, through E and D, for G; of equation 22 with G held still, for D."""
    network, made, judge = encoder(), linear_generator(), small_discriminator()
    shares = {"image": 1.0, "match": 2.0, "code": 0.5, "adversarial": 0.3}
    photos, indices = PhotoTensor(pictures()), torch.tensor([3, 1, 4, 1])
    with network.held():
        encoding = Encoding(network, Place("4", True), Place("2", True), SIDE)
        schedule = Schedule(batch=4)
        task = GeneratorTask(
            photos, encoding, made, judge, shares, {}, QUIET, Pausing(0, 1e9), 0, schedule, Processes()
        )
        done = task.step(0, indices)
        assert sorted(done.learns) == ["discriminator", "generator"]
        real = photos.batch(indices)
        features, codes = (network.module[:3](real), network.module(real))

        def terms(image: Tensor) -> dict[str, Tensor]:
            return {
                "image": squared_distance(image, real),
                "match": squared_distance(network.module[:3](image), features),
                "code": squared_distance(network.module(image), codes),
                "adversarial": adversarial_loss(judge(image)),
            }

        image = made(codes)
        leaf = image.detach().requires_grad_()
        lengths = {name: float(torch.autograd.grad(term, leaf)[0].norm()) for name, term in terms(leaf).items()}
        for name, share in shares.items():
            assert task.found[name] * lengths[name] == pytest.approx(share * lengths["image"], rel=1e-4)
        assert task.found["image"] == 1.0
        total = sum((task.found[name] * term for name, term in terms(image).items()), torch.zeros(()))
        expected = torch.autograd.grad(total, list(made.parameters()))
        for parameter, gradient in zip(made.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
        wanted = torch.autograd.grad(discriminator_loss(judge(real), judge(leaf.detach())), list(judge.parameters()))
        for parameter, gradient in zip(judge.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)
        for name, term in terms(leaf).items():
            assert done.losses[name] == pytest.approx(float(term.detach()), rel=1e-5)


@pytest.mark.parametrize("kind", ["principal", "random"])
def test_a_linear_world_comes_to_its_optimum(kind: str, tmp_path: Path) -> None:
    """The image loss goes down to what regression on the code leaves over: with principal components as codes, to the
    sum of the variances of all others, below which no code of this length comes."""
    photos = pictures(64)
    flat = (photos.double() / 255).flatten(1)
    centred = flat - flat.mean(0)
    components = torch.linalg.svd(centred, full_matrices=False)
    torch.manual_seed(1)
    matrix = components.Vh[:CODE].float() if kind == "principal" else torch.randn(CODE, SIDE**2)
    # Codes around zero that vary equally: which code it is plays no part, only what can be said with it.
    spread = torch.linalg.cholesky(torch.cov((centred @ matrix.double().T).T))
    matrix = torch.linalg.solve(spread, matrix.double()).float()
    network = linear_encoder(matrix, -matrix @ flat.mean(0).float())
    codes = torch.cat([flat @ matrix.double().T, torch.ones(64, 1, dtype=torch.float64)], 1)
    left = flat - codes @ torch.linalg.lstsq(codes, flat).solution
    bound = float(left.square().sum() / 64)
    of_any = float(components.S[CODE:].square().sum() / 64)
    assert bound == pytest.approx(of_any, rel=1e-9) if kind == "principal" else bound > of_any
    # One batch is all photos, so that the loss of a step is that of the data; without decay, to the very optimum.
    schedule = Schedule(steps=500, batch=64, rate=0.02, halvings=8, decay=0)
    options: dict[str, Any] = {"losses": ["image"], "generator": linear_generator(), "schedule": schedule}
    train_prior(network, photos, tmp_path, code="1", preview_every=1000, **options)
    reached = rows(tmp_path)[-1]["image"]
    assert bound * (1 - 1e-5) < reached < bound * 1.01


def test_stopped_after_every_step_it_ends_the_same_bit_for_bit(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    again = trained(tmp_path / "parts", minutes=0)
    assert again.progress.step == 1
    while again.progress.step < 7:
        torch.manual_seed(again.progress.step)  # the caller's randomness plays no part
        again = trained(tmp_path / "parts", minutes=0, resume=True)
    assert (tmp_path / "whole" / "losses.csv").read_bytes() == (tmp_path / "parts" / "losses.csv").read_bytes()
    one, other = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert same(one, other)
    assert whole.weights == again.weights
    assert one["step"] == 7 and len(one["found"]) == 4


def test_interrupted_it_is_as_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the sixth step, of which every second has a checkpoint."""
    step = GeneratorTask.step

    def interrupted(self: GeneratorTask, number: int, indices: Tensor) -> Any:
        if number == 5:
            raise KeyboardInterrupt
        return step(self, number, indices)

    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTask, "step", interrupted)
        found = trained(tmp_path / "parts")
    assert found.progress.interrupted and found.progress.step == 4
    kept = read_checkpoint(tmp_path / "parts" / "checkpoint.pt")
    assert kept["step"] == 4 and same(kept["parts"]["generator"], found.prior.generator.state_dict())
    trained(tmp_path / "parts", resume=True), trained(tmp_path / "whole")
    assert same(*(read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("parts", "whole")))


def test_going_on_after_the_end_changes_nothing(tmp_path: Path) -> None:
    first = trained(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    again = trained(tmp_path, resume=True)
    assert again.progress.step == 7 and again.weights == first.weights
    assert same(first.prior.generator.state_dict(), again.prior.generator.state_dict())
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    schedule = Schedule(steps=2, batch=8, seed=1)
    one = trained(tmp_path / "one", schedule=schedule)
    other = trained(tmp_path / "other", schedule=Schedule(steps=2, batch=8, seed=2))
    same_again = trained(tmp_path / "same", schedule=schedule)
    assert same(one.prior.generator.state_dict(), same_again.prior.generator.state_dict())
    assert not same(one.prior.generator.state_dict(), other.prior.generator.state_dict())


def test_what_it_writes(tmp_path: Path) -> None:
    found = trained(tmp_path)
    table = rows(tmp_path)
    assert [row["step"] for row in table] == list(range(7))
    assert list(table[0]) == "step rate image match code adversarial discriminator g_learns d_learns".split()
    assert table[-1] | found.progress.losses == table[-1]  # the exact numbers
    assert [row["rate"] for row in table] == [1e-2] * 2 + [5e-3] * 2 + [2.5e-3] * 2 + [1.25e-3]
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["found"] == found.weights and record["noise"] == found.prior.noise and record["schedule"]["seed"] == 0
    previews = sorted(path.name for path in (tmp_path / "previews").iterdir())
    assert previews == ["0000003.png", "0000006.png"]
    with Image.open(tmp_path / "previews" / "0000003.png") as picture:
        assert picture.size == (12 * (SIDE + 2), 2 * (SIDE + 2))
    assert (
        found.prior.size == (SIDE, SIDE)
        and found.prior.code == Place("4", True)
        and found.prior.match == Place("2", True)
    )


def test_the_adversary_waits(tmp_path: Path) -> None:
    """Until then its weight is not known; D learns all the same."""
    waiting = trained(tmp_path / "waiting", adversary_waits=100)
    assert sorted(waiting.weights) == ["code", "image", "match"]
    assert all(row["adversarial"] > 0 for row in rows(tmp_path / "waiting"))
    assert sorted(trained(tmp_path / "at once", adversary_waits=0).weights)[0] == "adversarial"


@pytest.mark.parametrize(
    ("pausing", "moves", "stays"),
    [(Pausing(1e6, 1e9), "generator", "discriminator"), (Pausing(0, 1e-9), "discriminator", "generator")],
)
def test_who_pauses_does_not_move(pausing: Pausing, moves: str, stays: str, tmp_path: Path) -> None:
    parts = {"generator": linear_generator(), "discriminator": small_discriminator()}
    before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
    trained(tmp_path, pausing=pausing, **parts)
    assert same(before[stays], parts[stays].state_dict())
    assert not same(before[moves], parts[moves].state_dict())
    paused = {"generator": "g_learns", "discriminator": "d_learns"}[stays]
    assert [row[paused] for row in rows(tmp_path)] == [0.0] * 7


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    network = encoder()
    network.module.train()
    before = copy.deepcopy(network.module.state_dict())
    train_prior(network, pictures(), tmp_path, code="4", match="2", schedule=Schedule(steps=2, batch=8))
    assert network.module.training and same(before, network.module.state_dict())
    assert all(weight.requires_grad and weight.grad is None for weight in network.module.parameters())


def test_weights_that_are_given_stay(tmp_path: Path) -> None:
    found = trained(tmp_path, weights={"adversarial": 3.5, "image": 2.0})
    assert found.weights["adversarial"] == 3.5 and found.weights["image"] == 2.0


def test_our_generator_is_told_how_large_codes_are(tmp_path: Path) -> None:
    network = encoder()
    found = train_prior(network, pictures(), tmp_path, code="4", schedule=Schedule(steps=1, batch=8))
    with torch.no_grad():
        codes = network.module(pictures().float() / 255)
    assert isinstance(found.prior.generator, Generator)
    assert float(found.prior.generator.code_scale) == pytest.approx(float(codes.square().mean().sqrt()), rel=1e-5)
    assert found.prior.mean_code == pytest.approx(float(codes.mean()), rel=1e-5)


def test_a_code_with_places(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)), 8, channels=3)
    options: dict[str, Any] = {"schedule": Schedule(steps=2, batch=4), "generator": {"width": 2}}
    found = train_prior(network, pictures(6, 3, 8), tmp_path, code="1", losses=["image", "code"], **options)
    assert found.prior.generator(torch.rand(2, 4, 4, 4)).shape == (2, 3, 8, 8)


def test_in_bfloat16_it_comes_to_nearly_the_same(tmp_path: Path) -> None:
    exact, coarse = (trained(tmp_path / name, precision=name, generator=PLAIN) for name in ("float32", "bfloat16"))
    for name, value in exact.progress.losses.items():
        assert coarse.progress.losses[name] == pytest.approx(value, rel=0.05)
    assert coarse.progress.losses["image"] != exact.progress.losses["image"]
    assert all(weight.dtype == torch.float32 for weight in coarse.prior.generator.parameters())


def test_an_infinite_loss_stops_it_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "losses": ["image"],
        "generator": linear_generator(),
        "discriminator": None,
        "noise": None,
        "schedule": Schedule(steps=9, batch=8, rate=1e25),
        "checkpoint_every": 1,
    }
    with pytest.raises(DivergedError, match=r"training diverged: the image loss is inf at step 1; the last checkpoint"):
        trained(tmp_path, **options)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 1
    assert len(rows(tmp_path)) == 1


def test_a_loss_far_beyond_its_beginning_stops_it(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"the image loss is 1\.\d+e\+\d+ at step 1, where it began at|e\+"):
        trained(
            tmp_path,
            losses=["image"],
            generator=linear_generator(),
            discriminator=None,
            schedule=Schedule(steps=9, batch=8, rate=1e4),
        )


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    class Kinked(nn.Module):
        """Finite, with a gradient that is not."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1, SIDE, SIDE))

        def forward(self, codes: Tensor) -> Tensor:
            return self.bias.abs().sqrt().expand(len(codes), -1, -1, -1)

    with pytest.raises(DivergedError, match="a weight is not finite after step 1"):
        trained(tmp_path, losses=["image"], discriminator=None, generator=Kinked(), checkpoint_every=1)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"match": None, "losses": ["match"], "noise": None}, "the loss 'match' needs the tap"),
        ({"losses": ["style"]}, "there is no loss 'style'"),
        ({"weights": {"image": -1.0}}, "weights above zero can be given to image, match, code, adversarial"),
        ({"losses": ["image"], "weights": {"code": 1.0}, "discriminator": None}, "not 1.0 to 'code'"),
        ({"losses": ["image"]}, "a discriminator is for the loss 'adversarial'"),
        ({"code": "fc6"}, "has no tap 'fc6'"),
        ({"precision": "float16"}, "precision is 'float32' or 'bfloat16'"),
        ({"generator": linear_generator(0, CODE + 1)}, "takes codes of another shape than"),
        (
            {"generator": nn.Sequential(nn.Linear(CODE, 9), nn.Unflatten(1, (1, 3, 3)))},
            r"makes images \[1, 3, 3\], but",
        ),
        ({"generator": {"depth": 3}}, "has no setting 'depth'"),
        ({"checkpoint_every": 0}, "checkpoints and previews come every 1, 2, 3"),
    ],
)
def test_wrong_requests_get_one_sentence(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        trained(tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_photos_of_a_size_that_the_network_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not run on 1 x 6 x 6 images"):
        train_prior(encoder(), pictures(4, 1, 6), tmp_path, code="4")


def test_a_folder_that_is_in_use(tmp_path: Path) -> None:
    trained(tmp_path, minutes=0)
    with pytest.raises(RequestError, match="holds a training already; --resume goes on with it"):
        trained(tmp_path)
    with pytest.raises(RequestError, match=r"its rate is 0.01, not 0.02"):
        trained(tmp_path, schedule=Schedule(steps=7, batch=8, rate=0.02), resume=True)
    with pytest.raises(RequestError, match=r"its network.weights is"):
        trained(tmp_path, encoder(1), resume=True)


def test_resuming_where_nothing_is_begins(tmp_path: Path) -> None:
    assert trained(tmp_path, resume=True).progress.step == 7


def test_curves_that_were_changed(tmp_path: Path) -> None:
    trained(tmp_path, minutes=0)
    (tmp_path / "losses.csv").write_text("step,rate\n")
    with pytest.raises(RequestError, match="does not have the 1 steps that the checkpoint has"):
        trained(tmp_path, resume=True)


@pytest.mark.parametrize("schedule", [{"steps": 0}, {"batch": 0}, {"halvings": -1}, {"rate": 0.0}, {"decay": -1.0}])
def test_a_schedule_that_makes_no_sense(schedule: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        Schedule(**schedule)
