"""Sources and boundary data that belong to a given solution."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.pde.collocation import Collocation
from sciprob.pde.coordinates import coordinate_jets
from sciprob.pde.derivative_names import closure
from sciprob.pde.field_values import Value, evaluate
from sciprob.pde.functionals import AnyPoints, ScatteredPoints, TensorPoints
from sciprob.pde.jet import Jet, as_jet
from sciprob.pde.pde import PDE
from sciprob.pde.side_conditions import SideCondition

Exact = Callable[[Mapping[str, Jet]], Jet | Tensor]
_NOWHERE = TensorPoints(())  # tables of parameters are refused, because a solution is known everywhere


@dataclass(frozen=True, eq=False)
class Manufactured:
    """A known solution u* of an equation that has a parameter `forcing`: f is what makes the residual vanish.

    Args:
        pde: An equation P(u) - f = 0 for one field.
        exact: The solution as arithmetic on the jets of the coordinates.
        parameters: The other parameters.

    Raises:
        UnsupportedProblemError: If the equation has no forcing.
    """

    pde: PDE
    exact: Exact
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "forcing" not in self.pde.parameters:
            message = f"{type(self.pde).__name__} has no parameter `forcing` that a given solution could determine."
            raise UnsupportedProblemError(message)

    def jet(self, x: Mapping[str, Tensor], derivatives: tuple[str, ...] = ()) -> Jet:
        """The solution with derivatives at points, `(n,)` each."""
        return as_jet(self.exact(coordinate_jets(x, ("", *derivatives))), next(iter(x.values())))

    def values(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """The solution, or a derivative of it, at points: `(*points.shape)`."""
        found = self.jet(points.columns(tuple(self.pde.coordinates)), (derivative,))[derivative]
        return found.expand(math.prod(points.shape)).reshape(points.shape)

    def forcing(self, x: Mapping[str, Tensor]) -> Tensor:
        """The source f at points, `(n,)` by coordinate, to rounding."""
        coordinates, name = tuple(self.pde.coordinates), next(iter(self.pde.fields))
        points = ScatteredPoints(torch.stack([x[axis] for axis in coordinates], dim=-1))
        derivatives = closure(self.pde.fields[name])
        given: dict[str, Tensor | Jet] = {"forcing": points.points.new_zeros(())}
        for parameter, value in self.parameters.items():
            needed = derivatives if parameter in self.pde.differentiated else ()
            given[parameter] = evaluate(value, parameter, coordinates, points, _NOWHERE, needed)
        return self.pde(x, {name: self.jet(x, derivatives)}, given)[self.pde.equations[0]]

    def collocation(
        self, lower: Sequence[float], upper: Sequence[float], shape: Sequence[int], conditions: Sequence[SideCondition]
    ) -> Collocation:
        """The equation on a box with source and boundary data of the solution; values of `conditions` are replaced."""
        parameters = {**self.parameters, "forcing": self.forcing}
        data = tuple(self.condition(condition) for condition in conditions)
        return Collocation(self.pde, tuple(lower), tuple(upper), tuple(shape), parameters, data)

    def condition(self, like: SideCondition) -> SideCondition:
        """The condition with the values that the solution has."""

        def values(x: Mapping[str, Tensor]) -> Tensor:
            jet = self.jet(x, tuple(like.weights))
            total = torch.zeros_like(next(iter(x.values())))
            for derivative, weight in like.weights.items():
                total = total + (weight(x) if callable(weight) else weight) * jet[derivative]
            return total

        return replace(like, values=values)
