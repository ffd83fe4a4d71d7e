"""The torch elements by themselves: orders by manufactured solutions, derivatives, failures, solve counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fe_cases import MIXED, jiggled, noise, relative

from sciprob.engines.torch_fe import EllipticOperator, LinearSolver, elliptic_operator, source_operator
from sciprob.engines.torch_fe.elements import cell_points, lagrange
from sciprob.engines.torch_fe.quadrature import quadrature
from sciprob.errors import ConfigError, ConvergenceError, DataError, NonFiniteError, UnsupportedProblemError
from sciprob.expressions import Expression
from sciprob.operators import LinearMap, PointObservation
from sciprob.operators.base import ForwardOperator
from sciprob.spaces import box_mesh
from sciprob.testing import OperatorConformance, loglog_fit


def mixed(reaction: float = 0.0, degree: int = 1, **settings: Any) -> EllipticOperator:
    """All three kinds of conditions on a small mesh."""
    return elliptic_operator(jiggled((4, 3)), degree, **(MIXED | {"reaction": reaction} | settings))


# --- manufactured solution: u = sin(2x + y) + x y, m = 0.5 x - 0.3 y (in every P1 space), any z ---


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


def l2_error(operator: ForwardOperator, u: Tensor) -> float:
    """By a rule of degree 6 on every cell."""
    space, rule = operator.codomain, quadrature(operator.codomain.mesh.dim, 6)
    there = u[torch.tensor(space.cell_dofs)] @ torch.tensor(lagrange(rule.points, space.degree)[0]).T
    difference = there - exact(torch.tensor(cell_points(space, 6)).flatten(0, 1)).reshape(there.shape)
    return float((difference**2 * torch.tensor(np.outer(space.mesh.volumes, rule.weights))).sum().sqrt())


@pytest.mark.parametrize("reaction", [0.0, 5.0])
@pytest.mark.parametrize("degree", [1, 2])
def test_orders_by_a_manufactured_solution(degree: int, reaction: float) -> None:
    """Dirichlet, Neumann and Robin parts at once: L2 error of order degree + 1."""
    divisions, errors = (8, 16, 32), []
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
        errors.append(l2_error(operator, operator(log_conductivity(operator.domain.points()))))
    order, _ = loglog_fit([1 / n for n in divisions], errors)
    assert abs(order - (degree + 1)) <= 0.1, f"order {order} from {errors}"


@pytest.mark.parametrize(("degree", "divisions"), [(1, (5, 10, 15)), (2, (3, 6, 9))])
def test_orders_in_three_dimensions(degree: int, divisions: tuple[int, ...]) -> None:
    """The same solution on the cube; regular meshes, on which three of them show the order."""
    errors = []
    for n in divisions:
        operator = elliptic_operator(
            box_mesh((n, n, n)),
            degree,
            source=manufactured_source(0.0),
            dirichlet={"left": exact, "front": exact},
            neumann={"right": flux(0, 1.0)},
            robin={"back": (2.0, lambda x: flux(1, 1.0)(x) + 2 * exact(x))},
        )
        errors.append(l2_error(operator, operator(log_conductivity(operator.domain.points()))))
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
    assert (u - polynomial(operator.codomain.points())).abs().max() < 1e-11


def test_pure_robin_problem() -> None:
    """-u'' = 0 with du/dn + alpha u = g: u = 1 for g = alpha."""
    sides = ("left", "right", "bottom", "top")
    operator = elliptic_operator(box_mesh((3, 3)), 1, robin={side: (2.0, 2.0) for side in sides})
    assert (operator(noise(*operator.domain.shape)) - 1).abs().max() < 1e-12


class TestLinearTorchState(OperatorConformance):
    dot_tolerance = 1e-11  # solves stop at a relative error of 1e-12
    differs_in_batch = 1e-11

    def make(self) -> tuple[EllipticOperator, Tensor]:
        operator = mixed()
        return operator, 0.5 * noise(*operator.domain.shape)


class TestNonlinearTorchState(OperatorConformance):
    dot_tolerance = 1e-11
    differs_in_batch = 1e-11

    def make(self) -> tuple[Any, Tensor]:
        operator = mixed(reaction=5.0, degree=2)
        sensors = torch.tensor([[0.3, 0.4], [1.0, 0.5], [0.77, 0.21]], dtype=torch.float64)
        return PointObservation(operator.codomain, sensors) @ operator, 0.5 * noise(*operator.domain.shape)


class TestStateOnTetrahedra(OperatorConformance):
    dot_tolerance = 1e-11
    differs_in_batch = 1e-11

    def make(self) -> tuple[Any, Tensor]:
        operator = elliptic_operator(jiggled((2, 3, 2)), 2, **(MIXED | {"reaction": 1.0}))
        return operator, 0.5 * noise(*operator.domain.shape)


class TestTorchSource(OperatorConformance):
    dot_tolerance = 1e-11
    differs_in_batch = 1e-11

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


def test_second_derivatives_are_refused() -> None:
    operator = mixed()
    with pytest.raises(NotImplementedError, match="second derivatives of an implicit solve"):
        torch.func.hessian(lambda m: operator(m).sum())(noise(*operator.domain.shape))


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


def test_source_and_conductivity_operators_agree() -> None:
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
    assert relative(first(f), second(m)) < 1e-11
    value, jacobian = first.linearise(f)
    assert relative(jacobian(f) + first(0 * f), value) < 1e-12
    assert first.stats.factorisations == 1


def test_solves_are_counted_and_matrices_kept() -> None:
    operator = mixed()
    m = 0.3 * noise(3, *operator.domain.shape)
    operator(m)
    assert operator.stats.as_dict() == dict(forward=3, tangent=0, adjoint=0, factorisations=3, bytes_moved=0)
    operator.vjp(m, noise(3, *operator.codomain.shape))
    assert (operator.stats.forward, operator.stats.adjoint) == (6, 3)
    fresh = mixed()
    _, derivative = fresh.linearise(m[:2])
    built = fresh.stats.factorisations
    assert built == 4  # states, and matrices at the states
    derivative.to_dense()
    derivative.T.to_dense()
    n, k = fresh.domain.size, fresh.codomain.size
    stats = fresh.stats.as_dict()
    assert stats == dict(forward=2, tangent=4 * n, adjoint=4 * k, factorisations=built, bytes_moved=0)


def test_blocks_of_samples_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large batches are cut into blocks; here into blocks of one sample and one direction."""
    operator = mixed(5.0, 2)
    m, w = 0.3 * noise(3, *operator.domain.shape), noise(4, 3, *operator.domain.shape, seed=1)
    v = noise(3, *operator.codomain.shape)
    whole = [operator(m), operator.vjp(m, v)[1], operator.linearise(m)[1](w)]
    for module in ("derivative", "system"):
        monkeypatch.setattr(f"sciprob.engines.torch_fe.{module}.BLOCK", 1)
    parts = [operator(m), operator.vjp(m, v)[1], operator.linearise(m)[1](w)]
    for a, b in zip(parts, whole, strict=True):
        assert relative(a, b) < 1e-11


