"""Asked for X, the picture is the answer to Y: what `Result.audit` says, and with what else was optimised."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import preimage as pi
from preimage.objectives import channel, direction, features, label
from preimage.optimization import LBFGS, Adam, Stage
from preimage.parametrizations import SigmoidPixels
from preimage.priors import L2, Regularizer, TotalVariation
from preimage.recipes import Recipe
from preimage.recover import Audit
from preimage.recover.asked import asked_features

FEATURES = 8


def network() -> pi.Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 5, 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, FEATURES, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(FEATURES, 5),
    )
    return pi.Network(module, 24, name="small")


def sampled() -> Tensor:
    return torch.tensor([0.8, 0, 0, 0.5, 0, 0.3, 0, 0.1])


def sigmoid(*size: object) -> SigmoidPixels:
    return SigmoidPixels(*size[:3])  # type: ignore[arg-type]


def ending_with(*regularizers: Regularizer) -> Recipe:
    stages = (
        Stage(120, Adam(0.05), regularizers=regularizers),
        Stage(300, LBFGS(), regularizers=regularizers, smoothing=0.01),
    )
    return Recipe("tried", "-", "-", sigmoid, tuple(replace(one, weights_per_gradient=True) for one in stages))


@pytest.fixture(scope="module")
def plain() -> pi.Result:
    asked = [direction("3", torch.eye(FEATURES)[2]), direction("3", sampled()), channel("3", 5)]
    return pi.maximize(network(), asked, recipe="plain", steps=440)


@pytest.fixture(scope="module")
def audits(plain: pi.Result) -> list[Audit]:
    return plain.audit()


def test_a_picture_is_the_answer_to_what_was_asked(audits: list[Audit]) -> None:
    for one in audits:
        assert one.cosine > 0.999
        assert one.recovery.stands_out
        assert one.inside == pytest.approx(one.cosine**2, abs=1e-9)
        assert one.residual < 0.05
        assert not one.notes and not one.weights


def test_a_channel_is_audited_as_the_direction_that_plain_asks_for(audits: list[Audit]) -> None:
    assert audits[2].asked.tolist() == torch.eye(FEATURES)[5].tolist()
    assert audits[2].says().startswith("asked for 3:5; the picture is the answer to 5 (+1.00)")


def test_the_asked_residual_is_no_less_than_the_smallest(audits: list[Audit]) -> None:
    for one in audits:
        smallest = one.recovery.singular_values[0] / one.recovery.singular_values[-1]
        assert one.residual >= float(smallest) * (1 - 1e-9)
        assert one.rank >= 0


def test_it_is_plain_json(audits: list[Audit]) -> None:
    said = json.loads(json.dumps([one.as_dict() for one in audits], allow_nan=False))
    assert [one["asked"] for one in said][2] == "3:5"


def test_some_pictures_only(plain: pi.Result, audits: list[Audit]) -> None:
    (one,) = plain.audit([1])
    assert torch.equal(one.recovery.objective, audits[1].recovery.objective)


@pytest.mark.parametrize("regularizer", [L2(2.0), TotalVariation(1.0, beta=2.0)])
def test_what_was_optimised_besides_is_part_of_the_condition(regularizer: Regularizer) -> None:
    """The gradient of the score alone is not zero where an energy holds against it; with the energy's it is."""
    made = pi.maximize(network(), direction("3", sampled()), recipe=ending_with(regularizer))
    (whole,) = made.audit()
    assert made.made is not None
    stages = tuple(replace(one, regularizers=()) for one in made.made.stages)
    blind = replace(made, made=replace(made.made, stages=stages))
    (alone,) = blind.audit()
    assert whole.cosine > 0.99
    assert whole.residual < 0.1 * alone.residual
    assert whole.angle < alone.angle
    assert list(whole.weights) == [repr(regularizer)]


def test_recipes_with_kinks_say_so() -> None:
    made = pi.maximize(network(), direction("3", sampled()), recipe="fourier", steps=5)
    (one,) = made.audit()
    assert any("kinks" in note for note in one.notes)
    assert any("views" in note for note in one.notes)


def test_means_of_a_layer_with_fewer_inputs_are_said_to_be_alike() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 9, 1))
    recipe = replace(ending_with(), stages=(Stage(20, LBFGS(), smoothing=0.01),))
    made = pi.maximize(pi.Network(module, 12), channel("2", 4), recipe=recipe)
    (one,) = made.audit()
    # Nine means that depend on three.
    assert one.recovery.idle == 6
    assert "6 of 9 directions of these features move the image not at all" in one.says()


def test_a_sum_of_channels_is_a_direction() -> None:
    net = network()
    found = asked_features((2 * channel("3", 1) - channel("3", 4)).bind(net), net, torch.zeros(1, 3, 24, 24))
    assert found.cosine_power == 0 and found.aggregate == "mean"
    assert torch.allclose(found.vector, torch.tensor([0, 2, 0, 0, -1, 0, 0, 0]).double() / 5**0.5)


@pytest.mark.parametrize("kind", ["logit", "prob", "logprob"])
def test_a_class_is_its_gradient_by_the_logits(kind: str) -> None:
    """SPEC P2: e_i; s_i (e_i - s); e_i - s."""
    net, image = network(), torch.rand(1, 3, 24, 24)
    found = asked_features(label(3, kind).bind(net), net, image)  # type: ignore[arg-type]
    s = net.class_scores(image, softmax=True)[0].double()
    e = torch.eye(5, dtype=torch.float64)[3]
    wanted = e if kind == "logit" else e - s
    assert torch.allclose(found.vector, wanted / wanted.norm(), atol=1e-5)


def test_what_cannot_be_audited_is_said(plain: pi.Result) -> None:
    with pytest.raises(pi.RequestError, match="does not know its network any more"):
        replace(plain, made=None).audit()
    net = network()
    asked = features(net, "3", torch.rand(3, 24, 24))
    made = pi.maximize(net, asked, recipe="plain", steps=2)
    with pytest.raises(pi.RequestError, match="is no direction of one layer's features"):
        made.audit()
