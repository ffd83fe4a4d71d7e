"""The bridge between autograd and an implicit solve: value, reverse mode, forward mode and `vmap`."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

_SECOND_DERIVATIVE = (
    "second derivatives of an implicit solve are not available; detach `m`, or use Gauss-Newton products "
    "(jvp, then vjp), which need first derivatives only."
)


class ImplicitSolve(Protocol):
    """What the bridge needs: states on one batch axis, and derivatives at them that autograd does not see into."""

    def solve_states(self, m: Tensor) -> Tensor:
        """U = S(m), `(B, *domain)` -> `(B, *codomain)`."""
        ...

    def differentiate(self, m: Tensor, u: Tensor, w: Tensor, *, transpose: bool) -> Tensor:
        """Row by row J(m) w, or J(m)^T w, at the states u = S(m)."""
        ...


def differentiable_solve(m: Tensor, op: ImplicitSolve) -> Tensor:
    """U = S(m) on one batch axis, differentiable once in either mode and mappable by `vmap`."""
    u: Tensor = _Solve.apply(m, op)
    return u


class _Solve(torch.autograd.Function):
    """m -> u as one differentiable function; `forward` without context, as `torch.func` requires."""

    @staticmethod
    def forward(m: Tensor, op: ImplicitSolve) -> Tensor:
        return op.solve_states(m)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        m, ctx.op = inputs
        ctx.save_for_backward(m, output)
        ctx.save_for_forward(m, output)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        return _Derivative.apply(*ctx.saved_tensors, grad[0], ctx.op, True), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Derivative.apply(*ctx.saved_tensors, tangents[0], ctx.op, False)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], m: Tensor, op: ImplicitSolve) -> Any:
        m = m.movedim(in_dims[0], 0)
        return _Solve.apply(m.flatten(0, 1), op).unflatten(0, m.shape[:2]), 0


class _Derivative(torch.autograd.Function):
    """J(m) w (tangent) or J(m)^T w (adjoint), linear in w, each the transpose of the other."""

    @staticmethod
    def forward(m: Tensor, u: Tensor, w: Tensor, op: ImplicitSolve, transpose: bool) -> Tensor:
        return op.differentiate(m, u, w, transpose=transpose)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        m, u, _, ctx.op, ctx.transpose = inputs
        ctx.save_for_backward(m, u)
        ctx.save_for_forward(m, u)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            raise NotImplementedError(_SECOND_DERIVATIVE)
        if grad[0] is None:
            return None, None, None, None, None
        return (
            None,
            None,
            _Derivative.apply(*ctx.saved_tensors, grad[0], ctx.op, not ctx.transpose),
            None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        if tangents[0] is not None or tangents[1] is not None:
            raise NotImplementedError(_SECOND_DERIVATIVE)
        return _Derivative.apply(*ctx.saved_tensors, tangents[2], ctx.op, ctx.transpose)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], m: Tensor, u: Tensor, w: Tensor, op: ImplicitSolve, transpose: bool
    ) -> Any:
        m, u, w = (
            x.expand(info.batch_size, *x.shape) if axis is None else x.movedim(axis, 0)
            for x, axis in zip((m, u, w), in_dims, strict=False)
        )
        result = _Derivative.apply(m.flatten(0, 1), u.flatten(0, 1), w.flatten(0, 1), op, transpose)
        return result.unflatten(0, w.shape[:2]), 0
