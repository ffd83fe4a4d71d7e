"""A test suite for forward operators, to inherit from.

    class TestMyOperator(OperatorConformance):
        def make(self):
            return MyOperator(n=9), 0.3 * torch.randn(81, dtype=torch.float64)

Every inherited test is one promise of the forward-operator contract.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from sciprob.errors import HostTransferWarning, ShapeError
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.operators.linear import LinearMap
from sciprob.spaces import Space
from sciprob.testing.checks import adjoint_defect, taylor_orders


class OperatorConformance:
    """Inherit, implement `make`, and pytest runs the contract against your operator.

    Class attributes loosen what an operator cannot do by nature; each use needs a reason.

    Attributes:
        dot_tolerance: Largest relative defect of <J dm, v> = <dm, J^T v> in float64.
        single_tolerance: Largest relative difference between float32 and float64 results.
        differs_in_batch: Relative difference allowed between a sample alone and in a batch.
    """

    dot_tolerance: ClassVar[float] = 1e-12
    single_tolerance: ClassVar[float] = 1e-4
    differs_in_batch: ClassVar[float] = 1e-12

    def make(self) -> tuple[ForwardOperator, Tensor]:
        """The operator and one point of its domain, float64, without batch axes."""
        message = "`make` should return (operator, point), with the point in float64 and without batch axes"
        raise NotImplementedError(message)

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls) -> tuple[ForwardOperator, Tensor]:
        """Operator and point, built once per class."""
        operator, m = cls().make()
        assert m.dtype == torch.float64
        assert operator.domain.batch_shape(m) == ()
        return operator, m

    @staticmethod
    def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
        """Standard normal numbers in float64."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    @pytest.mark.parametrize("batch", [(), (3,), (2, 3), (2, 1, 2), (0,), (2, 0)])
    def test_batch_axes(self, case: Any, batch: tuple[int, ...]) -> None:
        """Any leading axes, also none and empty, give the results of the single samples."""
        operator, m = case
        ms = m + 0.01 * self.noise((*batch, *m.shape))
        ys = operator(ms)
        assert operator.codomain.batch_shape(ys) == batch
        flat = operator.codomain.merge(ys)
        for single, expected in zip(operator.domain.merge(ms), flat, strict=True):
            y = operator(single)
            assert _relative(y, expected) <= self.differs_in_batch

    def test_same_input_same_output(self, case: Any) -> None:
        """Deterministic, and the argument is left alone."""
        operator, m = case
        before = m.clone()
        assert torch.equal(operator(m), operator(m))
        assert torch.equal(m, before)

    def test_single_precision(self, case: Any) -> None:
        """float32 in, float32 out, of float32 accuracy."""
        operator, m = case
        y = operator(m.float())
        assert y.dtype == torch.float32
        assert y.device == m.device
        assert _relative(y.double(), operator(m)) <= self.single_tolerance

    def test_follows_the_device(self, case: Any) -> None:
        """The result lies where the input lies (run where CUDA is available)."""
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        operator, m = case
        expected = operator(m)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HostTransferWarning)  # engines on the host say so, rightly
                y = operator.to("cuda")(m.cuda())
        finally:
            operator.to("cpu")  # in place: operators refuse to be copied
        assert y.device.type == "cuda"
        assert _relative(y.cpu(), expected) <= self.single_tolerance

    def test_bad_shapes_raise(self, case: Any) -> None:
        """A tensor that does not fit is refused with both shapes in the message."""
        operator, m = case
        wrong = torch.cat([m, m[..., :1]], dim=-1)
        with pytest.raises(ShapeError) as caught:
            operator(wrong)
        assert str(tuple(wrong.shape)) in str(caught.value)
        assert str(operator.domain.shape) in str(caught.value)
        with pytest.raises(ShapeError):
            operator.jvp(m, m.expand(2, *m.shape))

    def test_dot_product(self, case: Any) -> None:
        """<J dm, v> = <dm, J^T v>, for random and for constant vectors."""
        operator, m = case
        self._needs(operator, Capability.JVP, Capability.VJP)
        shape = operator.codomain.shape
        pairs = [(self.noise(m.shape, 1), self.noise(shape, 2)), (torch.ones_like(m), torch.ones(shape).double())]
        for dm, v in pairs:
            assert adjoint_defect(operator, m, dm, v) <= self.dot_tolerance

    def test_tangent_at_an_expanded_point(self, case: Any) -> None:
        """One point for many directions, without a copy of it: the same as with copies."""
        operator, m = case
        self._needs(operator, Capability.JVP)
        dm = self.noise((2, *m.shape), 11)
        _, found = operator.jvp(m.expand(dm.shape), dm)
        _, expected = operator.jvp(m.expand(dm.shape).clone(), dm)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

    def test_taylor_order(self, case: Any) -> None:
        """The remainder of the tangent is of second order, or zero for linear maps."""
        operator, m = case
        self._needs(operator, Capability.JVP)
        orders = taylor_orders(operator, m, self.noise(m.shape, 3))
        if operator.linear:
            assert orders == [], f"a linear map has no remainder, got orders {orders}"
        else:
            assert all(1.8 <= order <= 2.2 for order in orders), f"orders {orders}"

    def test_linearise(self, case: Any) -> None:
        """`linearise` acts as jvp and vjp do, for a block of directions at once."""
        operator, m = case
        self._needs(operator, Capability.JVP, Capability.VJP)
        y, derivative = operator.linearise(m)
        assert isinstance(derivative, LinearMap)
        dm, v = self.noise((3, *m.shape), 4), self.noise((3, *operator.codomain.shape), 5)
        tangents, pullbacks = derivative(dm), derivative.T(v)
        assert _relative(y, operator(m)) <= 1e-12
        for k in range(3):
            assert _relative(tangents[k], operator.jvp(m, dm[k])[1]) <= 1e-9
            assert _relative(pullbacks[k], operator.vjp(m, v[k])[1]) <= 1e-9

    def test_vmap(self, case: Any) -> None:
        """`torch.func.vmap` equals a batch axis."""
        operator, m = case
        ms = m + 0.01 * self.noise((3, *m.shape))
        assert _relative(torch.func.vmap(operator)(ms), operator(ms)) <= 1e-12

    def test_jacobians_agree(self, case: Any) -> None:
        """Reverse and forward mode give one Jacobian (of a few combinations of outputs and inputs)."""
        operator, m = case
        self._needs(operator, Capability.JVP, Capability.VJP)
        inputs, outputs = self.noise((3, *m.shape), 6), self.noise((3, *operator.codomain.shape), 7)

        def reduced(c: Tensor) -> Tensor:
            y = operator(m + torch.tensordot(c, inputs, 1))
            combined: Tensor = (outputs * y).flatten(1).sum(1)
            return combined

        zero = torch.zeros(3, dtype=torch.float64)
        reverse, forward = torch.func.jacrev(reduced)(zero), torch.func.jacfwd(reduced)(zero)
        assert _relative(reverse, forward) <= 1e-10

    def test_two_forwards_before_a_backward(self, case: Any) -> None:
        """Each backward pass differentiates at its own point, not at the last one evaluated."""
        operator, m = case
        self._needs(operator, Capability.VJP)
        v = self.noise(operator.codomain.shape, 8)
        points = [(m + shift).requires_grad_() for shift in (0.0, 0.1)]
        values = [(operator(p) * v).sum() for p in points]
        for point, value in reversed(list(zip(points, values, strict=True))):
            (gradient,) = torch.autograd.grad(value, point)
            assert _relative(gradient, operator.vjp(point.detach(), v)[1]) <= 1e-10

    def test_state_dict_round_trip(self, case: Any) -> None:
        """The state dictionary loads back and changes nothing."""
        operator, m = case
        y = operator(m)
        operator.load_state_dict(operator.state_dict())
        assert torch.equal(operator(m), y)

    def test_adjoint_of_linear_maps(self, case: Any) -> None:
        """`A.T` is the transpose of `A`, and its own transpose is `A`."""
        operator, m = case
        if not isinstance(operator, LinearMap):
            pytest.skip("not a linear map")
        y = self.noise(operator.codomain.shape, 9)
        assert _relative(operator.T(y), operator.vjp(m, y)[1]) <= 1e-12
        assert torch.equal(operator.T.T(m), operator(m))
        left, right = operator.codomain.inner(operator(m), y), operator.domain.inner(m, operator.T(y))
        assert abs(float(left - right)) <= self.dot_tolerance * float(operator(m).norm() * y.norm())

    @staticmethod
    def _needs(operator: ForwardOperator, *capabilities: Capability) -> None:
        missing = set(capabilities) - operator.capabilities
        if missing:
            pytest.skip(f"the operator does not declare {', '.join(c.name for c in missing)}")
        if not isinstance(operator.domain, Space) or not isinstance(operator.codomain, Space):
            pytest.skip("derivative checks run on plain spaces; check the factors of a product one by one")


def _relative(a: Tensor, b: Tensor) -> float:
    scale = float(b.detach().norm())
    difference = float((a.detach() - b.detach()).norm())
    return difference / scale if scale > 0 else difference


__all__ = ["OperatorConformance"]
