"""What a conditioned process has to be: calibrated, invariant, convergent, blind to nothing it should see."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from process_cases import gaussian, line, number, poisson_2d, student
from scipy import stats

from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.priors.kernels import GaussianMixture, Matern
from sciprob.solvers.kronecker_gp import condition, prior_std
from sciprob.solvers.kronecker_gp.conditioning import separable_covariance


def poisson_1d(u, f, nodes, std=(1e-9, 1e-9)) -> list[Functionals]:
    one = number(1.0)
    ends = [
        Functionals(name, ("x",), TensorPoints((e,)), {"": one}, u(e), number(std[1]))
        for name, e in (("left", nodes[:1]), ("right", nodes[-1:]))
    ]
    return [Functionals("poisson", ("x",), TensorPoints((nodes,)), {"xx": one}, f(nodes), number(std[0])), *ends]


def poisson_box(u, f, nx, ny, std=1e-6) -> list[Functionals]:
    x, y = line(0, 1, nx), line(0, 1.3, ny)
    xy, one = ("x", "y"), number(1.0)
    sides = [(x[:1], y), (x[-1:], y), (x, y[:1]), (x, y[-1:])]
    rows = [
        Functionals(f"side {i}", xy, TensorPoints(s), {"": one}, u(s[0][:, None], s[1]), number(std))
        for i, s in enumerate(sides)
    ]
    inside = f(x[:, None], y)
    return [Functionals("poisson", xy, TensorPoints((x, y)), {"xx": one, "yy": one}, inside, number(100 * std)), *rows]


def test_rough_kernels_converge_at_the_orders_of_the_theory():
    """u'' = exp, Matern-5/2: error of order 2, posterior std of order 1 (card, property 8.7)."""
    z = torch.linspace(0, 1, 501, dtype=torch.float64)
    sizes, errors, spreads = (17, 33, 65, 129), [], []
    for n in sizes:
        posterior = condition([Matern(1.0, 2.5)], poisson_1d(torch.exp, torch.exp, line(0, 1, n)), method="factors")
        points = TensorPoints((z,))
        errors.append(float((posterior.mean(points) - z.exp()).abs().max()))
        spreads.append(float(posterior.std(points).max()))
    slope = [-stats.linregress(np.log(sizes), np.log(values)).slope for values in (errors, spreads)]
    assert slope[0] == pytest.approx(2.0, abs=0.1)
    assert slope[1] == pytest.approx(1.0, abs=0.1)


def test_smooth_kernels_converge_spectrally():
    z = torch.linspace(0, 1, 501, dtype=torch.float64)
    errors = []
    for n in (5, 9, 17):
        kernel = GaussianMixture([1.0], [0.0], [4.0])
        posterior = condition([kernel], poisson_1d(torch.exp, torch.exp, line(0, 1, n)))
        errors.append(float((posterior.mean(TensorPoints((z,))) - z.exp()).norm() / z.exp().norm()))
    assert errors[0] < 1e-2
    assert errors[1] < 1e-2 * errors[0]
    assert errors[2] < 1e-2 * errors[1]


@pytest.mark.parametrize("null_space", [0, 2])
def test_affine_functions_are_added_to_the_solution(null_space):
    """Boundary data + affine, source unchanged: u + affine, with a null-space basis and not without (8.8)."""
    nodes, wave = line(0, 2, 40), GaussianMixture([1.0], [3.0], [0.5])
    points = TensorPoints((torch.linspace(0, 2, 77, dtype=torch.float64),))

    def solve(shift):
        def u(x):
            return torch.sin(6 * torch.pi * x) + shift * (3 - 5 * x)

        rows = poisson_1d(u, lambda x: -((6 * torch.pi) ** 2) * torch.sin(6 * torch.pi * x), nodes)
        scaled = [replace(r, std=1e-9 * prior_std([wave], r)) for r in rows]
        return condition([wave], scaled, null_space=null_space).mean(points)

    affine = 3 - 5 * points.lines[0]
    error = float((solve(1.0) - solve(0.0) - affine).abs().max())
    assert error < 1e-6 if null_space else error > 1e-2


def test_harmonic_bilinear_functions_are_added_in_two_dimensions():
    kernels = (GaussianMixture([1.0], [2.0], [1.0]), GaussianMixture([1.0], [1.5], [1.0]))
    zero = lambda x, y: 0 * x * y  # noqa: E731
    rows = poisson_box(lambda x, y: 1 + 2 * x - y + 3 * x * y, zero, 14, 15)
    points = TensorPoints((line(0, 1, 9), line(0, 1.3, 8)))
    x, y = points.lines
    exact = 1 + 2 * x[:, None] - y + 3 * x[:, None] * y
    assert float((condition(kernels, rows, null_space=2).mean(points) - exact).abs().max()) < 1e-5


def drawn(kernels, functionals, n, seed):
    """Values of functionals and of u at points, drawn jointly from the prior, noise added to the values."""
    points = functionals[-1]
    covariance = separable_covariance(kernels, functionals, 0, 1.0)
    gram = torch.cat([torch.cat([covariance.between(f, g) for g in functionals], 1) for f in functionals]).detach()
    values, vectors = torch.linalg.eigh(gram)
    g = torch.Generator().manual_seed(seed)
    white = torch.randn(n, len(gram), generator=g, dtype=torch.float64)
    joint = (white * values.clamp_min(0).sqrt()) @ vectors.mT
    parts = joint.split([math.prod(f.shape) for f in functionals], dim=1)
    observed = [
        Functionals(
            f.name,
            f.coordinates,
            f.points,
            f.terms,
            part.reshape(n, *f.shape) + f.std * torch.randn(n, *f.shape, generator=g, dtype=torch.float64),
            f.std,
        )
        for f, part in zip(functionals[:-1], parts[:-1], strict=True)
    ]
    return observed, parts[-1].reshape(n, *points.shape)


@pytest.mark.parametrize("kernels", [(gaussian(), gaussian(1.5)), (student(), gaussian())], ids=["smooth", "rough"])
def test_posteriors_of_draws_from_the_prior_are_calibrated(kernels):
    """chi^2 of the data, uniform ranks and 95 % coverage of u between the nodes, 200 draws (card, property 8.9)."""
    rows = poisson_2d((6, 7), std=0.02)
    targets = torch.rand(5, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    one = number(1.0)
    points = ScatteredPoints(targets)
    field = Functionals("u", ("x", "y"), points, {"": one}, torch.zeros(5, dtype=torch.float64), one)
    observed, truth = drawn(kernels, [*rows, field], 200, seed=5)
    posterior = condition(kernels, observed)
    total = (posterior.chi_square * posterior.count).numpy()
    assert stats.kstest(total, stats.chi2(posterior.count).cdf).pvalue > 0.01
    z = ((truth - posterior.mean(points)) / posterior.std(points)).numpy()
    one_each = z[np.arange(200), np.arange(200) % 5]  # values of one draw depend on each other
    assert stats.kstest(one_each, stats.norm.cdf).pvalue > 0.01
    assert 0.92 <= float((np.abs(z) < 1.96).mean()) <= 0.975


def test_draws_have_the_posterior_moments_and_obey_equation_and_boundary():
    kernels, rows = (gaussian(), gaussian(0.7)), poisson_2d((6, 7), std=0.02)
    n = 4000
    posterior = condition(kernels, rows)
    points = TensorPoints((line(0, 1, 4), line(-0.5, 1, 3)))
    draws = posterior.sample(points, n, torch.Generator().manual_seed(3)).reshape(n, -1)
    basis = torch.eye(12, dtype=torch.float64).reshape(12, 4, 3)
    covariance = posterior.covariance_action(points, basis).reshape(12, 12)
    deviation = (draws.mean(0) - posterior.mean(points).flatten()) / covariance.diagonal().sqrt()
    assert float(deviation.abs().max()) < 5 / math.sqrt(n)
    scale = covariance.diagonal().sqrt()
    error = (torch.cov(draws.T) - covariance) / scale[:, None] / scale
    correlation = covariance / scale[:, None] / scale
    assert float((error / (1 + correlation.square()).sqrt()).abs().max()) < 5 / math.sqrt(n)
    coefficients = posterior.draw(50, torch.Generator().manual_seed(4))
    laplacian = sum(posterior.evaluate(coefficients, rows[0].points, name) for name in rows[0].terms)
    spread = (laplacian - rows[0].of(posterior.jets(rows[0].points, rows[0].terms))).square().mean().sqrt()
    assert float(spread) < 1.05 * float(rows[0].std)
    left = posterior.evaluate(coefficients, rows[1].points, "") - posterior.mean(rows[1].points)
    assert float(left.square().mean().sqrt()) < 1.05 * float(rows[1].std)


def test_solutions_move_with_the_axes():
    """Translation, reflection, exchange of axes, change of units (card, property 8.12)."""
    kx, ky = gaussian(1.5), student(1.0)

    def u(x, y):
        return torch.sin(4 * x) * torch.exp(-y) + x * y

    def f(x, y):
        return -15 * torch.sin(4 * x) * torch.exp(-y)

    rows = poisson_box(u, f, 11, 12, std=1e-4)
    x, y = line(0, 1, 5), line(0, 1.3, 6)
    expected = condition((kx, ky), rows).mean(TensorPoints((x, y)))

    def moved(transform, kernels, lines, swap=False, scale=1.0):
        changed = []
        for r in rows:
            new = tuple(transform[j](v) for j, v in enumerate(r.points.lines))
            values, terms = r.values, {k: c * scale ** len(k) for k, c in r.terms.items()}
            if swap:
                new, values = new[::-1], values.mT
            changed.append(Functionals(r.name, r.coordinates, TensorPoints(new), terms, values, r.std))
        return condition(kernels, changed).mean(TensorPoints(lines))

    shift = [lambda v: v + 3.0, lambda v: v - 2.0]
    torch.testing.assert_close(moved(shift, (kx, ky), (x + 3.0, y - 2.0)), expected, rtol=0, atol=1e-6)
    mirror = [lambda v: 1.0 - v, lambda v: 1.3 - v]
    torch.testing.assert_close(moved(mirror, (kx, ky), (1.0 - x, 1.3 - y)), expected, rtol=0, atol=1e-6)
    same = [lambda v: v, lambda v: v]
    torch.testing.assert_close(moved(same, (ky, kx), (y, x), swap=True).mT, expected, rtol=0, atol=1e-6)
    s = 10.0
    wide = (GaussianMixture([1.0, 0.5], [0.0, 1.5 / s], [0.5 / 0.49 / s**2] * 2), student(1.0))
    with torch.no_grad():
        wide[1].frequencies /= s
        wide[1].log_inverse_lengths -= math.log(s)
    stretch = [lambda v: v * s, lambda v: v * s]
    torch.testing.assert_close(moved(stretch, wide, (x * s, y * s), scale=s), expected, rtol=0, atol=1e-6)
