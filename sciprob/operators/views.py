"""A linear map seen as a `linear_operator` object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from linear_operator.operators import LinearOperator
from torch import Tensor

if TYPE_CHECKING:
    from sciprob.operators.linear import LinearMap


class MatrixFreeLinearOperator(LinearOperator):  # type: ignore[misc]
    """Matrix-free view `(codomain.size, domain.size)`; products call the map, nothing is formed."""

    def __init__(self, *, linear_map: LinearMap, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(linear_map=linear_map, dtype=dtype, device=device)
        self.linear_map = linear_map
        self._dtype = dtype
        self._device = device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the vectors it acts on."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Device of the vectors it acts on."""
        return self._device

    def _size(self) -> torch.Size:
        domain, codomain = self.linear_map.domain, self.linear_map.codomain
        return torch.Size((codomain.size, domain.size))

    def _matmul(self, rhs: Tensor) -> Tensor:
        domain, codomain = self.linear_map.domain, self.linear_map.codomain
        vector = rhs.ndim == 1
        columns = (rhs.unsqueeze(-1) if vector else rhs).mT
        result: Tensor = self.linear_map(columns.reshape(*columns.shape[:-1], *domain.shape))
        result = result.reshape(*columns.shape[:-1], codomain.size).mT
        return result.squeeze(-1) if vector else result

    def _transpose_nonbatch(self) -> Any:
        return MatrixFreeLinearOperator(linear_map=self.linear_map.T, dtype=self._dtype, device=self._device)
