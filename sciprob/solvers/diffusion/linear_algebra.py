"""Linear algebra of white data r = A x - b: everything about I + g A A^T and its Gaussian posteriors.

Two classes with the same methods: `SpectralData` from one singular value decomposition, after which every g is a
diagonal, and `IterativeData`, by batched conjugate gradients, for sizes beyond that.
"""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError, UnsupportedProblemError
from sciprob.operators.linear import LinearMap
from sciprob.random import randn
from sciprob.solvers.linear_algebra import conjugate_gradients, inner

DIRECT_LIMIT = 4096  # smaller of data and unknowns, up to which a singular value decomposition is made
_SVD_LIMIT = 512  # beyond it the Gram matrix is several times faster
_PRECISE = 1e6  # signal over noise beyond which the digits that a Gram matrix loses are needed
_CHUNK = 256  # basis vectors per batched forward call
_OF_NOISE = 0.03  # residual per datum that draws by conjugate gradients may have, in units of the noise


class LinearData(abc.ABC):
    """White data r(x) = A x - b and solves with I + g A A^T.

    Where `exact` is false, determinants and traces, which are the same for all x, are left out as 0.

    All vectors may have any leading axes; x ends in `shape`, residuals in `(m,)`. b may have leading axes of its own,
    `(*sets, m)`, that broadcast against those of x up to one axis of members.

    Args:
        matrix: A, latent -> `(m,)`.
        target: b, `(*sets, m)`.
    """

    exact: ClassVar[bool] = True

    def __init__(self, matrix: LinearMap, target: Tensor) -> None:
        self.matrix = matrix
        self.shape = matrix.domain.shape
        self.target = target

    def forward(self, x: Tensor) -> Tensor:
        """A x, `(*batch, m)`."""
        image: Tensor = self.matrix(x)
        return image

    def adjoint(self, w: Tensor) -> Tensor:
        """A^T w, `(*batch, *shape)`."""
        pulled: Tensor = self.matrix.T(w)
        return pulled

    def residual(self, x: Tensor) -> Tensor:
        """R(x) = A x - b."""
        target = self.target if self.target.ndim == 1 else self.target[..., None, :]
        return self.forward(x) - target

    @abc.abstractmethod
    def solve(self, r: Tensor, g: float) -> Tensor:
        """(I + g A A^T)^{-1} r, `(*batch, m)`, for g >= 0."""

    @abc.abstractmethod
    def log_det(self, g: float) -> float:
        """Log determinant of I + g A A^T."""

    @abc.abstractmethod
    def trace(self, g: float) -> float:
        """Trace of A^T (I + g A A^T)^{-1} A, the Laplacian of r^T (I + g A A^T)^{-1} r / 2."""

    @abc.abstractmethod
    def precondition(self, x: Tensor, v: float, g: float) -> Tensor:
        """P x with P = (I / v + A^T (I + g A A^T)^{-1} A)^{-1}."""

    @abc.abstractmethod
    def noise(self, like: Tensor, v: float, g: float, generator: torch.Generator) -> Tensor:
        """Draws of N(0, P) for the same P, shaped as `like`."""

    @abc.abstractmethod
    def norm(self) -> float:
        """Largest singular value of A."""

    def pull(self, r: Tensor, g: float) -> Tensor:
        """A^T (I + g A A^T)^{-1} r, `(*batch, *shape)`."""
        return self.adjoint(self.solve(r, g))

    def energy(self, r: Tensor, g: float) -> Tensor:
        """r^T (I + g A A^T)^{-1} r, `(*batch,)` in float64."""
        energy: Tensor = (r * self.solve(r, g)).double().sum(-1)
        return energy

    def condition(
        self, z: Tensor, v: float, g: float, generator: torch.Generator, residual: Tensor | None = None
    ) -> Tensor:
        """Draws of N(z, v I) conditioned on data with covariance I + g A A^T.

        The covariance is P of `precondition`, the mean z - P A^T (I + g A A^T)^{-1} r(z), which is
        z - v A^T (I + (g + v) A A^T)^{-1} r(z) without the cancellation in P.

        Args:
            z: `(*batch, *shape)`.
            v: Prior variance.
            g: Inflation of the noise; 0 for the data's own.
            generator: Randomness.
            residual: r(z) `(*batch, m)` where it is not A z - b, such as that of an operator that A linearises.
        """
        residual = self.residual(z) if residual is None else residual
        return z - v * self.pull(residual, g + v) + self.noise(z, v, g, generator)

    def log_evidence(self, residual: Tensor, v: float, g: float) -> Tensor:
        """Log of the integral of N(x; z, v I) exp(-r(x)^T (I + g A A^T)^{-1} r(x) / 2) / det(I + g A A^T)^{1/2}.

        Args:
            residual: r(z), `(*batch, m)`.
            v: Prior variance.
            g: Inflation of the noise.
        """
        return -(self.energy(residual, g + v) + self.log_det(g + v)) / 2


