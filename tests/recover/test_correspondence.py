"""Which channels of two networks correspond: where the answer is known, and how it is counted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from preimage import Network, Place, RequestError, UnknownTapError
from preimage.objectives import Aggregate
from preimage.parametrizations import SigmoidPixels
from preimage.recover import Sensitivity, correspondence, sensitivity
from preimage.recover.comparison import RANKINGS, Comparison
from preimage.recover.correspondence import InUnits, Side, compare, correlations, responses, uncancelled

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
SIDE, CHANNELS, PHOTOS, STEPS = 10, 6, 12, 440
REALISED = [4, 1, 3]
FACTORS = (8.0, 0.125, 1.0, 0.5, 16.0, 2.0)
"""Powers of two, so that what is scaled by them is exactly the same numbers."""
ORDER = (2, 5, 0, 4, 3, 1)
"""Channel j of the permuted network is channel ORDER[j] of the original."""
PERMUTED_TO = {of: j for j, of in enumerate(ORDER)}


class Small(nn.Sequential):
    def __init__(self, seed: int = 0, colours: int = 3) -> None:
        torch.manual_seed(seed)
        super().__init__(
            nn.Conv2d(colours, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, CHANNELS, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    @property
    def last(self) -> nn.Conv2d:
        convolution = self[3]
        assert isinstance(convolution, nn.Conv2d)
        return convolution


def changed(module: Small, order: tuple[int, ...], factors: tuple[float, ...]) -> Small:
    """The channels of its last convolution, in another order and scaled."""
    with torch.no_grad():
        scale = torch.tensor(factors)
        for weight in module.last.parameters():
            weight.copy_((weight * scale.view(-1, *(1 for _ in weight.shape[1:])))[list(order)])
    return module


def small(seed: int = 0, name: str = "small") -> Network:
    return Network(Small(seed), SIDE, name=name)


def permuted() -> Network:
    return Network(changed(Small(), ORDER, FACTORS), SIDE, name="permuted")


def with_dead(index: int, bias: float = 0.0) -> Network:
    module = Small()
    with torch.no_grad():
        module.last.weight[index] = 0
        assert module.last.bias is not None
        module.last.bias[index] = bias
    return Network(module, SIDE, name="partly dead")


def photos(count: int = PHOTOS, seed: int = 0) -> list[Tensor]:
    return list(torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)))


def compared(second: Network, **more: Any) -> Comparison:
    options: dict[str, Any] = {"features": REALISED, "photos": photos(), "steps": STEPS, "progress": False}
    return compare(small(), second, "4", **{**options, **more})


def briefly(second: Network, **more: Any) -> Comparison:
    """Not converged, where that does not matter."""
    return compared(second, **{"steps": 12, "features": [4], **more})


@pytest.fixture(scope="module")
def with_itself() -> Comparison:
    return compared(small())


@pytest.fixture(scope="module")
def with_permuted() -> Comparison:
    return compared(permuted())


# --- networks of which the answer is known ----------------------------------------------------------------------------


def test_a_network_against_itself_is_the_identity(with_itself: Comparison) -> None:
    assert with_itself.channels == REALISED
    for by in ("objective", "residual"):
        assert with_itself.ranked(by)[:, 0].tolist() == REALISED
    assert with_itself.best_correlated().tolist() == REALISED
    own = torch.arange(len(REALISED)), torch.tensor(REALISED)
    # Nearly all of the objective, and nearly nothing left of the gradient; of all others at least twice as much.
    assert (with_itself.weights[own] > 0.99).all()
    rest = with_itself.residuals.clone()
    rest[own] = torch.inf
    assert (with_itself.residuals[own] < rest.amin(1) / 2).all()
    assert (with_itself.own_angles < 5).all()


def test_what_a_network_recovers_of_itself_is_said_twice(with_itself: Comparison) -> None:
    """As the second network's objective, and as the angle in the first."""
    own = torch.arange(len(REALISED)), torch.tensor(REALISED)
    torch.testing.assert_close(with_itself.weights[own].arccos().rad2deg(), with_itself.own_angles, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        with_itself.responses[own] / with_itself.responses.norm(dim=1), with_itself.cosines, rtol=1e-12, atol=0
    )


