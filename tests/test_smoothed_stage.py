"""A stage without kinks: its maxima have no gradient, everything is in float64, and images do not see each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage import Network, Place, RequestError, maximize
from preimage.network import Answering, smoothed
from preimage.network.smoothing import WIDTH
from preimage.objectives import EachItsOwn, Objective, channel, direction, each_view, floored_cosines, in_sequence, unit
from preimage.optimization import LBFGS, Adam, Ascent, Climb, Optimizer, Stage, climb
from preimage.parametrizations import Parametrization, Pixels, SigmoidPixels
from preimage.priors import L2
from preimage.recipes import find_recipe
from preimage.transforms import Jitter, WindowsAround

C, SIDE, FEATURES = 2, 14, 8
TAP = Place("3")
Risen = tuple[Network, EachItsOwn, Tensor]
KIND = SigmoidPixels(C, SIDE, SIDE)


def kinked(seed: int = 0) -> Network:
    """Two convolutions with ReLUs and max-pooling between."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(C, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, FEATURES, 3), nn.ReLU()
    )
    return Network(module, SIDE, channels=C)


def normal(seed: int, count: int, side: int = SIDE) -> Tensor:
    return torch.randn((count, C, side, side), generator=torch.Generator().manual_seed(seed))


def directions(network: Network, seed: int, count: int) -> EachItsOwn:
    vectors = torch.rand(count, FEATURES, generator=torch.Generator().manual_seed(seed))
    return EachItsOwn(tuple(direction("3", vector).bind(network) for vector in vectors))


def climbed(
    network: Answering,
    asked: Sequence[Objective],
    start: Tensor,
    *stages: Stage,
    kind: Parametrization = KIND,
    **more: object,
) -> Climb:
    return climb(network, EachItsOwn(tuple(asked)), kind, start, stages, torch.Generator().manual_seed(0), **more)  # type: ignore[arg-type]


def slope(network: Answering, asked: EachItsOwn, parameters: Tensor) -> Tensor:
    """The length of each image's gradient by its parameters, in float64."""
    v = parameters.double().detach().requires_grad_(True)
    score = asked.score(network.run(KIND.image(v), list(asked.places())))
    (gradient,) = torch.autograd.grad(score.sum(), v)
    return gradient.flatten(1).norm(dim=1)


def without_kinks(
    network: Network, asked: EachItsOwn, start: Tensor, share: float, kind: Parametrization = KIND
) -> tuple[Answering, EachItsOwn]:
    """Network and objective as a stage that begins at `start` is to have them."""
    image = kind.image(start.double())
    found = smoothed(network, image, tuple(asked.places()), share)
    with torch.no_grad():
        return found, asked.smoothed(found.run(image, found.taps), share)


# --- what it is for ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def risen() -> Risen:
    """Three images that Adam has brought near their maxima."""
    network = kinked(2)
    asked = directions(network, 2, 3)
    stage = Stage(60, Adam(0.1), asks=floored_cosines)
    return network, asked, climbed(network, asked.members, normal(2, 3) * 0.01, stage).parameters


@pytest.fixture(scope="module")
def risen_on(risen: Risen) -> dict[float | None, tuple[Tensor, Climb]]:
    """And 200 steps of L-BFGS behind that, with or without kinks."""
    return {share: lowered(risen, share, 200) for share in (0.1, WIDTH, None)}


def lowered(risen: Risen, share: float | None, steps: int) -> tuple[Tensor, Climb]:
    """What L-BFGS leaves of the gradient's length, of what it climbed: with or without kinks."""
    network, asked, start = risen
    reached = climbed(network, asked.members, start.double(), Stage(steps, LBFGS(), smoothing=share))
    if share is None:
        with network.in_float64():
            return slope(network, asked, reached.parameters) / slope(network, asked, start), reached
    climbed_on = without_kinks(network, asked, start, share)
    return slope(*climbed_on, reached.parameters) / slope(*climbed_on, start), reached


