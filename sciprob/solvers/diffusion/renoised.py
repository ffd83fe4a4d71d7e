"""Moves that draw the clean unknown given its noisy version and the data, and add the noise of the next level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.priors.diffusion.spectrum import Spectrum
from sciprob.random import randn
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.moves import Moved, Prepared
from sciprob.solvers.diffusion.particles import Particles, Seen
from sciprob.solvers.diffusion.surrogate import DiagonalSpectrum, spectrum_of

Apply = Callable[[Tensor], Tensor]
_TOLERANCE = 0.02  # of the solves, relative to their right-hand sides
_AT_ONCE = 1 << 16  # numbers of particles whose forward runs are kept in memory for adjoints


@dataclass(frozen=True)
class DenoisedCovariance:
    """G_v = v C (C + v)^{-1}: covariance of x given z = x + sqrt(v) e, for x ~ N(a, C).

    Args:
        spectrum: C.
    """

    spectrum: Spectrum

    @classmethod
    def of(cls, prior: GaussianPrior | None, like: Tensor) -> DenoisedCovariance:
        """Of a surrogate prior; C = I where there is none. `like` is a field of x."""
        return cls(
            DiagonalSpectrum(torch.ones_like(like, dtype=torch.float64)) if prior is None else spectrum_of(prior)
        )

    def apply(self, x: Tensor, v: float) -> Tensor:
        """G_v x, `(n, *shape)`."""
        return self.spectrum.apply_function(self._values(v)[None], x.new_zeros(()), x)

    def noise(self, like: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """Draws of N(0, G_v), shaped as `like (n, *shape)`."""
        white = randn(tuple(like.shape), like, generator)
        return self.spectrum.apply_function(self._values(v).sqrt()[None], white.new_zeros(()), white)

    def noisy(self, like: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """Draws of N(0, C + v I), shaped as `like (n, *shape)`."""
        white = randn(tuple(like.shape), like, generator)
        root = (self.spectrum.eigenvalues + v).sqrt()
        return self.spectrum.apply_function(root[None], white.new_tensor(math.sqrt(v)), white)

    def _values(self, v: float) -> Tensor:
        c = self.spectrum.eigenvalues
        return v * c / (c + v)


@dataclass(frozen=True)
class RenoisedMove:
    r"""x from N(x; D(z), G_v) exp(-|r(x)|^2 / 2), then z' = x + sqrt(v') e: equal weights, for any operator.

    Were x given z the Gaussian N(D, G_v), and r affine, particles would keep the law of z given y from level to level,
    for any levels: nothing of one level's z is left in the next but through x. Where r is not affine it is replaced
    for each particle by r(D) + J(D) (x - D) with the noise I + R: R holds the mean squares over the particles of
    what this leaves out, r(D + d) - r(D) - J(D) d, d ~ N(0, G_v) (statistical linearisation). So data that the
    unknown cannot yet predict at this level count little, and R falls to zero with v. Each draw is one Gaussian
    conditional, by conjugate gradients with products with J and its transpose.

    As a corrector the same draw adds the noise of the same level: Gibbs steps on p(x, z | y).

    Args:
        problem: The data.
        denoiser: Of the prior.
        covariance: G_v.
        products: Most products with J and J^T of each draw.

    Sources: Zhang et al., CVPR 2025, arXiv 2407.01521 (renoising, there with sigma^2 I for G_v); Rozet, Andry, Lanusse,
    Louppe, NeurIPS 2024, arXiv 2405.13712 (conjugate gradients for each member); Garcia-Fernandez, Svensson, Morelande,
    Sarkka, IEEE Trans. Signal Process. 63 (2015) (linearisation with the noise it leaves).
    """

    problem: LatentProblem
    denoiser: Denoiser
    covariance: DenoisedCovariance
    products: int = 12

    def look(self, z: Tensor, v: float) -> Seen | None:
        """Nothing."""
        return None

    def prepare(self, particles: Particles) -> Prepared:
        """The denoised particles."""
        return _RenoisedStep(self, particles.z, particles.v, self.denoiser(particles.z, math.sqrt(particles.v)))

    def start(self, count: int, v: float, generator: torch.Generator) -> Particles:
        """Particles at the variance v that know nothing of the data."""
        problem = self.problem
        like = problem.like.new_empty(*problem.sets, count, *problem.latent.shape)
        noise = self.covariance.noisy(like.reshape(-1, *problem.latent.shape), v, generator)
        z = noise.reshape(like.shape)
        if (surrogate := problem.prior.surrogate) is not None:
            z = z + surrogate.mean.to(z)
        return Particles.first(z, z.new_zeros(problem.sets), v)

    def correct(self, z: Tensor, v: float, steps: int, generator: torch.Generator) -> Tensor:
        """Gibbs steps at the variance v > 0, each with one network call."""
        for _ in range(steps):
            x = self.draw(self.denoiser(z, math.sqrt(v)), v, generator)
            z = x + math.sqrt(v) * randn(tuple(x.shape), x, generator)
        return z

    def draw(self, denoised: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """Draws of x around the denoised particles `(*sets, N, *shape)`.

        For each particle two forward solves, a tangent one, and up to `products` pairs of tangents and adjoints.
        """
        sets, shape = self.problem.sets, denoised.shape
        shift = self.covariance.noise(denoised.reshape(-1, *self.problem.latent.shape), v, generator).reshape(shape)
        with torch.no_grad():
            residual, along = self._in_parts(self.problem.jvp, denoised, shift)
            far, _ = self._in_parts(lambda x, _: (self.problem.residual(x),) * 2, denoised + shift, shift)
        left_out = (far - residual - along).square().mean(len(sets), keepdim=True)
        noise = randn(tuple(residual.shape), residual, generator)
        root = (1 + left_out).rsqrt()  # of the precision
        gap = -root * (residual + along) - noise
        (gain,) = self._in_parts(lambda x, g, h: (self._gain(x, v, g, h),), denoised, gap, root.expand(gap.shape))
        return denoised + shift + gain

    def _gain(self, x: Tensor, v: float, gap: Tensor, root: Tensor) -> Tensor:
        """G J^T h (I + h J G J^T h)^{-1} gap for every particle, h = diag(root)."""
        _, jacobian = self.problem.operator.linearise(x)
        flat = (-1, *self.problem.latent.shape)

        def pull(w: Tensor) -> Tensor:
            back: Tensor = jacobian.T(self.problem.whiten_adjoint(root * w))
            return self.covariance.apply(back.reshape(flat), v).reshape(x.shape)

        def apply(w: Tensor) -> Tensor:
            return w + root * self.problem.whiten(jacobian(pull(w)))

        with torch.no_grad():
            return pull(particle_conjugate_gradients(apply, gap, _TOLERANCE, self.products))

    def _in_parts(self, function: Callable[..., tuple[Tensor, ...]], *arguments: Tensor) -> tuple[Tensor, ...]:
        """Results of a function of particles, for a bounded number of them at a time."""
        axis = len(self.problem.sets)
        count, sets = arguments[0].shape[axis], arguments[0].shape[:axis].numel()
        most, parts = max(1, _AT_ONCE // (sets * self.problem.size)), []
        for first in range(0, count, most):
            length = min(most, count - first)
            parts.append(function(*(value.narrow(axis, first, length) for value in arguments)))
        return tuple(torch.cat(part, axis) for part in zip(*parts, strict=True))


@dataclass(frozen=True)
class _RenoisedStep:
    method: RenoisedMove
    z: Tensor
    v: float
    denoised: Tensor
    kappa: float | None = None

    def increment(self, after: float) -> Tensor:
        return self.z.new_zeros(self.z.shape[: len(self.method.problem.sets) + 1], dtype=torch.float64)

    def move(self, after: float, generator: torch.Generator) -> Moved:
        x = self.method.draw(self.denoised, self.v, generator)
        if after > 0:
            x = x + math.sqrt(after) * randn(tuple(x.shape), x, generator)
        return x, self.increment(after), None


def particle_conjugate_gradients(apply: Apply, rhs: Tensor, tolerance: float, most: int) -> Tensor:
    """Solve A_i w_i = b_i, each particle with its own positive definite A_i, all in one product.

    Args:
        apply: `(*batch, m)` -> the products A_i w_i.
        rhs: b, `(*batch, m)`.
        tolerance: Bound on residual norms relative to b.
        most: Products at most; the result is then that of fewer steps, which is nearer to zero.
    """
    solution, residual = torch.zeros_like(rhs), rhs
    square = rhs.double().square().sum(-1, keepdim=True)
    bound, direction = tolerance**2 * square, residual
    for _ in range(most):
        if bool((square <= bound).all()):
            break
        product = apply(direction)
        along = (direction * product).double().sum(-1, keepdim=True)
        step = torch.where(square > bound, square / along, 0.0).to(rhs)
        solution, residual = solution + step * direction, residual - step * product
        fresh = residual.double().square().sum(-1, keepdim=True)
        direction = residual + torch.where(square > bound, fresh / square, 0.0).to(rhs) * direction
        square = torch.where(square > bound, fresh, square)
    return solution
