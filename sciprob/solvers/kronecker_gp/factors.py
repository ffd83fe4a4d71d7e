"""Factors of one axis: a Gaussian process along a coordinate as a finite sum of functions times white noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError
from sciprob.priors.kernels import StationaryKernel, covariance
from sciprob.solvers.kronecker_gp.null_space import Polynomials
from sciprob.solvers.kronecker_gp.pivoted import leading_eigenpairs


@dataclass(frozen=True, eq=False)
class AxisFactors:
    r"""Functions phi_i with d^p u(x) = sum_i phi_i^(p)(x) c_i, c ~ N(0, I), for a process u along one axis.

    The joint covariance M of the derivatives d^p u / s_p (p in `orders`, s_p their prior standard
    deviations) at the nodes is V Lambda V^T; eigenvalues below `cut` times the largest are left out.
    On the nodes Phi^(p) = s_p V_p Lambda^{1/2}, so that Phi^(p) Phi^(q)^T = cov(d^p u, d^q u) up to the
    cut; elsewhere Phi^(p)(x) = cov(d^p u(x), d^q u(nodes) / s_q) V Lambda^{-1/2}, the best linear
    prediction from the nodes. The last columns are the polynomials of `null_space`, times the
    prior standard deviation of u.

    Attributes:
        kernel: Kernel along this axis.
        nodes: Distinct coordinates, increasing, `(n,)`.
        orders: Orders of derivatives at the nodes.
        scales: s_p, one per order.
        vectors: V Lambda^{-1/2}, `(len(orders) n, r)`, orders outermost.
        eigenvalues: Lambda, decreasing, `(r,)`.
        values: Phi^(p) on the nodes, `(len(orders), n, r + null_space.count)`.
        null_space: Polynomials.
    """

    kernel: StationaryKernel
    nodes: Tensor
    orders: tuple[int, ...]
    scales: Tensor
    vectors: Tensor
    eigenvalues: Tensor
    values: Tensor
    null_space: Polynomials

    @classmethod
    def of(
        cls, kernel: StationaryKernel, nodes: Tensor, orders: Sequence[int], cut: float = 1e-13, null_space: int = 0
    ) -> AxisFactors:
        """Decompose the covariance of a kernel at nodes, see `leading_eigenpairs`.

        Args:
            kernel: Kernel without batch axes.
            nodes: Coordinates in any order, repeated ones are taken once, `(n,)`.
            orders: Orders of the derivatives that are observed along this axis.
            cut: Smallest eigenvalue kept, relative to the largest.
            null_space: Number of polynomials added, degree + 1.

        Raises:
            ShapeError: If the nodes are not a vector, or the kernel has batch axes.
            DataError: If a node is not finite.
            UnsupportedProblemError: If the kernel lacks a derivative that is needed, 2 max(orders).
        """
        check_nodes(kernel, nodes)
        nodes, orders = torch.unique(nodes.detach()), tuple(sorted(set(orders)))
        with torch.no_grad():
            scales = torch.stack([prior_scale(kernel, p, nodes) for p in orders])
            eigenvalues, vectors = leading_eigenpairs(joint_covariance(kernel, nodes, orders, scales), cut)
        polynomials = Polynomials(null_space, float(nodes[0]), float(nodes[-1]))
        values = (vectors * eigenvalues.sqrt()).unflatten(0, (len(orders), len(nodes))) * scales[:, None, None]
        extra = polynomial_columns(polynomials, kernel, nodes, orders).detach()
        values = torch.cat([values, extra], dim=-1)
        predictors = (vectors / eigenvalues.sqrt()).contiguous()
        return cls(kernel, nodes, orders, scales, predictors, eigenvalues, values.contiguous(), polynomials)

    @property
    def rank(self) -> int:
        """Number of functions, polynomials included."""
        return self.values.shape[-1]

    @property
    def weights(self) -> Tensor:
        """Prior variance each function carries, relative to the largest, `(rank,)`; 1 for polynomials."""
        return torch.cat([self.eigenvalues / self.eigenvalues[0], self.nodes.new_ones(self.null_space.count)])

    def at(self, x: Tensor, order: int = 0) -> Tensor:
        """Phi^(order) at `x (n,)`, anywhere on the axis: `(n, rank)`.

        Values on the nodes are read, not predicted, which keeps them exact to round-off.

        Raises:
            UnsupportedProblemError: If the kernel lacks a derivative that is needed.
        """
        if order in self.orders:
            index = torch.searchsorted(self.nodes, x.contiguous()).clamp_max(len(self.nodes) - 1)
            if bool((self.nodes[index] == x).all()):
                return self.values[self.orders.index(order), index]
        with torch.no_grad():
            predicted = self._cross(x, order) @ self.vectors
            return torch.cat([predicted, polynomial_columns(self.null_space, self.kernel, x, (order,))[0]], dim=-1)

    def differentiable(self) -> Callable[[Tensor, int], Tensor]:
        r"""`at`, differentiable once in the kernel's parameters.

        The eigenvectors stay what they are: with W = V Lambda^{-1/2}, W^T M W = I now, and for the
        covariance of other parameters M W chol(W^T M W)^{-T} is the root of its best approximation
        from the same functions (Nystroem). So no eigenvectors are differentiated, whose derivatives
        blow up where eigenvalues meet.
        """
        gram = self.vectors.mT @ joint_covariance(self.kernel, self.nodes, self.orders, self.scales) @ self.vectors
        root = torch.linalg.cholesky((gram + gram.mT) / 2)

        def at(x: Tensor, order: int) -> Tensor:
            projected = self._cross(x, order) @ self.vectors
            predicted = torch.linalg.solve_triangular(root, projected.mT, upper=False).mT
            return torch.cat([predicted, polynomial_columns(self.null_space, self.kernel, x, (order,))[0]], dim=-1)

        return at

    def _cross(self, x: Tensor, order: int) -> Tensor:
        """Covariance of a derivative at x with the scaled derivatives at the nodes, `(n, P N)`."""
        pairs = zip(self.orders, self.scales, strict=True)
        return torch.cat([covariance(self.kernel, x, self.nodes, order, q) / s for q, s in pairs], dim=-1)

    def prior_variance(self, order: int = 0) -> Tensor:
        """Var d^order u at any point, without the polynomials, of the process itself: (-1)^p k^(2p)(0)."""
        return prior_scale(self.kernel, order, self.nodes).square().detach()

    def missing_variance(self, x: Tensor, order: int = 0) -> Tensor:
        """Part of the prior variance at `x` that the nodes do not explain, `(n,)`; round-off below `resolution`."""
        explained = self.at(x, order)[:, : len(self.eigenvalues)].square().sum(-1)
        return self.prior_variance(order) - explained


def joint_covariance(kernel: StationaryKernel, nodes: Tensor, orders: tuple[int, ...], scales: Tensor) -> Tensor:
    """Covariance of the scaled derivatives at the nodes, `(P n, P n)`, differentiable in the kernel's parameters."""
    rows = []
    for p, s in zip(orders, scales, strict=True):
        row = [covariance(kernel, nodes, nodes, p, q) / (s * t) for q, t in zip(orders, scales, strict=True)]
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)


