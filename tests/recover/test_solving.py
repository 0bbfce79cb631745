"""Grad-IFV's linear algebra: against the SVD of M itself, autograd, closed forms, and planted answers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.network import Place
from preimage.objectives.directions import Direction
from preimage.recover.solving import admissible, shrinking, solve, stretching

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
powers = st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0])

FEATURES, PARAMETERS, IMAGES = 6, 20, 3


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def basis(seed: int, features: int, count: int) -> Tensor:
    return torch.linalg.qr(drawn(seed, features, count))[0]


def z(response: Tensor, k: float) -> np.ndarray:
    """Z_k(y) of one response, as the paper writes it."""
    y = response.numpy() / np.linalg.norm(response.numpy())
    return np.eye(len(y)) - k / (k + 1) * np.outer(y, y)


def allowed(response: Tensor, k: float, space: Tensor | None) -> np.ndarray:
    """A basis of {x: Z_k x in C}, as what Z_k takes to nothing outside C; without the inverse of Z_k."""
    if space is None:
        return np.eye(len(response))
    outside = np.eye(len(response)) - space.numpy() @ space.numpy().T
    _, lengths, right = np.linalg.svd(outside @ z(response, k))
    return right[lengths < 1e-10].T


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def apart(a: Tensor, b: Tensor) -> float:
    """How far unit vectors are from each other, whatever their signs."""
    return float(torch.minimum((a - b).norm(), (a + b).norm()))


@few
@given(seeds, powers, st.sampled_from([None, 1, 3, 5, FEATURES]))
def test_the_solution_is_the_svd_of_m(seed: int, k: float, dimension: int | None) -> None:
    responses, jacobians = drawn(seed, IMAGES, FEATURES), drawn(seed + 1, IMAGES, FEATURES, PARAMETERS)
    space = None if dimension is None else basis(seed + 2, FEATURES, dimension)
    solution = solve(responses, jacobians @ jacobians.mT, k, space)
    for i, (response, jacobian) in enumerate(zip(responses, jacobians, strict=True)):
        u = allowed(response, k, space)
        m = u.T @ z(response, k) @ jacobian.numpy()
        left, singular, _ = np.linalg.svd(m, full_matrices=False)
        found = solution.singular_values[i]
        assert found.tolist() == sorted(found.tolist())
        assert found.numpy() == pytest.approx(singular[::-1], rel=1e-10)
        for x, expected in zip(solution.objectives[i], (u @ left).T[::-1], strict=True):
            assert apart(x, torch.tensor(expected.copy())) < 1e-10
        products = solution.objectives[i] @ solution.objectives[i].mT
        assert torch.allclose(products, torch.eye(len(products)).double(), rtol=0, atol=1e-12)
    assert torch.equal(solution.best, solution.objectives[:, 0])
    assert not solution.is_plane.any()


@few
@given(seeds, powers, st.sampled_from([None, 2, 4]), st.sampled_from([1e-3, 1e-1, 10.0]))
def test_no_admissible_objective_does_better(seed: int, k: float, dimension: int | None, distance: float) -> None:
    """Neither near the answer nor far from it."""
    response, jacobian = drawn(seed, FEATURES), drawn(seed + 1, FEATURES, PARAMETERS)
    space = None if dimension is None else basis(seed + 2, FEATURES, dimension)
    best = solve(response[None], (jacobian @ jacobian.mT)[None], k, space).best[0].numpy()
    assert np.linalg.norm(best) == pytest.approx(1, abs=1e-12)
    if space is not None:
        shrunk = z(response, k) @ best
        assert shrunk == pytest.approx(space.numpy() @ space.numpy().T @ shrunk, abs=1e-12)
    u = allowed(response, k, space)
    others = best[:, None] + distance * u @ drawn(seed + 3, u.shape[1], 500).numpy()
    others /= np.linalg.norm(others, axis=0)
    slopes = np.linalg.norm(others.T @ z(response, k) @ jacobian.numpy(), axis=1)
    assert np.linalg.norm(best @ z(response, k) @ jacobian.numpy()) <= slopes.min() * (1 + 1e-12)


@few
@given(seeds, powers, st.floats(-100, 100))
def test_z_shrinks_the_response_and_nothing_else_and_its_inverse_undoes_it(seed: int, k: float, power: float) -> None:
    y, v = drawn(seed, IMAGES, FEATURES), drawn(seed + 1, IMAGES, FEATURES)
    across = v - (v * y).sum(1, keepdim=True) / y.square().sum(1, keepdim=True) * y
    matrix, inverse = shrinking(y, k), stretching(y, k)
    assert torch.allclose((matrix @ y[..., None])[..., 0], y / (k + 1), rtol=0, atol=1e-13)
    assert torch.allclose((matrix @ across[..., None])[..., 0], across, rtol=0, atol=1e-13)
    assert torch.allclose(matrix, matrix.mT, rtol=0, atol=1e-16)
    eye = torch.eye(FEATURES).double().expand_as(matrix)
    assert torch.allclose(matrix @ inverse, eye, rtol=0, atol=1e-13)
    assert torch.allclose(inverse, torch.linalg.inv(matrix), rtol=0, atol=1e-12)
    assert torch.allclose(shrinking(10.0**power * y, k), matrix, rtol=0, atol=1e-14)
    if k == 0:
        assert torch.equal(matrix, eye)


@few
@given(seeds, st.sampled_from([0, 1, 2, 3, 4]))
def test_the_gradient_is_that_of_the_objective_which_was_maximised(seed: int, k: int) -> None:
    """(k + 1) q^k Z_k x, S1: of the paper's S_x, and of the library's `direction`."""
    x, y = unit(drawn(seed, FEATURES)), drawn(seed + 1, 1, FEATURES).requires_grad_()
    cosine = (y @ x) / y.norm()
    place = Place("tap", False)
    scores = [(y @ x) * cosine**k, Direction(place, x, k).score({place: y})]
    assert float(scores[0].detach()) == pytest.approx(float(scores[1].detach()), rel=1e-13)
    expected = (k + 1) * cosine.detach() ** k * (shrinking(y.detach()[0], k) @ x)
    for score in scores:
        (gradient,) = torch.autograd.grad(score.sum(), y, retain_graph=True)
        assert torch.allclose(gradient[0], expected, rtol=0, atol=1e-13)


@few
@given(seeds)
def test_large_powers_of_the_cosine_give_the_normalised_response(seed: int) -> None:
    """Z_k G Z_k leaves its limit by at most 3 |G| / (k + 1); what that turns by is bounded by Davis & Kahan."""
    response, jacobian = drawn(seed, 1, FEATURES), drawn(seed + 1, FEATURES, PARAMETERS)
    gram = jacobian @ jacobian.mT
    eigenvalues = torch.linalg.eigvalsh(gram)
    for k in (1e4, 1e6):
        best = solve(response, gram[None], k).best[0]
        sine = float((best - unit(response[0])).norm())
        assert sine < 6 * float(eigenvalues[-1] / eigenvalues[0]) / k
    assert best.numpy() == pytest.approx(unit(response[0]).numpy(), abs=2e-3)


@few
@given(seeds, powers)
def test_the_objective_of_a_linear_network_is_known(seed: int, k: float) -> None:
    """Of images of length 1 shown to y = A v, the one that a target asks for has A^T Z_k x along it; so every image
    is the answer to one x, and that is Z_k^-1 A^-T v."""
    weights = basis(seed, FEATURES, FEATURES) * torch.arange(1, FEATURES + 1) @ basis(seed + 1, FEATURES, FEATURES)
    v = drawn(seed + 2, FEATURES)

    def network(v: Tensor) -> Tensor:
        return weights @ (v / v.norm())

    response, jacobian = network(v), torch.func.jacrev(network)(v)
    target = unit(torch.tensor(np.linalg.solve(z(response, k), np.linalg.solve(weights.T.numpy(), v.numpy()))))
    if float(target @ response) < 0:
        target = -target
    v = v.requires_grad_()
    shown = network(v)
    (gradient,) = torch.autograd.grad((shown @ target) * ((shown @ target) / shown.norm()) ** k, v)
    assert float(gradient.norm()) < 1e-10
    solution = solve(response[None], (jacobian @ jacobian.mT)[None], k)
    # The smallest singular value is the root of rounding.
    assert float(solution.singular_values[0, 0]) < 1e-6 * float(solution.singular_values[0, -1])
    assert torch.allclose(solution.best[0], target, rtol=0, atol=1e-8)


@few
@given(seeds, powers, st.sampled_from(["dead", "balanced"]))
def test_a_planted_co_kernel_is_the_answer_unless_the_critical_space_leaves_it_out(
    seed: int, k: float, kind: str
) -> None:
    """A feature without any gradient or a sum that never changes, SPEC I.3, at an image that falls a little short of
    the maximum for its target (as real ones do), so that nothing competes with the co-kernel."""
    short = 1e-2
    co_kernel = unit(torch.eye(FEATURES)[2].double() if kind == "dead" else torch.ones(FEATURES).double())
    space = torch.tensor(scipy.linalg.null_space(co_kernel[None].numpy()))
    response, target = drawn(seed, FEATURES).abs() + 0.1, drawn(seed + 1, FEATURES).abs()
    seen = unit(space @ space.T @ torch.tensor(z(response, k)) @ target)  # C C^T Z_k x
    others = space - torch.outer(seen, seen @ space)
    jacobian = others @ drawn(seed + 2, FEATURES - 1, PARAMETERS)
    jacobian += short * torch.outer(seen, unit(drawn(seed + 3, PARAMETERS)))
    gram = (jacobian @ jacobian.T)[None]
    assert float((co_kernel @ jacobian).norm()) < 1e-14

    without = solve(response[None], gram, k)
    trivial = unit(torch.tensor(np.linalg.solve(z(response, k), co_kernel.numpy())))
    assert torch.allclose(without.best[0], trivial * (trivial @ response).sign(), rtol=0, atol=1e-8)
    assert float(without.singular_values[0, 0]) < 1e-6

    within = solve(response[None], gram, k, space)
    assert within.objectives.shape == (1, FEATURES - 1, FEATURES)
    assert abs(z(response, k) @ within.best[0].numpy() @ co_kernel.numpy()) < 1e-13
    # Z_k^-1 C C^T Z_k x is all of the target that can be found; M M^T is `short` |M| from having it as co-kernel.
    expected = unit(torch.tensor(np.linalg.solve(z(response, k), seen.numpy())))
    largest, second = float(within.singular_values[0, -1]), float(within.singular_values[0, 1])
    assert apart(within.best[0], expected) < 4 * short * largest / second**2


@pytest.mark.parametrize("dead", [0, 2])
def test_a_feature_that_never_answers_is_itself_the_answer(dead: int) -> None:
    """Zero rows: e_i, whatever k, if y_i is zero too."""
    response, jacobian = drawn(0, FEATURES), drawn(1, FEATURES, PARAMETERS)
    response[dead], jacobian[dead] = 0, 0
    for k in (0.0, 2.0):
        best = solve(response[None], (jacobian @ jacobian.mT)[None], k).best[0]
        assert best.abs().tolist() == pytest.approx(torch.eye(FEATURES)[dead].tolist(), abs=1e-12)


@few
@given(seeds, powers, st.sampled_from([1.0, 1e-2, 1e-4, 0.0]))
def test_equal_smallest_values_are_a_plane_and_different_ones_are_not(seed: int, k: float, smallest: float) -> None:
    response, turned = drawn(seed, 1, FEATURES), basis(seed + 1, FEATURES, FEATURES)
    inverse = torch.tensor(np.linalg.inv(z(response[0], k)))

    def solved(*singular: float) -> tuple[bool, Tensor]:
        half = inverse @ turned * torch.tensor(singular, dtype=torch.float64)
        solution = solve(response, (half @ half.mT)[None], k)
        return bool(solution.is_plane[0]), solution.objectives[0, :2]

    plane, pair = solved(smallest, smallest, 2, 3, 4, 5)
    # The two span the plane, whichever they are.
    assert torch.allclose(pair.mT @ pair, turned[:, :2] @ turned[:, :2].mT, rtol=0, atol=1e-12)
    assert plane
    plane, pair = solved(smallest, smallest + 0.01, 2, 3, 4, 5)
    assert torch.allclose(pair.abs(), turned[:, :2].T.abs(), rtol=0, atol=1e-7)
    assert not plane


def test_of_a_line_no_plane_is_known() -> None:
    space = basis(0, FEATURES, 1)
    solution = solve(drawn(1, 2, FEATURES), torch.eye(FEATURES).double().expand(2, -1, -1), 2.0, space)
    assert solution.objectives.shape == (2, 1, FEATURES)
    assert solution.is_plane.tolist() == [False, False]


@few
@given(seeds, powers, st.sampled_from([None, 3]))
def test_the_image_answers_every_objective_positively(seed: int, k: float, dimension: int | None) -> None:
    response, jacobian = drawn(seed, IMAGES, FEATURES), drawn(seed + 1, IMAGES, FEATURES, PARAMETERS)
    space = None if dimension is None else basis(seed + 2, FEATURES, dimension)
    found = solve(response, jacobian @ jacobian.mT, k, space)
    assert ((found.objectives @ response[..., None]) >= 0).all()
    # The other sign of the image's response: the other sign of the objectives, and the same values.
    turned = solve(-response, jacobian @ jacobian.mT, k, space)
    assert torch.allclose(turned.objectives, -found.objectives, rtol=0, atol=1e-9)
    assert torch.allclose(turned.singular_values, found.singular_values, rtol=1e-9)


@few
@given(seeds, powers)
def test_allowed_objectives_have_an_orthonormal_basis(seed: int, k: float) -> None:
    response, space = drawn(seed, IMAGES, FEATURES), basis(seed + 1, FEATURES, 4)
    u = admissible(response, k, space)
    assert torch.allclose(u.mT @ u, torch.eye(4).double().expand(IMAGES, 4, 4), rtol=0, atol=1e-13)
    for one, y in zip(u, response, strict=True):
        expected = allowed(y, k, space)
        assert (one @ one.mT).numpy() == pytest.approx(expected @ expected.T, abs=1e-11)
    everything = admissible(response, k, None)
    assert torch.equal(everything, torch.eye(FEATURES).double().expand(IMAGES, -1, -1))


Y = torch.tensor([[1.0, 2.0, 3.0]]).double()
GRAM = torch.eye(3).double()[None]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (lambda: solve(Y.float(), GRAM), "in float64, not torch.float32 and torch.float64"),
        (lambda: solve(Y, GRAM.half()), "in float64, not torch.float64 and torch.float16"),
        (lambda: solve(Y[0], GRAM), r"not \[3\] and \[1, 3, 3\]"),
        (lambda: solve(Y, GRAM[0]), r"not \[1, 3\] and \[3, 3\]"),
        (lambda: solve(Y, GRAM[:, :2]), r"not \[1, 3\] and \[1, 2, 3\]"),
        (lambda: solve(Y.expand(2, 3), GRAM), r"not \[2, 3\] and \[1, 3, 3\]"),
        (lambda: solve(Y, GRAM, 2.0, torch.eye(4).double()), r"a basis \[3, c\], not \[4, 4\]"),
        (lambda: solve(Y, GRAM, 2.0, torch.ones(3).double()), r"a basis \[3, c\], not \[3\]"),
        (lambda: solve(0 * Y, GRAM), "no feature answers"),
        (lambda: solve(torch.cat([Y, 0 * Y]), GRAM.expand(2, 3, 3)), "no feature answers"),
        (lambda: shrinking(0 * Y, 2.0), "no feature answers"),
        (lambda: stretching(0 * Y, 2.0), "no feature answers"),
    ],
)
def test_what_cannot_be_solved_is_said_in_one_sentence(request_: Callable[[], object], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence) as said:
        request_()
    assert "\n" not in str(said.value)
    assert math.isfinite(float(solve(Y, GRAM).singular_values.sum()))
