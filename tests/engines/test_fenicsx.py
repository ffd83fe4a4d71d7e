"""The FEniCSx engine: orders by manufactured solutions, derivatives, failures, kept factorisations."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import torch
from torch import Tensor

from sciprob.engines import fenicsx_store
from sciprob.engines.fenicsx import Elliptic, elliptic_operator, source_operator
from sciprob.errors import ConfigError, ConvergenceError, DataError, NonFiniteError, UnsupportedProblemError
from sciprob.expressions import Expression
from sciprob.operators import LinearMap, PointObservation
from sciprob.operators.host import HostOperator
from sciprob.spaces import FESpace, Mesh, box_mesh
from sciprob.testing import OperatorConformance, loglog_fit

pytestmark = pytest.mark.fem
if importlib.util.find_spec("dolfinx") is None:
    pytest.skip("needs FEniCSx", allow_module_level=True)


def jiggled(divisions: tuple[int, ...]) -> Mesh:
    """A box mesh with its inner points moved by up to a fifth of the spacing."""
    mesh, rng = box_mesh(divisions), np.random.default_rng(0)
    inner = ((mesh.points > 0) & (mesh.points < 1)).all(axis=1, keepdims=True)
    move = 0.2 * inner * rng.uniform(-1, 1, mesh.points.shape) / np.array(divisions)
    return dataclasses.replace(mesh, points=mesh.points + move)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mixed(reaction: float = 0.0, degree: int = 1, **settings: Any) -> HostOperator:
    """All three kinds of conditions on a small mesh."""
    conditions = {
        "dirichlet": {"left": 0.0, "top": lambda x: x[:, 0]},
        "neumann": {"right": 0.5},
        "robin": {"bottom": (2.0, Expression("1 + x"))},
    }
    return elliptic_operator(jiggled((4, 3)), degree, source=2.0, reaction=reaction, **conditions, **settings)


# --- manufactured solution: u = sin(2x + y) + x y, m = 0.5 x - 0.3 y (in every P1 space) ---------


def exact(x: Tensor) -> Tensor:
    return torch.sin(2 * x[:, 0] + x[:, 1]) + x[:, 0] * x[:, 1]


def gradient(x: Tensor) -> Tensor:
    wave = torch.cos(2 * x[:, 0] + x[:, 1])
    return torch.stack([2 * wave + x[:, 1], wave + x[:, 0]], dim=1)


def log_conductivity(x: Tensor) -> Tensor:
    return 0.5 * x[:, 0] - 0.3 * x[:, 1]


def flux(axis: int, sign: float) -> Callable[[Tensor], Tensor]:
    """exp(m) du/dn on a side."""
    return lambda x: sign * log_conductivity(x).exp() * gradient(x)[:, axis]


def manufactured_source(reaction: float) -> Callable[[Tensor], Tensor]:
    def source(x: Tensor) -> Tensor:
        laplacian = -5 * torch.sin(2 * x[:, 0] + x[:, 1])
        slope = gradient(x) @ torch.tensor([0.5, -0.3], dtype=torch.float64)
        return -log_conductivity(x).exp() * (laplacian + slope) + reaction * exact(x) ** 3

    return source


def l2_error(operator: HostOperator, conductivity: Tensor) -> float:
    """By Gauss points that know nothing of the mesh."""
    node, weight = np.polynomial.legendre.leggauss(60)
    x, y = np.meshgrid(0.5 + node / 2, 0.5 + node / 2)
    points = torch.tensor(np.stack([x.ravel(), y.ravel()], axis=1))
    difference = PointObservation(operator.codomain, points)(operator(conductivity)) - exact(points)
    return float((difference**2 * torch.tensor(np.outer(weight, weight).ravel() / 4)).sum().sqrt())


@pytest.mark.parametrize("reaction", [0.0, 5.0])
@pytest.mark.parametrize(("degree", "divisions"), [(1, (8, 16, 32)), (2, (8, 16, 32))])
def test_orders_by_a_manufactured_solution(degree: int, divisions: tuple[int, ...], reaction: float) -> None:
    """Dirichlet, Neumann and Robin parts at once: L2 error of order degree + 1."""
    errors = []
    for n in divisions:
        operator = elliptic_operator(
            jiggled((n, n)),
            degree,
            source=manufactured_source(reaction),
            dirichlet={"left": exact, "bottom": exact},
            neumann={"right": flux(0, 1.0)},
            robin={"top": (lambda x: 1 + x[:, 0], lambda x: flux(1, 1.0)(x) + (1 + x[:, 0]) * exact(x))},
            reaction=reaction,
        )
        errors.append(l2_error(operator, log_conductivity(operator.domain.points())))
    order, _ = loglog_fit([1 / n for n in divisions], errors)
    assert abs(order - (degree + 1)) <= 0.1, f"order {order} from {errors}"


@pytest.mark.parametrize("divisions", [(3, 4), (2, 3, 2)])
@pytest.mark.parametrize("degree", [1, 2])
def test_patch(divisions: tuple[int, ...], degree: int) -> None:
    """Polynomials of the degree are reproduced to round-off, in two and three dimensions."""

    def polynomial(x: Tensor) -> Tensor:
        return 1 + 2 * x[:, 0] - x[:, -1] + (degree - 1) * (x[:, 0] * x[:, 1] + x[:, -1] ** 2)

    def outflow(x: Tensor) -> Tensor:  # exp(m) du/dx at x = 1, with m = 0.7
        return np.exp(0.7) * (2 + (degree - 1) * x[:, 1])

    others = [side for side in box_mesh(divisions).names if side not in ("domain", "right")]
    operator = elliptic_operator(
        jiggled(divisions),
        degree,
        source=-2 * np.exp(0.7) * (degree - 1),
        dirichlet=dict.fromkeys(others, polynomial),
        neumann={"right": outflow},
    )
    u = operator(torch.full(operator.domain.shape, 0.7, dtype=torch.float64))
    assert (u - polynomial(operator.codomain.points())).abs().max() < 1e-12


def test_pure_robin_problem() -> None:
    """-u'' = 0 with du/dn + alpha u = g: u = 1 for g = alpha."""
    sides = ("left", "right", "bottom", "top")
    operator = elliptic_operator(box_mesh((3, 3)), 1, robin={side: (2.0, 2.0) for side in sides})
    assert (operator(noise(*operator.domain.shape)) - 1).abs().max() < 1e-12


class TestLinearState(OperatorConformance):
    single_tolerance = 1e-3

    def make(self) -> tuple[HostOperator, Tensor]:
        operator = mixed()
        return operator, 0.5 * noise(*operator.domain.shape)


class TestNonlinearState(OperatorConformance):
    dot_tolerance = 1e-11
    single_tolerance = 1e-3

    def make(self) -> tuple[Any, Tensor]:
        operator = mixed(reaction=5.0, degree=2)
        sensors = torch.tensor([[0.3, 0.4], [1.0, 0.5], [0.77, 0.21]], dtype=torch.float64)
        return PointObservation(operator.codomain, sensors) @ operator, 0.5 * noise(*operator.domain.shape)


class TestSource(OperatorConformance):
    def make(self) -> tuple[LinearMap, Tensor]:
        operator = source_operator(jiggled((4, 3)), 2, conductivity=Expression("1 + x*y"), dirichlet={"left": 0.0})
        assert isinstance(operator, LinearMap)
        return operator, noise(*operator.domain.shape)


@pytest.mark.parametrize("reaction", [0.0, 5.0])
def test_gradcheck_in_both_modes(reaction: float) -> None:
    operator = mixed(reaction)
    observed = PointObservation(operator.codomain, torch.tensor([[0.3, 0.4], [0.6, 0.9]]).double()) @ operator
    m = (0.5 * noise(*operator.domain.shape)).requires_grad_()
    assert torch.autograd.gradcheck(observed, (m,), check_forward_ad=True)


def test_nothing_moves_where_the_state_is_given() -> None:
    operator = mixed(degree=2)
    fixed = np.union1d(operator.codomain.named_dofs("left"), operator.codomain.named_dofs("top"))
    m, v = noise(*operator.domain.shape), torch.zeros(operator.codomain.shape, dtype=torch.float64)
    u, du = operator.jvp(m, noise(*operator.domain.shape, seed=1))
    x = operator.codomain.points()[fixed]
    assert torch.equal(u[fixed], torch.where(x[:, 1] == 1, x[:, 0], 0.0))
    assert (du[fixed] == 0).all()
    assert (du.abs() > 0).sum() == len(du) - len(fixed)
    v[fixed] = 1.0
    assert (operator.vjp(m, v)[1] == 0).all()


def test_source_and_conductivity_engines_agree() -> None:
    """One problem, posed once with unknown source and once with unknown conductivity."""
    mesh = jiggled((5, 4))
    source, k = Expression("1 + 2*x - y"), Expression("exp(x)")
    conditions: dict[str, Any] = {
        "dirichlet": {"left": Expression("y")},
        "neumann": {"right": 0.5},
        "robin": {"top": (1.0, 2.0)},
    }
    first = source_operator(mesh, 2, conductivity=k, **conditions)
    second = elliptic_operator(mesh, 2, source=source, **conditions)
    m, f = second.domain.points()[:, 0], source(first.domain.points())
    assert (first(f) - second(m)).abs().max() < 1e-12
    assert first.linear  # as affine maps are for solvers
    value, jacobian = first.linearise(f)
    assert torch.allclose(value, first(f))
    assert first.stats.factorisations == 1
    assert torch.allclose(jacobian(f) + first(0 * f), value, atol=1e-14)


def test_one_factorisation_per_parameter() -> None:
    operator = mixed()
    m = 0.3 * noise(3, *operator.domain.shape)
    operator(m)
    operator.jvp(m, m)
    operator.vjp(m, noise(3, *operator.codomain.shape))
    torch.func.jacrev(operator)(m[0])
    assert operator.stats.factorisations == 3
    _, derivative = operator.linearise(m[1])
    derivative.to_dense()
    derivative.T.to_dense()
    assert operator.stats.factorisations == 3
    fresh = mixed()
    _, derivative = fresh.linearise(m[1])
    derivative.to_dense()
    derivative.T.to_dense()
    n, k = fresh.domain.size, fresh.codomain.size
    stats = fresh.stats.as_dict()
    assert stats == {"forward": 1, "tangent": n, "adjoint": k, "factorisations": 1, "bytes_moved": 0}


@pytest.mark.parametrize("reaction", [0.0, 5.0])
def test_reused_storage_forgets_the_old_parameter(reaction: float) -> None:
    """With room for one factorisation, results equal those with room for all, and linearisations survive."""
    small, large = mixed(reaction, cache_size=1), mixed(reaction)
    m, v = 0.3 * noise(3, *small.domain.shape), noise(3, *small.codomain.shape)
    _, kept = small.linearise(m[0])
    assert torch.allclose(small(m), large(m), rtol=1e-13)
    for _ in range(2):
        assert torch.allclose(small.vjp(m, v)[1], large.vjp(m, v)[1], rtol=1e-10)
        assert torch.allclose(small.jvp(m, m)[1], large.jvp(m, m)[1], rtol=1e-10)
    assert torch.allclose(kept.T(v[0]), large.vjp(m[0], v[0])[1], rtol=1e-10)
    assert small.stats.factorisations > large.stats.factorisations


def test_storage_is_bounded_and_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound results are the same, only dearer; dropped linearisations give their storage back."""
    monkeypatch.setattr(fenicsx_store, "_MOST_HELD", 3)
    monkeypatch.setattr(fenicsx_store, "_ALIVE", WeakSet())
    operator, reference = mixed(cache_size=2), mixed()
    m, dm = 0.3 * noise(8, *operator.domain.shape), noise(2, 8, *operator.domain.shape, seed=1)
    _, derivative = operator.linearise(m)
    assert torch.allclose(derivative(dm)[1], reference.jvp(m, dm[1])[1], rtol=1e-12)
    alive = len(fenicsx_store._ALIVE) - 8  # without the reference's
    for i in range(20):
        _, derivative = operator.linearise(m[i % 8])
    assert len(fenicsx_store._ALIVE) - 8 <= alive + 1
    operator(m)  # pushes the last one out of the cache
    before = operator.stats
    assert torch.allclose(derivative(dm[0, :1])[0], reference.jvp(m[3], dm[0, 0])[1], rtol=1e-12)
    assert (operator.stats - before).factorisations == 0  # it is held: the earlier ones gave way
    monkeypatch.setattr(fenicsx_store, "_MOST_ALIVE", 0)
    crowded = mixed()
    assert torch.allclose(crowded(m), reference(m), rtol=1e-13)
    assert torch.allclose(crowded.linearise(m)[1](dm)[0], reference.jvp(m, dm[0])[1], rtol=1e-12)
    assert len(fenicsx_store._ALIVE) - 8 <= alive + 2