def test_permuted_and_scaled_channels_are_found_by_the_same_numbers(
    with_itself: Comparison, with_permuted: Comparison
) -> None:
    expected = [PERMUTED_TO[channel] for channel in REALISED]
    for by in ("objective", "residual"):
        assert with_permuted.ranked(by)[:, 0].tolist() == expected
    assert with_permuted.best_correlated().tolist() == expected
    assert torch.equal(with_permuted.images, with_itself.images)
    for name in ("weights", "residuals", "responses", "correlations"):
        before, after = getattr(with_itself, name), getattr(with_permuted, name)
        torch.testing.assert_close(after, before[:, list(ORDER)], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(with_permuted.ratios, with_itself.ratios, rtol=1e-6, atol=0)


def test_all_agree_with_correlation_where_networks_are_the_same(with_permuted: Comparison) -> None:
    for by in ("objective", "residual"):
        rate = with_permuted.match_rate(by)
        assert (rate.first.mean, rate.among_five.mean, rate.rank.mean) == (1.0, 1.0, 1.0)
        assert rate.correlation.mean == pytest.approx(1.0, abs=1e-9)
    assert with_permuted.says().startswith(
        "of 3 channels of small 4, the channel of permuted 4 that correlates best is named first by the recovered "
        "objective 100% of the time (100% among 5), by the residual 100%"
    )


def test_an_image_is_no_maximum_for_another_network(with_itself: Comparison) -> None:
    other = compared(small(5), features=REALISED[:1])
    assert float(other.residuals.min()) > 3 * float(with_itself.residuals[0].min())
    assert float(other.weights.abs().max()) < 0.9 * float(with_itself.weights[0].max())


# --- units ------------------------------------------------------------------------------------------------------------


@few
@given(
    seeds,
    st.permutations(range(CHANNELS)),
    st.lists(st.floats(1e-3, 1e3), min_size=CHANNELS, max_size=CHANNELS),
    st.sampled_from(["max-mean", "mean", "centre"]),
)
def test_nothing_depends_on_how_the_second_network_scales_its_channels(
    seed: int, order: list[int], factors: list[float], aggregate: Aggregate
) -> None:
    kind = SigmoidPixels(3, SIDE, SIDE)
    v = torch.randn((2, *kind.shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def seen(network: Network) -> Sensitivity:
        place = Place("4")
        answers = responses(network, place, photos(), aggregate, (SIDE, SIDE))
        return sensitivity(Side(network, place, answers).scaled, v, place, kind, aggregate=aggregate)

    before = seen(small(seed))
    after = seen(Network(changed(Small(seed), tuple(order), tuple(factors)), SIDE))
    # (weights are float32, and so are their products with factors)
    torch.testing.assert_close(after.response, before.response[:, order], rtol=1e-3, atol=1e-5)
    residuals = [uncancelled(one.response, one.gram, 2.0) for one in (before, after)]
    torch.testing.assert_close(residuals[1], residuals[0][:, order], rtol=1e-3, atol=1e-5)


def test_a_network_in_units_answers_in_them_at_its_tap_only() -> None:
    network, units = small(), torch.arange(1.0, CHANNELS + 1)
    scaled, images = InUnits(network, "4", units), torch.stack(photos(2))
    places = [Place("4"), Place("4", after_relu=True), Place("0")]
    plain, found = network.run(images, places), scaled.run(images, places)
    for place in places[:2]:
        torch.testing.assert_close(found[place] * units.view(1, -1, 1, 1), plain[place])
    assert torch.equal(found[places[2]], plain[places[2]])
    assert not torch.equal(found[places[0]], found[places[1]])


def test_usual_sizes_are_root_mean_squares_over_the_photos() -> None:
    network, shown = small(), photos()
    activation = network.run(torch.stack(shown), ["4"])[Place("4")].detach()
    expected = activation.flatten(2).mean(2).double().square().mean(0).sqrt()
    found = briefly(small(1), aggregate="mean")
    torch.testing.assert_close(torch.tensor(found.settings["usual_sizes"][0]).double(), expected, rtol=1e-6, atol=0)


# --- the residual of a channel's own gradient -------------------------------------------------------------------------


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@few
@given(seeds, st.sampled_from([0.0, 1.0, 2.0, 4.0]))
def test_the_residual_is_that_of_the_gradient_itself(seed: int, k: float) -> None:
    """|grad f_{e_j}| by autograd, for y = A v, as a share of (k + 1) |q|^k |Dy_j|."""
    rows, v = drawn(seed, 5, 9), drawn(seed + 1, 9).requires_grad_()
    found = uncancelled((rows @ v)[None].detach(), (rows @ rows.mT)[None], k)[0]
    for j in range(5):
        response = rows @ v
        cosine = response[j] / response.norm()
        (gradient,) = torch.autograd.grad(response[j] * cosine**k, v)
        left = gradient.norm() / ((k + 1) * cosine.abs() ** k * rows[j].norm())
        assert float(found[j]) == pytest.approx(float(left.detach()), rel=1e-8)
    if k == 0:
        assert found.tolist() == pytest.approx([1.0] * 5, abs=1e-12)


@few
@given(seeds, st.floats(-6, 6))
def test_a_planted_maximum_has_none_left(seed: int, power: float) -> None:
    """Channel 2 alone can be seen to change along the response: all other rows, and y, are chosen so that
    Dy_2 = k / (k + 1) cos_2 (y / |y|)^T Dy."""
    k, rows, response = 2.0, drawn(seed, 4, 7), drawn(seed + 1, 4).abs() + 0.1
    unit = response / response.norm()
    others = torch.tensor([0, 1, 3])
    share = k / (k + 1) * unit[2]
    rows[2] = share * (unit[others] @ rows[others]) / (1 - share * unit[2])
    scale = 10.0**power
    found = uncancelled(scale * response[None], scale**2 * (rows @ rows.mT)[None], k)[0]
    assert float(found[2]) < 1e-6 < float(found[others].min())


def test_a_channel_without_gradient_has_no_residual() -> None:
    rows = drawn(0, 3, 5)
    rows[1] = 0
    found = uncancelled(drawn(1, 1, 3), (rows @ rows.mT)[None], 2.0)[0]
    assert found.isnan().tolist() == [False, True, False]


# --- correlation ------------------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(3, 20))
def test_correlations_are_numpys(seed: int, count: int) -> None:
    a, b = drawn(seed, count, 4), 1e3 + drawn(seed + 1, count, 3)
    expected = np.corrcoef(a.numpy(), b.numpy(), rowvar=False)[:4, 4:]
    np.testing.assert_allclose(correlations(a, b).numpy(), expected, rtol=0, atol=1e-9)


def test_a_constant_has_no_correlation_and_hurts_no_other() -> None:
    a, b = drawn(0, 8, 3), drawn(1, 8, 2)
    expected = correlations(a, b)
    a[:, 1], b[:, 0] = 0.1 + 1e-9 * a[:, 0], 0.0  # (as far as float32 can tell)
    found = correlations(a, b)
    assert found.isnan().tolist() == [[True, False], [True, True], [True, False]]
    assert torch.equal(found[[0, 2], 1], expected[[0, 2], 1])


def test_photos_are_correlated_as_they_are_aggregated(with_itself: Comparison) -> None:
    network, other = small(), small(9)
    found = briefly(other, features=[1, 3], aggregate="mean")
    answers = [n.run(torch.stack(photos()), ["4"])[Place("4")].detach().mean((2, 3)).numpy() for n in (network, other)]
    expected = np.corrcoef(answers[0], answers[1], rowvar=False)[:CHANNELS, CHANNELS:]
    assert found.correlations is not None
    np.testing.assert_allclose(found.correlations.numpy(), expected[[1, 3]], atol=1e-5)


# --- dead channels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_dead_channels_are_listed_and_left_out(bias: float) -> None:
    found = compare(
        with_dead(1, bias), with_dead(2, bias), "4", photos=photos(), steps=12, features=[0, 1], progress=False
    )
    assert found.dead == ([1], [2])
    assert found.channels == [0] and found.alive == CHANNELS - 1
    assert found.correlations is not None
    for matrix in (found.weights, found.residuals, found.responses, found.correlations):
        assert matrix.isnan().tolist() == [[j == 2 for j in range(CHANNELS)]]
    for by in RANKINGS:
        assert sorted(found.ranked(by)[0].tolist()) == [0, 1, 3, 4, 5]
        assert found.match_rate(by).first.chance == pytest.approx(1 / 5)
    assert "dead in partly dead 4: 2" in str(found)
    assert found.as_dict()["dead"] == [[1], [2]]
    json.dumps(found.as_dict(), allow_nan=False)


def test_where_all_are_dead_nothing_is_compared() -> None:
    with pytest.raises(RequestError, match=r"channels of partly dead '4' that are in question are dead"):
        compare(with_dead(1), small(), "4", features=[1], photos=photos(), steps=12)
    module = Small()
    nn.init.zeros_(module.last.weight)
    with pytest.raises(RequestError, match=r"channels of silent '4' that are in question are dead"):
        briefly(Network(module, SIDE, name="silent"))


# --- rankings and what they come to, by hand --------------------------------------------------------------------------


def made(**more: Any) -> Comparison:
    """Two realisations; the second network has five channels, of which the last is dead."""
    nan = math.nan
    values: dict[str, Any] = {
        "names": ("a", "b"),
        "taps": ("x", "y"),
        "channels": [7, 12],
        "images": torch.zeros(2, 3, 4, 4),
        "weights": torch.tensor([[0.1, 0.9, -0.95, 0.2, nan], [0.5, 0.4, 0.3, 0.2, nan]], dtype=torch.float64),
        "residuals": torch.tensor([[0.4, 0.3, 0.2, 0.1, nan], [0.1, nan, 0.3, 0.2, nan]], dtype=torch.float64),
        "responses": torch.tensor([[1.0, 2.0, 3.0, -4.0, nan], [4.0, 3.0, 2.0, 1.0, nan]], dtype=torch.float64),
        "correlations": torch.tensor([[-0.9, 0.8, 0.1, 0.0, nan], [0.2, 0.3, 0.1, 0.9, nan]], dtype=torch.float64),
        "cosines": torch.tensor([0.9, 0.8]),
        "own_angles": torch.tensor([1.0, 2.0]),
        "ratios": torch.tensor([0.2, 0.9]),
        "dead": ([], [4]),
    }
    return Comparison(**{**values, **more})


def test_rankings() -> None:
    found = made()
    assert found.ranked("objective").tolist() == [[1, 3, 0, 2], [0, 1, 2, 3]]
    # A negative answer cannot be a maximum's, and what has no gradient comes last.
    assert found.ranked("residual").tolist() == [[2, 1, 0, 3], [0, 3, 2, 1]]
    assert found.ranked("response").tolist() == [[2, 1, 0, 3], [0, 1, 2, 3]]
    assert found.best_correlated().tolist() == [1, 3]
    assert found.stands_out.tolist() == [True, False]
    wrong: Any = "size"
    with pytest.raises(RequestError, match="ranked by objective, residual, response, not 'size'"):
        found.ranked(wrong)


def test_match_rates() -> None:
    rate = made().match_rate("residual")
    assert rate.first.mean == 0.0 and rate.first.chance == 0.25 and rate.first.interval is None
    assert rate.among_five.mean == 1.0 and rate.among_five.chance == 1.0
    assert rate.rank.mean == 2.0 and rate.rank.chance == 2.5
    assert rate.correlation.mean == pytest.approx((0.1 + 0.2) / 2)
    assert rate.correlation.chance == pytest.approx((-0.9 + 0.8 + 0.1 + 0.2 + 0.3 + 0.1 + 0.9) / 8)
    assert made().match_rate("objective").first.mean == 0.5


def test_intervals_are_those_of_a_share() -> None:
    """Of 40 channels of which 30 match, the bootstrap's interval is the binomial distribution's, up to a channel."""
    from scipy.stats import binom

    matrix = torch.zeros(40, 50, dtype=torch.float64)
    matrix[:, 0] = 1.0
    correlated = matrix.clone()
    correlated[:10, 1] = 2.0
    ones = torch.ones(40)
    found = made(
        channels=list(range(40)),
        images=torch.zeros(40, 3, 4, 4),
        weights=matrix,
        residuals=1 - matrix,
        responses=1 + matrix,
        correlations=correlated,
        cosines=ones,
        own_angles=ones,
        ratios=ones,
        dead=([], []),
    )
    for by in RANKINGS:
        rate = found.match_rate(by).first
        assert rate.mean == 0.75 and rate.chance == 1 / 50
        assert rate.interval == pytest.approx(binom.ppf([0.025, 0.975], 40, 0.75) / 40, abs=1 / 40)


def test_the_table_says_it_for_each_channel() -> None:
    rows = made().table()
    assert [row["channel"] for row in rows] == [7, 12]
    assert rows[0]["objective"] == {"channel": 1, "value": 0.9, "correlation": 0.8, "rank_of_best_correlated": 1}
    assert rows[1]["residual"] == {"channel": 0, "value": 0.1, "correlation": 0.2, "rank_of_best_correlated": 2}
    assert rows[1]["best_correlated"] == {"channel": 3, "value": 0.9}
    assert str(made()).splitlines()[1].split() == "7 1 (0.90) 2 (0.20) 2 (3.00) 1 (0.80) 1.0".split()


def test_without_photos_there_is_nothing_to_check_against() -> None:
    found = made(correlations=None)
    for ask in (found.best_correlated, lambda: found.match_rate("residual")):
        with pytest.raises(RequestError, match=r"no photos were given"):
            ask()
    assert "best_correlated" not in found.table()[0] and "correlation" not in found.table()[0]["objective"]
    assert found.as_dict()["agreement_with_correlation"] == [] and "correlations" not in found.as_dict()
    assert found.says().endswith("stands out for 1 of them; without photos there is no correlation to check against")
    assert "2 (0.20)" in str(found)


def test_it_is_saved_whole(tmp_path: Path) -> None:
    found = made(settings={"verb": "compare"}, names=("<a>", "b"))
    folder = found.save(tmp_path / "out")
    said = json.loads((folder / "result.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == ["channel-07.png", "channel-12.png", "result.json"]
    assert [row["file"] for row in said["table"]] == ["channel-07.png", "channel-12.png"]
    assert said["weights"][0] == [0.1, 0.9, -0.95, 0.2, None] and said["says"] == found.says()
    assert said["verb"] == "compare" and said["interrupted"] is False
    assert np.asarray(Image.open(folder / "channel-07.png")).max() == 0
    page = found._repr_html_()
    assert page.count("<figure") == 2 and "&lt;a&gt; x:7" in page and "<a>" not in page


# --- requests ---------------------------------------------------------------------------------------------------------


def test_without_photos_noise_gives_the_units(with_permuted: Comparison) -> None:
    found = compared(permuted(), photos=None, features=[4], steps=330)
    assert found.correlations is None and found.settings["photos"] is None
    assert int(found.ranked("objective")[0, 0]) == int(found.ranked("residual")[0, 0]) == PERMUTED_TO[4]
    assert found.settings["usual_sizes"] != with_permuted.settings["usual_sizes"]


def test_wrong_requests_are_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("too late")

    monkeypatch.setattr(correspondence, "maximize", never)
    grey = Network(Small(colours=1), SIDE, channels=1, name="grey")
    for second, wrong, said in (
        (grey, {}, "small takes images of 3 channels and grey of 1"),
        (small(), {"features": [0, CHANNELS]}, r"'4' has channels 0 to 5, each at most once, not \[0, 6\]"),
        (small(), {"features": [-1]}, "channels 0 to 5"),
        (small(), {"features": []}, "channels 0 to 5"),
        (small(), {"features": [1, 1]}, "each at most once"),
        (small(), {"photos": photos(2)}, "a correlation takes at least 3 photos, not 2"),
        (small(), {"photos": [*photos(3), torch.full((3, 5, 5), 2.0)]}, r"values lie in \[0, 1\]"),
        (small(), {"cosine_power": -1.0}, "cosine_power must not be negative"),
        (small(), {"aggregate": "sum"}, "aggregate must be one of"),
        (small(), {"recipe": "tv"}, "maxima of the objective alone.* 'tv' is not like that"),
        (small(), {"recipe": "nonesuch"}, "nonesuch"),
        (small(), {"size": 0}, "whole pixels above zero"),
    ):
        with pytest.raises(RequestError, match=said):
            briefly(second, **wrong)
    for at in (("4",), ("4", "4", "4"), 4, ("4", 4)):
        some: Any = at
        with pytest.raises(RequestError, match="two networks are compared at two taps"):
            compare(small(), small(), some)
    for taps, name in ((("4", "5"), "second"), (("5", "4"), "first")):
        with pytest.raises(UnknownTapError, match=f"{name} has no tap '5'"):
            compare(small(name="first"), small(name="second"), taps)


def test_a_second_network_that_does_not_take_the_size_says_so_first() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4))
    with pytest.raises(RequestError, match="flat"):
        compare(small(), Network(flat, SIDE, name="flat"), ("4", "output"), size=SIDE + 2, photos=photos())


def test_taps_differ_and_logits_are_features_too() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4))
    found = compare(
        small(), Network(flat, SIDE), (Place("4"), "output"), photos=photos(), steps=12, features=[2], progress=False
    )
    assert found.taps == ("4", "output") and found.weights.shape == (1, 4)


def test_ctrl_c_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = briefly(small(), features=[2, 5]), []
    original = correspondence._inverse

    def stopped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(correspondence, "_inverse", stopped)
    found = briefly(small(), features=[2, 5])
    assert found.interrupted and not whole.interrupted
    assert found.channels == [2] and len(found.images) == 1
    assert torch.equal(found.weights, whole.weights[:1])


def test_networks_are_left_as_they_were() -> None:
    first, second = Small().train(), Small(1).train()
    before = [{name: value.clone() for name, value in one.state_dict().items()} for one in (first, second)]
    compare(Network(first, SIDE), Network(second, SIDE), "4", features=[1], photos=photos(), steps=12, progress=False)
    for module, kept in zip((first, second), before, strict=True):
        assert module.training and all(weight.requires_grad for weight in module.parameters())
        assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())


def test_the_same_seed_gives_the_same() -> None:
    a, b, other = (briefly(small(1), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(a.images, b.images) and torch.equal(a.weights, b.weights)
    assert not torch.equal(a.images, other.images)
    assert replace(a, settings={}).settings == {}
