"""Gaussian observations of a path at nodes of a time grid: the data, and the pseudo-observations of a posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError


@dataclass(frozen=True)
class Sites:
    """Values x(t_j) + N(0, 1 / precision), in D latent dimensions.

    Args:
        index: Nodes of the grid, `(J,)`, not decreasing.
        values: `(J, D)`.
        precision: `(J, D)`, 1 / variance; 0 where a dimension is not seen.
    """

    index: Tensor
    values: Tensor
    precision: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """Log density of the values given paths `x (*batch, n, D)` on the grid, `(*batch,)`, normalised."""
        seen = self.precision > 0
        safe = torch.where(seen, self.precision, torch.ones_like(self.precision))
        square = self.precision * (self.values - x[..., self.index, :]).square()
        terms = torch.where(seen, safe.log() - math.log(2 * math.pi), torch.zeros_like(safe)) - square
        return terms.sum((-2, -1)) / 2


def merge_times(times: Tensor, horizon: float, step: float) -> tuple[Tensor, Tensor]:
    """A grid from 0 to the horizon with steps of at most `step` that contains `times`, and the nodes of those.

    Args:
        times: `(J,)`, in [0, horizon], float64.
        horizon: Last node.
        step: Largest step.

    Raises:
        DataError: If a time lies outside.
    """
    if len(times) and (float(times.min()) < 0 or float(times.max()) > horizon * (1 + 1e-9)):
        message = f"times should lie in [0, {horizon:g}], got {float(times.min()):g} to {float(times.max()):g}."
        raise DataError(message)
    ends = torch.tensor([0.0, horizon], dtype=torch.float64, device=times.device)
    corners = torch.cat([ends, times.clamp_max(horizon)]).sort().values
    apart = torch.cat([corners.new_ones(1, dtype=torch.bool), corners.diff() > 1e-9 * horizon])
    corners = corners[apart]
    pieces = [corners[:1]]
    for left, right in zip(corners[:-1].tolist(), corners[1:].tolist(), strict=True):
        count = max(1, math.ceil((right - left) / step - 1e-9))
        shares = torch.arange(1, count + 1, dtype=torch.float64, device=times.device) / count
        pieces.append(left + (right - left) * shares)
    grid = torch.cat(pieces)
    return grid, (grid[:, None] - times).abs().argmin(0)
