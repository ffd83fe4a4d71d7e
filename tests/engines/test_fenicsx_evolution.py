"""Time-dependent scalar problems: orders in time and space, discrete adjoints, states computed again."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from sciprob.engines import simplex
from sciprob.engines.fenicsx_evolution import evolution_operator
from sciprob.engines.fenicsx_schemes import time_steps
from sciprob.errors import ConfigError, ConvergenceError, DataError
from sciprob.operators import PointObservation
from sciprob.operators.host import HostOperator
from sciprob.spaces import FESpace, box_mesh
from sciprob.testing import OperatorConformance, loglog_fit

pytestmark = [
    pytest.mark.fem,
    pytest.mark.skipif(importlib.util.find_spec("dolfinx") is None, reason="needs FEniCSx"),
]
SIDES = ("left", "right", "bottom", "top")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def busy(unknown: str, **settings: Any) -> HostOperator:
    """Every kind of term and condition, data that move in time, two outputs of five steps."""
    options: dict[str, Any] = {
        "times": [0.2, 0.5],
        "step": 0.1,
        "initial": lambda x: torch.sin(3 * x[:, 0]),
        "reaction": (0.5, 0.0, 2.0),
        "source": lambda x, t: 1 + t * x[:, 0],
        "dirichlet": {"left": lambda x, t: t * x[:, 1]},
        "neumann": {"right": 0.5},
        "robin": {"top": (1.0, 2.0)},
    }
    return evolution_operator(box_mesh((3, 2)), unknown=unknown, **(options | settings))


def point(operator: HostOperator) -> Tensor:
    m = 0.3 * noise(*operator.domain.shape)
    return 1.0 + m.abs() if operator.domain.name == "coefficients" else m


# --- orders ---------------------------------------------------------------------------------------


def quadratic(x: Tensor) -> Tensor:
    """In P2, with Laplacian 2."""
    return 1 + x[:, 0] - 2 * x[:, 1] + x[:, 0] * x[:, 1] + x[:, 0] ** 2


def temporal_error(step: float, scheme: Any, theta: float) -> float:
    """U = cos(3t) q(x) with q in P2, k = 0.7 and reaction 2 u^3: no error but that of the scheme."""

    def source(x: Tensor, t: float) -> Tensor:
        q, c = quadratic(x), math.cos(3 * t)
        return -3 * math.sin(3 * t) * q - 0.7 * 2 * c + 2 * (c * q) ** 3

    operator = evolution_operator(
        box_mesh((2, 2)), 2, times=[1.2], step=step, scheme=scheme, theta=theta, conductivity=0.7,
        reaction=(0.0, 0.0, 2.0), source=source, quadrature_degree=8,
        dirichlet={side: lambda x, t: math.cos(3 * t) * quadratic(x) for side in SIDES},
    )  # fmt: skip
    q = quadratic(FESpace(box_mesh((2, 2)), 2).points())
    return float((operator(q)[-1] - math.cos(3.6) * q).norm())


@pytest.mark.parametrize(("scheme", "theta", "expected"), [("bdf2", 0.5, 2), ("theta", 0.5, 2), ("theta", 1.0, 1)])
def test_order_in_time(scheme: str, theta: float, expected: int) -> None:
    steps = [0.1 / 2**k for k in range(4, 7)]  # coarser ones are not yet asymptotic
    order, _ = loglog_fit(steps, [temporal_error(step, scheme, theta) for step in steps])
    assert abs(order - expected) <= 0.15


@pytest.mark.parametrize("degree", [1, 2])
def test_order_in_space(degree: int) -> None:
    """U = (1 + t) sin(2x + y): linear in t, so both schemes are exact in time."""

    def wave(x: Tensor) -> Tensor:
        return torch.sin(2 * x[:, 0] + x[:, 1])

    node, weight = np.polynomial.legendre.leggauss(40)  # they know nothing of the mesh
    points = torch.tensor(np.stack(np.meshgrid(0.5 + node / 2, 0.5 + node / 2), axis=-1).reshape(-1, 2))
    weights = torch.tensor(np.outer(weight, weight).ravel() / 4)
    errors, divisions = [], (4, 8, 16)
    for n in divisions:
        operator = evolution_operator(
            box_mesh((n, n)), degree, times=[0.5], step=0.25, source=lambda x, t: (1 + 5 * (1 + t)) * wave(x),
            dirichlet={side: lambda x, t: (1 + t) * wave(x) for side in SIDES},
        )  # fmt: skip
        space = FESpace(box_mesh((n, n)), degree)
        error = PointObservation(space, points)(operator(wave(space.points()))[-1]) - 1.5 * wave(points)
        errors.append(float((weights * error**2).sum().sqrt()))
    order, _ = loglog_fit([1 / n for n in divisions], errors)
    assert abs(order - (degree + 1)) <= 0.2, f"order {order} from {errors}"


# --- against another library -----------------------------------------------------------------------


@pytest.mark.parametrize("theta", [0.5, 1.0])
def test_heat_equation_equals_the_matrix_recursion(theta: float) -> None:
    """(M + theta h K) U_n = (M - (1 - theta) h K) U_{n-1}, with matrices that FEniCSx has not seen."""
    mesh, h = box_mesh((5, 4)), 0.03
    operator = evolution_operator(mesh, times=[0.0, h, 4 * h], step=h, scheme="theta", theta=theta, conductivity=0.4)
    mass = simplex.mass(mesh.points, mesh.cells).toarray()
    stiffness = 0.4 * simplex.stiffness(mesh.points, mesh.cells).toarray()
    u0 = noise(*operator.domain.shape)
    step = np.linalg.solve(mass + theta * h * stiffness, mass - (1 - theta) * h * stiffness)
    expected = np.stack([np.linalg.matrix_power(step, n) @ u0.numpy() for n in (0, 1, 4)])
    u = operator(u0).numpy()
    assert np.abs(u - expected).max() <= 1e-12
    heat = np.ones(len(mass)) @ mass @ u.T
    assert np.abs(heat - heat[0]).max() <= 1e-13  # no flux through the boundary


def test_log_conductivity_and_its_exponential_agree() -> None:
    """Constant m = log k is the conductivity k; the rest of the two problems is equal."""
    first, second = busy("log_conductivity"), busy("coefficients")
    m = torch.full(first.domain.shape, math.log(1.7), dtype=torch.float64)
    assert (first(m) - second(torch.tensor([1.7, 0.5, 0.0, 2.0], dtype=torch.float64))).abs().max() <= 1e-9


def test_long_times_are_steady() -> None:
    """BDF2 with large steps ends at the solution of the elliptic engine."""
    from sciprob.engines.fenicsx import elliptic_operator

    conditions: dict[str, Any] = {"dirichlet": {"left": 1.0}, "neumann": {"right": 0.5}, "robin": {"top": (1.0, 2.0)}}
    steady = elliptic_operator(box_mesh((3, 2)), source=2.0, reaction=5.0, **conditions)
    moving = evolution_operator(
        box_mesh((3, 2)), times=[1e5], step=1e4, unknown="log_conductivity", source=2.0,
        reaction=(0.0, 0.0, 5.0), **conditions,
    )  # fmt: skip
    m = 0.5 * noise(*steady.domain.shape)
    assert (moving(m)[0] - steady(m)).abs().max() <= 1e-9
    v = noise(*steady.codomain.shape)
    difference = moving.vjp(m, v[None])[1] - steady.vjp(m, v)[1]
    assert difference.abs().max() <= 1e-7


# --- derivatives ------------------------------------------------------------------------------------


class _Conformance(OperatorConformance):
    single_tolerance = 1e-3
    differs_in_batch = 1e-9  # Newton's method stops at a tolerance


class TestInitial(_Conformance):
    def make(self) -> tuple[HostOperator, Tensor]:
        operator = busy("initial", scheme="theta")
        return operator, point(operator)


class TestSource(_Conformance):
    def make(self) -> tuple[HostOperator, Tensor]:
        operator = busy("source", degree=2)
        return operator, point(operator)


class TestLogConductivity(_Conformance):
    def make(self) -> tuple[HostOperator, Tensor]:
        operator = busy("log_conductivity", march={"store": 3})
        return operator, point(operator)


class TestCoefficients(_Conformance):
    def make(self) -> tuple[HostOperator, Tensor]:
        operator = busy("coefficients", scheme="theta", theta=0.7)
        return operator, point(operator)


@pytest.mark.parametrize("every", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("scheme", ["bdf2", "theta"])
def test_states_computed_again_are_the_same(every: int, scheme: str) -> None:
    settings: dict[str, Any] = {"scheme": scheme, "times": [0.0, 0.3, 0.8], "step": 0.1}
    full, part = busy("initial", **settings), busy("initial", march={"store": every}, **settings)
    m = noise(*full.domain.shape)
    assert (full(m) - part(m)).abs().max() <= 1e-9
    host, run = part.host, part.host.trajectory(0, m.numpy())
    assert len(run.kept) <= 2 + 2 * (8 // every) or every <= 2
    again = [host.state(run, n) for n in range(9)]
    assert np.array_equal(again[3], part(m)[1].numpy())
    assert np.array_equal(again[8], part(m)[2].numpy())
    v = noise(*full.codomain.shape, seed=1)
    assert (full.vjp(m, v)[1] - part.vjp(m, v)[1]).abs().max() <= 1e-8
    assert (full.jvp(m, m)[1] - part.jvp(m, m)[1]).abs().max() <= 1e-8


def test_linear_problems_factorise_once_per_kind_of_step() -> None:
    """With known conductivity one matrix for the first step and one for the others serve everything."""
    operator = busy("source", reaction=(0.5,))
    m = noise(4, *operator.domain.shape)
    operator(m)
    operator.vjp(m, noise(4, *operator.codomain.shape))
    operator.jvp(m, m)
    operator.linearise(m[0])[1].T.to_dense()
    assert operator.stats.factorisations == 2
    assert operator.stats.forward == 4 * 3 + 1


def test_the_gradient_sees_the_whole_trajectory() -> None:
    """Discrete adjoint of the heat equation by its matrices: g = sum_n (S^n)^T v_n."""
    mesh, h = box_mesh((3, 3)), 0.05
    operator = evolution_operator(mesh, times=[0.0, h, 3 * h], step=h, scheme="theta", theta=1.0)
    mass, stiffness = (f(mesh.points, mesh.cells).toarray() for f in (simplex.mass, simplex.stiffness))
    step = scipy.linalg.solve(mass + h * stiffness, mass)
    v = noise(*operator.codomain.shape)
    expected = sum(np.linalg.matrix_power(step, n).T @ v[i].numpy() for i, n in enumerate((0, 1, 3)))
    assert np.abs(operator.vjp(noise(16), v)[1].numpy() - expected).max() <= 1e-12


# --- refusals ---------------------------------------------------------------------------------------


def test_failures_name_sample_and_time() -> None:
    """U' = u^3 leaves the implicit step without a solution soon after its blow-up at t = 1 / (2 u_0^2)."""
    operator = evolution_operator(
        box_mesh((2, 2)), times=[1.0], step=0.1, reaction=(0.0, 0.0, -1.0), on_failure="raise"
    )  # fmt: skip
    m = torch.ones(2, *operator.domain.shape, dtype=torch.float64)
    m[0], m[1] = 0.1, 2.0
    with pytest.raises(ConvergenceError, match=r"sample 1 could not be solved at time 0\.\d.*ranges over \[2, 2\]"):
        operator(m)
    collected = evolution_operator(
        box_mesh((2, 2)), times=[1.0], step=0.1, reaction=(0.0, 0.0, -1.0), on_failure="nan"
    )(m)
    assert torch.isfinite(collected[0]).all()
    assert torch.isnan(collected[1]).all()


