"""Evidence maximisation over the parameters of kernels."""

from dataclasses import replace

import gp_problems as cases
import torch

from sciprob.pde.functionals import Functionals, ScatteredPoints
from sciprob.priors.kernels import GaussianMixture
from sciprob.problems.collocation_problem import collocation_problem
from sciprob.solvers.kronecker_gp.hyperparameters import climb, evidence_of_data, softened
from sciprob.solvers.kronecker_gp.newton import LinearAlgebra
from sciprob.solvers.kronecker_gp.rows_of_problem import ProblemRows

ALGEBRA = LinearAlgebra(cut=1e-13, null_space=0)


def fused(frequency=3.0, std=0.02, kernels=None):
    """Noisy sensors inside, the source roughly known: an evidence with a maximum inside."""
    c = cases.collocation(lambda x: torch.sin(2 * torch.pi * 3.2 * x), points=(30,), upper=(1.0,))
    g = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, generator=g, dtype=torch.float64)
    values = torch.sin(2 * torch.pi * 3.2 * x[:, 0]) + std * torch.randn(40, generator=g, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    rows = Functionals("sensors", ("x",), ScatteredPoints(x), {"": one}, values, std * one)
    kernels = kernels or [GaussianMixture([0.1, 0.1], [0.0, frequency], [4.0, 4.0])]
    return collocation_problem("fused", replace(c, sensors=(rows,), std=5.0), kernels=kernels)


def test_climbing_raises_the_evidence_and_moves_frequencies_less_than_half_a_cell():
    given = fused()
    rows = ProblemRows.of(given)
    kernels = [axis.kernel for axis in given.operator.axes]
    functionals = softened(kernels, rows.at(kernels))
    after = climb(ALGEBRA, rows, kernels, None)
    with torch.no_grad():
        before, reached = (float(evidence_of_data(ALGEBRA, k, functionals)) for k in (kernels, after))
    assert reached > before + 1
    move = (after[0].frequencies - kernels[0].frequencies).abs()
    assert 0 < float(move.max().detach()) < 0.5


def test_frequency_moves_towards_the_truth():
    given = fused(frequency=3.0)
    rows = ProblemRows.of(given)
    kernels = [axis.kernel for axis in given.operator.axes]
    for _ in range(3):
        kernels = climb(ALGEBRA, rows, kernels, None)
    assert abs(float(kernels[0].frequencies[1].detach()) - 3.2) < 0.01


def test_the_start_is_left_as_it_was():
    given = fused()
    kernels = [axis.kernel for axis in given.operator.axes]
    before = {name: p.clone() for name, p in kernels[0].named_parameters()}
    climb(ALGEBRA, ProblemRows.of(given), kernels, None)
    assert all(torch.equal(p, before[name]) for name, p in kernels[0].named_parameters())


def test_noisy_problems_use_the_evidence_and_keep_their_noise_level():
    posterior = cases.solved(fused())
    found = posterior.meta["diagnostics"]
    assert found["chosen_by"] == "evidence"
    assert found["std_factor"] == 1.0
    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    truth = torch.sin(2 * torch.pi * 3.2 * x)
    at = posterior.at(x[:, None])
    assert float((at.mean - truth).abs().max()) < 0.05
    assert float(((at.mean - truth).abs() < 3 * at.std).double().mean()) > 0.95
