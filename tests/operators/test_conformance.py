"""The operators of the package keep the contract, and the suite notices operators that do not."""

import pytest
import torch

from sciprob.operators import (
    Affine,
    DenseMap,
    DiagonalMap,
    ExplicitLinearMap,
    ForwardOperator,
    FunctionMap,
    PointObservation,
    Restriction,
)
from sciprob.spaces import GridSpace, Space
from sciprob.testing import OperatorConformance, adjoint_defect, taylor_orders


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Reaction(ForwardOperator):
    """y_i = sin(m_i) + m_i m_{i+1}: small, nonlinear, coupled."""

    def __init__(self, n):
        super().__init__(Space((n,), name="m"), Space((n,), name="y"))

    def _apply_batched(self, m):
        return torch.sin(m) + m * m.roll(-1, dims=-1)


class HostMatrix(ExplicitLinearMap):
    """A matrix behind numpy, which autograd cannot see through."""

    def __init__(self, matrix):
        super().__init__(Space((matrix.shape[1],)), Space((matrix.shape[0],), name="y"))
        self.matrix = matrix.numpy()

    def _matvec(self, x):
        return torch.from_numpy(x.detach().double().numpy() @ self.matrix.T).to(x.dtype)

    def _rmatvec(self, y):
        return torch.from_numpy(y.detach().double().numpy() @ self.matrix).to(y.dtype)


class TestReaction(OperatorConformance):
    def make(self):
        return Reaction(6), 0.3 * normal(6)


class TestComposition(OperatorConformance):
    def make(self):
        return DenseMap(normal(4, 6)) @ Reaction(6) @ DenseMap(normal(6, 5, seed=1)), 0.3 * normal(5)


class TestSum(OperatorConformance):
    def make(self):
        return Reaction(6) + 2.0 * DenseMap(normal(6, 6)) - Reaction(6) @ DenseMap(normal(6, 6, seed=1)), normal(6)


class TestDense(OperatorConformance):
    def make(self):
        return DenseMap(normal(4, 6), domain=Space((2, 3))), normal(2, 3)


class TestDiagonal(OperatorConformance):
    def make(self):
        return DiagonalMap(normal(2, 3)), normal(2, 3)


class TestHostMatrix(OperatorConformance):
    def make(self):
        return HostMatrix(normal(4, 6)), normal(6)


class TestLinearComposition(OperatorConformance):
    def make(self):
        return HostMatrix(normal(4, 6)) @ DiagonalMap(normal(6)) + (-2.0) * DenseMap(normal(4, 6, seed=1)), normal(6)


class TestAdjoint(OperatorConformance):
    def make(self):
        return HostMatrix(normal(4, 6)).T, normal(4)


class TestFunctionMap(OperatorConformance):
    def make(self):
        space = Space((5,))
        return FunctionMap(space, space, lambda x: x.cumsum(-1), lambda y: y.flip(-1).cumsum(-1).flip(-1)), normal(5)


class TestDefaultAdjoint(OperatorConformance):
    def make(self):
        class Differences(DenseMap):
            _adjoint_batched = ExplicitLinearMap.__mro__[1]._adjoint_batched  # the vjp at zero

        return Differences(normal(4, 6)), normal(6)


class TestAffine(OperatorConformance):
    def make(self):
        operator = Affine(DenseMap(normal(4, 6)), normal(4)) @ Reaction(6)
        return operator, 0.3 * normal(6)


class TestPoints(OperatorConformance):
    def make(self):
        grid = GridSpace((5, 4), dims=("y", "x"), lower=(0.0, 0.0), upper=(1.0, 2.0))
        points = torch.tensor([[0.3, 0.7], [2.0, 1.0], [0.3, 0.71]], dtype=torch.float64)
        return PointObservation(grid, points), normal(5, 4)


class TestRestriction(OperatorConformance):
    def make(self):
        space = Space((3, 4))
        return Restriction(space, normal(3, 4) > 0), normal(3, 4)


class WrongDerivative(torch.autograd.Function):
    @staticmethod
    def forward(m):
        return m**2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        (m,) = ctx.saved_tensors
        return 2.001 * m * grad

    @staticmethod
    def jvp(ctx, dm):
        (m,) = ctx.saved_tensors
        return 2 * m * dm


def test_the_suite_sees_a_wrong_adjoint_and_a_wrong_tangent():
    class Wrong(ForwardOperator):
        def _apply_batched(self, m):
            return WrongDerivative.apply(m)

    operator = Wrong(Space((4,)), Space((4,)))
    assert adjoint_defect(operator, normal(4), normal(4, seed=1), normal(4, seed=2)) > 1e-6

    class WrongTangent(Reaction):
        def jvp(self, m, dm):
            y, dy = super().jvp(m, dm)
            return y, 1.01 * dy

    orders = taylor_orders(WrongTangent(4), normal(4), normal(4, seed=1))
    assert max(abs(order - 1.0) for order in orders) < 0.2


def test_pickling_is_refused_with_a_remedy():
    import pickle

    with pytest.raises(TypeError, match="state_dict"):
        pickle.dumps(Reaction(3))
