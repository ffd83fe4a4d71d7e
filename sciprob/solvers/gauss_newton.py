"""Steps towards the most probable whitened coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError, NonFiniteError
from sciprob.solvers.linear_algebra import conjugate_gradients, inner
from sciprob.solvers.whitened import LocalModel, WhitenedTarget

_ARMIJO = 1e-4
_HALVINGS = 25


@dataclass(frozen=True)
class NewtonStep:
    """Where a Gauss-Newton step led.

    Attributes:
        xi: New point `(*white.shape)`.
        objective: Its -log posterior density.
        gradient_norm: Norm of the gradient where the step began.
        scale: Gradient norm that tolerances are relative to.
        cg_iterations: Hessian products.
        length: Fraction of the full step that was taken; 0 if none.
        converged: Whether the stopping rule is met.
    """

    xi: Tensor
    objective: float
    gradient_norm: float
    scale: float
    cg_iterations: int
    length: float
    converged: bool


def gauss_newton_step(
    target: WhitenedTarget, xi: Tensor, *, scale: float, tolerance: float, decrease: float, cg_steps: int
) -> NewtonStep:
    """One inexact Gauss-Newton step with Armijo backtracking.

    Stops when |gradient| <= `tolerance` x `scale`, or when a full step lowers the objective, or is
    expected to where none can be found, by less than the fraction `decrease` of it. The linear system is solved to
    the relative accuracy min(0.1, (|gradient| / scale)^{1/2}), which makes the iteration superlinear.

    Args:
        target: The whitened posterior.
        xi: Current point.
        scale: Gradient norm of the first point; 0 to take that of this point.
        tolerance: Relative gradient norm; not below 10 x round-off.
        decrease: Relative decrease of the objective; 0 to look at the gradient alone.
        cg_steps: Largest number of conjugate-gradient iterations.

    Raises:
        NonFiniteError: If objective or gradient are not finite at `xi`.

    Source: Eisenstat and Walker, SIAM J. Sci. Comput. 17 (1996).
    """
    local = target.linearise(xi)
    norm = float(inner(local.gradient[None], local.gradient[None]).sqrt())
    if not (math.isfinite(norm) and math.isfinite(local.objective)):
        message = "the posterior density should be finite, it or its gradient is not; check data, noise and prior."
        raise NonFiniteError(message)
    scale = scale or norm
    eps = torch.finfo(xi.dtype).eps
    if norm <= max(tolerance, 10 * eps) * scale:  # the gradient at the end is a difference of terms of size `scale`
        return NewtonStep(xi, local.objective, norm, scale, 0, 0.0, True)
    forcing = max(1e3 * eps, min(0.1, math.sqrt(norm / scale) if norm < scale else 0.1))
    cg = conjugate_gradients(local.hessian, -local.gradient[None], forcing * norm, cg_steps)
    direction = cg.solution[0]
    length, objective = _backtrack(target, xi, local, direction)
    least = max(decrease * abs(objective), _round_off(xi, objective))
    if length == 0:  # nothing along the direction is lower within round-off: the minimum, if little was expected
        expected = -float(inner(local.gradient[None], direction[None])) / 2
        return NewtonStep(xi, local.objective, norm, scale, cg.iterations, 0.0, expected <= least)
    drop = local.objective - objective
    small = decrease > 0 and length == 1 and drop <= least
    return NewtonStep(xi + length * direction, objective, norm, scale, cg.iterations, length, small)


def _backtrack(target: WhitenedTarget, xi: Tensor, local: LocalModel, direction: Tensor) -> tuple[float, float]:
    """Step length with sufficient decrease, and the objective there; length 0 if there is none."""
    slope = float(inner(local.gradient[None], direction[None]))
    slack = _round_off(xi, local.objective)
    length = 1.0
    for _ in range(_HALVINGS):
        try:
            objective = float(target.objective(xi + length * direction))
        except ConvergenceError:  # a forward solver may fail far away; nearer points are tried
            objective = math.inf
        if objective <= local.objective + _ARMIJO * length * slope + slack:
            return length, objective
        length /= 2
    return 0.0, local.objective


def _round_off(xi: Tensor, objective: float) -> float:
    return 8 * torch.finfo(xi.dtype).eps * abs(objective)
