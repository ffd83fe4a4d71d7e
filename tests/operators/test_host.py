"""The bridge to engines on the host, with a small dense solver in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import lu_factor, lu_solve
from torch import Tensor

from sciprob.errors import ConvergenceError, HostTransferWarning, NonFiniteError, UnsupportedProblemError
from sciprob.operators import Capability, DenseMap
from sciprob.operators.host import HostLinearMap, HostOperator
from sciprob.spaces import Space
from sciprob.testing import OperatorConformance

N = 5


class Dense:
    """(A + diag(exp m)) u = b with an unsymmetric A; fails where m > 50."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.matrix = np.eye(N) + 0.3 * rng.standard_normal((N, N))
        self.load = rng.standard_normal(N)
        self.domain, self.codomain = Space((N,), "m"), Space((N,), "u")
        self.factorisations = 0
        self.calls: list[int] = []

    def _factor(self, m: np.ndarray) -> Any:
        self.factorisations += 1
        return lu_factor(self.matrix + np.diag(np.exp(m)))

    def solve(self, m: np.ndarray) -> np.ndarray:
        assert m.dtype == np.float64
        self.calls.append(len(m))
        for i, row in enumerate(m):
            if row.max() > 50:
                message = f"sample {i}"
                raise ConvergenceError(message, sample=i)
        return np.array([lu_solve(self._factor(row), self.load) for row in m])

    def tangent(self, m: np.ndarray, u: np.ndarray, dm: np.ndarray) -> np.ndarray:
        return np.array([Point(self, a, b).tangent(c[None])[0] for a, b, c in zip(m, u, dm, strict=True)])

    def adjoint(self, m: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.array([Point(self, a, b).adjoint(c[None])[0] for a, b, c in zip(m, u, v, strict=True)])


class Point:
    def __init__(self, host: Dense, m: np.ndarray, u: np.ndarray) -> None:
        self.lu, self.weight = host._factor(m), np.exp(m) * u

    def tangent(self, dm: np.ndarray) -> np.ndarray:
        return -lu_solve(self.lu, (self.weight * dm).T).T

    def adjoint(self, v: np.ndarray) -> np.ndarray:
        return -self.weight * lu_solve(self.lu, v.T, trans=1).T


class Keeping(Dense):
    """The same with a factorisation that can be kept."""

    def linearise(self, m: np.ndarray, u: np.ndarray) -> Point:
        return Point(self, m, u)


class Forward:
    """A solver without derivatives."""

    domain, codomain = Space((N,), "m"), Space((N,), "u")

    def solve(self, m: np.ndarray) -> np.ndarray:
        return m**2


class Matrix:
    """A linear solver."""

    def __init__(self) -> None:
        self.a = np.random.default_rng(1).standard_normal((3, N))
        self.domain, self.codomain = Space((N,), "m"), Space((3,), "u")

    def apply(self, m: np.ndarray) -> np.ndarray:
        return m @ self.a.T

    def transpose(self, v: np.ndarray) -> np.ndarray:
        return v @ self.a


def point(*batch: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, N, dtype=torch.float64, generator=generator)


class TestHostConformance(OperatorConformance):
    def make(self) -> tuple[HostOperator, Tensor]:
        return HostOperator(Dense()), point()


class TestKeepingHostConformance(OperatorConformance):
    def make(self) -> tuple[HostOperator, Tensor]:
        return HostOperator(Keeping(), on_failure="nan"), point()


class TestHostLinearMapConformance(OperatorConformance):
    def make(self) -> tuple[HostLinearMap, Tensor]:
        return HostLinearMap(Matrix()), point()


def test_gradcheck_in_both_modes() -> None:
    op = HostOperator(Dense())
    m = point(2).requires_grad_()
    assert torch.autograd.gradcheck(op, (m,), check_forward_ad=True)


def test_jacobians_equal_the_closed_form() -> None:
    host = Dense()
    op, m = HostOperator(host), point()
    inverse = np.linalg.inv(host.matrix + np.diag(np.exp(m.numpy())))
    exact = torch.tensor(-inverse * np.exp(m.numpy()) * (inverse @ host.load))
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        assert torch.allclose(jacobian(op)(m), exact, rtol=1e-12, atol=1e-14)
    batched = torch.func.vmap(torch.func.jacrev(op))(point(3))
    assert torch.allclose(batched, torch.stack([torch.func.jacfwd(op)(p) for p in point(3)]), rtol=1e-12)


def test_second_derivatives_raise() -> None:
    """The gradient with a graph is right; differentiating it again is refused in every way."""
    op, m = HostOperator(Dense()), point().requires_grad_()
    (gradient,) = torch.autograd.grad(op(m).sum(), m, create_graph=True)
    assert torch.equal(gradient, op.vjp(m.detach(), torch.ones(N, dtype=torch.float64))[1])
    with pytest.raises(NotImplementedError, match="Gauss-Newton"):
        torch.autograd.grad(gradient.sum(), m)
    for transform in (torch.func.jacfwd, torch.func.jacrev):
        with pytest.raises(NotImplementedError, match="Gauss-Newton"):
            transform(torch.func.grad(lambda x: op(x).sum()))(m.detach())
    with pytest.raises(NotImplementedError, match="Gauss-Newton"):
        torch.func.jacfwd(torch.func.jacfwd(op))(m.detach())


def test_gauss_newton_products_need_first_derivatives_only() -> None:
    op, m, dm = HostOperator(Dense()), point(), point(seed=1)
    jacobian = torch.func.jacrev(op)(m)
    product = op.vjp(m, op.jvp(m, dm)[1])[1]
    assert torch.allclose(product, jacobian.T @ jacobian @ dm, rtol=1e-11)
    # the same by differentiating the tangent with respect to its direction, m held fixed
    (again,) = torch.func.vjp(lambda d: torch.func.jvp(op, (m,), (d,))[1], dm)[1](jacobian @ dm)
    assert torch.allclose(again, product, rtol=1e-11)


def test_one_call_per_batch() -> None:
    host = Dense()
    op = HostOperator(host)
    op(point(2, 3))
    torch.func.vmap(op)(point(4))
    assert host.calls == [6, 4]
    assert op.stats.as_dict() == {"forward": 10, "tangent": 0, "adjoint": 0, "factorisations": 10, "bytes_moved": 0}


def test_solves_are_counted() -> None:
    op = HostOperator(Dense())
    observed = DenseMap(torch.ones(2, N, dtype=torch.float64)) @ op
    observed.jvp(point(3), point(3))
    observed.vjp(point(2), torch.ones(2, 2, dtype=torch.float64))
    stats = observed.stats
    assert (stats.forward, stats.tangent, stats.adjoint, stats.factorisations) == (5, 3, 2, 10)


def test_linearise_factorises_once() -> None:
    op, m = HostOperator(Keeping()), point()
    u, derivative = op.linearise(m)
    before = op.stats
    jacobian = derivative.to_dense()
    transposed = derivative.T.to_dense()
    torch.func.vmap(derivative)(point(3, 2))
    spent = op.stats - before
    assert (spent.factorisations, spent.tangent, spent.adjoint, spent.forward) == (0, N + 6, N, 0)
    assert before.factorisations == 2  # one solve, one linearisation: this host shares nothing between them
    assert torch.allclose(jacobian, torch.func.jacrev(op)(m), rtol=1e-12)
    assert torch.allclose(transposed, jacobian.T, rtol=1e-12)
    assert torch.equal(u, op(m))


@pytest.mark.parametrize("host", [Dense, Keeping])
def test_linearise_a_batch(host: type[Dense]) -> None:
    op, m = HostOperator(host()), point(2, 3)
    u, derivative = op.linearise(m)
    assert derivative.domain.shape == (2, 3, N)
    dm, v = point(4, 2, 3, seed=1), point(4, 2, 3, seed=2)
    assert torch.equal(u, op(m))
    assert torch.allclose(derivative(dm)[1], op.jvp(m, dm[1])[1], rtol=1e-12)
    assert torch.allclose(derivative.T(v)[2], op.vjp(m, v[2])[1], rtol=1e-12)
    assert derivative(dm[:0]).shape == (0, 2, 3, N)


def test_failures_raise_or_give_nan() -> None:
    m = point(4).clone()
    m[1, 2] = 60.0
    with pytest.raises(ConvergenceError, match="sample 1") as caught:
        HostOperator(Dense())(m)
    assert caught.value.sample == 1
    m[3, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="`m` should be finite, sample 3"):
        HostOperator(Dense())(m)
    op = HostOperator(Dense(), on_failure="nan")
    x = m.clone().requires_grad_()
    u = op(x)
    assert torch.isfinite(u).all(-1).tolist() == [True, False, True, False]
    (gradient,) = torch.autograd.grad(u[[0, 2]].sum(), x)
    assert torch.equal(gradient[[0, 2]], op.vjp(m[[0, 2]], torch.ones(2, N, dtype=torch.float64))[1])
    with pytest.raises(ConvergenceError, match=r"sample 1 .* no state"):
        op.linearise(m)
    with pytest.raises(UnsupportedProblemError, match="'raise' or 'nan'"):
        HostOperator(Dense(), on_failure="ignore")


def test_capabilities_are_those_of_the_solver() -> None:
    assert HostOperator(Dense()).capabilities == {Capability.JVP, Capability.VJP}
    op = HostOperator(Forward())
    assert op.capabilities == frozenset()
    assert torch.equal(op(point()), point() ** 2)
    with pytest.raises(UnsupportedProblemError, match="Forward has no `adjoint`"):
        op.vjp(point(), point())


def test_arguments_are_read_only() -> None:
    class Writing(Forward):
        def solve(self, m: np.ndarray) -> np.ndarray:
            m += 1.0
            return m

    with pytest.raises(ValueError, match="read-only"):
        HostOperator(Writing())(point())


def test_single_precision_gradients_come_back_in_single_precision() -> None:
    op, m = HostOperator(Dense()), point()
    x = m.float().requires_grad_()
    op(x).sum().backward()
    exact = op.vjp(m, torch.ones(N, dtype=torch.float64))[1]
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert torch.allclose(x.grad.double(), exact, rtol=1e-5, atol=1e-6)


def test_copies_from_an_accelerator_are_counted_and_announced_once() -> None:
    class Elsewhere:
        """What `_to_host` sees of a tensor on an accelerator."""

        device = torch.device("cuda", 0)
        nbytes = 8 * N

        def detach(self) -> Elsewhere:
            return self

        def cpu(self) -> Tensor:
            return point()

    bridge = HostOperator(Dense())._bridge
    with pytest.warns(HostTransferWarning, match="Dense runs on the CPU; tensors on cuda:0 are copied"):
        bridge._to_host(Elsewhere())
    assert np.array_equal(bridge._to_host(Elsewhere()), point().numpy())  # and no second warning
    assert bridge.stats.bytes_moved == 2 * 8 * N


@pytest.mark.gpu
def test_tensors_on_an_accelerator() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    operator, m = HostOperator(Dense()), point(3)
    x = m.cuda().requires_grad_()
    with pytest.warns(HostTransferWarning):
        u = operator(x)
    (gradient,) = torch.autograd.grad(u.sum(), x)
    assert u.device == gradient.device == x.device
    assert torch.equal(u.cpu(), operator(m))
    assert operator.stats.bytes_moved == 8 * 3 * N * 6  # m and u; then m, u, v and the gradient