class SpectralData(LinearData):
    """`LinearData` from A = U diag(s) V^T, one decomposition for all g, sets and members.

    Args:
        matrix: A.
        target: b.
        values: s, `(k,)`, k = min(m, d).
        left: U, `(m, k)`.
        right: V^T, `(k, d)`.
    """

    def __init__(self, matrix: LinearMap, target: Tensor, values: Tensor, left: Tensor, right: Tensor) -> None:
        super().__init__(matrix, target)
        self.values, self.left, self.right = values, left, right

    @classmethod
    def of(cls, matrix: LinearMap, target: Tensor) -> SpectralData:
        """Decompose in float64; large matrices by their Gram matrix, without singular values below 1e-7 of the largest.

        That loses nothing but what the noise hides, as long as the largest is below 1e6; beyond, decompose directly.
        Where m > d, the part of b beyond the range of A is left to `solve`.
        """
        dense = _dense(matrix, target)
        large = min(dense.shape) > _SVD_LIMIT
        if large:
            left, values, right = _gram_svd(dense)
        if not large or float(values[0]) > _PRECISE:
            left, values, right = torch.linalg.svd(dense, full_matrices=False)
        return cls(matrix, target, values, left.to(target), right.to(target))

    def forward(self, x: Tensor) -> Tensor:
        """By the decomposition: an operator that solves equations is not asked again."""
        return (self.coefficients(x) * self.values.to(x)) @ self.left.T

    def adjoint(self, w: Tensor) -> Tensor:
        """By the decomposition."""
        return self.field(w @ self.left * self.values.to(w))

    def coefficients(self, x: Tensor) -> Tensor:
        """V^T x, `(*batch, k)`."""
        return x.flatten(x.ndim - len(self.shape)) @ self.right.T

    def field(self, c: Tensor) -> Tensor:
        """V c, `(*batch, *shape)`."""
        return (c @ self.right).reshape(*c.shape[:-1], *self.shape)

    def inside(self, r: Tensor) -> Tensor:
        """U^T r, `(*batch, k)`."""
        return r @ self.left

    def beyond(self, r: Tensor) -> Tensor:
        """The part of r beyond the range of U, `(*batch, m)`; precise data make it small beside r."""
        return _rest(r, self.left)

    def solve(self, r: Tensor, g: float) -> Tensor:
        """Diagonal in U; the part of r beyond the range of A stays."""
        if g == 0:
            return r
        return (self.inside(r) / self._inflated(g).to(r)) @ self.left.T + self.beyond(r)

    def pull(self, r: Tensor, g: float) -> Tensor:
        """Diagonal between U and V."""
        return self.field(self.inside(r) * (self.values / self._inflated(g)).to(r))

    def energy(self, r: Tensor, g: float) -> Tensor:
        """A sum of squares."""
        inside = self.inside(r).double().square() / self._inflated(g)
        return inside.sum(-1) + self.beyond(r).double().square().sum(-1)

    def log_det(self, g: float) -> float:
        """Exact."""
        return float((g * self.values.square()).log1p().sum())

    def trace(self, g: float) -> float:
        """Exact."""
        return float(self._informed(g).sum())

    def norm(self) -> float:
        """Exact."""
        return float(self.values[0])

    def precondition(self, x: Tensor, v: float, g: float) -> Tensor:
        """Diagonal in V."""
        flat = x.flatten(x.ndim - len(self.shape))
        inside = self.field(self.coefficients(x) / (1 / v + self._informed(g)).to(x))
        return inside + v * _rest(flat, self.right.T).reshape(x.shape)

    def noise(self, like: Tensor, v: float, g: float, generator: torch.Generator) -> Tensor:
        """P^{1/2} of white noise, exact."""
        white = randn(tuple(like.shape), like, generator)
        change = (1 / v + self._informed(g)).rsqrt() - math.sqrt(v)
        return math.sqrt(v) * white + self.field(self.coefficients(white) * change.to(white))

    def _informed(self, g: float) -> Tensor:
        """Eigenvalues of A^T (I + g A A^T)^{-1} A."""
        return self.values.square() / self._inflated(g)

    def _inflated(self, g: float) -> Tensor:
        """Eigenvalues of I + g A A^T."""
        return 1 + g * self.values.square()


