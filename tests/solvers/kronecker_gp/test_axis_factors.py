"""Factors of one axis: what they are roots of, on and off the nodes."""

from __future__ import annotations

import pytest
import torch
from process_cases import gaussian, line, matern, student

from sciprob.errors import DataError, ShapeError, UnsupportedProblemError
from sciprob.priors.kernels import GaussianMixture, covariance
from sciprob.solvers.kronecker_gp import AxisFactors


@pytest.mark.parametrize("kernel", [gaussian(), student(), matern()], ids=["gaussian", "student", "matern"])
@pytest.mark.parametrize("orders", [(0,), (0, 2), (0, 1), (0, 1, 2)])
def test_factors_are_roots_of_all_covariances_on_the_nodes(kernel, orders):
    nodes = line(-0.3, 1.1, 13)
    factors = AxisFactors.of(kernel, nodes, orders, cut=1e-15)
    for p in orders:
        for q in orders:
            expected = covariance(kernel, nodes, nodes, p, q).detach()
            product = factors.at(nodes, p) @ factors.at(nodes, q).T
            torch.testing.assert_close(product, expected, rtol=0, atol=2e-13 * float(expected.abs().max()) + 1e-13)


def test_smooth_processes_have_few_factors_and_are_known_between_the_nodes():
    kernel, nodes = gaussian(2.0), line(0, 1, 60)
    factors = AxisFactors.of(kernel, nodes, (0, 2))
    assert factors.rank < 25
    x = torch.tensor([0.0171, 0.3333, 0.9871], dtype=torch.float64)
    for p in (0, 1, 2, 3, 4):
        expected = covariance(kernel, x, nodes, p, 2).detach()
        product = factors.at(x, p) @ factors.at(nodes, 2).T
        torch.testing.assert_close(product, expected, rtol=0, atol=1e-8 * float(expected.abs().max()))
        scale = factors.prior_variance(p)
        assert float((factors.missing_variance(x, p) / scale).abs().max()) < 1e-7


def test_a_rough_process_is_not_known_between_the_nodes():
    kernel, nodes = matern(), line(0, 4, 6)
    factors = AxisFactors.of(kernel, nodes, (0,))
    x = torch.tensor([0.0, 0.4], dtype=torch.float64)
    k = covariance(kernel, nodes, nodes).detach()
    cross = covariance(kernel, x, nodes).detach()
    expected = 1.3 - (cross @ torch.linalg.solve(k, cross.T)).diagonal()  # simple kriging
    torch.testing.assert_close(factors.missing_variance(x), expected, rtol=1e-9, atol=1e-12)
    assert float(expected[1]) > 0.01


def test_the_cut_bounds_what_is_lost():
    kernel, nodes = gaussian(3.0), line(0, 1, 50)
    expected = covariance(kernel, nodes, nodes).detach()
    ranks = []
    for cut in (1e-3, 1e-6, 1e-9):
        factors = AxisFactors.of(kernel, nodes, (0,), cut=cut)
        lost = torch.linalg.matrix_norm(factors.at(nodes) @ factors.at(nodes).T - expected, 2)
        assert float(lost) <= cut * float(torch.linalg.matrix_norm(expected, 2)) * 1.01
        ranks.append(factors.rank)
    assert ranks[0] < ranks[1] < ranks[2]


def test_polynomials_are_the_last_columns_scaled_by_the_prior():
    kernel, nodes = gaussian(), line(2.0, 5.0, 12)
    factors = AxisFactors.of(kernel, nodes, (0, 2), null_space=3)
    x = torch.tensor([2.0, 3.1, 4.5], dtype=torch.float64)
    xi = (x - 3.5) / 1.5
    amplitude = 1.5**0.5
    torch.testing.assert_close(factors.at(x)[:, -3:], amplitude * torch.stack([xi**0, xi, xi**2], 1))
    torch.testing.assert_close(factors.at(x, 2)[:, -1], torch.full((3,), amplitude * 2 / 1.5**2, dtype=torch.float64))
    torch.testing.assert_close(factors.at(x, 1)[:, -2], torch.full((3,), amplitude / 1.5, dtype=torch.float64))
    assert factors.rank == len(factors.eigenvalues) + 3


def test_lines_may_repeat_and_be_unsorted():
    nodes = torch.tensor([0.5, 0.0, 1.0, 0.5, 0.25], dtype=torch.float64)
    factors = AxisFactors.of(gaussian(), nodes, (0,))
    torch.testing.assert_close(factors.nodes, torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(factors.at(nodes)[0], factors.at(nodes)[3])


def test_what_cannot_be_factorised_is_said():
    with pytest.raises(DataError, match="finite"):
        AxisFactors.of(gaussian(), torch.tensor([0.0, float("nan")]), (0,))
    with pytest.raises(DataError, match="at least one"):
        AxisFactors.of(gaussian(), torch.zeros(0), (0,))
    with pytest.raises(ShapeError, match="vector"):
        AxisFactors.of(gaussian(), torch.zeros(3, 2), (0,))
    with pytest.raises(ShapeError, match="batch"):
        AxisFactors.of(GaussianMixture(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3)), line(0, 1, 4), (0,))
    with pytest.raises(UnsupportedProblemError, match="smoother"):
        AxisFactors.of(student(), line(0, 1, 5), (0, 3))
