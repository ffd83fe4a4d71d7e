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
from sciprob.solvers.diffusion.earlier_run import earlier_draws
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.moves import Moved, Prepared
from sciprob.solvers.diffusion.particles import Particles, Seen
from sciprob.solvers.diffusion.spectrum_surrogate import DiagonalSpectrum, spectrum_of

Apply = Callable[[Tensor], Tensor]
_TOLERANCE = 0.02  # of the solves, relative to their right-hand sides, and to the noise where that is less
_STEP = 0.05  # of the difference, relative to sigma
_NARROWEST, _WIDEST = 0.05, 4.0  # bounds on the estimated share of G_v
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

    def apply(self, x: Tensor, v: float, scale: float = 1.0) -> Tensor:
        """Scale times G_v x, `(n, *shape)`."""
        return self.spectrum.apply_function(scale * self._values(v)[None], x.new_zeros(()), x)

    def noise(self, like: Tensor, v: float, generator: torch.Generator, scale: float = 1.0) -> Tensor:
        """Draws of N(0, scale G_v), shaped as `like (n, *shape)`."""
        white = randn(tuple(like.shape), like, generator)
        return self.spectrum.apply_function((scale * self._values(v)).sqrt()[None], white.new_zeros(()), white)

    def trace(self, v: float) -> float:
        """Of G_v."""
        return float((self.spectrum.multiplicity * self._values(v)).sum())

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
    r"""x from N(x; D(z), s G_v) exp(-|r(x)|^2 / 2), then z' = x + sqrt(v') e: equal weights, for any operator.

    s makes the trace of s G_v that of the covariance of x given z, v dD/dz (Tweedie's formula, second order), in the
    mean over the particles; it is 1 where the prior is its surrogate. A network knows more than the Gaussian of its
    mean and covariance, and with s = 1 the ensemble would be too wide wherever the data say little.

    Were x given z the Gaussian N(D, s G_v), and r affine, particles would keep the law of z given y from level to
    level, for any levels: nothing of one level's z is left in the next but through x. Else r is replaced
    for each particle by r(D) + J(D) (x - D) with the noise I + R: R holds the mean squares over the particles of
    what this leaves out, r(D + d) - r(D) - J(D) d, d ~ N(0, s G_v) (statistical linearisation). So data that the
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
        """Nothing yet."""
        return _RenoisedStep(self, particles.z, particles.v)

    def start(self, count: int, v: float, generator: torch.Generator, earlier: str = "") -> Particles:
        """Particles at the variance v: without knowledge of the data, or draws of an earlier run with noise."""
        problem = self.problem
        like = problem.like.new_empty(*problem.sets, count, *problem.latent.shape)
        if earlier:
            x = earlier_draws(earlier, problem.prior, count, generator).to(like)
            z = x + math.sqrt(v) * randn(tuple(like.shape), like, generator)
            return Particles.first(z, z.new_zeros(problem.sets), v)
        noise = self.covariance.noisy(like.reshape(-1, *problem.latent.shape), v, generator)
        z = noise.reshape(like.shape)
        if (surrogate := problem.prior.surrogate) is not None:
            z = z + surrogate.mean.to(z)
        return Particles.first(z, z.new_zeros(problem.sets), v)

    def correct(self, z: Tensor, v: float, steps: int, generator: torch.Generator) -> Tensor:
        """Gibbs steps at the variance v > 0."""
        for _ in range(steps):
            x = self.draw(z, v, generator)
            z = x + math.sqrt(v) * randn(tuple(x.shape), x, generator)
        return z

    def spread(self, z: Tensor, denoised: Tensor, v: float, generator: torch.Generator) -> float:
        """Trace of the covariance of x given z, v tr dD/dz averaged over the particles, relative to that of G_v.

        One network call: the trace is estimated with random signs (Hutchinson), the derivative by a difference.
        """
        white = torch.rand(z.shape, generator=generator, device=generator.device, dtype=torch.float64)
        step = _STEP * math.sqrt(v)
        signs = torch.where(white < 0.5, -1.0, 1.0).to(z)
        along: Tensor = (self.denoiser(z + step * signs, math.sqrt(v)) - denoised) * signs / step
        trace = v * float(along.double().sum()) * self.problem.size / along.numel()
        share: float = trace / self.covariance.trace(v)
        return min(max(share, _NARROWEST), _WIDEST)

    def draw(self, z: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """Draws of x given particles z `(*sets, N, *shape)` at the variance v.

        For each particle two network calls, three forward solves, a tangent one, and up to `products` pairs of
        tangents and adjoints.
        """
        sets, shape = self.problem.sets, z.shape
        with torch.no_grad():
            denoised = self.denoiser(z, math.sqrt(v))
            scale = self.spread(z, denoised, v, generator)
            flat = denoised.reshape(-1, *self.problem.latent.shape)
            shift = self.covariance.noise(flat, v, generator, scale).reshape(shape)
            residual, along = self._in_parts(self.problem.jvp, denoised, shift)
            (far,) = self._in_parts(lambda x: (self.problem.residual(x),), denoised + shift)
        left_out = (far - residual - along).square().mean(len(sets), keepdim=True)
        noise = randn(tuple(residual.shape), residual, generator)
        root = (1 + left_out).rsqrt()  # of the precision
        gap = -root * (residual + along) - noise

        def gain(mean: Tensor, gap: Tensor, root: Tensor) -> tuple[Tensor]:
            return (self._gain(mean, v, scale, gap, root),)

        x: Tensor = denoised + shift + self._in_parts(gain, denoised, gap, root.expand(gap.shape))[0]
        return x

    def _gain(self, x: Tensor, v: float, scale: float, gap: Tensor, root: Tensor) -> Tensor:
        """G J^T h (I + h J G J^T h)^{-1} gap for every particle, h = diag(root)."""
        _, jacobian = self.problem.operator.linearise(x)
        flat = (-1, *self.problem.latent.shape)

        def pull(w: Tensor) -> Tensor:
            back: Tensor = jacobian.T(self.problem.whiten_adjoint(root * w))
            return self.covariance.apply(back.reshape(flat), v, scale).reshape(x.shape)

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
    kappa: float | None = None

    def increment(self, after: float) -> Tensor:
        return self.z.new_zeros(self.z.shape[: len(self.method.problem.sets) + 1], dtype=torch.float64)

    def move(self, after: float, generator: torch.Generator) -> Moved:
        x = self.method.draw(self.z, self.v, generator)
        if after > 0:
            x = x + math.sqrt(after) * randn(tuple(x.shape), x, generator)
        return x, self.increment(after), None


def particle_conjugate_gradients(apply: Apply, rhs: Tensor, tolerance: float, most: int) -> Tensor:
    """Solve A_i w_i = b_i, each particle with its own positive definite A_i, all in one product.

    Args:
        apply: `(*batch, m)` -> the products A_i w_i.
        rhs: b, `(*batch, m)`.
        tolerance: Bound on residual norms, relative to b or to the norm of standard normal noise if that is less.
        most: Products at most; the result is then that of fewer steps, which is nearer to zero.
    """
    solution, residual = torch.zeros_like(rhs), rhs
    square = rhs.double().square().sum(-1, keepdim=True)
    bound, direction = tolerance**2 * square.clamp_max(rhs.shape[-1]), residual
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