def prior_scale(kernel: StationaryKernel, order: int, like: Tensor) -> Tensor:
    """Prior standard deviation of d^order u, a scalar tensor."""
    top = kernel.evaluate(like.new_zeros(1), (2 * order,))[0, ..., 0]
    scale: Tensor = ((-1) ** order * top).sqrt()
    return scale


def polynomial_columns(
    polynomials: Polynomials, kernel: StationaryKernel, x: Tensor, orders: tuple[int, ...]
) -> Tensor:
    """Derivatives of the polynomials times the prior standard deviation of u, `(len(orders), n, count)`."""
    amplitude = prior_scale(kernel, 0, x)
    return amplitude * torch.stack([polynomials.at(x, p) for p in orders])


def check_nodes(kernel: StationaryKernel, nodes: Tensor) -> None:
    """Check that nodes are a vector of finite numbers and that the kernel has no batch axes.

    Raises:
        ShapeError: If the nodes are not a vector, or the kernel has batch axes.
        DataError: If there is no node, or one is not finite.
    """
    if nodes.ndim != 1 or math.prod(kernel.batch_shape) != 1 or len(kernel.batch_shape):
        message = (
            f"factors need a vector of nodes and one kernel, got nodes {tuple(nodes.shape)} and kernel batch "
            f"{tuple(kernel.batch_shape)}; batches of right-hand sides go into the values."
        )
        raise ShapeError(message)
    if len(nodes) == 0 or not bool(torch.isfinite(nodes).all()):
        message = "the lines of a grid should hold at least one coordinate, all finite; got an empty or infinite one."
        raise DataError(message)