def test_derivatives_are_taken_at_the_state_not_one_step_before() -> None:
    """With a loose Newton the state is off by 1e-6; the matrix of its last step would be off by 1e-3."""
    loose, tight = mixed(5.0, tolerance=3e-2), mixed(5.0)
    m, v = 0.3 * noise(*loose.domain.shape), noise(*loose.codomain.shape)
    state_error = (loose(m) - tight(m)).norm() / tight(m).norm()
    reference = tight.vjp(m, v)[1]
    assert state_error > 1e-9
    assert (loose.vjp(m, v)[1] - reference).norm() <= 20 * state_error * reference.norm()


def test_failures_name_the_sample() -> None:
    operator = mixed(reaction=5.0, max_iterations=7)
    m = torch.zeros(2, *operator.domain.shape, dtype=torch.float64)
    m[1] = -6.0
    with pytest.raises(ConvergenceError, match=r"sample 1 .* 7 iterations; residual norms .* \[-6, -6\]") as caught:
        operator(m)
    assert caught.value.sample == 1
    assert len(caught.value.history) == 7
    m[1, 3] = torch.nan
    with pytest.raises(NonFiniteError, match="`log_conductivity` should be finite, sample 1"):
        operator(m)


def test_overflow_is_a_failure_and_can_be_collected() -> None:
    m = 0.1 * noise(3, *mixed().domain.shape)
    m[1] = 800.0
    with pytest.raises(ConvergenceError, match="sample 1"):
        mixed()(m)
    operator = mixed(on_failure="nan")
    x = m.clone().requires_grad_()
    u = operator(x)
    assert torch.isfinite(u).all(-1).tolist() == [True, False, True]
    (g,) = torch.autograd.grad(u[[0, 2]].sum(), x)
    assert torch.allclose(g[[0, 2]], mixed().vjp(m[[0, 2]], torch.ones_like(u[:2]))[1], rtol=1e-12)


