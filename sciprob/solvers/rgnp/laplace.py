r"""Uncertainty of a trained network: the linearised Laplace approximation over its Gauss-Newton matrix.

    theta ~ N(theta*, S),   S = (tau I + J^T E^{-1} J)^{-1},   cov(u(x), u(y)) = g(x)^T S g(y),   g = du / dtheta,

with J the derivatives of collocated residuals and E their mean squares by equation. Draws are functions, so that any
points and fields are joint. Its scale is arbitrary, as the number of residuals is: see `calibration`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.problems.family import ProblemFamily
from sciprob.random import randn
from sciprob.solvers.rgnp.jacobian import sample_jacobian
from sciprob.solvers.rgnp.network import PointNetwork
from sciprob.solvers.rgnp.residuals import mean_field, weighted_residuals
from sciprob.solvers.rgnp.sampling import Collocation, sobol_collocation

CHUNK = 1 << 23  # numbers of a Jacobian that are held at once


@dataclass(frozen=True)
class LaplaceCovariance:
    """S = tau^{-1} (I - V^T diag(lam / (1 + lam)) V) of the weights, float64.

    Args:
        vectors: Orthonormal rows V `(r, P)`: right singular vectors of E^{-1/2} J.
        eigenvalues: lam `(r,)`, squared singular values over tau.
        precision: tau, of the prior N(0, I / tau) of the weights.
    """

    vectors: Tensor
    eigenvalues: Tensor
    precision: float = 1.0

    @property
    def size(self) -> int:
        """Number of weights P."""
        return self.vectors.shape[-1]

    @classmethod
    def of(
        cls, family: ProblemFamily, network: PointNetwork, batch: Collocation, precision: float = 1.0
    ) -> LaplaceCovariance:
        """From the residuals of a network at collocation samples, all in float64.

        Raises:
            ConfigError: If there are no samples or `precision` is not positive.
        """
        if not len(batch) or not precision > 0:
            message = f"a Laplace covariance needs collocation samples and a positive precision, got {len(batch)}."
            raise ConfigError(message)
        residuals, jacobian = sample_jacobian(network, lambda: weighted_residuals(family, network, batch))
        noise = residuals.square().mean(0).clamp_min(torch.finfo(residuals.dtype).tiny)
        rows = (jacobian * noise.rsqrt().unsqueeze(-1)).flatten(0, 1)
        _, singular, vectors = torch.linalg.svd(rows, full_matrices=False)
        return cls(vectors.contiguous(), singular.square() / precision, precision)

    def apply_root(self, rows: Tensor) -> Tensor:
        """Rows of derivatives `(..., P)` times the symmetric square root of S, the same shape."""
        shrink = 1 - (1 + self.eigenvalues).rsqrt()
        vectors = self.vectors.to(rows)
        shrunk: Tensor = rows - ((rows @ vectors.mT) * shrink.to(rows)) @ vectors
        return shrunk * self.precision**-0.5 if self.precision != 1 else shrunk


def field_root(
    family: ProblemFamily, network: PointNetwork, covariance: LaplaceCovariance, points: Tensor, z: Tensor, w: Tensor
) -> Tensor:
    """F with F F^T the covariance of u at points `(n, d)`, for one z `(dz,)` and w `(dw,)`, before calibration.

    Returns:
        `(n fields, q)`, rows by point and then by field, q = min(n fields, P). For few rows it is triangular and made
        without squaring, so that small standard deviations keep their digits.
    """
    parts = [covariance.apply_root(rows).flatten(0, 1) for rows in _field_rows(family, network, points, z, w)]
    root = torch.cat([points.new_zeros(0, covariance.size), *parts])
    return torch.linalg.qr(root.mT, mode="r").R.mT if 0 < len(root) < covariance.size else root


def field_variance(
    family: ProblemFamily, network: PointNetwork, covariance: LaplaceCovariance, points: Tensor, z: Tensor, w: Tensor
) -> Tensor:
    """Marginal variances of u `(n, fields)` at points `(n, d)`, before calibration; in chunks, for any n."""
    chunks = _field_rows(family, network, points, z, w)
    parts = [covariance.apply_root(rows).square().sum(-1) for rows in chunks]
    return torch.cat([points.new_zeros(0, family.n_fields), *parts])


@dataclass(frozen=True)
class Directions:
    """Directions of the weights, times the root of their covariance.

    Args:
        leading: S^{1/2} V `(P, k)`, V the leading directions of the field's variance over domain and boxes.
        rest: `(P, j)`, random ones orthogonal to V that stand for all others: sums of squares of g(x) rest have
            the variance that V leaves out as their mean.
    """

    leading: Tensor
    rest: Tensor


def principal_directions(
    family: ProblemFamily,
    network: PointNetwork,
    covariance: LaplaceCovariance,
    count: int,
    others: int = 16,
    seed: int = 0,
    each: int = 4,
) -> Directions:
    """`count` leading directions of the field's variance over domain and boxes, and `others` for the rest.

    g(x) S^{1/2} V are k factors of the covariance at any x, at a cost of k P per value. Sobol samples stand for
    domain and boxes, `each` per direction.
    """
    generator = torch.Generator(covariance.vectors.device).manual_seed(seed)
    batch = sobol_collocation(family, each * count, generator, covariance.vectors.dtype)
    rows = covariance.apply_root(sample_rows(family, network, batch).flatten(0, 1))
    values, left = torch.linalg.eigh(rows @ rows.mT)  # a tenth of the time of an SVD; what squaring loses is negligible
    kept = (values > 1e-12 * values[-1]).nonzero()[-count:, 0].flip(0)
    vectors = (left[:, kept].mT @ rows) / values[kept, None].sqrt()
    drawn = randn((others, covariance.size), vectors, generator) / others**0.5
    rest = drawn - (drawn @ vectors.mT) @ vectors
    leading, rest = (covariance.apply_root(part).mT.contiguous() for part in (vectors, rest))
    return Directions(leading, rest)


def sample_rows(
    family: ProblemFamily, network: PointNetwork, batch: Collocation, directions: Tensor | None = None
) -> Tensor:
    """Derivatives du / dtheta at samples, `(n, fields, P)`; or, in chunks, their products with `directions (P, k)`."""
    size = sum(parameter.numel() for parameter in network.parameters())
    step = len(batch) if directions is None else max(1, CHUNK // (size * family.n_fields))
    parts = []
    for i in range(0, len(batch), max(step, 1)):
        rows = _rows(family, network, batch[i : i + step])
        parts.append(rows if directions is None else rows @ directions)
    columns = size if directions is None else directions.shape[-1]
    return torch.cat([batch.points.new_zeros(0, family.n_fields, columns), *parts])


def _rows(family: ProblemFamily, network: PointNetwork, batch: Collocation) -> Tensor:
    def values() -> Tensor:
        return mean_field(family, network, batch.points.unsqueeze(-2), batch.z, batch.w)[:, 0]

    return sample_jacobian(network, values)[1]


def _field_rows(family: ProblemFamily, network: PointNetwork, points: Tensor, z: Tensor, w: Tensor) -> Iterator[Tensor]:
    """Derivatives du / dtheta by chunks of points, `(chunk, fields, P)` each."""
    size = sum(parameter.numel() for parameter in network.parameters())
    for part in points.split(max(1, CHUNK // (size * family.n_fields))):
        yield _rows(family, network, Collocation(part, z.expand(len(part), -1), w.expand(len(part), -1)))
