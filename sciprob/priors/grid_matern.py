"""Gaussian fields with Matern covariance on uniform grids."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError
from sciprob.operators.base import Capability
from sciprob.priors.base import GaussianPrior
from sciprob.priors.embedding import circulant_embedding
from sciprob.priors.grid_root import GridMaternRoot
from sciprob.priors.matern import torus_correlation
from sciprob.spaces import GridSpace

BOUNDARIES = ("stationary", "periodic", "neumann")


class GridMatern(GaussianPrior):
    r"""Gaussian field with covariance `std(x) std(y) rho(|x - y|)`, sampled exactly by FFT.

    rho(r) = 2^{1-nu}/Gamma(nu) s^nu K_nu(s), s = sqrt(2 nu) r / length, nu = `smoothness`; with
    kappa = sqrt(2 nu) / length this is the stationary solution of (kappa^2 - Laplace)^{(nu + d/2)/2} m = white noise.
    Away from the grid's edges the three boundaries agree up to rho at twice the distance:

    - `"stationary"`: the covariance above between all grid points, to 1e-12 of the variance, by
      circulant embedding on a torus that grows until its spectrum is not negative. White
      variables live on the torus, so the root is not square and there is no density.
    - `"periodic"`: rho summed over the periodic images, scaled to variance std^2 everywhere. The
      period along an axis is (number of points) x (spacing), for node grids one spacing more
      than the bounds.
    - `"neumann"`: zero normal derivative at the bounds. rho summed over mirror images, which is
      the SPDE's solution with Neumann conditions; the variance doubles towards each face
      (`variance()` is exact). Fast for lengths comparable to the domain.

    With the latter two, `log_prob` exists as long as float64 resolves the spectrum (condition
    number of the covariance below 1e12) and std is positive everywhere.

    Args:
        space: Grid with 1 to 3 axes.
        std: Standard deviation, in the unit of the field; a number or `(*space.shape)`, which may
            be zero where the field equals its mean.
        length: Correlation length, in the unit of the coordinates.
        smoothness: nu > 0: 1/2, 3/2, 5/2... in closed form, others through scipy on the host once.
        mean: A number or `(*space.shape)`; its dtype and device are those of the samples (float64
            for a number).
        boundary: `"stationary"`, `"periodic"` or `"neumann"`.

    Raises:
        ConfigError: If a value is out of range, or no embedding of reasonable size exists.
        ShapeError: If `std` or `mean` does not fit the grid.

    Sources: `sciprob.priors.embedding` for the embedding; Khristenko et al., SIAM/ASA J. Uncertain.
    Quantif. 7 (2019), for boundary conditions as sums over images.
    """

    def __init__(
        self,
        space: GridSpace,
        *,
        std: float | Tensor,
        length: float,
        smoothness: float = 1.5,
        mean: float | Tensor = 0.0,
        boundary: str = "stationary",
    ) -> None:
        _check(space, length, smoothness, boundary)
        scale = _field(std, space, "std")
        if not bool(torch.isfinite(scale).all()) or bool((scale < 0).any()) or not bool((scale > 0).any()):
            message = f"`std` of a Matern field should be positive and finite, got values from {_extent(scale)}."
            raise ConfigError(message)
        torus, spectrum = _spectrum(space, float(length), float(smoothness), boundary)
        last = torus[-1] // 2 + 1
        amplitude = spectrum[..., :last].clamp_min(0).sqrt().contiguous()
        super().__init__(
            _field(mean, space, "mean").expand(space.shape).clone(),
            GridMaternRoot(space, torus, boundary, amplitude, scale),
        )
        self.length, self.smoothness, self.boundary = float(length), float(smoothness), boundary

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Gaussian and whitened; with a density where the root is invertible."""
        density = {Capability.PRIOR_LOG_PROB} if self._matern_root.invertible else set()
        return super().capabilities | density

    def variance(self) -> Tensor:
        """Marginal variances `(*space.shape)`, exact."""
        return self._matern_root.variance().to(self.mean.dtype)

    def log_prob(self, m: Tensor) -> Tensor:
        """Log density `(*batch,)`, normalised.

        Raises:
            UnsupportedProblemError: If the root has no inverse; see the class.
        """
        self.space.batch_shape(m)
        xi = self.root.solve(m - self.mean.to(m.dtype))
        constant = 0.5 * self.space.size * math.log(2 * math.pi) + self.root.log_abs_det()
        return -0.5 * self.white.total(xi.square()) - constant.to(m.dtype)

    @property
    def _matern_root(self) -> GridMaternRoot:
        assert isinstance(self.root, GridMaternRoot)
        return self.root


def _spectrum(space: GridSpace, length: float, smoothness: float, boundary: str) -> tuple[tuple[int, ...], Tensor]:
    """Shape of the torus and spectrum of the correlation on it, `(*torus)`, float64."""
    if boundary == "stationary":
        return circulant_embedding(space, length, smoothness)
    torus = space.shape
    if boundary == "neumann":
        torus = tuple(2 * n if space.centring == "cell" else 2 * (n - 1) for n in space.shape)
    kernel = torus_correlation(torus, space.spacing, length, smoothness)
    if boundary == "periodic":
        kernel = kernel / kernel.reshape(-1)[0]
    return torus, torch.fft.fftn(kernel).real


def _check(space: GridSpace, length: float, smoothness: float, boundary: str) -> None:
    if not isinstance(space, GridSpace) or not 1 <= len(space.shape) <= 3:
        message = f"`space` should be a GridSpace with 1 to 3 axes, got {space!r}; FEMatern is for meshes."
        raise ConfigError(message)
    for name, value in (("length", length), ("smoothness", smoothness)):
        if not (math.isfinite(value) and value > 0):
            message = f"`{name}` of a Matern field should be positive and finite, got {value}."
            raise ConfigError(message)
    if boundary not in BOUNDARIES:
        message = f"`boundary` should be one of {', '.join(BOUNDARIES)}, got {boundary!r}."
        raise ConfigError(message)


def _field(value: float | Tensor, space: GridSpace, name: str) -> Tensor:
    """A number as a float64 scalar tensor, or a tensor of the grid's shape."""
    given = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)
    if given.ndim and tuple(given.shape) != space.shape:
        message = f"`{name}` should be a number or of shape {space.shape}, got {tuple(given.shape)}."
        raise ShapeError(message)
    return given


def _extent(values: Tensor) -> str:
    return f"{float(values.min()):g} to {float(values.max()):g}"
