"""Chains on densities that are known: what they should converge to is closed form (paper 3, section S6; SPEC P1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preimage import Network, RequestError
from preimage.objectives import EachItsOwn, written
from preimage.optimization import Adam, Ascent, Climb, Stage, climb
from preimage.parametrizations import Pixels
from preimage.priors import Clip, Learned, Regularizer

MEAN = torch.tensor([1.0, -0.5])
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]])
CHAINS = 300
PLANE = Pixels(1, 1, 2, spread=1.0, grey=0.0)


@dataclass(frozen=True, eq=False)
class Improbable(Regularizer):
    """-log of a Gaussian density of the two pixels, up to a constant."""

    precision: Tensor = field(default_factory=lambda: torch.linalg.inv(COVARIANCE))

    def energy(self, images: Tensor) -> Tensor:
        off = images.flatten(1) - MEAN
        return ((off @ self.precision) * off).sum(1) / 2


def walked(stage: Stage, chains: int = CHAINS) -> Climb:
    network = Network(nn.Identity(), (1, 2), channels=1, name="nothing")
    asked = EachItsOwn(tuple(written(lambda a: 0 * a.flatten(1).sum(1)).bind(network) for _ in range(chains)))
    noise = [torch.Generator().manual_seed(i) for i in range(chains)]
    start = torch.stack([PLANE.start(one) for one in noise])
    return climb(network, asked, PLANE, start, [stage], torch.Generator(), noise=noise, visit_every=20)


def moments(reached: Climb, burn: int) -> tuple[Tensor, Tensor]:
    samples = torch.cat([v for steps, v in reached.visited if steps > burn]).flatten(1).double()
    return samples.mean(0), torch.cov(samples.T)


@pytest.mark.parametrize(
    ("stage", "accepted"),
    [
        (Stage(300, Ascent(0.0), regularizers=(Improbable(1.0),), noise=0.7, accept=True), (0.3, 0.7)),
        (Stage(200, Ascent(0.7**2 / 2), regularizers=(Improbable(1.0),), noise=0.7, accept=True), (0.5, 0.95)),
    ],
    ids=["MH", "MALA"],
)
def test_chains_that_accept_and_reject_recover_mean_and_covariance(stage: Stage, accepted: tuple[float, float]) -> None:
    reached = walked(stage)
    mean, covariance = moments(reached, 100)
    # At least 300 independent samples of standard deviation 0.7: standard errors of 0.04 and of about 0.04.
    assert (mean - MEAN).abs().max() < 0.12
    assert (covariance - COVARIANCE).abs().max() < 0.12
    assert reached.taken is not None
    assert (reached.taken[:, 1] == stage.steps).all()
    share = float(reached.taken[:, 0].sum() / reached.taken[:, 1].sum())
    assert accepted[0] < share < accepted[1]


def test_without_rejection_large_steps_sample_another_density() -> None:
    """So that the test above could fail: the very same steps, all of them accepted."""
    stage = Stage(200, Ascent(0.7**2 / 2), regularizers=(Improbable(1.0),), noise=0.7)
    _, covariance = moments(walked(stage), 100)
    assert (covariance - COVARIANCE).abs().max() > 0.12


SIGMA = 0.3
SMOOTHED = COVARIANCE + SIGMA**2 * torch.eye(2)


def best_denoiser(noisy: Tensor) -> Tensor:
    """E[x | x + noise] of Gaussian data."""
    flat = noisy.flatten(1)
    return (flat + SIGMA**2 * (MEAN - flat) @ torch.linalg.inv(SMOOTHED)).view_as(noisy)


def test_a_denoiser_fitted_to_data_points_along_the_score() -> None:
    """Alain & Bengio's identity (equation 6): (r(x) - x) / sigma^2 is the gradient of log p of the noisy data."""
    generator = torch.Generator().manual_seed(0)
    data = MEAN + torch.randn(200_000, 2, generator=generator) @ torch.linalg.cholesky(COVARIANCE).T
    noisy = data + SIGMA * torch.randn(data.shape, generator=generator)
    ones = torch.ones(len(data), 1)
    fitted = torch.linalg.lstsq(torch.cat([noisy, ones], 1).double(), data.double()).solution
    points = torch.randn(50, 2, generator=generator).double()
    pulled = torch.cat([points, torch.ones(50, 1)], 1) @ fitted - points
    score = (MEAN - points) @ torch.linalg.inv(SMOOTHED.double())
    assert torch.allclose(pulled / SIGMA**2, score, atol=0.15)  # (200,000 samples)
    exact = best_denoiser(points.float()) - points.float()
    assert torch.allclose(exact.double() / SIGMA**2, score, atol=1e-5)