def test_each_sample_stops_by_itself() -> None:
    """An easy sample beside a hard one gets the numbers that it gets alone."""
    operator = elliptic_operator(box_mesh((20, 20)), source=1.0, dirichlet={"left": 0.0})
    m = torch.zeros(2, *operator.domain.shape, dtype=torch.float64)
    m[1] = 2 * noise(*operator.domain.shape)
    assert relative(operator(m)[0], operator(m[0])) < 1e-13
    assert relative(operator(m)[1], operator(m[1])) < 1e-10


def test_zero_right_hand_sides_give_zero() -> None:
    operator = elliptic_operator(jiggled((4, 3)), dirichlet={"left": 0.0})
    m = noise(2, *operator.domain.shape)
    assert (operator(m) == 0).all()
    assert (operator.vjp(m, torch.zeros(2, *operator.codomain.shape).double())[1] == 0).all()
    source = source_operator(jiggled((4, 3)), dirichlet={"left": 0.0})
    v = torch.stack([torch.zeros(source.domain.size), torch.ones(source.domain.size)]).double()
    assert (source(v)[0] == 0).all()
    assert torch.equal(source(v)[1], source(v[1:])[0]) or relative(source(v)[1], source(v[1])) < 1e-13


def test_single_precision_is_that_of_input_and_output() -> None:
    """Also with a contrast of 1e6, with which float32 arithmetic inside has no correct digit."""
    operator = elliptic_operator(box_mesh((30, 30)), source=1.0, dirichlet={"left": 0.0})
    x = operator.domain.points()
    m = torch.where((7 * x[:, 0]).sin() * (9 * x[:, 1]).cos() > 0.3, 7.0, -7.0).double()
    v = noise(*operator.codomain.shape)
    assert relative(operator(m.float()).double(), operator(m)) < 1e-6
    _, derivative = operator.linearise(m.float())
    for single, double in (
        (operator.vjp(m.float(), v.float())[1], operator.vjp(m, v)[1]),
        (derivative.T(v.float()[None])[0], operator.vjp(m, v)[1]),
    ):
        assert single.dtype == torch.float32
        assert relative(single.double(), double) < 1e-5


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


