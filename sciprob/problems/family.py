"""A family of PDE problems: one equation on one domain, for all parameters of a box."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.pde.conditions import HardCondition
from sciprob.pde.coordinates import columns, coordinate_jets
from sciprob.pde.jet import Jet, Number
from sciprob.pde.pde import PDE, Fields, Points, Residuals
from sciprob.problems.family_box import ParameterBox
from sciprob.problems.family_domain import BoxDomain, DiskDomain, Domain
from sciprob.problems.problem import Info
from sciprob.spaces.shapes import broadcast_shapes

__all__ = ["BoxDomain", "DiskDomain", "Domain", "ParameterBox", "ProblemFamily", "Reference"]

Reference = Callable[[Tensor, Tensor, Tensor], Tensor]
Weights = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor | Number]]


@dataclass(frozen=True)
class ProblemFamily:
    """G_z^w(u) = 0 on a domain, with boundary and initial conditions, for z and w in boxes.

    z is what an inverse problem seeks, w is known when the equation is used (forcing, initial state,
    speed of a lid). Conditions are hard: u = B + D n holds them for every n, so that a method has
    the residual alone to care for. Nothing is stored as a tensor: dtype and device follow the inputs.

    Args:
        name: Short name.
        pde: The equation.
        domain: Where it holds, with the measure of collocation points; its coordinates are those of the equation.
        unknown: z with its uniform prior.
        known: w with its uniform prior; may be empty.
        condition: Lift B and distance D by field; their parameters are z, w and the constants, by name.
        constants: Parameters that are the same for all members.
        weights: `parameters -> factors by equation`, by which residuals are multiplied before they
            are compared with each other; equations left out have 1. By default none.
        reference: `(z (dz,), w (dw,), points (n, d)) -> (n, fields)`, float64: an accurate solution by a
            method that has nothing to do with the one that is trained.
        info: Words.
        config: The table that rebuilds the family.

    Raises:
        ConfigError: If the domain's coordinates are not the equation's, two parameters share a name, or a
            parameter of the equation has no value.
    """

    name: str
    pde: PDE
    domain: Domain
    unknown: ParameterBox
    condition: HardCondition
    known: ParameterBox = field(default_factory=lambda: ParameterBox(name="w"))
    constants: Mapping[str, float] = field(default_factory=dict)
    weights: Weights | None = field(default=None, repr=False)
    reference: Reference | None = field(default=None, repr=False)
    info: Info = field(default_factory=Info, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if tuple(self.domain.coordinates) != tuple(self.pde.coordinates):
            message = (
                f"the domain of `{self.name}` should have the coordinates of its equation, {self.pde.coordinates}, "
                f"got {self.domain.coordinates}."
            )
            raise ConfigError(message)
        names = [*self.unknown.names, *self.known.names, *self.constants]
        twice = sorted({name for name in names if names.count(name) > 1})
        missing = [name for name in self.pde.parameters if name not in (*names, *self.pde.defaults)]
        if twice or missing:
            what = f"has two parameters `{twice[0]}`" if twice else f"gives the equation no `{missing[0]}`"
            message = f"family `{self.name}` {what}; name it once, as unknown, known or constant."
            raise ConfigError(message)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields of u, in the order of the columns."""
        return tuple(self.pde.fields)

    @property
    def n_fields(self) -> int:
        """Number of fields."""
        return len(self.pde.fields)

    @property
    def equations(self) -> tuple[str, ...]:
        """Names of the residuals."""
        return tuple(self.pde.equations)

    def parameters(self, z: Tensor, w: Tensor) -> dict[str, Tensor]:
        """All parameters by name, `(*batch, 1)` each, of `z (*batch, dz)` and `w (*batch, dw)`.

        Those of lift and distance are among them; `residual` hands the equation its own.

        Raises:
            ShapeError: If z or w do not end in the size of their box.
        """
        self.unknown.space.batch_shape(z, "z")
        self.known.space.batch_shape(w, "w")
        given = dict(zip(self.unknown.names, z.unsqueeze(-2).unbind(-1), strict=True))
        given |= dict(zip(self.known.names, w.unsqueeze(-2).unbind(-1), strict=True))
        return given | {name: z.new_tensor(value) for name, value in self.constants.items()}

    def physical(self, x: Points, n: Fields, z: Tensor, w: Tensor) -> dict[str, Jet]:
        """Jets of u = B + D n, `(*batch, n)`, of coordinates by name and jets of the network's outputs."""
        return self.condition(x, n, self.parameters(z, w))

    def residual(self, points: Tensor, n: Fields, z: Tensor, w: Tensor) -> Residuals:
        """The residual of each equation, `(*batch, n)`, unweighted.

        Args:
            points: `(*batch, n, d)`.
            n: Jets of the network's outputs by field, as of `network_jets(network, points, coordinates, pde.fields)`.
            z: `(*batch, dz)`.
            w: `(*batch, dw)`.
        """
        self.domain.check(points)
        x, given = columns(points, self.pde.coordinates), self.parameters(z, w)
        return self.residual_of(x, self.condition(x, n, given), given)

    def residual_of(self, x: Points, u: Fields, parameters: Mapping[str, Tensor]) -> Residuals:
        """The residual of a physical field u, `(*batch, n)` each."""
        return self.pde(x, u, {name: value for name, value in parameters.items() if name in self.pde.parameters})

    def residual_weights(self, z: Tensor, w: Tensor) -> dict[str, Tensor]:
        """Factors by equation, each broadcasting with `(*batch, 1)`, that make residuals comparable."""
        given = self.parameters(z, w)
        found = self.weights(given) if self.weights else {}
        one = z.new_ones(())
        return {name: one * found.get(name, 1.0) for name in self.equations}

    def lift_and_distance(self, points: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """B and D of u = B + D n at points `(*batch, n, d)`, each `(*batch, n, fields)`."""
        self.domain.check(points)
        x = coordinate_jets(columns(points, self.pde.coordinates), ())
        given = self.parameters(z, w)
        batch = broadcast_shapes(points.shape[:-2], z.shape[:-1], w.shape[:-1])
        shape = (*batch, points.shape[-2])
        lift, distance = self.condition.lift(x, given), self.condition.distance(x, given)
        return (
            torch.stack([_values(lift.get(name, 0.0), points).expand(shape) for name in self.fields], dim=-1),
            torch.stack([_values(distance.get(name, 1.0), points).expand(shape) for name in self.fields], dim=-1),
        )

    def solve(self, z: Tensor, w: Tensor, points: Tensor) -> Tensor:
        """The reference solution, `(*batch, n, fields)`, at points `(n, d)` for `z (*batch, dz)` and `w (*batch, dw)`.

        Raises:
            UnsupportedProblemError: If the family has no reference.
        """
        if self.reference is None:
            message = f"family `{self.name}` has no reference solver; give one, `ProblemFamily(..., reference=...)`."
            raise UnsupportedProblemError(message)
        self.domain.check(points)
        batch = broadcast_shapes(self.unknown.space.batch_shape(z, "z"), self.known.space.batch_shape(w, "w"))
        zs = z.expand(*batch, z.shape[-1]).reshape(batch.numel(), z.shape[-1])
        ws = w.expand(*batch, w.shape[-1]).reshape(batch.numel(), w.shape[-1])
        solved = [self.reference(a, b, points) for a, b in zip(zs, ws, strict=True)]
        shape = (*batch, points.shape[-2], self.n_fields)
        return torch.stack(solved).reshape(shape).to(points) if solved else points.new_zeros(shape)


def _values(part: Jet | Tensor | Number, like: Tensor) -> Tensor:
    """A part of a condition as a tensor."""
    if isinstance(part, Jet):
        return part.value
    return part if isinstance(part, Tensor) else like.new_tensor(part)
