"""Averages over blocks of cells: the sensor of super-resolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sciprob.errors import ConfigError
from sciprob.operators.linear import LinearMap
from sciprob.spaces import GridSpace


class BlockAverage(LinearMap):
    """Means over blocks of `factor` cells along each axis: coarse cells of a cell-centred grid.

    Rows are orthogonal: A A^T = I / factor^d, with d axes.

    Args:
        domain: Cell-centred grid.
        factor: Cells to a block along each axis; divides every axis.

    Raises:
        ConfigError: If the grid is not cell-centred, or the factor does not divide it.
    """

    def __init__(self, domain: GridSpace, factor: int) -> None:
        if domain.centring != "cell":
            message = f"block averages need a cell-centred grid, got centring {domain.centring!r}."
            raise ConfigError(message)
        if factor < 1 or any(n % factor for n in domain.shape):
            message = f"`factor` should be at least 1 and divide the grid's {domain.shape}, got {factor}."
            raise ConfigError(message)
        coarse = replace(domain, shape=tuple(n // factor for n in domain.shape), coords={})
        super().__init__(domain, coarse)
        self.factor = factor

    def _apply_batched(self, m: Any) -> Any:
        blocks = [size for n in self.codomain.shape for size in (n, self.factor)]
        return m.reshape(len(m), *blocks).mean(tuple(range(2, 2 * len(self.domain.shape) + 1, 2)))

    def _adjoint_batched(self, y: Any) -> Any:
        for axis in range(1, len(self.domain.shape) + 1):
            y = y.repeat_interleave(self.factor, axis)
        return y / self.factor ** len(self.domain.shape)