def test_without_kinks_the_gradient_vanishes_and_with_them_it_does_not(
    risen_on: dict[float | None, tuple[Tensor, Climb]],
) -> None:
    """All of paper 1 rests on it. The wider, the sooner. Measured after 200 steps, of three networks: 1e-8 to 0.03 of
    the gradient is left with wide kinks, 0.002 to 0.07 with the recipe's, and 0.4 to 0.8 with the network as it is,
    where L-BFGS gets no further."""
    wide, narrow, sharp = (risen_on[share][0] for share in (0.1, WIDTH, None))
    assert wide.max() < 0.1 and wide.median() < 0.01 and wide.min() < 1e-3
    assert narrow.max() < 0.2
    assert sharp.min() > 0.3


def test_narrow_kinks_lead_to_a_picture_that_the_exact_network_answers_as_well(
    risen: Risen, risen_on: dict[float | None, tuple[Tensor, Climb]]
) -> None:
    network, asked, start = risen

    def answers(parameters: Tensor) -> Tensor:
        with network.in_float64(), torch.no_grad():
            return asked.score(network.run(KIND.image(parameters.double()), [TAP]))

    (_, smooth), (_, sharp) = (risen_on[share] for share in (WIDTH, None))
    assert (answers(smooth.parameters) > answers(start)).all()
    assert (answers(smooth.parameters) > 0.97 * answers(sharp.parameters)).all()


# --- what is climbed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_what_is_climbed_is_the_network_and_the_objective_without_kinks(share: float) -> None:
    """As wide as the layers are on each image when the stage begins, and so to its end."""
    network, start = kinked(), normal(0, 3)
    asked = directions(network, 0, 3)
    reached = climbed(network, asked.members, start, Stage(4, Ascent(5.0), smoothing=share))
    answering, smooth = without_kinks(network, asked, start, share)
    v = start.double()
    for scores in reached.trace:
        one = v.detach().requires_grad_(True)
        value = smooth.score(answering.run(KIND.image(one), [TAP]))
        torch.testing.assert_close(scores, value.detach(), rtol=1e-12, atol=0)
        (gradient,) = torch.autograd.grad(value.sum(), one)
        v = v + 5.0 * gradient
    torch.testing.assert_close(reached.parameters, v, rtol=1e-12, atol=1e-14)
    assert reached.parameters.dtype == torch.float64
    exact = asked.score(network.run(KIND.image(start), [TAP]))
    assert ((reached.trace[0] - exact).abs() / exact.abs() > 1e-4).all()


def test_the_next_stage_has_its_kinks_again() -> None:
    network, start = kinked(), normal(1, 2)
    asked = directions(network, 1, 2)
    reached = climbed(
        network, asked.members, start, Stage(3, Ascent(2.0), smoothing=0.5), Stage(1, None), Stage(1, None, noise=0.0)
    )
    before = climbed(network, asked.members, start, Stage(3, Ascent(2.0), smoothing=0.5))
    exact = asked.score(network.run(KIND.image(before.parameters), [TAP]))
    torch.testing.assert_close(reached.trace[3].float(), exact.float(), rtol=1e-5, atol=0)


def test_a_second_stage_measures_its_widths_anew() -> None:
    network, start = kinked(), normal(3, 2)
    asked = directions(network, 3, 2)
    stage = Stage(3, Ascent(20.0), smoothing=0.3)
    twice = climbed(network, asked.members, start, stage, stage)
    middle = climbed(network, asked.members, start, stage).parameters
    again = climbed(network, asked.members, middle, stage)
    torch.testing.assert_close(twice.parameters, again.parameters, rtol=1e-12, atol=1e-14)
    once = climbed(network, asked.members, start, replace(stage, steps=6))
    assert (twice.trace[3] - once.trace[3]).abs().max() > 1e-6


def test_regularizers_and_other_questions_have_their_part() -> None:
    network, start = kinked(), normal(4, 2)
    asked = directions(network, 4, 2)
    penalty = L2(0.7)
    stage = Stage(1, Ascent(1.0), asks=lambda one: 3 * one, regularizers=(penalty,), smoothing=0.2)
    reached = climbed(network, asked.members, start, stage)
    answering, smooth = without_kinks(network, EachItsOwn(tuple(3 * one for one in asked.members)), start, 0.2)
    v = start.double().requires_grad_(True)
    image = KIND.image(v)
    value = smooth.score(answering.run(image, [TAP])) - penalty.weight * penalty.energy(image)
    (gradient,) = torch.autograd.grad(value.sum(), v)
    torch.testing.assert_close(reached.parameters, start.double() + gradient, rtol=1e-12, atol=1e-14)


