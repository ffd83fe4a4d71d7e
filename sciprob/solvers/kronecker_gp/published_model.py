"""Parts of the published objective: covariances of one axis as functions of parameters, residual and misfit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sciprob.errors import UnsupportedProblemError
from sciprob.pde.collocation import Collocation
from sciprob.pde.functionals import Functionals, TensorPoints
from sciprob.pde.jet import Jet
from sciprob.pde.pde import PDE
from sciprob.priors.kernels import StationaryKernel, covariance
from sciprob.spaces.shapes import broadcast_shapes


class AxisCovariance(nn.Module):
    """cov(d^p u(x), u(y)) of one kernel as a function of its parameters.

    Args:
        kernel: Gives the form; its own parameters are not used.
        parameters: Values in their place, by name.
    """

    def __init__(self, kernel: StationaryKernel, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.kernel = kernel
        self.values = {f"kernel.{name}": value for name, value in parameters.items()}

    def forward(self, x: Tensor, y: Tensor, order: int) -> Tensor:
        """See the class; called with the parameters swapped in."""
        return covariance(self.kernel, x, y, order, 0)

    def at(self, x: Tensor, y: Tensor, order: int = 0) -> Tensor:
        """`(*batch, len(x), len(y))`, differentiable in the parameters."""
        matrix: Tensor = torch.func.functional_call(self, self.values, (x, y, order))
        return matrix


@dataclass(frozen=True, eq=False)
class PublishedAxis:
    """Covariance matrices of one axis on its nodes: K + eps I = L L^T, and the derivatives K^(p)."""

    covariance: AxisCovariance
    nodes: Tensor
    root: Tensor

    @classmethod
    def of(cls, covariance: AxisCovariance, nodes: Tensor, jitter: float) -> PublishedAxis:
        """Factorise the covariance of the nodes.

        Raises:
            torch.linalg.LinAlgError: If it is singular to rounding in spite of the jitter.
        """
        matrix = covariance.at(nodes, nodes)
        identity = torch.eye(len(nodes), dtype=matrix.dtype, device=matrix.device)
        return cls(covariance, nodes, torch.linalg.cholesky(matrix + jitter * identity))

    def solve(self, u: Tensor) -> Tensor:
        """(K + eps I)^-1 u for columns `(*batch, N, k)`."""
        return torch.cholesky_solve(u, self.root)

    def differentiate(self, order: int) -> Callable[[Tensor], Tensor]:
        """Multiplication of columns by K^(order), the derivative in the first argument."""
        return lambda u: self.covariance.at(self.nodes, self.nodes, order) @ u

    def log_det(self) -> Tensor:
        """Logarithm of |K + eps I|, `(*batch,)`."""
        return 2 * self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def along(function: Callable[[Tensor], Tensor], u: Tensor, axis: int, dims: int) -> Tensor:
    """Apply a map of columns `(*batch, N, k)` along one of the last `dims` axes of `u`."""
    first = u.ndim - dims
    moved = u.movedim(first + axis, first)
    columns = function(moved.reshape(*moved.shape[: first + 1], -1))
    return columns.reshape(*columns.shape[:-1], *moved.shape[first + 1 :]).movedim(first, first + axis)


def derivative(u: Tensor, solved: list[Tensor], axes: list[PublishedAxis], orders: tuple[int, ...]) -> Tensor:
    """D_1^(p_1) ... D_d^(p_d) U, `(*batch, *shape)`; `solved` has (K_j + eps I)^-1 U for each axis j."""
    result = None
    for j, order in enumerate(orders):
        if order:
            inner = solved[j] if result is None else along(axes[j].solve, result, j, len(axes))
            result = along(axes[j].differentiate(order), inner, j, len(axes))
    return u if result is None else result


@dataclass(frozen=True, eq=False)
class CollocationData:
    """What does not change while training: points, parameters of the equation, rows of the conditions."""

    pde: PDE
    points: TensorPoints
    x: dict[str, Tensor]
    parameters: Mapping[str, Tensor | Jet]
    orders: dict[str, tuple[int, ...]]
    sides: list[tuple[Functionals, list[Tensor]]]
    batch: torch.Size

    @classmethod
    def of(cls, collocation: Collocation) -> CollocationData:
        """Evaluate everything once, on the grid."""
        points, names = collocation.points(), collocation.coordinates
        equations, conditions = collocation.equations(), collocation.conditions_at()
        lead = [rows.values.shape[: rows.values.ndim - len(names)] for rows in (equations, *conditions)]
        orders = {name: equations.orders(name) for name in collocation.derivatives}
        sides = [(rows, _indices(rows, points)) for rows in conditions]
        parameters = collocation.parameters_at(points)
        x = points.columns(names)
        return cls(collocation.pde, points, x, parameters, orders, sides, broadcast_shapes(*lead))

    def jet(self, u: Tensor, solved: list[Tensor], axes: list[PublishedAxis]) -> Jet:
        """All derivatives that occur, `(*batch, N)` each."""
        entries = {name: derivative(u, solved, axes, orders) for name, orders in self.orders.items()}
        return Jet({name: entry.flatten(-len(axes)) for name, entry in entries.items()})

    def residual(self, jet: Jet) -> Tensor:
        """The residual on the grid, `(*batch, N)`."""
        return self.pde(self.x, {next(iter(self.pde.fields)): jet}, self.parameters)[self.pde.equations[0]]

    def misfit(self, jet: Jet) -> tuple[Tensor, int]:
        """Sum of squares of the conditions' residuals, `(*batch,)`, and their number."""
        total, count, d = jet.zero, 0, len(self.points.lines)
        for rows, indices in self.sides:
            found = jet.zero
            for name, weight in rows.terms.items():
                entry = jet[name].unflatten(-1, self.points.shape)
                for axis, index in enumerate(indices):
                    entry = entry.index_select(axis - d, index)
                found = found + weight * entry
            total = total + (found - rows.values).square().flatten(-d).sum(-1)
            count += math.prod(rows.shape)
        return total, count


def _indices(rows: Functionals, points: TensorPoints) -> list[Tensor]:
    """Where a side lies in the grid, per axis.

    Raises:
        UnsupportedProblemError: If it is not made of grid points.
    """
    indices = []
    for line, nodes in zip(getattr(rows.points, "lines", ()), points.lines, strict=True):
        index = torch.searchsorted(nodes, line).clamp_max(len(nodes) - 1)
        if not torch.equal(nodes[index], line):
            message = f"the published algorithm takes conditions at grid points, and `{rows.name}` has others."
            raise UnsupportedProblemError(message)
        indices.append(index)
    return indices
