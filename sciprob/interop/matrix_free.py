"""Linear maps as SciPy and PyLops operators, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from sciprob.errors import MissingExtraError, ShapeError, UnsupportedProblemError
from sciprob.operators.host import HostLinearMap
from sciprob.operators.host_protocols import Floats
from sciprob.operators.linear import LinearMap
from sciprob.spaces import Space

Array = NDArray[Any]


def to_scipy(
    linear_map: LinearMap, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> LinearOperator:
    """A linear map as `scipy.sparse.linalg.LinearOperator` of shape `(codomain.size, domain.size)`.

    Vectors are the flattened elements, in C order; the columns of a matrix become one batch. Products with
    the transpose use the map's own adjoint.

    Args:
        linear_map: The map.
        dtype: Number type in which the map is applied, float32 or float64.
        device: Device on which it is applied; arrays are copied to it and back.
    """
    forward, adjoint = _products(linear_map, dtype, device)
    shape = (linear_map.codomain.size, linear_map.domain.size)
    return LinearOperator(
        shape, matvec=forward, rmatvec=adjoint, matmat=forward, rmatmat=adjoint, dtype=_numpy_type(dtype)
    )


def to_pylops(linear_map: LinearMap, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Any:
    """A linear map as `pylops.LinearOperator` with `dims` and `dimsd` of its spaces.

    Args:
        linear_map: The map.
        dtype: Number type in which the map is applied.
        device: Device on which it is applied.

    Raises:
        MissingExtraError: If PyLops is not installed.
    """
    try:
        import pylops
    except ImportError as error:
        message = "`to_pylops` needs PyLops; install it with `pip install pylops`."
        raise MissingExtraError(message) from error
    return pylops.LinearOperator(
        Op=to_scipy(linear_map, dtype=dtype, device=device),
        dims=linear_map.domain.shape or (1,),
        dimsd=linear_map.codomain.shape or (1,),
    )


def from_matrix_free(operator: Any, domain: Space | None = None, codomain: Space | None = None) -> LinearMap:
    """A real SciPy or PyLops operator, or a sparse or dense matrix, as a differentiable linear map.

    It runs on the host in float64, whatever the tensors it meets; their dtype and device are kept.

    Args:
        operator: Anything `scipy.sparse.linalg.aslinearoperator` takes. Without a product with the transpose
            the map has no adjoint.
        domain: Space of m; by default the operator's `dims` (PyLops) or one axis.
        codomain: Space of y; by default the operator's `dimsd` or one axis.

    Raises:
        ShapeError: If a space has another size than the operator.
        UnsupportedProblemError: If the operator is complex.
    """
    host = _Host(operator, domain, codomain)
    return HostLinearMap(host)


class _Host:
    """A matrix-free operator as the host solver of a linear map."""

    def __init__(self, operator: Any, domain: Space | None, codomain: Space | None) -> None:
        from scipy.sparse.linalg import aslinearoperator

        self.operator = operator if hasattr(operator, "matmat") else aslinearoperator(operator)
        rows, columns = (int(n) for n in self.operator.shape)
        if np.issubdtype(self.operator.dtype, np.complexfloating):
            message = f"a linear map is real, got an operator of {self.operator.dtype}; split real and imaginary part."
            raise UnsupportedProblemError(message)
        self.domain = domain or Space(tuple(getattr(operator, "dims", (columns,))), name="m")
        self.codomain = codomain or Space(tuple(getattr(operator, "dimsd", (rows,))), name="y")
        for name, space, size in (("domain", self.domain, columns), ("codomain", self.codomain, rows)):
            if space.size != size:
                message = f"`{name}` should have {size} entries as the operator has, got {space.shape}."
                raise ShapeError(message)

    def apply(self, m: Floats) -> Floats:
        """A m for a batch."""
        return self._product(self.operator.matmat, m, self.codomain)

    def transpose(self, v: Floats) -> Floats:
        """A^T v for a batch; of a real operator the adjoint that SciPy and PyLops state."""
        return self._product(self.operator.rmatmat, v, self.domain)

    @staticmethod
    def _product(action: Callable[[Floats], Floats], rows: Floats, space: Space) -> Floats:
        columns = np.asarray(action(rows.reshape(len(rows), -1).T), dtype=np.float64)
        return np.ascontiguousarray(columns.T).reshape(len(rows), *space.shape)


def _products(
    linear_map: LinearMap, dtype: torch.dtype, device: torch.device | str
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Products of the map and of its adjoint with a vector or with the columns of a matrix."""

    def product(action: LinearMap, x: Array) -> Array:
        vector = x.ndim == 1 or x.shape[1] == 1
        rows = torch.tensor(np.ascontiguousarray(x.reshape(len(x), -1).T), dtype=dtype, device=device)
        with torch.no_grad():
            y: Tensor = action(rows.reshape(-1, *action.domain.shape)).reshape(len(rows), -1)
        result: Array = y.cpu().numpy()
        return result.reshape(-1) if vector else result.T

    adjoint = linear_map.adjoint
    return (lambda x: product(linear_map, x)), (lambda y: product(adjoint, y))


def _numpy_type(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype
