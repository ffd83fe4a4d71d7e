"""Gaussian surrogates of the prior of x, conditioned on linear data at every noise level."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.random import randn
from sciprob.solvers.diffusion.linear_algebra import LinearData


@dataclass(frozen=True)
class Transition:
    """Covariance T = white I + share^2 G_v of a Gaussian step away from the variance v."""

    white: float
    share: float = 0.0
    v: float = 0.0

    @classmethod
    def down(cls, v: float, after: float) -> Transition:
        """Of z' at the variance `after` given z at v under the surrogate; its mean goes that share of the way."""
        return cls((v - after) * after / v, (v - after) / v, v)


class Surrogate(abc.ABC):
    r"""x ~ N(a, C), z = x + sqrt(v) e and white data b = A x + noise, in closed form.

    The surrogate's denoiser is mu_v(z) = a + F_v (z - a) with F_v = C (C + v)^{-1}, and the data given z are
    N(A mu_v(z), S_v) with S_v = I + A G_v A^T, G_v = v C (C + v)^{-1}. With C infinite ("flat") F_v = I and G_v = v.

    z' at v' < v given z is N(z + (1 - v'/v)(mu_v(z) - z), T) with T of `Transition.down`.

    Attributes:
        data: The linear data.
    """

    def __init__(self, data: LinearData) -> None:
        self.data = data

    @abc.abstractmethod
    def denoise(self, z: Tensor, v: float) -> Tensor:
        """mu_v(z)."""

    @abc.abstractmethod
    def filter(self, x: Tensor, v: float) -> Tensor:
        """F_v x."""

    @abc.abstractmethod
    def solve(self, r: Tensor, v: float) -> Tensor:
        """S_v^{-1} r."""

    @abc.abstractmethod
    def energy(self, r: Tensor, v: float) -> Tensor:
        """r^T S_v^{-1} r, `(*batch,)` in float64."""

    @abc.abstractmethod
    def log_det(self, v: float) -> float:
        """Log determinant of S_v."""

    @abc.abstractmethod
    def laplacian(self, v: float) -> float:
        """Trace of F_v A^T S_v^{-1} A F_v."""

    @abc.abstractmethod
    def noise(self, like: Tensor, transition: Transition, generator: torch.Generator) -> Tensor:
        """Draws of N(0, T)."""

    @abc.abstractmethod
    def weigh(self, x: Tensor, transition: Transition) -> Tensor:
        """T x."""

    @abc.abstractmethod
    def conditioned(
        self, mean: Tensor, residual: Tensor, v: float, transition: Transition, generator: torch.Generator
    ) -> Tensor:
        """Draws of N(z; mean, T) tilted by exp(-rho^T S_v^{-1} rho / 2), rho = residual + A F_v (z - mean).

        Args:
            mean: `(*batch, *shape)`.
            residual: The residual at `mean`, `(*batch, m)`: A mu_v(mean) - b, or what another denoiser says.
            v: Variance of z.
            transition: T.
            generator: Randomness.
        """

    @abc.abstractmethod
    def evidence(self, residual: Tensor, v: float, transition: Transition) -> Tensor:
        """Log of the normaliser of `conditioned` over det(S_v)^{1/2}, `(*batch,)` in float64."""

    @abc.abstractmethod
    def start(self, sets: torch.Size, count: int, v: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws `(*sets, count, *shape)` of z given the data, and their log evidence `(*sets,)`, both exact."""

    @abc.abstractmethod
    def posterior_mean(self) -> Tensor:
        """Mean of x given the data, `(*sets, *shape)`."""

    @abc.abstractmethod
    def marginal(self, like: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """Draws of z without data, shaped as `like`."""

    def residual(self, z: Tensor, v: float) -> Tensor:
        """A mu_v(z) - b, `(*batch, m)`."""
        return self.data.residual(self.denoise(z, v))

    def twist(self, residual: Tensor, v: float) -> Tensor:
        """residual^T S_v^{-1} residual / 2 + log det S_v / 2, `(*batch,)` in float64."""
        return (self.energy(residual, v) + self.log_det(v)) / 2


class IsotropicSurrogate(Surrogate):
    """C = c I; c infinite is the flat surrogate, whose z starts from N(a, (1 + v) I).

    Args:
        data: Linear data.
        centre: a, `(*shape)`.
        variance: c, possibly infinite.
    """

    def __init__(self, data: LinearData, centre: Tensor, variance: float = math.inf) -> None:
        super().__init__(data)
        self.centre, self.variance = centre, variance

    def _factors(self, v: float) -> tuple[float, float]:
        """F_v and G_v."""
        if v == 0:
            return 1.0, 0.0
        return (
            (1.0, v)
            if math.isinf(self.variance)
            else (self.variance / (self.variance + v), v / (1 + v / self.variance))
        )

    def _variance(self, transition: Transition) -> float:
        # a flat surrogate's own transition would forget the present z; a point's is the common choice there
        inner = 0.0 if math.isinf(self.variance) or transition.v == 0 else self._factors(transition.v)[1]
        return transition.white + transition.share**2 * inner

    def denoise(self, z: Tensor, v: float) -> Tensor:
        """Shrinks towards the centre."""
        factor = self._factors(v)[0]
        return z if factor == 1 else self.centre + factor * (z - self.centre)

    def filter(self, x: Tensor, v: float) -> Tensor:
        """A number times x."""
        return self._factors(v)[0] * x

    def solve(self, r: Tensor, v: float) -> Tensor:
        """Of the data's class."""
        return self.data.solve(r, self._factors(v)[1])

    def energy(self, r: Tensor, v: float) -> Tensor:
        """Of the data's class."""
        return self.data.energy(r, self._factors(v)[1])

    def log_det(self, v: float) -> float:
        """Of the data's class."""
        return self.data.log_det(self._factors(v)[1])

    def laplacian(self, v: float) -> float:
        """Of the data's class."""
        f, g = self._factors(v)
        return f * f * self.data.trace(g)

    def noise(self, like: Tensor, transition: Transition, generator: torch.Generator) -> Tensor:
        """White."""
        return math.sqrt(self._variance(transition)) * randn(tuple(like.shape), like, generator)

    def weigh(self, x: Tensor, transition: Transition) -> Tensor:
        """A number times x."""
        return self._variance(transition) * x

    def conditioned(
        self, mean: Tensor, residual: Tensor, v: float, transition: Transition, generator: torch.Generator
    ) -> Tensor:
        """`LinearData.condition` for u = F_v (z - mean)."""
        f, g = self._factors(v)
        t = self._variance(transition)
        if t == 0:
            return mean
        return mean + self.data.condition(torch.zeros_like(mean), f * f * t, g, generator, residual) / f

    def evidence(self, residual: Tensor, v: float, transition: Transition) -> Tensor:
        """Of the data's class."""
        f, g = self._factors(v)
        return self.data.log_evidence(residual, f * f * self._variance(transition), g)

    def start(self, sets: torch.Size, count: int, v: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Exact under N(a, (c + v) I)."""
        f, g = self._factors(v)
        spread = (1.0 if math.isinf(self.variance) else self.variance) + v
        centre = self.centre.expand(*sets, count, *self.data.shape)
        first = centre.narrow(len(sets), 0, 1)
        evidence = self.data.log_evidence(self.data.residual(first), f * f * spread, g)
        draws = self.data.condition(centre, f * f * spread, g, generator)
        return self.centre + (draws - self.centre) / f, evidence[..., 0]

    def posterior_mean(self) -> Tensor:
        """A - c A^T (I + c A A^T)^{-1} r(a), with c = 1 for the flat surrogate."""
        c = 1.0 if math.isinf(self.variance) else self.variance
        return self.centre - c * self.data.pull(self.data.forward(self.centre) - self.data.target, c)

    def marginal(self, like: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """White around the centre."""
        spread = (1.0 if math.isinf(self.variance) else self.variance) + v
        return self.centre + math.sqrt(spread) * randn(tuple(like.shape), like, generator)
