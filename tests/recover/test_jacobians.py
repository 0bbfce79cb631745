"""Responses and Gram matrices of Jacobians, against explicit Jacobians in float64, in every way they are computed."""

from __future__ import annotations

import math
import re
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from preimage import Network, Place, RequestError, UnknownTapError
from preimage.network import smoothed
from preimage.objectives import Aggregate, aggregated
from preimage.parametrizations import Fourier, Parametrization, Pixels, SigmoidPixels
from preimage.priors import Gaussian
from preimage.recover import Sensitivity, sensitivity
from preimage.recover import sensitivity as of_images
from preimage.recover.sensitivity import MOST_BLOCKS

few = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 2**31)
SIDE, FEATURES, LOGITS = 9, 6, 5
KIND = SigmoidPixels(3, SIDE, SIDE)
PARAMETERS = 3 * SIDE * SIDE
ROW = 16 * PARAMETERS
"""Bytes of one row, as `memory` counts: it is there twice for a moment."""


class Classifier(nn.Sequential):
    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, FEATURES, 2),
            nn.LeakyReLU(0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(FEATURES, LOGITS),
        )


def classifier(seed: int = 0) -> Network:
    return Network(Classifier(seed), SIDE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), name="small")


def drawn(seed: int, count: int = 1, shape: tuple[int, ...] = KIND.shape) -> Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def explicit(
    network: Network,
    parameters: Tensor,
    tap: str,
    kind: Parametrization = KIND,
    aggregate: Aggregate = "max-mean",
    smoothing: float | None = None,
) -> tuple[Tensor, Tensor]:
    """y and Dy, [features, parameters], of one image: by `torch.autograd.functional.jacobian`, row by row."""
    image = kind.image(parameters)
    answering = network if smoothing is None else smoothed(network, image, [tap], smoothing)
    with network.in_float64():
        (activation,) = answering.run(image, [tap]).values()
        width = None if smoothing is None else (smoothing * activation.abs().mean()).float().double()

        def answer(v: Tensor) -> Tensor:
            (found,) = answering.run(kind.image(v), [tap]).values()
            return aggregated(found, aggregate, width)[0]

        rows = jacobian(answer, parameters)
        return answer(parameters), rows.flatten(1)


def check(found: Sensitivity, i: int, response: Tensor, rows: Tensor) -> None:
    torch.testing.assert_close(found.response[i], response, rtol=1e-11, atol=1e-14)
    gram = rows @ rows.mT
    torch.testing.assert_close(found.gram[i], gram, rtol=1e-9, atol=1e-12 * float(gram.abs().max()))


@pytest.mark.parametrize("aggregate", ["max-mean", "mean", "centre"])
@pytest.mark.parametrize("tap", ["1", "3", "output", "6"])
@pytest.mark.parametrize("smoothing", [None, 0.01, 0.3])
def test_it_is_the_explicit_jacobian(tap: str, aggregate: Aggregate, smoothing: float | None) -> None:
    """Also of logits, whose features have no positions to aggregate."""
    network, v = classifier(), drawn(0)
    found = sensitivity(network, v, tap, KIND, aggregate=aggregate, smoothing=smoothing)
    response, rows = explicit(network, v, tap, KIND, aggregate, smoothing)
    assert found.response.dtype == found.gram.dtype == torch.float64
    assert found.parameters == PARAMETERS and rows.shape == (len(response), PARAMETERS)
    assert found.features.tolist() == list(range(len(response)))
    assert found.blocks == 1 and len(found) == 1
    check(found, 0, response, rows)


@few
@given(seeds, st.integers(0, 3), st.sampled_from([None, 0.05]))
def test_batches_are_their_images(seed: int, network_seed: int, smoothing: float | None) -> None:
    network, v = classifier(network_seed), drawn(seed, 3) * torch.tensor([0.1, 1.0, 4.0]).view(-1, 1, 1, 1)
    found = sensitivity(network, v, "3", KIND, smoothing=smoothing)
    assert found.response.shape == (3, FEATURES) and found.gram.shape == (3, FEATURES, FEATURES)
    for i in range(3):
        check(found, i, *explicit(network, v[i : i + 1], "3", smoothing=smoothing))


@pytest.mark.parametrize(
    "kind", [Pixels(3, SIDE, SIDE), Fourier(3, SIDE, SIDE), SigmoidPixels(3, SIDE + 2, SIDE)], ids=lambda k: type(k)
)
def test_parametrizations_of_any_kind_and_size(kind: Parametrization) -> None:
    network, v = classifier(), drawn(1, 1, kind.shape)
    found = sensitivity(network, v.float(), "3", kind)
    assert found.parameters == math.prod(kind.shape)
    check(found, 0, *explicit(network, v.float().double(), "3", kind, smoothing=0.01))