def test_bad_settings_are_refused() -> None:
    mesh = box_mesh((2, 2))
    with pytest.raises(DataError, match=r"no boundary facets named 'lft'; known names are \['bottom'"):
        Elliptic(mesh, dirichlet={"lft": 0.0})
    with pytest.raises(ConfigError, match="'left' should have one condition"):
        Elliptic(mesh, dirichlet={"left": 0.0}, neumann={"left": 0.0})
    with pytest.raises(UnsupportedProblemError, match="not unique"):
        Elliptic(mesh, neumann={"left": 0.0})
    with pytest.raises(DataError, match=r"the source should give one finite number per point"):
        Elliptic(mesh, dirichlet={"left": 0.0}, source=lambda x: x)
    with pytest.raises(DataError, match=r"Dirichlet value on 'left' .* not finite"):
        Elliptic(mesh, dirichlet={"left": float("nan")})
    inner = Mesh(mesh.points, mesh.cells, facets=mesh.cells[:1, :2], facet_tags=np.array([1]), names={"cut": (1, 1)})
    inside = dataclasses.replace(inner, facets=np.array([e for e in mesh.edges.tolist() if e == [1, 4]]))
    with pytest.raises(DataError, match="'cut' has facets inside the domain"):
        Elliptic(inside, dirichlet={"cut": 0.0})