def test_chains_pulled_by_a_denoiser_recover_mean_and_covariance() -> None:
    """MALA-approx (equation 7 without a condition): eps_1 (r - x) is eps_12 grad log p for eps_12 = eps_1 sigma^2."""
    small = 0.25
    stage = Stage(400, Ascent(0.0), denoiser=Learned(best_denoiser), pull=small, noise=(2 * small * SIGMA**2) ** 0.5)
    mean, covariance = moments(walked(stage), 200)
    assert (mean - MEAN).abs().max() < 0.12
    assert (covariance - SMOOTHED).abs().max() < 0.12


def test_steps_of_a_given_length() -> None:
    """The released code's form: all that changes, noise included, is scaled to a mean |change|."""
    stage = Stage(
        40,
        Ascent(0.2),
        regularizers=(Improbable(1.0),),
        denoiser=Learned(best_denoiser),
        pull=0.5,
        noise=0.1,
        move=0.05,
        last_step_size=0.5,
    )
    network = Network(nn.Identity(), (1, 2), channels=1)
    asked = EachItsOwn((written(lambda a: a.flatten(1).sum(1)).bind(network),))
    reached = climb(network, asked, PLANE, torch.zeros(1, 1, 1, 2), [stage], torch.Generator(), visit_every=1)
    path = torch.stack([torch.zeros(1, 1, 1, 2), *(v for _, v in reached.visited)])
    lengths = (path[1:] - path[:-1]).abs().flatten(1).mean(1)
    wanted = 0.05 * (1 - 0.5 * torch.arange(40) / 40)
    assert torch.allclose(lengths, wanted, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise": 0.0}, "random"),
        ({"optimizer": Adam(0.1)}, "without memory"),
        ({"optimizer": Ascent(0.1, per_first_gradient=True)}, "without memory"),
        ({"smooth_solution": Clip(0.0, 1.0)}, "nothing else happens"),
        ({"move": 0.1}, "nothing else happens"),
        ({"last_step_size": 0.5}, "nothing else happens"),
    ],
)
def test_what_cannot_be_accepted_or_rejected_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Stage(**{"steps": 3, "optimizer": Ascent(0.1), "noise": 0.1, "accept": True, **options})


@pytest.mark.parametrize("first", [0, 1, 17, 40])
def test_a_climb_goes_on_bit_for_bit(first: int) -> None:
    stage = Stage(40, Ascent(0.05), regularizers=(Improbable(1.0),), noise=0.1, last_step_size=0.2)
    whole = walked(stage, 5)
    network = Network(nn.Identity(), (1, 2), channels=1)
    asked = EachItsOwn(tuple(written(lambda a: 0 * a.flatten(1).sum(1)).bind(network) for _ in range(5)))
    noise = [torch.Generator().manual_seed(i) for i in range(5)]
    v = torch.stack([PLANE.start(one) for one in noise])
    ends: list[int] = []

    def stop() -> None:
        ends.append(1)
        if len(ends) == first:
            raise KeyboardInterrupt

    if first:
        v = climb(network, asked, PLANE, v, [stage], torch.Generator(), noise=noise, on_step=stop).parameters
    rest = climb(network, asked, PLANE, v, [stage], torch.Generator(), noise=noise, after=first)
    assert torch.equal(rest.parameters, whole.parameters)
    assert len(rest.trace) == 40 - first
