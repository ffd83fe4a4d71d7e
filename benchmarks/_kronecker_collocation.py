"""A case of `kronecker_gp.py` as a collocation problem of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from _kronecker_cases import Case
from torch import Tensor

from sciprob.pde import PDE
from sciprob.pde.collocation import Collocation
from sciprob.pde.side_conditions import SideCondition


@dataclass(frozen=True)
class Laplace(PDE):
    """Delta u + reaction u (u^2 - 1) - f = 0, as in the paper."""

    equations: ClassVar[tuple[str, ...]] = ("laplace",)
    parameters: ClassVar[tuple[str, ...]] = ("f",)
    space: str = "x"
    reaction: float = 0.0

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The axes."""
        return tuple(self.space)

    @property
    def linear(self) -> bool:
        """Without the reaction."""
        return self.reaction == 0

    @property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """One field."""
        return {"u": tuple(2 * axis for axis in self.space)}

    def residual(self, x, u, p):
        """See the class."""
        field = u["u"]
        total = field.laplacian(self.space) - p["f"]
        if self.reaction:
            total = total + self.reaction * field.value * (field.value**2 - 1)
        return {"laplace": total}


@dataclass(frozen=True)
class Transport(PDE):
    """u_t + speed u_x = 0."""

    coordinates: ClassVar[tuple[str, ...]] = ("x", "t")
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {"u": ("x", "t")}
    equations: ClassVar[tuple[str, ...]] = ("transport",)
    linear: ClassVar[bool] = True
    speed: float = 1.0

    def residual(self, x, u, p):
        """See the class."""
        return {"transport": u["u"].t + self.speed * u["u"].x}


def collocation_of(case: Case, all_sides: bool = False, **settings: object) -> Collocation:
    """Equation, source, and boundary values on all sides; for advection those of t = 0 and of the inflow alone.

    `all_sides` adds the other two for advection: the published method has them.
    """
    names, box = case.coordinates, ((0.0,) * case.dims, (case.upper,) * case.dims, (case.nodes,) * case.dims)

    def exact(x: Mapping[str, Tensor]) -> Tensor:
        return case.exact(*(x[name] for name in names))

    def source(x: Mapping[str, Tensor]) -> Tensor:
        return case.source_at(*(x[name] for name in names))

    sides = [f"{name}_{end}" for name in names for end in ("lower", "upper")]
    if case.equation == "advection":
        pde: PDE = Transport(case.speed)
        parameters: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {}
        sides = sides if all_sides else ["x_lower", "t_lower"]
    else:
        pde = Laplace("".join(names), 1.0 if case.equation == "allen-cahn" else 0.0)
        parameters = {"f": source}
    conditions = tuple(SideCondition.dirichlet(side, exact) for side in sides)
    return Collocation(pde, *box, parameters, conditions, **settings)  # type: ignore[arg-type]