def test_iterative_solvers_can_be_chosen() -> None:
    """CG with algebraic multigrid gives the direct solver's numbers."""
    mesh, options = box_mesh((20, 20)), {"ksp_type": "cg", "pc_type": "gamg", "ksp_rtol": 1e-12}
    direct = elliptic_operator(mesh, source=1.0, dirichlet={"left": 0.0})
    iterative = elliptic_operator(mesh, source=1.0, dirichlet={"left": 0.0}, petsc_options=options)
    m, v = 0.3 * noise(2, *direct.domain.shape), noise(2, *direct.codomain.shape)
    for a, b in zip(direct.vjp(m, v), iterative.vjp(m, v), strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


def test_spaces_are_named() -> None:
    operator = mixed(degree=2)
    assert operator.domain == FESpace(jiggled((4, 3)), 1, name="log_conductivity")
    assert operator.codomain == FESpace(jiggled((4, 3)), 2, name="u")


def test_files_of_xarray_can_be_written_after_dolfinx_was_loaded() -> None:
    """Two versions of HDF5 in one process: the one of h5py has to be loaded first."""
    program = "from sciprob.engines.fenicsx_mesh import fenics; fenics(); import h5py"
    subprocess.run([sys.executable, "-W", "error::UserWarning:h5py", "-c", program], check=True)