class IterativeData(LinearData):
    """`LinearData` by conjugate gradients, each right-hand side with its own coefficients.

    Args:
        matrix: A.
        target: b.
        tolerance: Bound on residual norms relative to the right-hand sides.
        max_iterations: Bound on products with A and its transpose in one solve.
    """

    exact: ClassVar[bool] = False

    def __init__(
        self, matrix: LinearMap, target: Tensor, *, tolerance: float = 1e-5, max_iterations: int = 500
    ) -> None:
        super().__init__(matrix, target)
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.products = 0

    def solve(self, r: Tensor, g: float) -> Tensor:
        """(I + g A A^T)^{-1} r.

        Raises:
            ConvergenceError: If the tolerance is not met.
        """
        if g == 0:
            return r
        return self._solve(r, g)

    def log_det(self, g: float) -> float:
        """Left out: it would need all singular values."""
        return 0.0

    def trace(self, g: float) -> float:
        """Left out."""
        return 0.0

    def norm(self) -> float:
        """By 30 power iterations."""
        x = torch.ones(self.shape, dtype=self.target.dtype, device=self.target.device)
        for _ in range(30):
            x = self.adjoint(self.forward(x / x.norm()))
        return math.sqrt(float(x.norm()))

    def precondition(self, x: Tensor, v: float, g: float) -> Tensor:
        """P x = v x - v^2 A^T (I + (g + v) A A^T)^{-1} A x."""
        return v * x - v * v * self.adjoint(self.solve(self.forward(x), g + v))

    def noise(self, like: Tensor, v: float, g: float, generator: torch.Generator) -> Tensor:
        """Draws by perturbed optimisation: the error of estimating prior draws from their perturbed data.

        x from N(0, v I) and data noise e from N(0, I + g A A^T) give x - v A^T (I + (g + v) A A^T)^{-1} (A x + e).
        """
        return self.condition(torch.zeros_like(like), v, g, generator, like.new_zeros(()))

    def condition(
        self, z: Tensor, v: float, g: float, generator: torch.Generator, residual: Tensor | None = None
    ) -> Tensor:
        """One solve for mean and draw, to a small part of the data's noise."""
        x = math.sqrt(v) * randn(tuple(z.shape), z, generator)
        batch = z.shape[: z.ndim - len(self.shape)]
        e = randn((*batch, *self.target.shape[-1:]), z, generator)
        if g > 0:
            e = e + math.sqrt(g) * self.forward(randn(tuple(z.shape), z, generator))
        residual = (self.residual(z) if residual is None else residual) + self.forward(x) + e
        bound = _OF_NOISE * math.sqrt(self.target.shape[-1])
        return z + x - v * self.adjoint(self._solve(residual, g + v, bound))

    def _solve(self, rhs: Tensor, g: float, bound: float = math.inf) -> Tensor:
        def apply(w: Tensor) -> Tensor:
            return w + g * self.forward(self.adjoint(w))

        flat = rhs.reshape(-1, rhs.shape[-1])
        tolerance = (self.tolerance * inner(flat, flat).sqrt()).clamp_max(bound)
        result = conjugate_gradients(apply, flat, tolerance, self.max_iterations)
        self.products += result.iterations
        if not result.converged:
            worst = int(result.residual.argmax())
            message = (
                f"a solve with the data covariance did not converge in {self.max_iterations} iterations, residual "
                f"{float(result.residual[worst]):.2g}; raise the noise or the limit of direct decompositions."
            )
            raise ConvergenceError(message, sample=worst)
        return result.solution.reshape(rhs.shape)


def linear_data(matrix: LinearMap, target: Tensor, direct_limit: int = DIRECT_LIMIT) -> LinearData:
    """`SpectralData` where the smaller side of A is at most `direct_limit`, else `IterativeData`."""
    if min(matrix.domain.size, matrix.codomain.size) <= direct_limit:
        return SpectralData.of(matrix, target)
    return IterativeData(matrix, target)


def _rest(x: Tensor, basis: Tensor) -> Tensor:
    """(I - Q Q^T) x, `(*batch, n)`, for orthonormal columns Q; projected twice, so that nothing along Q is left."""
    rows, columns = basis.shape
    if rows == columns:
        return torch.zeros_like(x)
    for _ in range(2):
        x = x - (x @ basis) @ basis.T
    return x


def _gram_svd(dense: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, s, V^T from the eigenpairs of A A^T or A^T A, whichever is smaller."""
    wide = dense.shape[0] <= dense.shape[1]
    square, vectors = torch.linalg.eigh(dense @ dense.T if wide else dense.T @ dense)
    kept = square > 1e-14 * square[-1]
    values, vectors = square[kept].sqrt().flip(0), vectors[:, kept].flip(1)
    if wide:
        return vectors, values, (vectors.T @ dense) / values[:, None]
    return (dense @ vectors) / values, values, vectors.T


def _dense(matrix: LinearMap, like: Tensor) -> Tensor:
    """A as a float64 matrix, by columns or rows, whichever are fewer."""
    rows, columns = matrix.codomain.size, matrix.domain.size
    if min(rows, columns) == 0:
        message = f"an operator between spaces of sizes {columns} and {rows} has no data to use."
        raise UnsupportedProblemError(message)
    by_rows = rows < columns
    count = rows if by_rows else columns
    event = (rows,) if by_rows else matrix.domain.shape
    action = matrix.T if by_rows else matrix
    parts = []
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        basis = torch.zeros(stop - start, count, dtype=like.dtype, device=like.device)
        basis[:, start:stop] = torch.eye(stop - start, dtype=like.dtype, device=like.device)
        parts.append(action(basis.reshape(-1, *event)).flatten(1).double())
    dense = torch.cat(parts)
    return dense if by_rows else dense.T