def test_objectives_of_several_layers_and_kinds_are_climbed_too() -> None:
    network, start = kinked(), normal(5, 2)
    members = (channel("3", 1).bind(network) + unit("0", 2, 3, 4).bind(network), directions(network, 5, 1).members[0])
    reached = climbed(network, members, start, Stage(3, LBFGS(), smoothing=0.05))
    answering, smooth = without_kinks(network, EachItsOwn(members), start, 0.05)
    expected = smooth.score(answering.run(KIND.image(start.double()), [TAP, Place("0")]))
    torch.testing.assert_close(reached.trace[0], expected, rtol=1e-12, atol=1e-14)
    assert (reached.trace[-1] > reached.trace[0]).all()


# --- image by image ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [LBFGS(), Adam(0.05), Ascent(3.0)])
def test_an_image_of_a_batch_is_the_image_made_alone(optimizer: Optimizer) -> None:
    """In float64: L-BFGS doubles rounding errors quickly, but 20 steps leave them far below what can be seen."""
    network, start = kinked(), normal(6, 3) * torch.tensor([0.01, 1.0, 3.0]).view(-1, 1, 1, 1)
    asked = directions(network, 6, 3).members
    asked = tuple(floored_cosines(one) for one in asked)
    stage = Stage(20, optimizer, smoothing=0.05)
    together = climbed(network, asked, start, stage)
    for i in range(3):
        alone = climbed(network, asked[i : i + 1], start[i : i + 1], stage)
        away = (KIND.image(together.parameters[i : i + 1]) - KIND.image(alone.parameters)).abs().max()
        assert away < 1e-6


def test_an_image_that_is_stopped_leaves_the_others_as_they_are() -> None:
    network, start = kinked(), normal(7, 3)
    asked = directions(network, 7, 3).members
    stage = Stage(6, Ascent(5.0), smoothing=0.2)

    def referee(reached: Climb) -> Tensor:
        return torch.tensor([True, len(reached.trace) < 3, True])

    reached = climbed(network, asked, start, stage, referee=referee)
    whole = climbed(network, asked, start, stage)
    short = climbed(network, asked, start, replace(stage, steps=3))
    for i, expected in enumerate([whole, short, whole]):
        torch.testing.assert_close(reached.parameters[i], expected.parameters[i], rtol=1e-11, atol=1e-13)
    assert reached.trace[-1].isnan().tolist() == [False, True, False]


# --- transforms, sizes and sequences ----------------------------------------------------------------------------------


def test_a_stage_may_move_and_resize_the_picture() -> None:
    network, start = kinked(), normal(8, 2)
    asked = directions(network, 8, 2).members
    stage = Stage(3, Ascent(5.0), smoothing=0.1, transforms=(Jitter(2),), scale=0.8, hold=2)
    reached = climbed(network, asked, start, stage, replace(stage, scale=1.0))
    assert reached.parameters.shape == start.shape
    assert reached.parameters.dtype == torch.float64
    assert torch.stack(reached.trace).isfinite().all()


def test_a_stage_may_show_several_views_of_each_image() -> None:
    network, start = kinked(), normal(9, 2)
    windows = WindowsAround(((0.3, 0.3), (0.7, 0.7)), height=10, width=10)
    members = tuple(each_view([channel("3", i), channel("3", i + 1)]).bind(network) for i in range(2))
    reached = climbed(network, members, start, Stage(3, Ascent(5.0), smoothing=0.1, transforms=(windows,)))
    assert (reached.trace[-1] > reached.trace[0]).all()


def test_a_sequence_goes_on_within_a_smoothed_stage() -> None:
    network, start = kinked(), normal(10, 1)
    first, second = (channel("3", i).bind(network) for i in (0, 1))
    sequence = in_sequence([first, second])
    reached = climbed(network, [sequence], start, Stage(6, Ascent(5.0), smoothing=0.1))
    alone = climbed(network, [first], start, Stage(6, Ascent(5.0), smoothing=0.1))
    answering, smooth = without_kinks(network, EachItsOwn((second,)), start, 0.1)
    middle = climbed(network, [first], start, Stage(3, Ascent(5.0), smoothing=0.1)).parameters
    expected = smooth.score(answering.run(KIND.image(middle), [TAP]))
    torch.testing.assert_close(reached.trace[3], expected, rtol=1e-10, atol=0)
    assert (reached.parameters - alone.parameters).abs().max() > 1e-3


