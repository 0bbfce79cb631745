"""Heat maps of networks whose weights have been shuffled: which, in which order, and what is made of the maps."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from explained import always, case_of, method, notes, signed, summing, uniform, values
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, RequestError
from preimage.evaluation.measure import Case
from preimage.evaluation.weight_randomisation import WeightRandomisation, rank_correlation, similarity
from preimage.objectives import channel

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31)
SIDE = 12


def small(seed: int = 0, channels: int = 1) -> Network:
    """Five layers with weights."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 5, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )
    for part in module:
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]
    return Network(module, SIDE, channels=channels)


def asked(network: Network, seed: int = 0, again: Callable[..., Tensor] | None = None, **more: Any) -> Case:
    again = again or method("gradient", network)
    photo = uniform(5, network.channels, *network.input_size)
    heatmap = again(photo[None], None)[0]
    return case_of(network, photo, heatmap, again=again, seed=seed, **more)


def watching(seen: list[dict[str, Tensor]]) -> Callable[..., Tensor]:
    """Notes the weights of each network that is explained."""

    def again(photos: Tensor, other: Network | None) -> Tensor:
        if other is not None:
            seen.append({name: one.clone() for name, one in other.module.state_dict().items()})
        return uniform(0, len(photos), *photos.shape[2:])

    return again


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts of which some tensor is another now."""
    return {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_layers_lose_their_weights_from_the_answer_down() -> None:
    network, seen = small(), []
    raw = WeightRandomisation((0.0, 0.4, 0.6, 1.0)).measure(asked(network, again=watching(seen)))
    assert raw["layers"] == [1, 2, 3, 5]
    before = network.module.state_dict()
    top_down = ["8", "5", "3", "1", "0"]
    for count, after in zip(raw["layers"], seen, strict=True):
        assert changed(before, after) == set(top_down[:count])
    for less, more in pairwise(seen):
        # What has been randomised stays as it is.
        assert not changed(less, more) & changed(before, less)


def test_every_tensor_keeps_its_values() -> None:
    network, seen = small(), []
    WeightRandomisation((1.0,)).measure(asked(network, again=watching(seen)))
    for name, one in network.module.state_dict().items():
        assert torch.equal(one.flatten().sort().values, seen[0][name].flatten().sort().values), name
    moved = [name for name, one in network.module.state_dict().items() if not torch.equal(one, seen[0][name])]
    assert {"1.weight", "1.bias", "1.running_mean", "1.running_var"} <= set(moved)
    assert "1.num_batches_tracked" not in moved


def test_the_network_is_left_alone() -> None:
    network = small()
    network.module.train()
    network.module[3].weight.requires_grad_(False)
    state = {name: (one.data_ptr(), one.clone()) for name, one in network.module.state_dict().items()}
    flags = [(one.requires_grad, one.grad) for one in network.module.parameters()]
    parts = list(network.module.modules())

    def raising(photos: Tensor, other: Network | None) -> Tensor:
        raise RequestError("no rule")

    WeightRandomisation().measure(asked(network))
    with pytest.raises(RequestError, match="no rule"):
        WeightRandomisation().measure(case_of(network, uniform(0, 1, 12, 12), uniform(1, 12, 12), again=raising))
    assert [one.training for one in parts] == [True] * len(parts)
    assert list(network.module.modules()) == parts
    assert [(one.requires_grad, one.grad) for one in network.module.parameters()] == flags
    for name, one in network.module.state_dict().items():
        assert one.data_ptr() == state[name][0] and torch.equal(one, state[name][1])


def test_after_an_exception_the_next_case_starts_from_the_users_weights() -> None:
    network, seen = small(), []
    measure = WeightRandomisation((0.0,))
    measure.measure(asked(network, again=watching(seen)))
    WeightRandomisation((1.0,)).measure(asked(network))
    measure.measure(asked(network, again=watching(seen)))
    assert not changed(seen[0], seen[1])


@pytest.mark.parametrize("network", [small(), summing(signed(0, 2, 1, SIDE, SIDE))])
def test_what_never_looks_at_the_network_is_flagged(network: Network) -> None:
    measure = WeightRandomisation()
    raw = measure.measure(asked(network, again=always(uniform(3, SIDE, SIDE))))
    for name, found in values(measure, raw).items():
        assert found == [pytest.approx(1, abs=1e-12)], name
    for said in notes(measure, raw).values():
        assert said == ("1 of 1 heat maps stay as they were: they do not depend on these weights",)
    assert json.loads(json.dumps(raw)) == raw


def test_a_map_of_weights_is_shuffled_by_chance() -> None:
    """The gradient of a linear network is its weights (their absolute values), and Spearman's correlation with a random
    order has the mean 0 and the variance 1 / (n - 1): within four standard errors of 100 draws."""
    network = summing(signed(0, 1, 1, SIDE, SIDE))
    n, draws = SIDE * SIDE, 100
    found = [WeightRandomisation((1.0,)).measure(asked(network, seed))["rank"][0] for seed in range(draws)]
    assert abs(np.mean(found)) < 4 / np.sqrt((n - 1) * draws)
    assert np.var(found) * (n - 1) == pytest.approx(1, abs=4 * np.sqrt(2 / draws))


def test_a_map_turned_round_says_the_same() -> None:
    heatmap = uniform(0, SIDE, SIDE)
    again = lambda photos, other: (heatmap if other is None else -heatmap)[None]  # noqa: E731
    measure = WeightRandomisation((1.0,))
    raw = measure.measure(asked(small(), again=again))
    assert raw["rank"] == [pytest.approx(-1)]
    assert values(measure, raw)["rank correlation, all layers"] == [pytest.approx(1)]


def test_the_same_seed_draws_the_same_network() -> None:
    network, measure = small(), WeightRandomisation()
    first = measure.measure(asked(network, 1))
    other = measure.measure(asked(network, 2))
    assert measure.measure(asked(network, 1)) == first != other
    assert measure.measure(asked(small(), 1)) == first


def test_the_same_class_is_asked_at_the_same_place() -> None:
    """The case's own question says what depends on it; layers above an inner tap are none."""
    network, seen = small(), []
    raw = WeightRandomisation((0.0, 1.0)).measure(asked(network, again=watching(seen), asked=channel("3", 0)))
    assert raw["layers"] == [1, 3]
    before = network.module.state_dict()
    assert [changed(before, after) for after in seen] == [{"3"}, {"0", "1", "3"}]


