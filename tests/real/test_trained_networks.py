"""Real trained networks: they are opened right, asked right, and come back as they were."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from real_networks import stacked

import preimage as pi
from command import Run
from preimage.report import suggested_taps

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", ["bundled", "resnet50", "squeezenet"])
def test_photographs_are_recognised(
    name: str, photographs: list[tuple[Path, int]], request: pytest.FixtureRequest
) -> None:
    # A hundred times what guessing among 1000 gives; the photographs are 200 pixels wide, and many are hard.
    network: pi.Network = request.getfixturevalue(name)
    with torch.no_grad():
        place = pi.Place(network.logits, after_relu=True)
        answers = network.run(stacked(photographs, network), [place])[place].argmax(1)
    right = answers == torch.tensor([label for _, label in photographs])
    assert right.float().mean() > 0.1


def test_receptive_fields_are_the_published_ones(squeezenet: pi.Network, resnet50: pi.Network) -> None:
    # r <- r + (k - 1) j, j <- j s along SqueezeNet 1.1 and ResNet-50 (stride on the first 1 x 1 of a stage).
    fields = {"features.0": (3, 2), "features.2": (7, 4), "features.4": (23, 4), "features.12": (207, 16)}
    table = squeezenet.taps()
    for tap, (size, stride) in fields.items():
        assert (table[tap].receptive_field, table[tap].stride) == ((size, size), (stride, stride))
    assert table["output"].receptive_field == (227, 227)
    table = resnet50.taps()
    fields = {"conv1": (7, 2), "maxpool": (11, 4), "layer1": (35, 4), "layer2": (99, 8), "layer3.2": (195, 16)}
    for tap, (size, stride) in fields.items():
        assert (table[tap].receptive_field, table[tap].stride) == ((size, size), (stride, stride))
    assert (table["layer4"].receptive_field, table["layer4"].stride) == ((224, 224), (32, 32))


def test_a_block_is_asked_before_its_relu(resnet50: pi.Network, squeezenet: pi.Network) -> None:
    for network, tap in ((resnet50, "layer3.2"), (squeezenet, "features.6")):
        image = torch.rand(1, 3, *network.input_size, generator=torch.Generator().manual_seed(0))
        before, after = pi.Place(tap), pi.Place(tap, after_relu=True)
        with torch.no_grad():
            values = network.run(image, [before, after])
        assert values[before].min() < 0
        assert torch.equal(values[before].relu(), values[after])


def test_a_real_network_comes_back_as_it_was(resnet50: pi.Network) -> None:
    module = resnet50.module
    module.train()
    module.layer2.eval()
    module.fc.requires_grad_(False)
    flags = [(part.training, len(part._forward_hooks)) for part in module.modules()]
    gradients = [p.requires_grad for p in module.parameters()]
    state = copy.deepcopy(module.state_dict())
    try:
        pi.maximize(resnet50, ["layer1.0:3", "class:281"], steps=2)
        assert [(part.training, len(part._forward_hooks)) for part in module.modules()] == flags
        assert [p.requires_grad for p in module.parameters()] == gradients
        assert all(p.grad is None for p in module.parameters())
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    finally:
        module.eval().requires_grad_(True)


@pytest.mark.parametrize("name", ["bundled", "squeezenet"])
def test_units_answer_their_picture_more_than_any_photograph(
    name: str, photographs: list[tuple[Path, int]], request: pytest.FixtureRequest
) -> None:
    network: pi.Network = request.getfixturevalue(name)
    tap = suggested_taps(network)[2].name
    objectives = [pi.objectives.channel(tap, index) for index in range(4)]
    result = pi.maximize(network, objectives, steps=48)
    with torch.no_grad():
        values = network.run(stacked(photographs, network), [tap])[pi.Place(tap)]
    assert (result.scores > values[:, :4].mean((2, 3)).amax(0)).all()


def test_classes_are_answered_with_certainty(bundled: pi.Network) -> None:
    wanted = ["prob:goldfish", "prob:daisy", "prob:fire engine"]
    scores = pi.maximize(bundled, [objective.replace("prob", "class") for objective in wanted], steps=120)
    for image, objective in zip(scores.images, wanted, strict=True):
        (asked,) = pi.objectives.parse(objective, bundled)
        with torch.no_grad():
            assert asked.score(bundled.run(image[None], asked.places())) > 0.5


def test_the_same_seed_gives_the_same_bytes(squeezenet: pi.Network) -> None:
    first, second, other = (pi.maximize(squeezenet, "class:tabby", steps=6, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.trace, second.trace)
    assert not torch.equal(first.images, other.images)


def test_the_plain_recipe_climbs_on_with_lbfgs(squeezenet: pi.Network) -> None:
    result = pi.maximize(squeezenet, "features.6:5", recipe="plain", steps=33, size=96)
    adam, last = result.trace[23, 0], result.trace[-1, 0]
    assert last > adam
    # A line search only takes steps that rise.
    assert (result.trace[24:, 0].diff() >= 0).all()


def test_the_bundled_network_opens_from_the_command_line(preimage: Run) -> None:
    done = preimage("taps", "bundled", "--json")
    assert done.returncode == 0
    assert '"name": "stage7.0.project.0"' in done.stdout
