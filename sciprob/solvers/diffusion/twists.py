"""Twists: functions phi(z, v) that bring the data into the noise levels, with phi(z, 0) = |r(z)|^2 / 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.surrogate import Surrogate


@dataclass(frozen=True)
class TwistValue:
    """A twist at particles `(*sets, N, *shape)`.

    Attributes:
        value: phi, `(*sets, N)`, float64.
        gradient: Its gradient in z.
        laplacian: Its Laplacian, a number common to all particles or `(*sets, N)`; NaN where it is not known.
        slope: d phi / dv at fixed z, `(*sets, N)`.
    """

    value: Tensor
    gradient: Tensor
    laplacian: float | Tensor
    slope: Tensor


class Twist(Protocol):
    """What the moves of particles need."""

    def at(self, z: Tensor, v: float) -> TwistValue:
        """Values and derivatives."""
        ...

    def value(self, z: Tensor, v: float) -> Tensor:
        """Phi alone."""
        ...


class SurrogateTwist:
    r"""phi = r^T S_v^{-1} r / 2 + log det S_v / 2 with r = A mu_v(z) - b: -log p(y | z) of a Gaussian surrogate prior.

    It obeys the surrogate's backward equation, so that
    d phi / dv = S_g . grad phi - |grad phi|^2 / 2 + lap phi / 2 with S_g = (mu_v(z) - z) / v the surrogate's score.
    With the flat surrogate this is matrix inflation, S_v = I + v A A^T.

    Args:
        surrogate: The surrogate with its data.
    """

    def __init__(self, surrogate: Surrogate) -> None:
        self.surrogate = surrogate

    def at(self, z: Tensor, v: float) -> TwistValue:
        """One solve with S_v and one adjoint."""
        s, axes = self.surrogate, len(self.surrogate.data.shape)
        mean = s.denoise(z, v)
        residual = s.data.residual(mean)
        weighted = s.solve(residual, v)
        gradient = s.filter(s.data.adjoint(weighted), v)
        value = ((residual * weighted).double().sum(-1) + s.log_det(v)) / 2
        laplacian = s.laplacian(v)
        along = event_inner(mean - z, gradient, axes) / v if v > 0 else torch.zeros_like(value)
        slope = along - event_inner(gradient, gradient, axes) / 2 + laplacian / 2
        return TwistValue(value, gradient, laplacian, slope)

    def value(self, z: Tensor, v: float) -> Tensor:
        """Without the adjoint."""
        return self.surrogate.twist(self.surrogate.residual(z, v), v)


@dataclass(frozen=True)
class Tempering:
    """phi = h(v) |r(z)|^2 / 2 with h(0) = 1.

    Args:
        weight: h.
        slope: dh / dv.
    """

    weight: Callable[[float], float]
    slope: Callable[[float], float]

    @classmethod
    def constant(cls) -> Tempering:
        """H = 1, as in the first version of the method."""
        return cls(lambda _: 1.0, lambda _: 0.0)

    @classmethod
    def linear(cls, sigma_max: float) -> Tempering:
        """H = 1 - sigma / sigma_max."""
        return cls(lambda v: 1 - v**0.5 / sigma_max, lambda v: -0.5 / (sigma_max * max(v, 1e-300) ** 0.5))

    @classmethod
    def inflation(cls, gamma: float) -> Tempering:
        """H = 1 / (1 + gamma^2 v): noise of variance gamma^2 v on every datum, in units of its own.

        Euler steps are stable where gamma is at least about the largest singular value of the operator.
        """
        return cls(lambda v: 1 / (1 + gamma**2 * v), lambda v: -(gamma**2) / (1 + gamma**2 * v) ** 2)


class TemperedTwist:
    """h(v) times the misfit at z, for any operator.

    Args:
        problem: The latent problem.
        tempering: h.
        trace: Trace of A^T A where the operator is linear, for the Laplacian.
    """

    def __init__(self, problem: LatentProblem, tempering: Tempering, trace: float = float("nan")) -> None:
        self.problem, self.tempering, self.trace = problem, tempering, trace

    def at(self, z: Tensor, v: float) -> TwistValue:
        """One forward and one adjoint solve."""
        residual, gradient = self.problem.residual_and_pullback(z)
        misfit = residual.double().square().sum(-1) / 2
        h = self.tempering.weight(v)
        return TwistValue(h * misfit, h * gradient, h * self.trace, self.tempering.slope(v) * misfit)

    def value(self, z: Tensor, v: float) -> Tensor:
        """One forward solve."""
        return self.tempering.weight(v) * self.problem.residual(z).double().square().sum(-1) / 2


def event_inner(x: Tensor, y: Tensor, axes: int) -> Tensor:
    """Inner products over the last `axes` axes, in float64."""
    return (x * y).double().flatten(x.ndim - axes).sum(-1)
