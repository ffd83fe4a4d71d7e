"""Elementwise maps and the priors they make."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import LogNormal, TransformedDistribution
from torch.distributions import Normal as NormalDistribution
from torch.distributions.transforms import AffineTransform, SigmoidTransform, SoftplusTransform

from sciprob.errors import ConfigError, DataError, ShapeError, UnsupportedProblemError
from sciprob.operators import Capability, DiagonalMap
from sciprob.operators.parameterise import Bounded, Elementwise, Exp, Softplus, from_settings
from sciprob.priors import GaussianPrior, GridMatern, TransformedPrior
from sciprob.spaces import GridSpace, Space
from sciprob.testing import OperatorConformance

SPACE = Space((5,), name="x")
MAPS: dict[str, Any] = {
    "exp": lambda space: Exp(space),
    "softplus": lambda space: Softplus(space),
    "bounded": lambda space: Bounded(space, lower=-1.0, upper=3.0),
}
TORCH: dict[str, Any] = {
    "exp": lambda base: LogNormal(base.loc, base.scale),
    "softplus": lambda base: TransformedDistribution(base, [SoftplusTransform()]),
    "bounded": lambda base: TransformedDistribution(base, [SigmoidTransform(), AffineTransform(-1.0, 4.0)]),
}
X = torch.tensor([-30.0, -2.0, 0.0, 2.0, 30.0], dtype=torch.float64)


@pytest.fixture(params=MAPS)
def transform(request: Any) -> Elementwise:
    return MAPS[request.param](SPACE)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_values() -> None:
    torch.testing.assert_close(Exp(SPACE)(X), X.exp())
    torch.testing.assert_close(Bounded(SPACE, lower=-1.0, upper=3.0)(X), -1 + 4 * torch.sigmoid(X))
    expected = [math.log1p(math.exp(x)) for x in X.tolist()]
    torch.testing.assert_close(Softplus(SPACE)(X), torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)


def test_increasing_within_the_range(transform: Elementwise) -> None:
    x = torch.linspace(-30, 30, 2001, dtype=torch.float64)
    m = transform.on(Space((2001,)))(x)
    lower, upper = transform.range
    assert bool((m.diff() > 0).all())
    assert bool(((m > lower) & (m < upper)).all())


def test_inverse(transform: Elementwise) -> None:
    x = torch.linspace(-12, 12, 5, dtype=torch.float64)
    torch.testing.assert_close(transform.inverse(transform(x)), x, rtol=1e-9, atol=1e-9)


def test_bounds_keep_relative_accuracy() -> None:
    """Close to either bound the distance to it is exact, which 1 - sigmoid(x) would lose."""
    operator = Bounded(Space((2,)), lower=0.0, upper=1.0)
    m = operator(torch.tensor([-40.0, -300.0], dtype=torch.float64))
    torch.testing.assert_close(
        m, torch.tensor([math.exp(-40), math.exp(-300)], dtype=torch.float64), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("x", [-700.0, -1.0, 0.0, 1.0, 700.0])
def test_log_derivative(transform: Elementwise, x: float) -> None:
    point = torch.full((5,), x, dtype=torch.float64)
    slope = torch.func.jvp(transform, (point,), (torch.ones_like(point),))[1]
    torch.testing.assert_close(transform.log_derivative(point).exp(), slope, rtol=1e-12, atol=1e-300)
    assert bool(torch.isfinite(transform.log_derivative(point)).all())


def test_linearisation_is_diagonal(transform: Elementwise) -> None:
    _, derivative = transform.linearise(numbers(5))
    assert isinstance(derivative, DiagonalMap)
    _, derivative = transform.linearise(numbers(3, 5))
    assert derivative.domain.shape == (3, 5)


@pytest.mark.parametrize("name", MAPS)
def test_settings_rebuild_the_map(name: str) -> None:
    transform = MAPS[name](SPACE)
    again = from_settings(transform.settings(), SPACE)
    assert type(again) is type(transform)
    assert torch.equal(again(X), transform(X))
    moved = transform.on(Space((2, 5)), Space((2, 5), name="m"))
    assert moved.codomain.name == "m"
    assert moved.settings() == transform.settings()


def test_bad_maps() -> None:
    with pytest.raises(ConfigError, match="did you mean 'bounded'"):
        from_settings({"kind": "bound"}, SPACE)
    with pytest.raises(ConfigError, match="no settings"):
        from_settings({"kind": "exp", "lower": 1.0}, SPACE)
    with pytest.raises(ConfigError, match="lower < upper"):
        Bounded(SPACE, lower=2.0, upper=1.0)
    with pytest.raises(ShapeError, match="keeps the shape"):
        Exp(SPACE, Space((4,)))
    with pytest.raises(DataError, match=r"strictly between 0 and inf, entry \(1,\) is -1"):
        Exp(SPACE).inverse(torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(DataError, match="strictly between"):
        Bounded(SPACE).inverse(torch.full((5,), math.nan))


@pytest.mark.parametrize("name", MAPS)
def test_density_is_torchs(name: str) -> None:
    """Against torch.distributions for independent entries."""
    mean, std = numbers(5), 0.5 + numbers(5, seed=1).abs()
    latent = _independent(mean, std)
    prior = TransformedPrior(latent, MAPS[name](SPACE))
    m = prior.sample((4,), generator=torch.Generator().manual_seed(0))
    expected = TORCH[name](NormalDistribution(mean, std)).log_prob(m).sum(-1)
    torch.testing.assert_close(prior.log_prob(m), expected, rtol=1e-9, atol=1e-9)


def test_density_outside_the_range_is_zero() -> None:
    prior = TransformedPrior(_independent(torch.zeros(5), torch.ones(5)), Exp(SPACE))
    m = torch.ones(2, 5, dtype=torch.float64)
    m[1, 3] = -1.0
    m.requires_grad_()
    density = prior.log_prob(m)
    assert torch.isfinite(density).tolist() == [True, False]
    assert density[1].item() == -math.inf
    (gradient,) = torch.autograd.grad(density[0], m)
    assert bool(torch.isfinite(gradient).all())
    assert prior.log_prob(m[:0]).shape == (0,)


def test_field_prior() -> None:
    """A log-normal Matern field: whitening, quantiles, capabilities."""
    space = GridSpace((6, 7), dims=("y", "x"), lower=(0.0, 0.0), upper=(1.0, 1.0))
    latent = GridMatern(space, std=0.5, length=0.3, mean=1.0, boundary="neumann")
    prior = TransformedPrior(latent, Exp(space, Space((6, 7), name="conductivity")))
    assert prior.space.name == "conductivity"
    assert prior.capabilities == {Capability.WHITENED_PRIOR, Capability.PRIOR_LOG_PROB}
    xi = numbers(3, 6, 7)
    torch.testing.assert_close(prior.whitening(xi), latent.whitening(xi).exp())
    draws = prior.sample((20_000,), generator=torch.Generator().manual_seed(1))
    median, exact = draws.median(0).values, math.e
    spread = exact * 1.2533 * latent.variance().sqrt() / math.sqrt(20_000)
    assert bool(((median - exact).abs() <= 6 * spread).all())


def test_latent_without_density() -> None:
    space = GridSpace((6,), dims=("x",), lower=(0.0,), upper=(1.0,))
    prior = TransformedPrior(GridMatern(space, std=1.0, length=0.3), Softplus(space))
    assert prior.capabilities == {Capability.WHITENED_PRIOR}
    with pytest.raises(UnsupportedProblemError):
        prior.log_prob(torch.ones(6, dtype=torch.float64))
    with pytest.raises(ShapeError, match="should act on"):
        TransformedPrior(prior.latent, Exp(SPACE))


class _Independent(GaussianPrior):
    """Independent normal entries with their density."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities | {Capability.PRIOR_LOG_PROB}

    def log_prob(self, m: Tensor) -> Tensor:
        return NormalDistribution(self.mean, self.root.diagonal).log_prob(m).sum(-1)  # type: ignore[union-attr]


def _independent(mean: Tensor, std: Tensor) -> GaussianPrior:
    return _Independent(mean.double(), DiagonalMap(std.double(), SPACE))


class TestExp(OperatorConformance):
    def make(self) -> Any:
        return Exp(SPACE), numbers(5)


class TestSoftplus(OperatorConformance):
    def make(self) -> Any:
        return Softplus(Space((2, 3))), numbers(2, 3)


class TestBounded(OperatorConformance):
    def make(self) -> Any:
        return Bounded(SPACE, lower=-1.0, upper=3.0), numbers(5)
