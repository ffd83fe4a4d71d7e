"""Gaussian posteriors against dense linear algebra."""

from __future__ import annotations

import math

import pytest
import torch

from sciprob.errors import ConfigError, DataError, ShapeError, UnsupportedProblemError
from sciprob.operators.algebra import stack
from sciprob.operators.base import ForwardOperator
from sciprob.operators.linear import DenseMap
from sciprob.posteriors import Ensemble, GaussianPosterior
from sciprob.spaces import GridSpace, Space


class Square(ForwardOperator):
    def _apply_batched(self, m):
        return m.square()


@pytest.fixture
def grid() -> GridSpace:
    return GridSpace((4, 5), "m", ("y", "x"), lower=(0.0, 0.0), upper=(1.0, 2.0))


def make(space: Space, columns: int, seed: int = 0) -> tuple[GaussianPosterior, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    matrix = torch.randn(space.size, columns, generator=g, dtype=torch.float64) / math.sqrt(columns)
    mean = torch.randn(*space.shape, generator=g, dtype=torch.float64)
    root = DenseMap(matrix, domain=Space((columns,), "xi"), codomain=space)
    return GaussianPosterior(space, mean=mean, root=root, meta={"problem": "p", "seed": 3}), matrix


@pytest.mark.parametrize("columns", [7, 20, 33])  # fewer, as many and more white variables than entries
def test_moments_and_quantiles_are_those_of_the_dense_covariance(grid, columns):
    posterior, matrix = make(grid, columns)
    variance = (matrix @ matrix.T).diagonal().reshape(grid.shape)
    torch.testing.assert_close(posterior.variance, variance, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(posterior.covariance(), matrix @ matrix.T)
    q = posterior.quantile(torch.tensor([0.05, 0.5, 0.975], dtype=torch.float64))
    assert q.shape == (3, 4, 5)
    torch.testing.assert_close(q[0], posterior.mean - 1.6448536269514722 * variance.sqrt(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(q[1], posterior.mean)
    low, high = posterior.interval(0.95)
    torch.testing.assert_close(high, q[2])
    torch.testing.assert_close(low + high, 2 * posterior.mean)


def test_variance_does_not_depend_on_the_chunks(grid, monkeypatch):
    expected = make(grid, 33)[0].variance, make(grid, 7)[0].variance
    monkeypatch.setattr("sciprob.posteriors.gaussian._CHUNK", 100)
    torch.testing.assert_close(make(grid, 33)[0].variance, expected[0])
    torch.testing.assert_close(make(grid, 7)[0].variance, expected[1])


def test_samples_have_mean_and_covariance(grid):
    posterior, matrix = make(grid, 7)
    n = 40_000
    draws = posterior.sample((n // 4, 4), generator=torch.Generator().manual_seed(1)).reshape(n, -1)
    torch.testing.assert_close(draws.mean(0), posterior.mean.flatten(), atol=5 / math.sqrt(n), rtol=0)
    torch.testing.assert_close(torch.cov(draws.T), matrix @ matrix.T, atol=12 / math.sqrt(n), rtol=0)


def test_log_prob_is_the_normalised_density():
    space = Space((6,))
    posterior, matrix = make(space, 6)
    m = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    density = torch.distributions.MultivariateNormal(posterior.mean, matrix @ matrix.T).log_prob(m)
    torch.testing.assert_close(posterior.log_prob(m), density, rtol=1e-9, atol=1e-9)
    with pytest.raises(UnsupportedProblemError, match="no density"):
        make(space, 9)[0].log_prob(m)


def test_points_are_dense_algebra_with_the_interpolation(grid):
    posterior, matrix = make(grid, 7)
    points = torch.tensor([[0.3, 0.2], [1.99, 0.7], [0.0, 0.0]], dtype=torch.float64)  # columns x, y
    index, weights = grid.interpolation(points)
    evaluation = torch.zeros(3, grid.size, dtype=torch.float64).scatter_add(1, index, weights)
    at = posterior.at(points)
    assert isinstance(at, GaussianPosterior)
    assert at.space.dims == ("points",)
    assert at.space.name == "m"
    torch.testing.assert_close(at.mean, evaluation @ posterior.mean.flatten())
    torch.testing.assert_close(at.covariance(), evaluation @ matrix @ matrix.T @ evaluation.T)
    torch.testing.assert_close(at.std.square(), at.covariance().diagonal())
    torch.testing.assert_close(at.space.coords["x"], points[:, 0])
    assert at.meta == {"problem": "p", "seed": 3}


def test_a_point_outside_is_named(grid):
    with pytest.raises(DataError, match="point 1 has"):
        make(grid, 7)[0].at(torch.tensor([[0.1, 0.1], [5.0, 0.1]], dtype=torch.float64))


def test_linear_push_stays_gaussian(grid):
    posterior, matrix = make(grid, 7)
    a = torch.randn(3, grid.size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    pushed = posterior.push(DenseMap(a, domain=grid))
    assert isinstance(pushed, GaussianPosterior)
    torch.testing.assert_close(pushed.mean, a @ posterior.mean.flatten())
    torch.testing.assert_close(pushed.covariance(), a @ matrix @ matrix.T @ a.T)


def test_nonlinear_push_is_an_ensemble_with_the_right_moments():
    space = Space((3,))
    posterior, _ = make(space, 3)
    operator = Square(space, Space((3,), "y"))
    with pytest.raises(ConfigError, match="generator"):
        posterior.push(operator)
    pushed = posterior.push(operator, n=50_000, generator=torch.Generator().manual_seed(0))
    assert isinstance(pushed, Ensemble)
    mean, variance = posterior.mean, posterior.variance  # E m^2 and Var m^2 of a Gaussian
    error = (2 * variance.square() + 4 * mean.square() * variance).sqrt() / math.sqrt(50_000)
    assert bool(((pushed.mean - mean.square() - variance).abs() < 4 * error).all())


def test_an_operator_with_two_outputs_is_refused():
    space = Space((3,))
    both = stack(a=Square(space, space), b=Square(space, space))
    with pytest.raises(ShapeError, match="one output"):
        make(space, 3)[0].push(both)


def test_draws_instead_of_a_root():
    space = Space((3,))
    exact, matrix = make(space, 3)
    draws = exact.sample((500,), generator=torch.Generator().manual_seed(5))
    posterior = GaussianPosterior(space, mean=exact.mean, draws=draws)
    torch.testing.assert_close(posterior.std, exact.std, rtol=0.15, atol=0)
    chosen = posterior.sample((20, 25), generator=torch.Generator().manual_seed(0))
    assert len(torch.unique(chosen.reshape(500, 3), dim=0)) == 500  # all, none twice
    with pytest.raises(DataError, match="500 exact draws, 501"):
        posterior.sample((501,), generator=torch.Generator())
    with pytest.raises(UnsupportedProblemError, match="covariance"):
        posterior.covariance()
    pushed = posterior.push(DenseMap(matrix, domain=space))
    assert isinstance(pushed, GaussianPosterior)
    torch.testing.assert_close(pushed.draws, draws @ matrix.T)


def test_exact_variance_is_used_where_it_is_given():
    posterior, _ = make(Space((3,)), 3)
    known = GaussianPosterior(posterior.space, mean=posterior.mean, root=posterior.root, variance=torch.full((3,), 4.0))
    torch.testing.assert_close(known.std, torch.full((3,), 2.0))


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, torch.tensor([0.5, 1.5]), torch.full((2, 2), 0.5)])
def test_levels_outside_the_unit_interval_are_refused(q):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        make(Space((3,)), 3)[0].quantile(q)


def test_root_and_draws_exclude_each_other():
    posterior, _ = make(Space((3,)), 3)
    with pytest.raises(ConfigError, match="exactly one"):
        GaussianPosterior(posterior.space, mean=posterior.mean)
    with pytest.raises(ShapeError, match="variance"):
        GaussianPosterior(posterior.space, mean=posterior.mean, root=posterior.root, variance=torch.ones(4))


def test_dtype_follows_the_mean():
    space = Space((3,))
    root = DenseMap(torch.eye(3, dtype=torch.float32), codomain=space)
    posterior = GaussianPosterior(space, mean=torch.zeros(3, dtype=torch.float32), root=root)
    assert posterior.std.dtype == posterior.quantile(0.1).dtype == torch.float32
    assert posterior.sample((2,), generator=torch.Generator()).dtype == torch.float32


def test_diagnostics_flatten_the_numbers():
    posterior, _ = make(Space((3,)), 3)
    posterior.meta |= {"solves": {"forward": 7}, "status": "CONVERGED", "coverage": {"0.9": 0.91}}
    assert posterior.diagnostics() == {"seed": 3.0, "solves.forward": 7.0, "coverage.0.9": 0.91}
