"""Transformed Gaussians against the log-normal and Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch

from sciprob.errors import ConfigError
from sciprob.operators.base import ForwardOperator
from sciprob.operators.linear import DenseMap
from sciprob.posteriors import Ensemble, GaussianPosterior, TransformedPosterior
from sciprob.spaces import GridSpace, Space


class Exp(ForwardOperator):
    def __init__(self, space: Space) -> None:
        super().__init__(space, space)

    def _apply_batched(self, m):
        return m.exp()

    def on(self, space: Space) -> Exp:
        return Exp(space)


class Sigmoid(Exp):
    def _apply_batched(self, m):
        return m.sigmoid()


def latent(stds: torch.Tensor, means: torch.Tensor, space: Space | None = None) -> GaussianPosterior:
    space = space or Space(tuple(stds.shape))
    return GaussianPosterior(space, mean=means, root=DenseMap(torch.diag(stds), codomain=space))


def test_exponential_is_log_normal():
    s = torch.tensor([1e-6, 0.1, 1.0, 2.0], dtype=torch.float64)
    mu = torch.tensor([2.0, -1.0, 0.5, 0.0], dtype=torch.float64)
    posterior = TransformedPosterior(latent(s, mu), Exp(Space((4,))))
    mean = (mu + s.square() / 2).exp()
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-10, atol=0)
    torch.testing.assert_close(posterior.std, mean * torch.expm1(s.square()).sqrt(), rtol=1e-8, atol=0)
    torch.testing.assert_close(posterior.quantile(0.9), (mu + 1.2815515655446004 * s).exp(), rtol=1e-12, atol=0)


def test_samples_agree_with_the_quadrature():
    posterior = TransformedPosterior(
        latent(torch.tensor([0.5, 2.0], dtype=torch.float64), torch.tensor([1.0, -1.0], dtype=torch.float64)),
        Sigmoid(Space((2,))),
    )
    draws = posterior.sample((50_000,), generator=torch.Generator().manual_seed(0))
    assert bool(((draws.mean(0) - posterior.mean).abs() < 4 * posterior.std / math.sqrt(50_000)).all())
    torch.testing.assert_close(draws.std(0), posterior.std, rtol=0.02, atol=0)
    torch.testing.assert_close(draws.quantile(0.3, 0), posterior.quantile(0.3), atol=0.01, rtol=0)


def test_points_keep_the_closed_forms():
    grid = GridSpace((3,), "m", ("x",), lower=(0.0,), upper=(2.0,))
    s = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    posterior = TransformedPosterior(latent(s, torch.zeros(3, dtype=torch.float64), grid), Exp(grid))
    at = posterior.at(torch.tensor([[1.0], [0.5]], dtype=torch.float64))
    assert isinstance(at, TransformedPosterior)
    torch.testing.assert_close(at.mean[0], posterior.mean[1])
    between = (0.3**2 + 0.6**2) / 4  # variance of the interpolated latent
    assert float(at.mean[1]) == pytest.approx(math.exp(between / 2), rel=1e-10)
    assert at.space.name == "m"
    assert at.space.dims == ("points",)


def test_push_draws():
    posterior = TransformedPosterior(
        latent(torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)), Exp(Space((2,)))
    )
    total = DenseMap(torch.ones(1, 2, dtype=torch.float64))
    with pytest.raises(ConfigError, match="generator"):
        posterior.push(total)
    pushed = posterior.push(total, n=20_000, generator=torch.Generator().manual_seed(0))
    assert isinstance(pushed, Ensemble)
    assert float(pushed.mean) == pytest.approx(2 * math.exp(0.5), abs=4 * float(pushed.std) / math.sqrt(20_000))
