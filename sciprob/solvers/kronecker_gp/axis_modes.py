"""Modes of the second derivative among the functions of a kernel that vanish at both ends of an axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.solvers.kronecker_gp.factors import AxisFactors


@dataclass(frozen=True, eq=False)
class AxisModes:
    r"""Functions e_i with e_i = 0 at both ends and e_i'' = mu_i e_i on a line, in least squares.

    The functions phi of an axis that vanish at the ends are phi Z c, Z an orthonormal basis of the null
    space of phi(ends): conditioning on zero values at the ends keeps a Kronecker product one. With
    phi Z = U S V^T on the line, b = S V^T c makes u = U b, and u'' = U D b + what is orthogonal to U;
    D = X diag(mu) X^{-1}. In these modes every operator with constant coefficients and even
    derivatives along the axes is diagonal. Where the line does not resolve the fastest modes, these
    may be complex, in conjugate pairs; real functions stay real.

    Attributes:
        factors: Factors of the axis.
        line: The ends first and last, `(n,)`.
        basis: Z V S^{-1}, functions that are orthonormal on the line, `(rank, m)`.
        projection: U^T, `(m, n)`.
        fit: Values on the line to coefficients of all phi, `(rank, n)`.
        vectors: X, complex, `(m, m)`.
        inverse: X^{-1}, complex, `(m, m)`.
        eigenvalues: mu, complex, close to -(i pi / length)^2, `(m,)`.
        prior: Variances of b a priori, S^2, `(m,)`; they are independent.

    Source: Lynch, Rice, Thomas, Numer. Math. 6 (1964), for finite differences.
    """

    factors: AxisFactors
    line: Tensor
    basis: Tensor
    projection: Tensor
    fit: Tensor
    vectors: Tensor
    inverse: Tensor
    eigenvalues: Tensor
    prior: Tensor

    @classmethod
    def of(cls, factors: AxisFactors, line: Tensor, cut: float) -> AxisModes:
        """Modes for the functions of `factors` on a line; norms below `cut`^{1/2} of the largest are left out."""
        whole = _orthonormal(factors.at(line), cut)
        fit = (whole[2] / whole[1]) @ whole[0].mT
        inside = torch.linalg.svd(factors.at(line[[0, -1]]), full_matrices=True)[2][2:].mT
        u, s, v = _orthonormal(factors.at(line) @ inside, cut)
        basis = inside @ (v / s)
        eigenvalues, vectors = torch.linalg.eig(u.mT @ (factors.at(line, 2) @ basis))
        inverse = torch.linalg.inv(vectors)
        # Contiguous, so that a process read from a file takes the same path through the BLAS, bit for bit.
        parts = (t.contiguous() for t in (line, basis, u.mT, fit, vectors, inverse, eigenvalues, s.square()))
        return cls(factors, *parts)

    def at(self, x: Tensor, order: int = 0) -> Tensor:
        """Derivatives of the orthonormal functions at `x (n,)`, `(n, m)`."""
        return self.factors.at(x, order) @ self.basis

    def combine(self, values: Tensor) -> Tensor:
        """Values of all phi, `(n, rank)`, as values of the modes, complex `(n, m)`."""
        return (values @ self.basis).to(self.vectors) @ self.vectors

    @property
    def mode_prior(self) -> Tensor:
        """Prior variances of the amplitudes of the modes, `(m,)`."""
        return self.inverse.abs().square() @ self.prior

    @property
    def mode_noise(self) -> Tensor:
        """Variances of the amplitudes of white noise on the line, `(m,)`."""
        return self.inverse.abs().square().sum(1)


def _orthonormal(matrix: Tensor, cut: float) -> tuple[Tensor, Tensor, Tensor]:
    """Singular triplets u, s, v with s above `cut`^{1/2} of the largest."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    kept = s > cut**0.5 * s[0]
    return u[:, kept], s[kept], vh[kept].mT
