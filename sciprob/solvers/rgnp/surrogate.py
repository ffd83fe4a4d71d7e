"""The amortised mean as a forward operator, so that every solver of inverse problems runs on it."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from sciprob.operators.base import ForwardOperator
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.inputs import check_parameters, check_points
from sciprob.solvers.rgnp.network import PointNetwork
from sciprob.solvers.rgnp.residuals import in_precision, mean_field
from sciprob.spaces import Space


class SurrogateOperator(ForwardOperator):
    """z -> u(x; z, w) at fixed points for known w: `(*batch, dz)` -> `(*batch, n, fields)`.

    Smooth in z, also outside the box it was trained in, where it is not to be trusted. dtype and
    device follow z. Derivatives are those of the network.

    Args:
        family: The family.
        network: Its trained mean; it is copied.
        points: x `(n, d)`.
        w: `(dw,)`.

    Raises:
        ShapeError: If points or w do not fit the family.
        DataError: If points lie outside the domain.
    """

    def __init__(self, family: ProblemFamily, network: PointNetwork, points: Tensor, w: Tensor) -> None:
        check_points(family, points)
        super().__init__(family.unknown.space, field_space(family, points))
        check_parameters(family, w.new_zeros(family.unknown.size), w)
        self.family = family
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)  # moving one must not move the other
        self.register_buffer("points", points.detach().clone())
        self.register_buffer("w", w.detach().clone())

    points: Tensor
    w: Tensor

    def _apply_batched(self, m: Any) -> Any:
        points, w = self.points.to(m), self.w.to(m)
        return mean_field(self.family, in_precision(self.network, m), points, m, w.expand(*m.shape[:-1], -1))


def field_space(family: ProblemFamily, points: Tensor) -> Space:
    """Space of the fields at points `(n, d)`: `(n, fields)`."""
    return Space((len(points), family.n_fields), "_".join(family.fields), ("points", "field"))
