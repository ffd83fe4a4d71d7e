"""Torch and Pyro distributions as priors: whitening in the tails, densities, sampling."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.distributions as td
from scipy import stats
from torch import Tensor

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.operators import Capability
from sciprob.priors import DistributionPrior
from sciprob.spaces import Space
from sciprob.testing import OperatorConformance

XI = torch.tensor([-8.0, -5.0, -1.0, -0.1, 0.0, 0.1, 1.0, 5.0, 8.0], dtype=torch.float64)
A, B = torch.tensor(0.5, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)

# scipy: distribution with an accurate cdf in the lower and sf in the upper tail
CASES: dict[str, tuple[Any, Any]] = {
    "normal": (td.Normal(A, B), stats.norm(0.5, 2)),
    "lognormal": (td.LogNormal(A, B), stats.lognorm(2, scale=math.exp(0.5))),
    "half normal": (td.HalfNormal(B), stats.halfnorm(scale=2)),
    "half cauchy": (td.HalfCauchy(B), stats.halfcauchy(scale=2)),
    "uniform": (td.Uniform(torch.zeros_like(B), B), stats.uniform(0, 2)),
    "exponential": (td.Exponential(B), stats.expon(scale=0.5)),
    "laplace": (td.Laplace(A, B), stats.laplace(0.5, 2)),
    "cauchy": (td.Cauchy(A, B), stats.cauchy(0.5, 2)),
    "gumbel": (td.Gumbel(A, B), stats.gumbel_r(0.5, 2)),
    "weibull": (td.Weibull(B, 3 * A), stats.weibull_min(1.5, scale=2)),
    "pareto": (td.Pareto(B, 3 * A), stats.pareto(1.5, scale=2)),
}


def prior_of(distribution: td.Distribution, n: int = 9) -> DistributionPrior:
    return DistributionPrior(Space((n,)), distribution.expand((n,)))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
def test_whitening_is_the_quantile_to_eight_sigma(name: str) -> None:
    """F(m) = Phi(xi) below and 1 - F(m) = Phi(-xi) above the median, relative to the tail probability."""
    distribution, reference = CASES[name]
    m = prior_of(distribution).whitening(XI).numpy()
    xi = XI.numpy()
    # the upper end of a bounded support and the lower end of Pareto's are rounded to the spacing of floats there
    loose = {"uniform": XI > 2, "pareto": XI < -2}.get(name, torch.zeros(9, dtype=torch.bool)).numpy()
    tail = abs(xi) * 0 + [reference.cdf(v) if x < 0 else reference.sf(v) for v, x in zip(m, xi, strict=True)]
    expected = stats.norm.cdf(-abs(xi))
    assert (abs(tail / expected - 1)[~loose] < 1e-10).all()
    assert (abs(tail - expected) < 1e-14).all()


@pytest.mark.parametrize("name", CASES)
def test_change_of_variables(name: str) -> None:
    """log p(m) + log dm/dxi = log N(xi): density, derivative and quantile agree, also at xi = 0."""
    prior = prior_of(CASES[name][0])
    xi = XI if name not in ("uniform", "pareto") else XI.clamp(-5, 5)
    m, slope = torch.func.jvp(prior.whitening, (xi,), (torch.ones_like(xi),))
    gradient = torch.func.vjp(prior.whitening, xi)[1](torch.ones_like(xi))[0]
    torch.testing.assert_close(slope, gradient, rtol=1e-12, atol=0)
    total = prior.log_prob(m) + slope.log().sum()
    expected = td.Normal(torch.zeros_like(xi), 1.0).log_prob(xi).sum()
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-8)


def test_multivariate_normals() -> None:
    factor = numbers(4, 4) + 3 * torch.eye(4, dtype=torch.float64)
    mean, diagonal = numbers(4, seed=1), torch.full((4,), 0.5, dtype=torch.float64)
    full = td.MultivariateNormal(mean, factor @ factor.T)
    low = td.LowRankMultivariateNormal(mean, numbers(4, 2, seed=2), diagonal)
    for distribution in (full, low):
        prior = DistributionPrior(Space((4,)), distribution)
        root = torch.func.jacfwd(prior.whitening)(torch.zeros(4, dtype=torch.float64))
        torch.testing.assert_close(root @ root.T, distribution.covariance_matrix)
        m = numbers(3, 2, 4, seed=3)
        torch.testing.assert_close(prior.log_prob(m), distribution.log_prob(m))
        assert prior.whitening(m).shape == (3, 2, 4)


def test_transformed_and_independent() -> None:
    """Pushed through invertible transforms; white shapes may differ from those of m."""
    base = td.Independent(td.Normal(numbers(3), torch.ones(3, dtype=torch.float64)), 1)
    simplex = td.TransformedDistribution(base, [td.transforms.StickBreakingTransform()])
    prior = DistributionPrior(Space((4,)), simplex)
    xi = numbers(5, 3, seed=1)
    m = prior.whitening(xi)
    assert prior.whitening.domain.shape == (3,)
    torch.testing.assert_close(m.sum(-1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(m, td.transforms.StickBreakingTransform()(base.base_dist.loc + xi))


def test_without_quantile_function() -> None:
    """Gamma has a density and draws, but no whitening here; the global random state is left as it was."""
    prior = prior_of(td.Gamma(B, A), 3)
    assert prior.capabilities == {Capability.PRIOR_LOG_PROB}
    with pytest.raises(UnsupportedProblemError, match="Gamma"):
        _ = prior.whitening
    before = torch.get_rng_state()
    draws = prior.sample((5000,), generator=torch.Generator().manual_seed(0))
    again = prior.sample((5000,), generator=torch.Generator().manual_seed(0))
    other = prior.sample((5000,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draws, again)
    assert not torch.equal(draws, other)
    assert stats.kstest(draws[:, 0].numpy(), stats.gamma(2, scale=2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_samples(name: str) -> None:
    distribution, reference = CASES[name]
    draws = prior_of(distribution, 2).sample((4000,), generator=torch.Generator().manual_seed(7))
    assert draws.shape == (4000, 2)
    assert stats.kstest(draws[:, 0].numpy(), reference.cdf).pvalue > 1e-3


def test_zero_density_outside_the_support() -> None:
    prior = prior_of(td.Exponential(B), 3)
    m = torch.tensor([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0]], dtype=torch.float64)
    density = prior.log_prob(m)
    torch.testing.assert_close(density[0], td.Exponential(B).log_prob(m[0]).sum())
    assert float(density[1]) == -math.inf
    assert prior.log_prob(m[:0]).shape == (0,)


def test_bijection_for_unconstrained_samplers() -> None:
    prior = prior_of(td.Gamma(B, A), 3)
    z = numbers(6, 3)
    m = prior.bijection(z)
    assert bool((m > 0).all())
    torch.testing.assert_close(prior.bijection.inv(m), z)


def test_pyro_distributions() -> None:
    dist = pytest.importorskip("pyro.distributions")
    prior = DistributionPrior(Space((3,)), dist.Normal(torch.zeros(3), torch.ones(3)).to_event(1))
    assert Capability.WHITENED_PRIOR in prior.capabilities
    xi = numbers(2, 3)
    torch.testing.assert_close(prior.whitening(xi), xi)


def test_module_moves_the_distribution() -> None:
    """`to` reaches the distribution's tensors, also inside transforms and their inverses."""
    given = td.Gumbel(A, B).expand((3,))
    prior = DistributionPrior(Space((3,)), given).to(torch.float32)
    assert prior.distribution.loc.dtype == torch.float32
    assert given.loc.dtype == torch.float64
    assert prior.sample(generator=torch.Generator().manual_seed(0)).dtype == torch.float32
    assert prior.log_prob(torch.ones(3)).dtype == torch.float32


def test_bad_distributions() -> None:
    with pytest.raises(ShapeError, match=r"expand\(shape\)"):
        DistributionPrior(Space((3,)), td.Normal(A, B))
    with pytest.raises(UnsupportedProblemError, match="discrete"):
        DistributionPrior(Space((3,)), td.Poisson(torch.ones(3)))


class TestLaplaceWhitening(OperatorConformance):
    def make(self) -> Any:
        return prior_of(td.Laplace(A, B), 5).whitening, numbers(5)
