"""Bands: their level for truths from the prior, and at least their level for smooth truths."""

import gp_problems as cases
import pytest
import torch

from sciprob.pde.collocation import Collocation
from sciprob.pde.helmholtz import Laplace
from sciprob.pde.side_conditions import SideCondition
from sciprob.priors.kernels import StudentMixture
from sciprob.problems.collocation_problem import collocation_problem
from sciprob.solvers.kronecker_gp import ModalConditional, conditioning
from sciprob.solvers.kronecker_gp.factors import AxisFactors

DRAWS = 40


def prior_draw(factors, coefficients):
    """A field from the prior, with its source, as functions of x."""

    def at(x, order):
        return factors.at(x, order) @ coefficients

    sides = [SideCondition.dirichlet(f"x_{end}", lambda x: at(x["x"], 0)) for end in ("lower", "upper")]
    c = Collocation(Laplace("x"), (0.0,), (1.0,), (24,), {"forcing": lambda x: at(x["x"], 2)}, tuple(sides))
    return c, lambda x: at(x, 0)


@pytest.mark.filterwarnings("ignore::sciprob.errors.SciprobWarning")  # rough truths on a coarse grid
def test_bands_cover_truths_from_the_prior_at_their_level():
    """Amplitude and held-out factor are estimated anew for each truth, so coverage is not exact: 0.92 to 0.975."""
    kernel = StudentMixture([1.0, 0.5], [0.0, 3.0], [3.0, 2.0])
    dense = torch.linspace(0, 1, 231, dtype=torch.float64)
    factors = AxisFactors.of(kernel, dense, (0, 2), 1e-14)
    g = torch.Generator().manual_seed(3)
    points = torch.rand(40, 1, generator=g, dtype=torch.float64)
    inside = []
    for _ in range(DRAWS):
        c, truth = prior_draw(factors, torch.randn(factors.rank, generator=g, dtype=torch.float64))
        posterior = cases.solved(
            collocation_problem("draw", c, kernels=[kernel]), kernel="prior", null_space=0, cut=1e-14
        )
        at = posterior.at(points)
        inside.append((at.mean - truth(points[:, 0])).abs() <= 1.96 * at.std)
    coverage = float(torch.stack(inside).double().mean())
    assert 0.92 <= coverage <= 0.975


def test_bands_hold_smooth_truths_and_are_not_vacuous():
    posterior = cases.solved(cases.problem())
    x = torch.linspace(0, 1.3, 801, dtype=torch.float64)
    at, truth = posterior.at(x[:, None]), cases.waves(x)
    assert float(((at.mean - truth).abs() <= 1.96 * at.std).double().mean()) > 0.95
    assert float(at.std.square().mean().sqrt() / truth.square().mean().sqrt()) < 1e-3


def test_bands_of_modes_hold_beside_the_sides(monkeypatch):
    """Modes vanish on the sides, with their std: what boundary data cost is seen in the equation next to them."""
    monkeypatch.setattr(conditioning, "LARGEST_RANK", 100)

    def exact(x, y):
        return torch.sin(25 * x) * torch.cos(20 * y) + torch.sin(3 * x + 0.4) * torch.cos(2 * y)

    posterior = cases.solved(cases.problem(exact, points=(36, 36), lower=(0.0, 0.0), upper=(1.0, 1.0)))
    assert isinstance(posterior.process, ModalConditional)
    points = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    beside = torch.minimum(points, 1 - points).amin(1) < 0.05
    at = posterior.at(points)
    held = ((at.mean - exact(*points.unbind(1))).abs() <= 1.96 * at.std).double()
    assert float(held.mean()) > 0.95
    assert float(held[beside].mean()) > 0.9