def test_bad_settings_are_refused() -> None:
    mesh = box_mesh((2, 2))
    with pytest.raises(ConfigError, match=r"output time 0\.25 is no multiple of the step 0\.1; .* 0\.125"):
        evolution_operator(mesh, times=[0.1, 0.25], step=0.1)
    with pytest.raises(ConfigError, match="`times` should increase"):
        evolution_operator(mesh, times=[0.2, 0.1], step=0.1)
    with pytest.raises(ConfigError, match=r"`theta` should lie in \[0.5, 1\]"):
        evolution_operator(mesh, times=[0.2], step=0.1, scheme="theta", theta=0.2)
    with pytest.raises(ConfigError, match="`unknown` should be"):
        evolution_operator(mesh, times=[0.2], step=0.1, unknown="initail")
    with pytest.raises(ConfigError, match="`store` should be"):
        evolution_operator(mesh, times=[0.2], step=0.1, march={"store": 0})
    operator = evolution_operator(mesh, times=[0.2], step=0.1, unknown="coefficients")
    with pytest.raises(DataError, match="conductivity should be positive"):
        operator(torch.tensor([-1.0]).double())


def test_steps_end_at_the_outputs() -> None:
    steps, outputs = time_steps([0.0, 0.1, 0.3], 0.1, "bdf2", 0.5)
    assert outputs == [0, 1, 3]
    assert [step.time for step in steps] == pytest.approx([0.1, 0.2, 0.3])
    assert steps[0].weights == pytest.approx((10, -10, 0))
    assert steps[1].weights == pytest.approx((15, -20, 5))
