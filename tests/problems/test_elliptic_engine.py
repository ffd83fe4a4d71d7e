"""The `engine` of the elliptic problems: torch and FEniCSx give the same problem and the same posterior."""

import importlib.util
import subprocess
import sys

import pytest
import torch

import sciprob
from sciprob.engines import torch_fe
from sciprob.engines.choice import elliptic_engine
from sciprob.errors import ConfigError
from sciprob.operators.host import HostOperator
from sciprob.problems.registry import load_problem
from sciprob.solvers import SOLVERS
from sciprob.testing import OperatorConformance

SMALL = {"mesh.inversion": "unit_square", "mesh.data": "unit_square_fine"}
needs_fenicsx = pytest.mark.skipif(importlib.util.find_spec("dolfinx") is None, reason="FEniCSx is not installed")


class TestDarcyConformsInTorch(OperatorConformance):
    dot_tolerance = 1e-11  # solves stop at a relative error of 1e-12
    differs_in_batch = 1e-11
    single_tolerance = 1e-3

    def make(self):
        problem = load_problem("darcy-sensors", overrides=SMALL | {"engine": "torch"})
        return problem.operator, problem.truth


@pytest.mark.parametrize("name", ["darcy-sensors", "poisson-source"])
@pytest.mark.parametrize("dirichlet", [{}, {"dirichlet.left": "1 + y*(1-y)"}])
@pytest.mark.fem
@needs_fenicsx
def test_engines_make_the_same_problem(name, dirichlet):
    """Data of the same seed, states, and gradients."""
    ours, theirs = (load_problem(name, overrides=SMALL | dirichlet | {"engine": e}) for e in ("torch", "fenicsx"))
    assert isinstance(theirs.operator.inner, HostOperator) or name == "poisson-source"
    torch.testing.assert_close(ours.data, theirs.data, rtol=1e-9, atol=1e-11)
    m = theirs.prior.sample((3,), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours.operator(m), theirs.operator(m), rtol=1e-9, atol=1e-11)
    scores = [problem.likelihood.score(m, theirs.data) for problem in (ours, theirs)]
    torch.testing.assert_close(*scores, rtol=1e-8, atol=1e-8 * float(scores[1].abs().max()))


@pytest.mark.fem
@needs_fenicsx
def test_engines_give_the_same_posterior():
    """`laplace` of the nonlinear problem and the exact one of the linear problem."""
    to_the_end = SOLVERS["laplace"](decrease=1e-12)  # by default it stops at a hundredth of a standard deviation
    for name, solver in (("darcy-sensors", to_the_end), ("poisson-source", "gaussian")):
        ours, theirs = (
            sciprob.solve(load_problem(name, overrides=SMALL | {"engine": e}), solver, seed=0, progress=False)
            for e in ("torch", "fenicsx")
        )
        assert float(((ours.mean - theirs.mean) / theirs.std).abs().max()) < 1e-5
        assert float((ours.std / theirs.std - 1).abs().max()) < 1e-5


def test_automatic_choice(monkeypatch):
    """Torch on CUDA or without FEniCSx."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert elliptic_engine("auto") is torch_fe
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert elliptic_engine("auto") is torch_fe
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert elliptic_engine("auto").__name__ == "sciprob.engines.fenicsx"
    assert elliptic_engine("torch") is torch_fe


def test_unknown_engines_are_refused():
    with pytest.raises(ConfigError, match="engine"):
        load_problem("darcy-sensors", overrides={"engine": "petsc"})


def test_the_problem_needs_no_fenicsx():
    """Built and differentiated in a process where FEniCSx cannot be imported; `auto` then takes torch."""
    program = """
import sys
for name in ("dolfinx", "dolfinx_solver", "petsc4py", "mpi4py", "ufl", "basix"):
    sys.modules[name] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: None if name == "dolfinx" else find(name, *args)
import torch
from sciprob.problems.registry import load_problem
from sciprob.solvers import SOLVERS
problem = load_problem("darcy-sensors", overrides={"mesh.inversion": "unit_square", "mesh.data": "unit_square_fine"})
assert torch.isfinite(problem.likelihood.score(problem.truth, problem.data)).all()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
