"""Gaussian fields on grids with a separable covariance: one stationary kernel per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError
from sciprob.operators.base import Capability
from sciprob.operators.kronecker import KroneckerMap
from sciprob.priors.base import GaussianPrior
from sciprob.priors.kernels import StationaryKernel, covariance
from sciprob.spaces import GridSpace


class KroneckerPrior(GaussianPrior):
    r"""u ~ N(mean, C_1 x ... x C_d) on a grid, C_j = K_j + k_j(0) (nugget I + null_std^2 P_j P_j^T).

    K_j is the covariance of the j-th kernel on the j-th axis and P_j holds the Legendre polynomials of
    degree below `null_space` on it, for what the kernels do not carry (trends, the null space of an operator). The root
    is a Kronecker product of L_j = V_j Lambda_j^{1/2} with C_j = V_j Lambda_j V_j^T:

    - `nugget = 0`: eigenvalues up to `cut` times the largest are left out, so that the white space is far smaller
      than the grid for smooth kernels; there is no density.
    - `nugget > 0`: L_j is square, and `log_prob` is exact, log det C = sum_j (N / N_j) sum log Lambda_j.

    The mixtures' variances multiply: Var u = prod_j k_j(0). Kernel parameters are read once; a prior does not
    follow later changes and gives no gradient in them.

    Args:
        space: Grid with nodes or cells; the j-th kernel belongs to the j-th axis.
        kernels: One per axis, without batch axes; lengths and frequencies in the unit of the coordinates.
        mean: A number or `(*space.shape)`; its dtype and device are those of the samples (float64 for a number).
        nugget: White noise relative to the variance of each factor.
        cut: Smallest eigenvalue kept, relative to the largest, for `nugget = 0`.
        null_space: Number of polynomials per axis, degree + 1; one for all or one per axis.
        null_std: Standard deviation of each polynomial's coefficient, relative to that of the kernel.

    Raises:
        ConfigError: If a setting is out of range, or the grid is periodic.
        ShapeError: If there is not one kernel per axis, or `mean` does not fit.

    Sources: Saatci, Scalable Inference for Structured Gaussian Process Models, PhD thesis, Cambridge 2011 (algebra);
    Fang et al., ICLR 2024, arXiv 2311.04465 (the prior of a PDE's solution, with nugget 1e-6).
    """

    root: KroneckerMap

    def __init__(
        self,
        space: GridSpace,
        kernels: Sequence[StationaryKernel],
        *,
        mean: float | Tensor = 0.0,
        nugget: float = 0.0,
        cut: float = 1e-13,
        null_space: int | Sequence[int] = 0,
        null_std: float = 1e2,
    ) -> None:
        counts = _checked(space, kernels, nugget, cut, null_space, null_std)
        mean = torch.as_tensor(mean, dtype=None if isinstance(mean, Tensor) else torch.float64).detach()
        if mean.ndim and tuple(mean.shape) != space.shape:
            message = f"`mean` should be a number or of shape {space.shape}, got {tuple(mean.shape)}."
            raise ShapeError(message)
        with torch.no_grad():
            matrices = [
                axis_covariance(kernel, space.axis(i).to(mean.device), nugget, counts[i], null_std)
                for i, kernel in enumerate(kernels)
            ]
            factors = [axis_root(matrix, 0.0 if nugget > 0 else cut) for matrix in matrices]
        super().__init__(mean.expand(space.shape).clone(), KroneckerMap(factors, codomain=space))
        self.nugget = float(nugget)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Gaussian and whitened; with a density where there is a nugget."""
        density = {Capability.PRIOR_LOG_PROB} if self.nugget > 0 else set()
        return super().capabilities | density

    def variance(self) -> Tensor:
        """Marginal variances `(*space.shape)`, exact up to `cut`."""
        return self.root.row_squares().to(self.mean.dtype)

    def log_prob(self, m: Tensor) -> Tensor:
        """Log density `(*batch,)`, normalised.

        Raises:
            UnsupportedProblemError: Without a nugget.
        """
        if not self.nugget > 0:
            return super().log_prob(m)
        self.space.batch_shape(m)
        xi = self.root.solve(m - self.mean.to(m.dtype))
        constant = 0.5 * self.space.size * math.log(2 * math.pi) + self.root.log_abs_det()
        return -0.5 * self.white.total(xi.square()) - constant.to(m.dtype)


def axis_covariance(
    kernel: StationaryKernel, nodes: Tensor, nugget: float = 0.0, null_space: int = 0, null_std: float = 1e2
) -> Tensor:
    """C_j of `KroneckerPrior`, `(n, n)`, differentiable in the kernel's parameters."""
    matrix = covariance(kernel, nodes, nodes)
    variance = kernel.evaluate(nodes.new_zeros(1), (0,))[0]
    basis = legendre(nodes, null_space)
    identity = torch.eye(len(nodes), dtype=nodes.dtype, device=nodes.device)
    total: Tensor = matrix + variance * (nugget * identity + null_std**2 * basis @ basis.mT)
    return total


def axis_root(matrix: Tensor, cut: float) -> Tensor:
    """V Lambda^{1/2} `(n, r)` with the eigenvalues above `cut` times the largest, largest first.

    Raises:
        ConfigError: If `cut` is 0 and an eigenvalue is not positive.
    """
    eigenvalues, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    kept = eigenvalues > cut * eigenvalues[-1]
    if cut == 0 and not bool(kept.all()):
        message = (
            "the nugget is below the rounding of the covariance, so that this has negative eigenvalues; raise `nugget` "
            "to 1e-12 or more (relative to all variances, those of the null space too), or set it to 0."
        )
        raise ConfigError(message)
    root: Tensor = (vectors[:, kept] * eigenvalues[kept].sqrt()).flip(1)
    return root


def legendre(x: Tensor, count: int) -> Tensor:
    """Legendre polynomials P_0..P_{count-1} on the interval spanned by x, `(n, count)`, by their recurrence."""
    low, high = (x.min(), x.max()) if len(x) > 1 else (x[0] - 1, x[0] + 1)
    s = 2 * (x - low) / (high - low) - 1
    columns = [torch.ones_like(s), s]
    for n in range(1, count - 1):
        columns.append(((2 * n + 1) * s * columns[n] - n * columns[n - 1]) / (n + 1))
    return torch.stack(columns, dim=-1)[:, :count]


def _checked(
    space: GridSpace,
    kernels: Sequence[StationaryKernel],
    nugget: float,
    cut: float,
    null_space: int | Sequence[int],
    null_std: float,
) -> list[int]:
    """Number of polynomials per axis."""
    axes = len(space.shape)
    if space.centring == "periodic":
        message = (
            "a Kronecker prior of stationary kernels is not periodic; use a grid of nodes or cells, or GridMatern."
        )
        raise ConfigError(message)
    if len(kernels) != axes:
        message = f"the grid {space.dims} needs one kernel per axis, got {len(kernels)}."
        raise ShapeError(message)
    counts = [null_space] * axes if isinstance(null_space, int) else list(null_space)
    if len(counts) != axes or min(counts) < 0 or any(c > n for c, n in zip(counts, space.shape, strict=True)):
        message = (
            f"`null_space` should be one number of polynomials or one per axis of {space.shape}, got {null_space}."
        )
        raise ConfigError(message)
    for name, value in (("nugget", nugget), ("cut", cut), ("null_std", null_std)):
        if not (math.isfinite(value) and value >= 0):
            message = f"`{name}` of a Kronecker prior should be finite and not negative, got {value}."
            raise ConfigError(message)
    if any(len(kernel.batch_shape) for kernel in kernels):
        message = "kernels of a Kronecker prior should have no batch axes; make one prior per kernel."
        raise ShapeError(message)
    return counts
