"""Surrogates with correlations, whose covariance has known eigenvectors, and the choice among all surrogates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.linear import DiagonalMap
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.spectrum import Spectrum
from sciprob.random import randn
from sciprob.solvers.diffusion.linear_algebra import LinearData, SpectralData
from sciprob.solvers.diffusion.surrogate import IsotropicSurrogate, Surrogate, Transition


class SpectrumSurrogate(Surrogate):
    """C with known eigenvectors; S_v is factorised once per level.

    Args:
        data: Linear data with their singular vectors.
        centre: a.
        spectrum: C.
    """

    data: SpectralData

    def __init__(self, data: SpectralData, centre: Tensor, spectrum: Spectrum) -> None:
        super().__init__(data)
        self.centre, self.spectrum = centre, spectrum
        self._rows = data.values[:, None] * data.right.double()  # A without U
        self._factors: dict[tuple[float, Transition | None], tuple[Tensor, Tensor]] = {}

    def denoise(self, z: Tensor, v: float) -> Tensor:
        """The Wiener filter."""
        return z if v == 0 else self.centre + self.filter(z - self.centre, v)

    def filter(self, x: Tensor, v: float) -> Tensor:
        """C (C + v)^{-1} x."""
        c = self.spectrum.eigenvalues
        return x if v == 0 else self._function(c / (c + v), 0.0, x)

    def solve(self, r: Tensor, v: float) -> Tensor:
        """By a triangular factor; the part of r beyond the range of A stays."""
        inside = self._inside(r, v, None).to(r)
        return inside @ self.data.left.T + self.data.beyond(r)

    def energy(self, r: Tensor, v: float) -> Tensor:
        """A sum of squares."""
        return self._energy(r, v, None)

    def log_det(self, v: float) -> float:
        """Exact."""
        return float(self._factor(v, None)[1])

    def laplacian(self, v: float) -> float:
        """Exact."""
        filtered = self.filter(self._rows.reshape(-1, *self.data.shape), v).flatten(1)
        return float(torch.linalg.solve_triangular(self._factor(v, None)[0], filtered, upper=False).square().sum())

    def noise(self, like: Tensor, transition: Transition, generator: torch.Generator) -> Tensor:
        """T^{1/2} of white noise."""
        white = randn(tuple(like.shape), like, generator)
        return self._function(self._covariance(transition).sqrt(), math.sqrt(transition.white), white)

    def weigh(self, x: Tensor, transition: Transition) -> Tensor:
        """T x."""
        return self._function(self._covariance(transition), transition.white, x)

    def conditioned(
        self, mean: Tensor, residual: Tensor, v: float, transition: Transition, generator: torch.Generator
    ) -> Tensor:
        """A draw of N(mean, T) and of the data's noise, moved by Matheron's rule."""
        draw = self.noise(mean, transition, generator)
        shift = self.data.forward(self.filter(draw, v)) + self._data_noise(residual, v, mean, generator)
        pulled = self.filter(self._pull(residual + shift, v, transition), v)
        return mean + draw - self.weigh(pulled, transition)

    def evidence(self, residual: Tensor, v: float, transition: Transition) -> Tensor:
        """By the factor of the step."""
        return self._log_evidence(residual, v, transition)

    def start(self, sets: torch.Size, count: int, v: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """X given the data, by Matheron's rule, and noise on top."""
        like = self.centre.expand(*sets, count, *self.data.shape)
        x = self.centre + self._function(
            self.spectrum.eigenvalues.sqrt(), 0.0, randn(tuple(like.shape), like, generator)
        )
        residual = self.data.residual(x)
        residual = residual + randn(tuple(residual.shape), residual, generator)
        gain = self._pull(residual, math.inf, None)
        x = x - self._function(self.spectrum.eigenvalues, 0.0, gain)
        z = x + math.sqrt(v) * randn(tuple(x.shape), x, generator)
        centre = like.narrow(len(sets), 0, 1)
        return z, self._log_evidence(self.data.residual(centre), math.inf, None)[..., 0]

    def posterior_mean(self) -> Tensor:
        """A - C A^T (I + A C A^T)^{-1} r(a)."""
        residual = self.data.forward(self.centre) - self.data.target
        pulled = self._pull(residual, math.inf, None)
        return self.centre - self._function(self.spectrum.eigenvalues, 0.0, pulled)

    def marginal(self, like: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """(C + v)^{1/2} of white noise."""
        root = (self.spectrum.eigenvalues + v).sqrt()
        return self.centre + self._function(root, math.sqrt(v), randn(tuple(like.shape), like, generator))

    def _function(self, values: Tensor, null: float, x: Tensor) -> Tensor:
        flat = x.reshape(-1, *self.data.shape)
        return self.spectrum.apply_function(values[None], x.new_tensor(null), flat).reshape(x.shape)

    def _covariance(self, transition: Transition) -> Tensor:
        """T on the eigenvalues."""
        c = self.spectrum.eigenvalues
        inner = transition.v * c / (c + transition.v) if transition.v > 0 else 0.0
        return transition.white + transition.share**2 * inner + 0 * c

    def _factor(self, v: float, transition: Transition | None) -> tuple[Tensor, Tensor]:
        """Triangular L with L L^T = I + A (G_v + F_v T F_v) A^T in the range of A, and the log determinant of that.

        With B the matrix A times the root of the bracket it is I + B B^T, whose rounding errors would hide the noise
        where the data are precise; its factor then comes from a QR factorisation of (B, I)^T instead.

        v may be infinite. F_v and G_v vanish on directions without variance, and no step but the last reaches v = 0,
        where T does too.
        """
        key = (v, transition)
        if key not in self._factors:
            c = self.spectrum.eigenvalues
            values = c if math.isinf(v) else v * c / (c + v) if v > 0 else 0 * c
            if transition is not None:
                filtered = c / (c + v) if v > 0 else torch.ones_like(c)
                values = values + filtered.square() * self._covariance(transition)
            root = self._function(values.sqrt(), 0.0, self._rows.reshape(-1, *self.data.shape)).flatten(1)
            eye = torch.eye(len(root), dtype=root.dtype, device=root.device)
            gram = eye + root @ root.T
            if float(gram.diagonal().max()) < _PRECISE:
                factor = torch.linalg.cholesky(gram)
            else:
                factor = torch.linalg.qr(torch.cat([root.T, eye]), mode="r").R.T
            if len(self._factors) >= _KEPT:
                self._factors.pop(next(iter(self._factors)))
            self._factors[key] = factor, 2 * factor.diagonal().abs().log().sum()
        return self._factors[key]

    def _inside(self, r: Tensor, v: float, transition: Transition | None) -> Tensor:
        """S^{-1} r in the range of A, `(*batch, k)` in float64, S of `_factor`."""
        inside = self.data.inside(r).double()
        flat = inside.reshape(-1, inside.shape[-1]).T
        return torch.cholesky_solve(flat, self._factor(v, transition)[0]).T.reshape(inside.shape)

    def _pull(self, r: Tensor, v: float, transition: Transition | None) -> Tensor:
        """A^T S^{-1} r."""
        return self.data.field((self._inside(r, v, transition) * self.data.values).to(r))

    def _energy(self, r: Tensor, v: float, transition: Transition | None) -> Tensor:
        inside = self.data.inside(r).double()
        flat = inside.reshape(-1, inside.shape[-1]).T
        white = torch.linalg.solve_triangular(self._factor(v, transition)[0], flat, upper=False).T
        energy: Tensor = white.reshape(inside.shape).square().sum(-1) + self.data.beyond(r).double().square().sum(-1)
        return energy

    def _log_evidence(self, residual: Tensor, v: float, transition: Transition | None) -> Tensor:
        return -(self._energy(residual, v, transition) + float(self._factor(v, transition)[1])) / 2

    def _data_noise(self, residual: Tensor, v: float, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draws of N(0, S_v)."""
        noise = randn(tuple(residual.shape), residual, generator)
        if v == 0:
            return noise
        c = self.spectrum.eigenvalues
        root = self._function((v * c / (c + v)).sqrt(), 0.0, randn(tuple(like.shape), like, generator))
        return noise + self.data.forward(root)


_KEPT = 4  # factors of recent levels
_PRECISE = 1e10  # variance of data in units of their noise beyond which sums with it lose the noise


def surrogate_of(prior: GaussianPrior, data: LinearData) -> Surrogate:
    """A Gaussian prior of x as surrogate on linear data.

    Raises:
        UnsupportedProblemError: If it has correlations and the data are too many for a decomposition.
    """
    centre, spectrum = prior.mean.to(data.target), spectrum_of(prior)
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


def spectrum_of(prior: GaussianPrior) -> Spectrum:
    """Covariance of a Gaussian prior by its eigenvectors."""
    if isinstance(prior.root, DiagonalMap):
        return DiagonalSpectrum(prior.root.diagonal.double().square())
    return GaussianDenoiser.of_prior(prior).spectrum
