"""Differentiation and interpolation matrices along one axis: the conditional mean of a Gaussian process."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sciprob.priors.kernels import StationaryKernel, covariance


class AxisDifferentiation(nn.Module):
    """Values at nodes -> derivatives at a line: E[u^(p)(x) | u(nodes)] = cov(u^(p)(x), u) cov(u, u)^+ u.

    Args:
        kernel: Covariance along the axis.
        nodes: `(n,)`.
        cut: Eigenvalues of cov(u, u) below this fraction of the largest are dropped.
    """

    nodes: Tensor
    inverse_root: Tensor

    def __init__(self, kernel: StationaryKernel, nodes: Tensor, cut: float = 1e-13) -> None:
        super().__init__()
        self.kernel = copy.deepcopy(kernel).requires_grad_(False)  # no parameter of the forward operator
        self.register_buffer("nodes", nodes)
        with torch.no_grad():
            eigenvalues, vectors = torch.linalg.eigh(covariance(kernel, nodes, nodes, 0, 0))
        kept = eigenvalues > cut * eigenvalues[-1]
        self.register_buffer("inverse_root", vectors[:, kept] / eigenvalues[kept].sqrt())

    @torch.no_grad()
    def matrix(self, line: Tensor, order: int) -> Tensor | None:
        """The matrix `(len(line), n)`; None for the identity, the values at the nodes themselves."""
        if order == 0 and torch.equal(line, self.nodes):
            return None
        return self.features(line, order) @ self.inverse_root.mT

    @torch.no_grad()
    def features(self, line: Tensor, order: int) -> Tensor:
        """Derivatives `(len(line), r)` of functions that are standard normal combinations of the grid values."""
        found: Tensor = covariance(self.kernel, line, self.nodes, order, 0) @ self.inverse_root
        return found

    @torch.no_grad()
    def prior(self, p: int, q: int) -> float:
        """cov(u^(p)(x), u^(q)(x))."""
        even = float(self.kernel.evaluate(self.nodes.new_zeros(1), (p + q,)))
        return -even if q % 2 else even