# --- how it is said ---------------------------------------------------------------------------------------------------


def test_a_stage_says_how_it_smooths() -> None:
    assert Stage(3, LBFGS(), smoothing=0.03).describe()["smoothing"] == 0.03
    assert "smoothing" not in Stage(3, LBFGS()).describe()
    first, last = find_recipe("plain").describe()["stages"]
    assert "smoothing" not in first and last["smoothing"] == WIDTH


def test_the_plain_recipe_ends_without_kinks_and_says_so() -> None:
    """What the last step climbed is the smoothed network's score, in float64; images and scores are float32 again."""
    network = kinked()
    asked = direction("3", torch.arange(1.0, FEATURES + 1))
    made = maximize(network, asked, recipe="plain", steps=44, progress=False)
    assert [stage.get("smoothing") for stage in made.settings["recipe"]["stages"]] == [None, WIDTH]
    assert made.images.dtype == made.scores.dtype == made.trace.dtype == torch.float32
    assert network.dtype == torch.float32
    activation = network.run(made.images, [TAP])[TAP]
    torch.testing.assert_close(made.scores, asked.score({TAP: activation}).float(), rtol=1e-5, atol=0)
    assert len(made.trace) == 44
    # The smoothed score is another one, so that the trace jumps a little where the stage begins.
    assert abs(float(made.trace[-1, 0] / made.scores[0]) - 1) < 0.05
    assert float(made.trace[-1, 0]) != pytest.approx(float(made.scores[0]), rel=1e-5)


def test_snapshots_of_both_stages_are_of_one_type() -> None:
    asked = direction("3", torch.ones(FEATURES))
    made = maximize(kinked(), asked, recipe="plain", steps=11, snapshot_every=1, progress=False)
    assert len(made.snapshots) == 11
    assert torch.equal(made.snapshots[-1][1].float(), made.images)
    assert {images.dtype for _, images in made.snapshots} == {torch.float32}


@pytest.mark.parametrize("share", [0.0, -1.0, float("nan")])
def test_a_width_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(RequestError, match="a width above zero"):
        Stage(3, LBFGS(), smoothing=share)


def test_only_a_whole_network_is_smoothed() -> None:
    network, start = kinked(), normal(11, 1)
    image = KIND.image(start)
    inside = network.run(image, [Place("0")])[Place("0")]
    asked = EachItsOwn((channel("3", 1).bind(network),))
    kind = Pixels(6, *inside.shape[2:])
    with pytest.raises(RequestError, match="a whole network only"):
        climbed(network.beyond("0", image), asked.members, inside, Stage(2, Ascent(1.0), smoothing=0.1), kind=kind)


def test_images_that_were_stopped_before_are_no_reason_to_go_on_with_kinks() -> None:
    network, start = kinked(), normal(12, 2)
    stages = [Stage(2, Ascent(1.0)), Stage(2, Ascent(1.0), smoothing=0.1)]
    with pytest.raises(RequestError, match="before any image is stopped"):
        climbed(
            network,
            directions(network, 12, 2).members,
            start,
            *stages,
            referee=lambda reached: torch.tensor([True, False]),
        )


def test_the_module_is_given_back_after_a_smoothed_stage() -> None:
    network, start = kinked(), normal(13, 1)
    weights = list(network.module.parameters())
    copies = [weight.detach().clone() for weight in weights]
    asked = directions(network, 13, 1).members
    climbed(network, asked, start, Stage(2, LBFGS(), smoothing=0.1))

    def interrupt() -> None:
        raise KeyboardInterrupt

    interrupted = climbed(network, asked, start, Stage(2, LBFGS(), smoothing=0.1), on_step=interrupt)
    assert interrupted.interrupted and len(interrupted.trace) == 1
    now = list(network.module.parameters())
    assert all(a is b for a, b in zip(weights, now, strict=True))
    assert all(one.requires_grad for one in now)
    assert all(torch.equal(a, b) for a, b in zip(copies, now, strict=True))
    found = network.run(KIND.image(start), [Place("0")])[Place("0")]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, F.conv2d(KIND.image(start), weights[0], weights[1]))