@pytest.mark.parametrize("smoothing", [None, 0.05])
@pytest.mark.parametrize("rows", [1, 2, 4, FEATURES])
def test_however_many_rows_are_computed_at_once(
    monkeypatch: pytest.MonkeyPatch, rows: int, smoothing: float | None
) -> None:
    network, v = classifier(), drawn(3, 2)
    monkeypatch.setattr(sys.modules["preimage.recover.sensitivity"], "_AT_ONCE", rows * PARAMETERS)
    found = sensitivity(network, v, "3", KIND, smoothing=smoothing)
    for i in range(2):
        check(found, i, *explicit(network, v[i : i + 1], "3", smoothing=smoothing))


@few
@given(seeds, st.integers(0, 3), st.sampled_from([None, 0.05]))
def test_single_precision_is_right_to_its_last_digits(seed: int, network_seed: int, smoothing: float | None) -> None:
    network, v = classifier(network_seed), drawn(seed)
    double = sensitivity(network, v, "3", KIND, smoothing=smoothing)
    single = sensitivity(network, v, "3", KIND, smoothing=smoothing, precision="single")
    assert single.gram.dtype == single.response.dtype == torch.float64
    largest = double.gram.abs().max()
    assert (single.gram - double.gram).abs().max() < 2e-5 * largest
    assert (single.response - double.response).abs().max() < 1e-5 * double.response.abs().max()
    assert not torch.equal(single.gram, double.gram)


@few
@given(seeds, st.lists(st.integers(0, FEATURES - 1), min_size=1, max_size=FEATURES, unique=True))
def test_some_features_are_rows_and_columns_of_all(seed: int, some: list[int]) -> None:
    network, v = classifier(), drawn(seed, 2)
    whole, part = sensitivity(network, v, "3", KIND), sensitivity(network, v, "3", KIND, features=some)
    assert part.features.tolist() == some
    picked = whole.of(some)
    for one in (part, whole.of(torch.tensor(some)), picked):
        assert one.features.tolist() == some
        torch.testing.assert_close(one.response, whole.response[:, some], rtol=1e-12, atol=0)
        torch.testing.assert_close(one.gram, whole.gram[:, some][:, :, some], rtol=1e-9, atol=1e-15)
    # Positions, and not channels, once some features were taken.
    last = picked.of([-1])
    assert last.features.tolist() == some[-1:]
    assert torch.equal(last.gram[:, 0, 0], picked.gram[:, -1, -1])


def test_a_slice_or_mask_of_features() -> None:
    whole = sensitivity(classifier(), drawn(2), "3", KIND, features=[5, 3, 1, 0])
    mask = torch.tensor([False, True, True, False])
    for chosen in (slice(1, 3), mask, [1, 2]):
        part = whole.of(chosen)
        assert part.features.tolist() == [3, 1]
        assert torch.equal(part.gram, whole.gram[:, 1:3, 1:3])


def test_a_tuple_of_features() -> None:
    whole = sensitivity(classifier(), drawn(2), "3", KIND)
    assert torch.equal(whole.of((1, 2)).gram, whole.of([1, 2]).gram)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 3, 4, 5])
