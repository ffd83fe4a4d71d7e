r"""Kronecker products of small matrices as linear maps.

With row-major vectors (L_1 x L_2 x ...) vec C = vec(C x_1 L_1 x_2 L_2 ...): one small product per axis. Solves and
determinants factorise too, (L_1 x L_2)^{-1} = L_1^{-1} x L_2^{-1} and log |det| = sum_j (N / N_j) log |det L_j|,
and are computed here by LU per factor: `linear_operator` clamps eigenvalues at 1e-7 in its Kronecker determinant and
falls back to conjugate gradients above 800 rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.linear import LinearMap
from sciprob.operators.store import storable
from sciprob.spaces import GridSpace, Space

if TYPE_CHECKING:
    from linear_operator.operators import LinearOperator

_GRID = ("shape", "name", "dims", "unit", "lower", "upper", "centring")


@storable("kronecker")
class KroneckerMap(LinearMap):
    r"""(*batch, r_1, ..., r_d) -> (*batch, N_1, ..., N_d) by one matrix per axis.

    Args:
        factors: L_j `(N_j, r_j)`, one per axis, of one dtype.
        domain: Space of shape (r_1, ..., r_d); default a plain one named `xi`.
        codomain: Space of shape (N_1, ..., N_d); default a plain one.

    Raises:
        ShapeError: If a factor is not a matrix, or a space does not fit them.
    """

    def __init__(self, factors: Sequence[Tensor], domain: Space | None = None, codomain: Space | None = None) -> None:
        if not factors or any(factor.ndim != 2 for factor in factors):
            shapes = [tuple(factor.shape) for factor in factors]
            message = f"a Kronecker product needs one matrix per axis, got tensors of shapes {shapes}."
            raise ShapeError(message)
        columns = Space(tuple(factor.shape[1] for factor in factors), name="xi")
        rows = Space(tuple(factor.shape[0] for factor in factors), name="y")
        for given, needed in ((domain, columns), (codomain, rows)):
            if given is not None and not given.compatible(needed):
                message = f"these factors need a space of shape {needed.shape}, got {given.shape} of `{given.name}`."
                raise ShapeError(message)
        super().__init__(domain or columns, codomain or rows)
        for axis, factor in enumerate(factors):
            self.register_buffer(f"factor_{axis}", factor.detach())

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """L_1, ..., L_d."""
        return tuple(cast(Tensor, getattr(self, f"factor_{axis}")) for axis in range(len(self.domain.shape)))

    def _apply_batched(self, m: Any) -> Any:
        return mode_products(m, [factor.to(m.dtype) for factor in self.factors])

    def _adjoint_batched(self, y: Any) -> Any:
        return mode_products(y, [factor.to(y.dtype).mT for factor in self.factors])

    def solve(self, y: Tensor) -> Tensor:
        """The inverse, one LU solve per axis, where all factors are square.

        Raises:
            UnsupportedProblemError: If a factor is not square.
        """
        if not self._square:
            return super().solve(y)
        for axis, factor in enumerate(self.factors):
            moved = y.movedim(axis - len(self.factors), 0)
            solved: Tensor = torch.linalg.solve(factor.to(y.dtype), _columns(moved)).reshape(moved.shape)
            y = solved.movedim(0, axis - len(self.factors))
        return y

    def log_abs_det(self) -> Tensor:
        """sum_j (N / N_j) log |det L_j|.

        Raises:
            UnsupportedProblemError: If a factor is not square.
        """
        if not self._square:
            return super().log_abs_det()
        size = self.domain.size
        terms = [torch.linalg.slogdet(factor)[1] * (size // len(factor)) for factor in self.factors]
        return torch.stack(terms).sum()

    def row_squares(self) -> Tensor:
        """Diagonal of L L^T, `(N_1, ..., N_d)`: an outer product of row sums."""
        return outer_product([factor.square().sum(1) for factor in self.factors])

    def to_dense(self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """Matrix `(N, r)`."""
        return reduce(torch.kron, [factor.to(dtype=dtype, device=device) for factor in self.factors])

    def to_linear_operator(
        self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> LinearOperator:
        """A `KroneckerProductLinearOperator`, keeping the factors' dtype and device."""
        from linear_operator.operators import DenseLinearOperator, KroneckerProductLinearOperator

        dense = [DenseLinearOperator(factor) for factor in self.factors]
        return cast("LinearOperator", KroneckerProductLinearOperator(*dense))

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Factors as tensors, and the codomain where it is a grid."""
        tensors = {f"factor_{axis}": factor for axis, factor in enumerate(self.factors)}
        space, grid = self.codomain, None
        if isinstance(space, GridSpace):
            grid = {key: list(v) if isinstance(v := getattr(space, key), tuple) else v for key in _GRID}
        return {"axes": len(tensors), "grid": grid}, tensors

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the map again; a codomain that was no grid becomes a plain space."""
        factors = [tensors[f"factor_{axis}"] for axis in range(int(settings["axes"]))]
        if settings["grid"] is None:
            return cls(factors)
        grid: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["grid"].items()}
        return cls(factors, codomain=GridSpace(**grid))

    @property
    def _square(self) -> bool:
        return all(factor.shape[0] == factor.shape[1] for factor in self.factors)


def _columns(y: Tensor) -> Tensor:
    """`(n, ...)` as a matrix, also where there are no entries."""
    return y.reshape(len(y), math.prod(y.shape[1:]))


def mode_products(c: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """C x_1 L_1 x_2 L_2 ... over the last axes: `(*batch, r_1, ..., r_d)` -> `(*batch, N_1, ..., N_d)`.

    Each factor `(N_j, r_j)` acts on its axis; leading axes are carried along.
    """
    d = len(factors)
    for axis, factor in enumerate(factors):
        c = (c.movedim(axis - d, -1) @ factor.mT).movedim(-1, axis - d)
    return c


def outer_product(vectors: Sequence[Tensor]) -> Tensor:
    """`(N_1, ..., N_d)` from one vector per axis."""
    return reduce(lambda left, right: left[..., None] * right, vectors)
