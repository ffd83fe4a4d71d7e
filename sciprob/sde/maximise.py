"""Maxima of many smooth functions of few parameters at once, with their curvature."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_STEP = 1e-4  # of the central differences of gradients


def maximise(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    iterations: int = 40,
    tolerance: float = 1e-7,
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton's method in a box, with a trust radius for each member of the batch.

    Args:
        function: `(copies, *batch, p)` -> `(copies, *batch)`, differentiable once.
        start: `(*batch, p)`.
        lower: Bounds `(p,)`.
        upper: Bounds `(p,)`.
        iterations: Most steps; more are only needed on plateaus.
        tolerance: Length of the last step.

    Returns:
        Argument `(*batch, p)`, value `(*batch,)`, Hessian `(*batch, p, p)`. At a bound the Hessian is that
        of the function, not of the constrained problem.
    """
    margin = 2 * _STEP
    x = start.clamp(lower + margin, upper - margin)
    value, gradient, hessian = _derivatives(function, x)
    radius = torch.full_like(x[..., :1], 0.5)
    for _ in range(iterations):
        candidate = x + _newton_step(x, gradient, hessian, radius, lower + margin, upper - margin)
        moved = (candidate - x).norm(dim=-1)
        if moved.numel() == 0 or float(moved.max()) < tolerance:
            break
        new = _derivatives(function, candidate)
        # equal up to rounding counts as better, so that Newton may finish at a flat top
        better = new[0] >= value - 1e-13 * value.abs()
        x = torch.where(better[..., None], candidate, x)
        value = torch.where(better, new[0], value)
        gradient = torch.where(better[..., None], new[1], gradient)
        hessian = torch.where(better[..., None, None], new[2], hessian)
        radius = torch.where(better[..., None], 2 * radius, moved[..., None] / 4)
    return x, value, hessian


def _newton_step(x: Tensor, gradient: Tensor, hessian: Tensor, radius: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Ascent step: absolute curvature, parameters held at a bound they press against, at most `radius` long."""
    held = ((x <= lower) & (gradient < 0)) | ((x >= upper) & (gradient > 0))
    free = (~held).to(x.dtype)
    reduced = hessian * free[..., :, None] * free[..., None, :] - torch.diag_embed(1 - free)
    values, vectors = torch.linalg.eigh(reduced)
    along = (vectors.mT @ (gradient * free)[..., None]).squeeze(-1) / values.abs().clamp_min(1e-8)
    step = (vectors @ along[..., None]).squeeze(-1)
    step = step * (radius / step.norm(dim=-1, keepdim=True).clamp_min(1e-300)).clamp_max(1)
    bounded: Tensor = (x + step).clamp(lower, upper)
    return bounded - x


def _derivatives(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient and Hessian from one call on 2 p + 1 shifted copies."""
    p = x.shape[-1]
    shifts = torch.cat([torch.zeros(1, p), torch.eye(p), -torch.eye(p)]).to(x) * _STEP
    with torch.enable_grad():
        points = (x + shifts.reshape(-1, *(1,) * (x.ndim - 1), p)).detach().requires_grad_()
        values = function(points)
        (gradients,) = torch.autograd.grad(values.sum(), points)
    columns = (gradients[1 : p + 1] - gradients[p + 1 :]) / (2 * _STEP)
    hessian = columns.movedim(0, -1)
    return values[0].detach(), gradients[0], (hessian + hessian.mT) / 2