@pytest.mark.parametrize("count", [1, 3])
def test_a_jacobian_in_blocks_is_the_same(rows: int, count: int) -> None:
    network, v = classifier(), drawn(3, count)
    whole = sensitivity(network, v, "3", KIND)
    found = sensitivity(network, v, "3", KIND, memory=rows * ROW)
    assert whole.blocks == 1
    assert found.blocks == math.ceil(FEATURES / (rows // 2))
    torch.testing.assert_close(found.gram, whole.gram, rtol=1e-10, atol=1e-16)
    torch.testing.assert_close(found.response, whole.response, rtol=1e-12, atol=1e-15)


def many(features: int) -> Network:
    torch.manual_seed(0)
    return Network(nn.Conv2d(1, features, 2), 3, channels=1, name="wide")


def asked(features: int, memory: int, **more: bool) -> Sensitivity:
    kind = Pixels(1, 3, 3)
    return sensitivity(many(features), torch.zeros(1, 1, 3, 3), "output", kind, smoothing=None, memory=memory, **more)


@pytest.mark.parametrize("fit", [0, 2, 4, 6])
def test_what_is_said_to_fit_does_and_one_more_does_not(fit: int) -> None:
    memory = fit * 16 * 9 + 100
    with pytest.raises(RequestError) as caught:
        asked(200, memory)
    said = str(caught.value)
    assert "\n" not in said and "'output'" in said and "(memory=)" in said
    match = re.search(r"(\d+) features would fit", said)
    assert match is not None
    would = int(match[1])
    assert would == (fit * MOST_BLOCKS // 2)
    if would:
        assert asked(would, memory).blocks <= MOST_BLOCKS
    with pytest.raises(RequestError, match="would fit"):
        asked(would + 1, memory)


def test_the_memory_that_is_said_is_enough() -> None:
    with pytest.raises(RequestError) as caught:
        asked(512, 0)
    match = re.search(r"in 32 blocks ([\d.e+-]+) MiB", str(caught.value))
    assert match is not None
    found = asked(512, math.ceil(float(match[1]) * 2**20 * 1.005))  # (three digits are said)
    torch.testing.assert_close(found.gram, asked(512, 2**30).gram, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("fit", [3, 5])
def test_there_are_never_more_blocks_than_is_said(fit: int) -> None:
    features = fit * MOST_BLOCKS // 2
    try:
        assert asked(features, fit * 16 * 9).blocks <= MOST_BLOCKS
    except RequestError as refused:
        assert "would fit" in str(refused)  # noqa: PT017


def test_a_single_row_that_fits_is_not_enough_for_two_features() -> None:
    with pytest.raises(RequestError, match="1 features would fit"):
        asked(2, 16 * 9)


def test_a_single_feature_takes_a_single_row() -> None:
    assert asked(1, 16 * 9).blocks == 1
    with pytest.raises(RequestError, match="0 features would fit"):
        asked(1, 16 * 9 - 1)


def test_many_images_go_through_in_turn_where_little_memory_is_allowed() -> None:
    network, v = classifier(), drawn(4, 5)
    whole = sensitivity(network, v, "3", KIND)
    for memory in (FEATURES * ROW, 2 * FEATURES * ROW + 7):
        found = sensitivity(network, v, "3", KIND, memory=memory)
        assert found.blocks == 1
        torch.testing.assert_close(found.gram, whole.gram, rtol=1e-9, atol=1e-16)
        torch.testing.assert_close(found.response, whole.response, rtol=1e-11, atol=0)


# --- means ------------------------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 4), st.sampled_from([None, 0.1]))
def test_average_is_that_of_the_mean_jacobian(seed: int, count: int, smoothing: float | None) -> None:
    network, v = classifier(), drawn(seed, count)
    found = sensitivity(network, v, "3", KIND, average=True, smoothing=smoothing)
    each = [explicit(network, v[i : i + 1], "3", smoothing=smoothing) for i in range(count)]
    assert found.response.shape == (1, FEATURES)
    responses, rows = (torch.stack([one[k] for one in each]).mean(0) for k in (0, 1))
    check(found, 0, responses, rows)


def test_a_mean_jacobian_that_does_not_fit_is_refused() -> None:
    v = drawn(5, 2)
    assert len(sensitivity(classifier(), v, "3", KIND, average=True, memory=FEATURES * ROW)) == 1
    with pytest.raises(
        RequestError, match=f"the mean Jacobian of the 6 features of '3' .*{FEATURES - 1} features would"
    ):
        sensitivity(classifier(), v, "3", KIND, average=True, memory=FEATURES * ROW - 1)


def test_views_are_averaged_and_kernels_applied() -> None:
    network, v = classifier(), drawn(6)
    shifts = [lambda x: x, lambda x: x.roll(1, 2), lambda x: x.roll(2, 3).flip(3)]
    kernel = Gaussian(5)
    found = sensitivity(network, v, "3", KIND, smoothing=None, views=shifts, update_kernels=[kernel])

    def answer(parameters: Tensor) -> Tensor:
        image = KIND.image(parameters)
        (seen,) = network.run(torch.cat([shift(image) for shift in shifts]), ["3"]).values()
        return aggregated(seen, "max-mean").mean(0)

    with network.in_float64():
        response, rows = answer(v), jacobian(answer, v)[:, 0]
    check(found, 0, response, kernel(rows).flatten(1))


@few
@given(seeds, st.sampled_from([2 * ROW, 2**30]))
def test_known_gradients_are_rows_of_the_usual_length(seed: int, memory: int) -> None:
    network, v = classifier(), drawn(seed, 2)
    known = 1e6 * drawn(seed + 1, 2 * 2).view(2, 2, *KIND.shape)
    found = sensitivity(network, v, "3", KIND, known=known, memory=memory)
    assert found.known == 2 and found.features.tolist() == list(range(FEATURES))
    assert torch.equal(found.response[:, FEATURES:], torch.zeros(2, 2).double())
    for i in range(2):
        response, rows = explicit(network, v[i : i + 1], "3", smoothing=0.01)
        usual = rows.norm(dim=1).sort().values[(FEATURES - 1) // 2]  # (the lower median, as torch has it)
        further = known[i].flatten(1)
        rows = torch.cat([rows, usual * further / further.norm(dim=1, keepdim=True)])
        check(found, i, torch.cat([response, response.new_zeros(2)]), rows)
    part = found.of([4, 1])
    torch.testing.assert_close(part.gram, found.gram[:, [4, 1, 6, 7]][:, :, [4, 1, 6, 7]], rtol=0, atol=0)


# --- dead features ----------------------------------------------------------------------------------------------------


def test_features_that_no_image_changes_are_dead() -> None:
    module = Classifier()
    with torch.no_grad():
        convolution = module[3]
        assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
        convolution.weight[2] = 0.0
        convolution.weight[4] *= 1e-12
        convolution.bias[4] = 1.0
    network = Network(module, SIDE)
    found = sensitivity(network, drawn(7, 2), "3", KIND)
    assert found.dead().tolist() == [i in (2, 4) for i in range(FEATURES)]
    assert found.dead(0.0).tolist() == [i == 2 for i in range(FEATURES)]
    exact = sensitivity(network, drawn(7, 2), "3", KIND, smoothing=None)
    assert exact.response[:, 4].tolist() == pytest.approx([1.0, 1.0])
    assert found.of([0, 2]).dead().tolist() == [False, True]


def test_a_feature_that_one_image_of_many_changes_is_not() -> None:
    gram = torch.zeros(2, 3, 3, dtype=torch.float64)
    gram[0], gram[1] = torch.diag(torch.tensor([1.0, 1e-30, 0.0])), torch.diag(torch.tensor([1.0, 0.5, 1e-17]))
    both = Sensitivity(torch.ones(2, 3).double(), gram, torch.arange(3), 9)
    assert both.dead().tolist() == [False, False, True]
    first = Sensitivity(torch.ones(1, 3).double(), gram[:1], torch.arange(3), 9)
    assert first.dead().tolist() == [False, True, True]


# --- wrong requests, and what is left behind --------------------------------------------------------------------------


def test_wrong_requests_are_refused_in_a_sentence() -> None:
    network, v = classifier(), drawn(8)
    for wrong, said in (
        (v[:, :, :-1], r"SigmoidPixels has parameters \[3, 9, 9\] for each image, not \[3, 8, 9\]"),
        (v[0], r"not \[9, 9\]"),
    ):
        with pytest.raises(RequestError, match=said):
            sensitivity(network, wrong, "3", KIND)
    for features in ([0, FEATURES], [-1], []):
        with pytest.raises(RequestError, match=f"'3' has features 0 to {FEATURES - 1}, not"):
            sensitivity(network, v, "3", KIND, features=features)
    with pytest.raises(UnknownTapError, match="small has no tap 'conv'"):
        sensitivity(network, v, "conv", KIND)
    with pytest.raises(RequestError, match="a width above zero"):
        sensitivity(network, v, "3", KIND, smoothing=0.0)
    half = Network(Classifier().half(), SIDE, name="coarse")
    with pytest.raises(RequestError, match="coarse computes in float16"):
        sensitivity(half, v, Place("3"), KIND, smoothing=None)


def test_a_feature_given_twice_is_refused() -> None:
    """Its two rows are equal, so that their difference would be the answer to every image."""
    with pytest.raises(RequestError, match="twice"):
        of_images(classifier(), drawn(9), "3", KIND, features=[1, 4, 1])


def test_gradients_that_others_have_switched_off_are_needed_here() -> None:
    network, v = classifier(), drawn(10)
    expected = sensitivity(network, v, "3", KIND)
    with torch.no_grad():
        found = sensitivity(network, v, "3", KIND)
    assert torch.equal(found.gram, expected.gram)
    assert not v.requires_grad and v.grad is None
    assert all(weight.requires_grad and weight.grad is None for weight in network.module.parameters())
    assert not found.response.requires_grad and not found.gram.requires_grad
    assert network.dtype == torch.float32
