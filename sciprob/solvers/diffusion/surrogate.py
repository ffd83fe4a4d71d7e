"""Gaussian surrogates of the prior of x, conditioned on linear data at every noise level."""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.linear import DiagonalMap
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.priors.diffusion.spectrum import Spectrum
from sciprob.random import randn
from sciprob.solvers.diffusion.linear_algebra import LinearData, SpectralData


class Surrogate(abc.ABC):
    r"""x ~ N(a, C), z = x + sqrt(v) e and white data b = A x + noise, in closed form.

    The surrogate's denoiser is mu_v(z) = a + F_v (z - a) with F_v = C (C + v)^{-1}, and the data given z are
    N(A mu_v(z), S_v) with S_v = I + A G_v A^T, G_v = v C (C + v)^{-1}. With C infinite ("flat") F_v = I and G_v = v.

    A transition z -> z' to the level v' < v is N(z + (1 - v'/v)(mu - z), T) with T = (v - v') v'/v +
    (v - v')^2 / v^2 G_v for the surrogate itself; see `transition`.

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
    def log_det(self, v: float) -> float:
        """Log determinant of S_v."""

    @abc.abstractmethod
    def laplacian(self, v: float) -> float:
        """Trace of F_v A^T S_v^{-1} A F_v."""

    @abc.abstractmethod
    def transition_noise(self, like: Tensor, v: float, after: float, generator: torch.Generator) -> Tensor:
        """Draws of N(0, T)."""

    @abc.abstractmethod
    def transition_weigh(self, x: Tensor, v: float, after: float) -> Tensor:
        """T x."""

    @abc.abstractmethod
    def conditioned(self, mean: Tensor, residual: Tensor, v: float, after: float, generator: torch.Generator) -> Tensor:
        """Draws of N(z'; mean, T) tilted by exp(-rho^T S_{v'}^{-1} rho / 2), rho = residual + A F_{v'} (z' - mean).

        Args:
            mean: `(*batch, *shape)`.
            residual: The residual at `mean`, `(*batch, m)`: A mu_{v'}(mean) - b, or what another denoiser says.
            v: Present variance.
            after: v'.
            generator: Randomness.
        """

    @abc.abstractmethod
    def evidence(self, residual: Tensor, v: float, after: float) -> Tensor:
        """Log of the normaliser of `conditioned` over det(S_{v'})^{1/2}, `(*batch,)` in float64."""

    def residual(self, z: Tensor, v: float) -> Tensor:
        """A mu_v(z) - b, `(*batch, m)`."""
        return self.data.residual(self.denoise(z, v))

    def twist(self, residual: Tensor, v: float) -> Tensor:
        """residual^T S_v^{-1} residual / 2 + log det S_v / 2, `(*batch,)` in float64."""
        return ((residual * self.solve(residual, v)).double().sum(-1) + self.log_det(v)) / 2

    @abc.abstractmethod
    def start(self, sets: torch.Size, count: int, v: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws `(*sets, count, *shape)` of z given the data, and their log evidence `(*sets,)`, both exact."""

    def marginal(self, like: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """Draws of z without data, shaped as `like`."""
        raise NotImplementedError


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

    def _transition(self, v: float, after: float) -> float:
        share = (v - after) / v
        # a flat surrogate's own transition would forget the present z; a point's is the common choice there
        inner = 0.0 if math.isinf(self.variance) else share**2 * self._factors(v)[1]
        return share * after + inner

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

    def log_det(self, v: float) -> float:
        """Of the data's class."""
        return self.data.log_det(self._factors(v)[1])

    def laplacian(self, v: float) -> float:
        """Of the data's class."""
        f, g = self._factors(v)
        return f * f * self.data.trace(g)

    def transition_noise(self, like: Tensor, v: float, after: float, generator: torch.Generator) -> Tensor:
        """White."""
        return math.sqrt(self._transition(v, after)) * randn(tuple(like.shape), like, generator)

    def transition_weigh(self, x: Tensor, v: float, after: float) -> Tensor:
        """A number times x."""
        return self._transition(v, after) * x

    def conditioned(self, mean: Tensor, residual: Tensor, v: float, after: float, generator: torch.Generator) -> Tensor:
        """`LinearData.condition` for u = F_{v'} (z' - mean)."""
        f, g = self._factors(after)
        t = self._transition(v, after)
        if t == 0:
            return mean
        return mean + self.data.condition(torch.zeros_like(mean), f * f * t, g, generator, residual) / f

    def evidence(self, residual: Tensor, v: float, after: float) -> Tensor:
        """Of the data's class."""
        f, g = self._factors(after)
        return self.data.log_evidence(residual, f * f * self._transition(v, after), g)

    def start(self, sets: torch.Size, count: int, v: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Exact under N(a, (c + v) I)."""
        f, g = self._factors(v)
        spread = (1.0 if math.isinf(self.variance) else self.variance) + v
        centre = self.centre.expand(*sets, count, *self.data.shape)
        first = centre[..., :1, *(slice(None),) * len(self.data.shape)]
        evidence = self.data.log_evidence(self.data.residual(first), f * f * spread, g)
        draws = self.data.condition(centre, f * f * spread, g, generator)
        return self.centre + (draws - self.centre) / f, evidence[..., 0]

    def marginal(self, like: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """White around the centre."""
        spread = (1.0 if math.isinf(self.variance) else self.variance) + v
        return self.centre + math.sqrt(spread) * randn(tuple(like.shape), like, generator)


class SpectrumSurrogate(Surrogate):
    """C with known eigenvectors; S_v is factorised once per level.

    Args:
        data: Linear data with their singular vectors.
        centre: a.
        spectrum: C.
    """

    def __init__(self, data: SpectralData, centre: Tensor, spectrum: Spectrum) -> None:
        super().__init__(data)
        self.centre, self.spectrum = centre, spectrum
        self._rows = data.values.to(data.right)[:, None] * data.right  # A without U
        self._factors: dict[tuple[float, float], tuple[Tensor, Tensor]] = {}

    def denoise(self, z: Tensor, v: float) -> Tensor:
        """The Wiener filter."""
        return z if v == 0 else self.centre + self.filter(z - self.centre, v)

    def filter(self, x: Tensor, v: float) -> Tensor:
        """C (C + v)^{-1} x."""
        c = self.spectrum.eigenvalues
        return x if v == 0 else self._function(c / (c + v), 0.0, x)

    def solve(self, r: Tensor, v: float) -> Tensor:
        """By a Cholesky factor; the part of r beyond the range of A stays."""
        return self._solve(r, v, v)

    def log_det(self, v: float) -> float:
        """Exact."""
        return self._log_det(v, v)

    def laplacian(self, v: float) -> float:
        """Exact."""
        filtered = self.filter(self._rows.reshape(-1, *self.data.shape), v).flatten(1)
        return float(torch.linalg.solve_triangular(self._factor(v, v)[0], filtered, upper=False).square().sum())

    def transition_noise(self, like: Tensor, v: float, after: float, generator: torch.Generator) -> Tensor:
        """T^{1/2} of white noise."""
        values, null = self._transition(v, after)
        return self._function(values.sqrt(), math.sqrt(null), randn(tuple(like.shape), like, generator))

    def transition_weigh(self, x: Tensor, v: float, after: float) -> Tensor:
        """T x."""
        return self._function(*self._transition(v, after), x)

    def conditioned(self, mean: Tensor, residual: Tensor, v: float, after: float, generator: torch.Generator) -> Tensor:
        """A draw of N(mean, T) and of the data's noise, moved by Matheron's rule."""
        draw = self.transition_noise(mean, v, after, generator)
        shift = self.data.forward(self.filter(draw, after)) + self._data_noise(residual, after, mean, generator)
        pulled = self.filter(self.data.adjoint(self._solve(residual + shift, after, v)), after)
        return mean + draw - self.transition_weigh(pulled, v, after)

    def evidence(self, residual: Tensor, v: float, after: float) -> Tensor:
        """By the factor of the step."""
        return self._log_evidence(residual, v, after)

    def start(self, sets: torch.Size, count: int, v: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """X given the data, by Matheron's rule, and noise on top."""
        like = self.centre.expand(*sets, count, *self.data.shape)
        x = self.centre + self._function(
            self.spectrum.eigenvalues.sqrt(), 0.0, randn(tuple(like.shape), like, generator)
        )
        residual = self.data.residual(x)
        residual = residual + randn(tuple(residual.shape), residual, generator)
        gain = self.data.adjoint(self._solve(residual, math.inf, math.inf))
        x = x - self._function(self.spectrum.eigenvalues, 0.0, gain)
        z = x + math.sqrt(v) * randn(tuple(x.shape), x, generator)
        centre = like[..., :1, *(slice(None),) * len(self.data.shape)]
        return z, self._log_evidence(self.data.residual(centre), math.inf, math.inf)[..., 0]

    def marginal(self, like: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """(C + v)^{1/2} of white noise."""
        root = (self.spectrum.eigenvalues + v).sqrt()
        return self.centre + self._function(root, math.sqrt(v), randn(tuple(like.shape), like, generator))

    def _function(self, values: Tensor, null: float, x: Tensor) -> Tensor:
        flat = x.reshape(-1, *self.data.shape)
        return self.spectrum.apply_function(values[None], x.new_tensor(null), flat).reshape(x.shape)

    def _transition(self, v: float, after: float) -> tuple[Tensor, float]:
        """T on the eigenvalues, and on directions without variance."""
        c, share = self.spectrum.eigenvalues, (v - after) / v
        return share * after + share**2 * v * c / (c + v), share * after

    def _factor(self, v: float, reach: float) -> tuple[Tensor, Tensor]:
        """Cholesky factor of I + A (G_v + F_v T F_v) A^T in the range of A, T from `reach` to v; T = 0 if equal."""
        key = (v, reach)
        if key not in self._factors:
            c = self.spectrum.eigenvalues
            if math.isinf(v):
                values = c
            else:
                values = v * c / (c + v)
                if reach != v:
                    f = c / (c + v) if v > 0 else torch.ones_like(c)
                    values = values + f.square() * self._transition(reach, v)[0]
            rows = self._rows.reshape(-1, *self.data.shape)
            gram = self._rows.double() @ self._function(values, 0.0, rows).flatten(1).double().T
            eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            factor = torch.linalg.cholesky(eye + (gram + gram.T) / 2)
            if len(self._factors) >= _KEPT:
                self._factors.pop(next(iter(self._factors)))
            self._factors[key] = factor.to(self._rows), factor.diagonal().log().sum()
        return self._factors[key]

    def _solve(self, r: Tensor, v: float, reach: float) -> Tensor:
        inside = r @ self.data.left
        solved = torch.cholesky_solve(inside.reshape(-1, inside.shape[-1]).T, self._factor(v, reach)[0]).T
        return r + (solved.reshape(inside.shape) - inside) @ self.data.left.T

    def _log_det(self, v: float, reach: float) -> float:
        return 2 * float(self._factor(v, reach)[1])

    def _log_evidence(self, residual: Tensor, reach: float, v: float) -> Tensor:
        square = (residual * self._solve(residual, v, reach)).double().sum(-1)
        return -(square + self._log_det(v, reach)) / 2

    def _data_noise(self, residual: Tensor, v: float, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draws of N(0, S_v)."""
        noise = randn(tuple(residual.shape), residual, generator)
        if v == 0:
            return noise
        c = self.spectrum.eigenvalues
        root = self._function((v * c / (c + v)).sqrt(), 0.0, randn(tuple(like.shape), like, generator))
        return noise + self.data.forward(root)


_KEPT = 4  # factors of recent levels


def surrogate_of(prior: DiffusionPrior, data: LinearData) -> Surrogate:
    """The prior's surrogate on linear data; the flat one where the prior has none.

    Raises:
        UnsupportedProblemError: If the surrogate is not isotropic and the data are too many for a decomposition.
    """
    zero = data.target.new_zeros(data.shape)
    if prior.surrogate is None:
        return IsotropicSurrogate(data, zero)
    centre, spectrum = prior.surrogate.mean.to(zero), _spectrum(prior.surrogate)
    values = spectrum.eigenvalues
    if spectrum.nullity == 0 and float(values.max() - values.min()) <= 1e-12 * float(values.max()):
        return IsotropicSurrogate(data, centre, float(values.max()))
    if not isinstance(data, SpectralData):
        message = (
            f"{data.target.shape[-1]} data and {math.prod(data.shape)} unknowns are too many for a surrogate with "
            'correlations; use `twist="inflation"`, a surrogate with one variance, or fewer data.'
        )
        raise UnsupportedProblemError(message)
    return SpectrumSurrogate(data, centre, spectrum)


class DiagonalSpectrum(Spectrum):
    """Independent entries with variances `(*shape)`."""

    def __init__(self, variances: Tensor) -> None:
        super().__init__(tuple(variances.shape), variances, torch.ones((), dtype=torch.float64))

    def apply_function(self, values: Tensor, null: Tensor, x: Tensor) -> Tensor:
        """Elementwise."""
        return values.to(x.dtype) * x


def _spectrum(prior: GaussianPrior) -> Spectrum:
    if isinstance(prior.root, DiagonalMap):
        return DiagonalSpectrum(prior.root.diagonal.double().square())
    return GaussianDenoiser.of_prior(prior).spectrum
