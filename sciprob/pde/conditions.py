"""Boundary, initial and other conditions: built into the field, or as equations of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.pde.coordinates import coordinate_jets
from sciprob.pde.jet import Jet, Number
from sciprob.pde.pde import Fields, Parameters, Points

FieldParts = Callable[[Mapping[str, Jet], Parameters], Mapping[str, Jet | Tensor | Number]]
Coefficient = Number | Callable[[Points, Parameters], Tensor]


@dataclass(frozen=True)
class HardCondition:
    """u = B + D n: the field has prescribed values wherever the distance D vanishes, whatever n is.

    B is any smooth field with the prescribed values, D should vanish to first order there and nowhere
    else: with higher order the normal derivative would be prescribed as well. Both are written as
    arithmetic on the jets of the coordinates, so that the derivatives of u follow.

    Args:
        lift: `(x, p)` -> B of each field, by name; fields that it leaves out have B = 0. x are jets.
        distance: `(x, p)` -> D of each field, by name; fields that it leaves out have D = 1.

    Example:
        >>> zero_at_ends = HardCondition(lambda x, p: {}, lambda x, p: {"u": x["x"] * (1 - x["x"])})
    """

    lift: FieldParts
    distance: FieldParts

    def __call__(self, x: Points, n: Fields, p: Parameters | None = None) -> dict[str, Jet]:
        """The fields of the network's outputs.

        Args:
            x: Coordinates of the points, each `(*batch, n)`.
            n: Outputs of a network as jets, by field.
            p: Parameters of lift and distance, as in `PDE`.
        """
        needed = [name for jet in n.values() for name in jet.names]
        coordinates = coordinate_jets(x, needed)
        lifts, distances = self.lift(coordinates, p or {}), self.distance(coordinates, p or {})
        fields = {}
        for name, jet in n.items():
            scaled = jet * distances[name] if name in distances else jet
            fields[name] = scaled + lifts[name] if name in lifts else scaled
        return fields


@dataclass(frozen=True)
class SoftCondition:
    """sum_a c_a D^a u - g = 0 on points of a boundary, or of the initial time: one more residual, linear in u.

    Dirichlet: `{"": 1.0}`; Neumann on the side x = 0, with outer normal -x: `{"x": -1.0}`; Robin: both.

    Args:
        name: What the residual is called.
        field: The field u.
        weights: c_a by derivative; a number, or a function of coordinates and parameters.
        target: g, in the same form.
    """

    name: str
    field: str
    weights: Mapping[str, Coefficient]
    target: Coefficient = 0.0

    @property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """The derivatives needed, as in `PDE.fields`."""
        return {self.field: tuple(self.weights)}

    def residual(self, x: Points, u: Fields, p: Parameters | None = None) -> dict[str, Tensor]:
        """The residual at points on the boundary, `(*batch, n)`."""
        jet = u[self.field]
        total = -_evaluated(self.target, x, p, jet)
        for derivative, weight in self.weights.items():
            total = total + _evaluated(weight, x, p, jet) * jet[derivative]
        return {self.name: total}


def _evaluated(coefficient: Coefficient, x: Points, p: Parameters | None, like: Jet) -> Tensor:
    if isinstance(coefficient, int | float):
        return torch.full_like(like.zero, coefficient)
    return coefficient(x, p or {})
