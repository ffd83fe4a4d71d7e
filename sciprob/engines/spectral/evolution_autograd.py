"""The bridge between autograd and a march: value, reverse mode, forward mode and `vmap`, with checkpoints in time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from sciprob.engines.spectral.march import March
from sciprob.operators.counting import SolveCounter

_SECOND_DERIVATIVE = (
    "second derivatives of an evolution are not available; detach the argument, or use Gauss-Newton products "
    "(jvp, then vjp), which need first derivatives only."
)


def differentiable_march(march: March, stats: SolveCounter, inputs: tuple[Tensor, ...]) -> Tensor:
    """Values at the output times, differentiable once in either mode and mappable by `vmap`."""
    values: Tensor
    if _may_be_differentiated(inputs):
        values, _ = _Solve.apply(march, stats, *inputs)
    else:  # no state needs to be stored
        stats.forward += len(inputs[0])
        with torch.no_grad():
            values, _ = march.run(inputs, store=False)
    return values


def _may_be_differentiated(inputs: tuple[Tensor, ...]) -> bool:
    wrapped = torch._C._are_functorch_transforms_active()
    return (
        wrapped or forward_ad._current_level >= 0 or (torch.is_grad_enabled() and any(x.requires_grad for x in inputs))
    )


class _Solve(torch.autograd.Function):
    """Unknowns -> (values, states at the starts of the pieces)."""

    @staticmethod
    def forward(march: March, stats: SolveCounter, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        stats.forward += len(inputs[0])
        return march.run(inputs, store=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.march, ctx.stats, *unknowns = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*unknowns, output[1])
        ctx.save_for_forward(*unknowns, output[1])

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        gradients = _Derivative.apply(ctx.march, ctx.stats, True, *ctx.saved_tensors, grad[0])
        return None, None, *gradients

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        *unknowns, stored = ctx.saved_tensors
        directions = [torch.zeros_like(x) if t is None else t for x, t in zip(unknowns, tangents[2:], strict=True)]
        (tangent,) = _Derivative.apply(ctx.march, ctx.stats, False, *unknowns, stored, *directions)
        return tangent, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], march: March, stats: SolveCounter, *inputs: Tensor) -> Any:
        flat = _merge(info.batch_size, in_dims[2:], inputs)
        values, stored = _Solve.apply(march, stats, *flat)
        return (_split(info.batch_size, values), _split(info.batch_size, stored)), (0, 0)


class _Derivative(torch.autograd.Function):
    """J w (one direction per unknown) or J^T w (one co-vector), linear in w, each the transpose of the other."""

    @staticmethod
    def forward(march: March, stats: SolveCounter, transpose: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        k = len(march.unknown)
        unknowns, stored, vectors = tensors[:k], tensors[k], tensors[k + 1 :]
        if transpose:
            stats.adjoint += len(vectors[0])
            return march.adjoint(unknowns, stored, vectors[0])
        stats.tangent += len(vectors[0])
        return (march.tangent(unknowns, vectors),)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.march, ctx.stats, ctx.transpose, *tensors = inputs
        ctx.n_points = len(ctx.march.unknown) + 1
        ctx.save_for_backward(*tensors[: ctx.n_points])
        ctx.save_for_forward(*tensors[: ctx.n_points])

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        if any(ctx.needs_input_grad[3 : 3 + ctx.n_points]):
            raise NotImplementedError(_SECOND_DERIVATIVE)
        found = _Derivative.apply(ctx.march, ctx.stats, not ctx.transpose, *ctx.saved_tensors, *grad)
        return None, None, None, *(None,) * ctx.n_points, *found

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        if any(t is not None for t in tangents[3 : 3 + ctx.n_points]):
            raise NotImplementedError(_SECOND_DERIVATIVE)
        vectors = tangents[3 + ctx.n_points :]
        return _Derivative.apply(ctx.march, ctx.stats, ctx.transpose, *ctx.saved_tensors, *vectors)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], march: March, stats: SolveCounter, transpose: bool, *tensors: Tensor
    ) -> Any:
        flat = _merge(info.batch_size, in_dims[3:], tensors)
        result = _Derivative.apply(march, stats, transpose, *flat)
        return tuple(_split(info.batch_size, x) for x in result), (0,) * len(result)


def _merge(size: int, in_dims: tuple[Any, ...], tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Move the mapped axis in front of the batch axis and join them."""
    moved = [
        x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0)
        for x, axis in zip(tensors, in_dims, strict=True)
    ]
    # contiguous, because forward mode refuses expanded tensors
    return [x.reshape(size * x.shape[1], *x.shape[2:]).contiguous() for x in moved]


def _split(size: int, x: Tensor) -> Tensor:
    return x.reshape(size, len(x) // size if size else 0, *x.shape[1:])