def test_a_network_that_was_trained_on_is_copied_again() -> None:
    network, seen = small(), []
    measure = WeightRandomisation((0.0,))
    measure.measure(asked(network))
    with torch.no_grad():
        network.module[0].weight.fill_(7.0)
    measure.measure(asked(network, again=watching(seen)))
    assert (seen[0]["0.weight"] == 7.0).all()
    network.module.double()
    assert WeightRandomisation().measure(asked(network))["layers"] == [1, 2, 5]
    network.module[8] = nn.Linear(5, 9)
    network.module.float()
    fresh = Network(network.module, SIDE, channels=1)
    assert WeightRandomisation().measure(asked(fresh))["layers"] == [1, 2, 5]


def test_the_copy_goes_with_the_network() -> None:
    network, kept = small(), []

    def again(photos: Tensor, other: Network | None) -> Tensor:
        if other is not None:
            kept.append(weakref.ref(other))
        return uniform(0, len(photos), SIDE, SIDE)

    WeightRandomisation().measure(asked(network, again=again))
    assert kept[0]() is kept[2]() is not None
    del network
    gc.collect()
    assert kept[0]() is None


class Backwards(nn.Module):
    """Its parts are used in another order than they stand in; attention uses a part without calling it, and the side
    branch is not used at all. The last two layers share their weights with the first two."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Linear(8, 8)
        self.side = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.begin = nn.Linear(SIDE, 8)
        self.offset = nn.Parameter(torch.randn(8))

    def forward(self, images: Tensor) -> Tensor:
        rows = self.begin(images[:, 0]) + self.offset
        seen, _ = self.attention(rows, rows, rows, need_weights=False)
        answer: Tensor = self.answer(seen.mean(1))
        return answer


def test_layers_come_in_the_order_of_their_use() -> None:
    torch.manual_seed(0)
    network, seen = Network(Backwards(), SIDE, channels=1), []
    raw = WeightRandomisation((0.0, 0.5, 0.75, 1.0)).measure(asked(network, again=watching(seen)))
    # answer, attention's output, attention, offset, begin
    assert raw["layers"] == [1, 2, 4, 5]
    before = network.module.state_dict()
    assert changed(before, seen[0]) == {"answer"}
    assert changed(before, seen[1]) == {"answer", "attention.out_proj"}
    # (attention.in_proj_bias is zero everywhere.)
    assert changed(before, seen[2]) == {"answer", "attention.out_proj", "attention", ""}
    assert changed(before, seen[3]) == {"answer", "attention.out_proj", "attention", "", "begin"}


def test_shared_weights_are_shuffled_together() -> None:
    shared = nn.Conv2d(1, 1, 3, padding=1)
    twin = nn.Conv2d(1, 1, 3, padding=1)
    twin.weight = shared.weight
    network, seen = Network(nn.Sequential(shared, nn.ReLU(), twin, nn.Flatten()), SIDE, channels=1), []
    WeightRandomisation((1.0,)).measure(asked(network, again=watching(seen)))
    assert torch.equal(seen[0]["0.weight"], seen[0]["2.weight"])
    assert not torch.equal(seen[0]["0.weight"], shared.weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_weights_that_are_computed_from_others() -> None:
    """By a hook, or by a parametrization."""
    for normed in (nn.utils.weight_norm, nn.utils.parametrizations.weight_norm):
        torch.manual_seed(0)
        network = Network(nn.Sequential(normed(nn.Conv2d(1, 3, 3)), nn.Flatten(), nn.Linear(300, 2)), SIDE, channels=1)
        raw = WeightRandomisation().measure(asked(network))
        assert raw["layers"][0] == 1
        assert not any(raw["same"]) and abs(raw["rank"][-1]) < 0.9


def test_what_cannot_be_copied_or_randomised_is_said() -> None:
    class Locked(nn.Flatten):
        def __deepcopy__(self, memo: object) -> Any:
            raise TypeError("no copies")

    photo = uniform(0, 1, SIDE, SIDE)
    for module, message in (
        (nn.Sequential(nn.Conv2d(1, 1, 3), Locked()), r"Sequential cannot be copied, .* \(TypeError: no copies\)"),
        (nn.Flatten(), "Flatten has no weights on which class:0 depends, so none to randomise"),
    ):
        network = Network(module, SIDE, channels=1)
        with pytest.raises(RequestError, match=message):
            WeightRandomisation().measure(case_of(network, photo, photo[0], again=always(photo[0])))
    case = asked(small(), again=lambda photos, other: uniform(0, 1, SIDE, SIDE) / (1 if other is None else 0))
    with pytest.raises(RequestError, match="with 1 layers randomised the heat map has values that are not finite"):
        WeightRandomisation().measure(case)


@pytest.mark.parametrize("depths", [(), (0.5, 0.5), (1.0, 0.0), (-0.1, 1.0), (0.0, 1.1)])
def test_depths_ascend(depths: tuple[float, ...]) -> None:
    with pytest.raises(RequestError, match="ascending shares of the layers"):
        WeightRandomisation(depths)


def ranks(numbers: list[float]) -> list[float]:
    """From 1 on, equal numbers sharing the mean of theirs."""
    return [sum(b < a for b in numbers) + (1 + sum(b == a for b in numbers)) / 2 for a in numbers]


levels = st.lists(st.integers(0, 4), min_size=12, max_size=12).filter(lambda some: len(set(some)) > 1)


@few
@given(levels, levels)
def test_spearman_is_pearson_of_the_ranks(one: list[int], other: list[int]) -> None:
    """Also of tied and saturated maps."""
    found = rank_correlation(*(torch.tensor(some, dtype=torch.float32).view(3, 4) for some in (one, other)))
    expected = np.corrcoef(ranks([float(v) for v in one]), ranks([float(v) for v in other]))[0, 1]
    assert found == pytest.approx(expected, abs=1e-9)


@few
@given(seeds, st.floats(0.01, 100), st.floats(-10, 10))
def test_the_scale_of_a_map_does_not_count(seed: int, scale: float, shift: float) -> None:
    one, other = uniform(seed, 14, 17), uniform(seed + 1, 14, 17)
    assert similarity(one, scale * one + shift) == pytest.approx(1, abs=1e-3)
    assert similarity(one, other) == pytest.approx(similarity(other, scale * one + shift), abs=1e-3)  # type: ignore[arg-type]
    assert rank_correlation(one.double(), scale * one.double() + shift) == pytest.approx(1)


def test_ssim_in_the_middle_of_one_window() -> None:
    """Maps of 11 x 11 have one window that fits: the formula of Wang et al. 2004 with its weights."""
    one, other = uniform(0, 11, 11).double(), uniform(1, 11, 11).double()
    a, b = ((h - h.min()) / (h.max() - h.min()) for h in (one, other))
    line = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    w = line[:, None] * line / line.sum() ** 2
    ma, mb = (w * a).sum(), (w * b).sum()
    va, vb, cov = (w * a * a).sum() - ma**2, (w * b * b).sum() - mb**2, (w * a * b).sum() - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert similarity(one.float(), other.float()) == pytest.approx(float(expected), abs=1e-6)


def test_constant_and_small_maps_do_not_count() -> None:
    flat, bumpy = torch.full((SIDE, SIDE), 0.3), uniform(0, SIDE, SIDE)
    for one, other in ((flat, bumpy), (bumpy, flat), (flat, flat)):
        assert rank_correlation(one, other) is None and similarity(one, other) is None
    assert similarity(uniform(0, 10, 20), uniform(1, 10, 20)) is None
    measure = WeightRandomisation((1.0,))
    dead = measure.measure(asked(small(), again=lambda _, other: (bumpy if other is None else flat)[None]))
    assert values(measure, dead, None) == {"rank correlation, all layers": [None] * 2, "SSIM, all layers": [None] * 2}
    assert notes(measure, dead)["rank correlation, all layers"] == ("1 left out, where a heat map is constant",)


def test_names_and_direction() -> None:
    measure = WeightRandomisation()
    raw = measure.measure(asked(small()))
    quantities = measure.quantities([raw], [""], 0)
    assert [one.name for one in quantities] == [
        *("rank correlation, last layer", "rank correlation, top 50%", "rank correlation, all layers"),
        *("SSIM, last layer", "SSIM, top 50%", "SSIM, all layers"),
    ]
    assert {one.better for one in quantities} == {"lower"}
    assert all(value is not None and -1 <= value <= 1 for one in quantities for value in one.values)