def test_linear_failures_name_the_sample() -> None:
    """Too few iterations for a rough sample, enough for a constant one."""
    operator = elliptic_operator(
        jiggled((12, 12)), source=1.0, dirichlet={"left": 0.0}, linear=LinearSolver(max_iterations=20)
    )
    m = torch.zeros(2, *operator.domain.shape, dtype=torch.float64)
    m[1] = 4 * noise(*operator.domain.shape)
    assert torch.isfinite(operator(m[0])).all()
    with pytest.raises(ConvergenceError, match="sample 1 could not be solved: conjugate gradients") as caught:
        operator(m)
    assert caught.value.sample == 1
    assert caught.value.history[0] == 1.0
    assert 1e-12 < caught.value.history[-1] < 1.0


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
    assert relative(g[[0, 2]], mixed().vjp(m[[0, 2]], torch.ones_like(u[:2]))[1]) < 1e-11
    with pytest.raises(ConvergenceError, match="sample 1 of `log_conductivity` has no state"):
        operator.linearise(m)


def test_indefinite_problems_are_refused_not_wrong() -> None:
    """With c < 0 the Jacobian may be indefinite: conjugate gradients notice."""
    operator = elliptic_operator(box_mesh((8, 8)), source=60.0, dirichlet={"left": 0.0}, reaction=-1.0)
    with pytest.raises(ConvergenceError, match="sample 0"):
        operator(torch.zeros(operator.domain.shape, dtype=torch.float64))


def test_bad_settings_are_refused() -> None:
    mesh = box_mesh((2, 2))
    with pytest.raises(DataError, match=r"no boundary facets named 'lft'; known names are \['bottom'"):
        elliptic_operator(mesh, dirichlet={"lft": 0.0})
    with pytest.raises(ConfigError, match="'left' should have one condition"):
        elliptic_operator(mesh, dirichlet={"left": 0.0}, neumann={"left": 0.0})
    with pytest.raises(UnsupportedProblemError, match="not unique"):
        elliptic_operator(mesh, neumann={"left": 0.0})
    with pytest.raises(DataError, match=r"the source should give one finite number per point"):
        elliptic_operator(mesh, dirichlet={"left": 0.0}, source=lambda x: x)
    with pytest.raises(UnsupportedProblemError, match="quadrature degree should be at least 1, got 0"):
        elliptic_operator(mesh, dirichlet={"left": 0.0}, quadrature_degree=0)
    with pytest.raises(UnsupportedProblemError, match="nothing is left to solve for"):
        elliptic_operator(box_mesh((1, 1)), dirichlet={"left": 0.0, "right": 0.0})
    with pytest.raises(UnsupportedProblemError, match="'raise' or 'nan', got 'skip'"):
        elliptic_operator(mesh, dirichlet={"left": 0.0}, on_failure="skip")


def test_all_tensors_on_the_way_follow_the_input() -> None:
    """With another default device: a tensor that did not take its device from the input would be of that one."""
    operator, source = mixed(reaction=5.0, degree=2), source_operator(jiggled((4, 3)), dirichlet={"left": 0.0})
    m, v = 0.3 * noise(3, *operator.domain.shape), noise(3, *operator.codomain.shape)
    with torch.device("meta"):
        results = [*operator.vjp(m, v), operator.jvp(m, m)[1], source(m), source.T(m)]
        u, derivative = operator.linearise(m)
        results += [u, derivative(m[None]), derivative.T(v[None])]
    assert all(torch.isfinite(result).all() for result in results)
