"""Conditioning in factor form against dense symmetric collocation, and dense collocation against autodiff."""

from __future__ import annotations

import math

import pytest
import torch
from process_cases import (
    advection,
    functional,
    gaussian,
    line,
    matern,
    number,
    poisson_2d,
    poisson_3d,
    student,
    variable_2d,
)

from sciprob.errors import ConfigError, DataError, NonFiniteError, ShapeError
from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.solvers.kronecker_gp import condition, prior_std
from sciprob.solvers.kronecker_gp.conditioning import separable_covariance

CASES = {
    "poisson": (poisson_2d, (gaussian(), gaussian(0.7))),
    "advection": (advection, (gaussian(2.0), student())),
    "variable": (variable_2d, (matern(), gaussian())),
    "three dimensions": (poisson_3d, (gaussian(), matern(), student())),
}


def targets(coordinates) -> list:
    """A tensor grid with points on and off the nodes, and scattered points."""
    d = len(coordinates)
    lines = tuple(torch.tensor([0.0, 0.23, 0.5 + 0.01 * j], dtype=torch.float64)[: 3 - j % 2] for j in range(d))
    scattered = torch.tensor([[0.3, 0.1, 0.2], [0.0, 0.0, 0.6], [0.93, 0.4, 0.1]], dtype=torch.float64)[:, :d]
    return [TensorPoints(lines), ScatteredPoints(scattered)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("null_space", [0, 2])
def test_the_posterior_is_that_of_the_dense_gram(case, null_space):
    make, kernels = CASES[case]
    functionals = make(std=0.03)  # the dense Gram matrix loses digits as 1 / std^2
    coordinates = functionals[0].coordinates
    options = {"null_space": null_space, "null_std": 7.0}
    dense = condition(kernels, functionals, method="dense", **options)
    factor = condition(kernels, functionals, method="factors", cut=1e-16, **options)
    for points in targets(coordinates):
        for derivative in ("", coordinates[0], 2 * coordinates[-1]):
            mean = dense.mean(points, derivative)
            assert mean.shape == points.shape
            scale = float(dense.std(points, derivative).max() + mean.abs().max())
            torch.testing.assert_close(factor.mean(points, derivative), mean, rtol=1e-8, atol=1e-8 * scale)
            torch.testing.assert_close(
                factor.std(points, derivative), dense.std(points, derivative), rtol=1e-6, atol=1e-6 * scale
            )
    torch.testing.assert_close(factor.log_evidence, dense.log_evidence, rtol=1e-8, atol=1e-6)
    torch.testing.assert_close(factor.chi_square, dense.chi_square, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_the_gram_matrix_is_the_operator_applied_to_both_arguments(case):
    make, kernels = CASES[case]
    functionals = make()
    coordinates = functionals[0].coordinates
    covariance = separable_covariance(kernels, functionals, 2, 3.0)
    lengths = [(p.lower, p.upper) for p in covariance.null_space]

    def k(x, y):  # the covariance again, as a plain function for nested automatic differentiation
        process, pure = 1.0, 1.0
        for j, kernel in enumerate(kernels):
            a, b = lengths[j]
            xi, eta = (2 * (z[j] - a) / (b - a) - 1 for z in (x, y))
            variance = kernel.evaluate(torch.zeros(1, dtype=torch.float64), (0,))[0, 0].detach()
            polynomial = variance * (1 + xi * eta)
            process, pure = process * (kernel.evaluate(x[j] - y[j], (0,))[0] + polynomial), pure * polynomial
        return process + 8.0 * pure

    def derive(function, argument, orders):
        for axis, order in enumerate(orders):
            for _ in range(order):
                function = _partial(function, argument, axis)
        return function

    f, g = functionals[0], functionals[2]
    i, j = 5, 2  # different points: at equal ones |tau| has no automatic derivatives
    x, y = (torch.stack(list(h.points.columns(coordinates).values()), 1)[n] for h, n in ((f, i), (g, j)))
    expected = 0.0
    for a, c in f.terms.items():
        for b, e in g.terms.items():
            value = derive(derive(k, 0, f.orders(a)), 1, g.orders(b))(x, y)
            expected += c.expand(f.shape).flatten()[i] * e.expand(g.shape).flatten()[j] * value
    block = covariance.between(f, g)
    torch.testing.assert_close(block[i, j], expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(covariance.variance(f), covariance.between(f, f).diagonal(), rtol=1e-12, atol=1e-12)


def _partial(function, argument, axis):
    def derivative(x, y):
        direction = torch.zeros_like(x)
        direction[axis] = 1.0
        at = (lambda z: function(z, y)) if argument == 0 else (lambda z: function(x, z))
        return torch.func.jvp(at, ((x, y)[argument],), (direction,))[1]

    return derivative


@pytest.mark.parametrize("case", CASES)
def test_prior_scales_are_the_diagonal_of_the_gram_matrix(case):
    make, kernels = CASES[case]
    functionals = make()
    covariance = separable_covariance(kernels, functionals, 0, 1.0)
    for f in functionals:
        expected = covariance.between(f, f).diagonal().detach().sqrt().reshape(f.shape)
        torch.testing.assert_close(prior_std(kernels, f).expand(f.shape), expected)


def test_many_right_hand_sides_are_solved_together_as_one_by_one():
    kernels = CASES["poisson"][1]
    functionals = poisson_2d(batch=(2, 3))
    together = condition(kernels, functionals, null_space=1)
    points = targets(("x", "y"))[0]
    assert together.mean(points).shape == (2, 3, *points.shape)
    assert together.log_evidence.shape == together.chi_square.shape == (2, 3)
    single = [Functionals(f.name, f.coordinates, f.points, f.terms, f.values[1, 2], f.std) for f in functionals]
    alone = condition(kernels, single, null_space=1)
    torch.testing.assert_close(together.mean(points)[1, 2], alone.mean(points), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(together.log_evidence[1, 2], alone.log_evidence, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(together.std(points), alone.std(points), rtol=1e-9, atol=1e-12)


def test_no_right_hand_side_is_a_valid_number_of_them():
    functionals = poisson_2d(batch=(0,))
    nothing = condition(CASES["poisson"][1], functionals)
    assert nothing.mean(functionals[0].points).shape == (0, 8, 9)
    assert nothing.log_evidence.shape == (0,)
    assert bool((nothing.std(functionals[0].points) > 0).all())


def test_values_of_some_functionals_may_have_no_batch_axes():
    batched, plain = poisson_2d(batch=(3,)), poisson_2d()
    mixed = condition(CASES["poisson"][1], [batched[0], *plain[1:]])
    points = targets(("x", "y"))[1]
    one = Functionals("poisson", ("x", "y"), batched[0].points, batched[0].terms, batched[0].values[1], batched[0].std)
    expected = condition(CASES["poisson"][1], [one, *plain[1:]]).mean(points)
    torch.testing.assert_close(mixed.mean(points)[1], expected, rtol=1e-9, atol=1e-9)


def test_a_function_in_the_span_of_the_kernel_is_reproduced():
    """u = L k(., x_i) alpha: noise-free conditioning returns it (card, property 8.4), and interpolates the data."""
    kernel, x = gaussian(2.0), line(0, 1, 24)
    alpha = torch.sin(7 * x)
    one, std = number(1.0), number(1e-6)

    def u(z, order=0):
        lags = z[:, None] - x
        return kernel.derivatives(lags, 4).detach()[2 + order] @ alpha

    scale = float(u(x).abs().max())
    equation = Functionals("u''", ("x",), TensorPoints((x,)), {"xx": one}, u(x, 2), std * scale)
    ends = [
        Functionals("end", ("x",), TensorPoints((e,)), {"": one}, u(e), std * scale * 1e-2) for e in (x[:1], x[-1:])
    ]
    posterior = condition([kernel], [equation, *ends])
    z = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert float((posterior.mean(TensorPoints((z,))) - u(z)).abs().max()) < 1e-7 * scale
    assert float(posterior.residual_of(equation).abs().max()) < 10 * 1e-6 * scale


def test_sides_and_sensors_alone_are_enough():
    """Without any equation this is Gaussian-process regression: the closed form of kriging."""
    kernel, points = student(), torch.tensor([[0.1], [0.5], [0.8]], dtype=torch.float64)
    data = functional("sensors", ("x",), ScatteredPoints(points), {"": 1.0}, 0.1, (), 3)
    posterior = condition([kernel], [data], method="factors")
    k = kernel.derivatives(points - points.T, 0)[0].detach() + 0.01 * torch.eye(3, dtype=torch.float64)
    x = torch.tensor([0.3, 0.8], dtype=torch.float64)
    cross = kernel.derivatives(x[:, None] - points.T, 0)[0].detach()
    torch.testing.assert_close(posterior.mean(TensorPoints((x,))), cross @ torch.linalg.solve(k, data.values))
    variance = 1.5 - (cross @ torch.linalg.solve(k, cross.T)).diagonal()
    torch.testing.assert_close(posterior.std(TensorPoints((x,))), variance.sqrt())
    expected = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), k).log_prob(data.values)
    torch.testing.assert_close(posterior.log_evidence, expected)


def test_covariance_action_is_symmetric_and_has_the_variances_on_its_diagonal():
    kernels, functionals = CASES["variable"][1], variable_2d()
    for method in ("factors", "dense"):
        posterior = condition(kernels, functionals, method=method)
        for points in (functionals[0].points, ScatteredPoints(torch.rand(4, 2, dtype=torch.float64).round(decimals=0))):
            n = math.prod(points.shape)
            basis = torch.eye(n, dtype=torch.float64).reshape(n, *points.shape)
            matrix = posterior.covariance_action(points, basis).reshape(n, n)
            torch.testing.assert_close(matrix, matrix.T, rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(
                matrix.diagonal(), posterior.std(points).square().flatten(), rtol=1e-7, atol=1e-10
            )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("null_space", [0, 2])
def test_the_std_of_any_functional_is_that_of_the_dense_covariance(case, null_space):
    make, kernels = CASES[case]
    rows = make(std=0.03)
    dense = condition(kernels, rows, method="dense", null_space=null_space, null_std=7.0)
    factor = condition(kernels, rows, method="factors", cut=1e-16, null_space=null_space, null_std=7.0)
    for points in targets(rows[0].coordinates):
        terms = {name: c.mean() for name, c in rows[0].terms.items()}
        asked = functional("asked", rows[0].coordinates, points, terms, 5.0)
        prior = dense.covariance.variance(asked).detach()
        cross = torch.cat([dense.covariance.between(asked, f).detach() for f in rows], dim=1) / dense.scales
        white = torch.linalg.solve_triangular(dense.root, cross.mT, upper=False)
        expected = (prior - white.square().sum(0)).sqrt().reshape(points.shape)
        torch.testing.assert_close(factor.std_of(asked), expected, rtol=1e-5, atol=1e-6 * float(prior.max()) ** 0.5)


def test_data_that_the_factors_cannot_produce_count_in_the_evidence():
    """A smooth process on many nodes: nearly all of noisy data lies outside the range of the factors."""
    rows = [functional("u''", ("x",), TensorPoints((line(0, 1, 60),)), {"xx": 1.0}, 0.3, (2,), 4)]
    factor, dense = (condition([gaussian()], rows, method=method) for method in ("factors", "dense"))
    assert factor.rank < 20
    torch.testing.assert_close(factor.log_evidence, dense.log_evidence, rtol=1e-7, atol=0)
    torch.testing.assert_close(factor.chi_square, dense.chi_square, rtol=1e-7, atol=0)


def test_wrong_input_is_said():
    kernels, functionals = CASES["poisson"][1], poisson_2d()
    with pytest.raises(DataError, match="at least one functional"):
        condition(kernels, [])
    with pytest.raises(ShapeError, match="coordinates"):
        condition(kernels[:1], functionals)
    with pytest.raises(ShapeError, match="coordinates"):
        condition(kernels, [*functionals, *advection()])
    with pytest.raises(ConfigError, match="method"):
        condition(kernels, functionals, method="magic")
    with pytest.raises(ConfigError, match="null_space"):
        condition(kernels, functionals, null_space=(1, 2, 3))
    f = functionals[0]
    values = f.values.clone()
    values[2, 3] = float("nan")
    with pytest.raises(NonFiniteError, match=r"values of `poisson`.*\(2, 3\)"):
        condition(kernels, [Functionals(f.name, f.coordinates, f.points, f.terms, values, f.std)])
    with pytest.raises(DataError, match="positive"):
        condition(kernels, [Functionals(f.name, f.coordinates, f.points, f.terms, f.values, number(0.0))])
    with pytest.raises(DataError, match="float64"):
        condition(kernels, [Functionals(f.name, f.coordinates, f.points, f.terms, f.values.float(), f.std)])
    posterior = condition(kernels, functionals)
    with pytest.raises(ShapeError, match="coordinates"):
        posterior.mean(f.points, "t")
    with pytest.raises(ShapeError, match="coordinates"):
        posterior.mean(TensorPoints((line(0, 1, 3),)))
