"""A family on a disk: nonlinear diffusion with a tilted source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sciprob.pde.conditions import HardCondition
from sciprob.pde.jet import Jet
from sciprob.pde.pde import PDE, Fields, Parameters, Points, Residuals, value_of
from sciprob.pde.poisson import divergence_of_flux
from sciprob.problems.family import DiskDomain, ProblemFamily
from sciprob.problems.family_settings import FamilySettings, Range, box
from sciprob.problems.problem import Info
from sciprob.problems.references.disk import solve_disk
from sciprob.problems.registry import register


@dataclass(frozen=True)
class TiltedDiffusion(PDE):
    """-div((1 + b u^2) grad u) - f (1 + p x + q y) = 0 in the plane.

    Parameters: `nonlinearity` b, `tilt_x` p, `tilt_y` q, `forcing` f.
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x", "y")
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {"u": ("x", "y", "xx", "yy")}
    equations: ClassVar[tuple[str, ...]] = ("poisson",)
    parameters: ClassVar[tuple[str, ...]] = ("nonlinearity", "tilt_x", "tilt_y", "forcing")

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        conductivity = 1 + value_of(p["nonlinearity"]) * u["u"] ** 2
        source = value_of(p["forcing"]) * (1 + value_of(p["tilt_x"]) * x["x"] + value_of(p["tilt_y"]) * x["y"])
        return {"poisson": -divergence_of_flux(conductivity, u["u"], "xy") - source}


@register("disk-family")
@dataclass(frozen=True, kw_only=True)
class DiskFamily(FamilySettings):
    """-div((1 + b u^2) grad u) = f (1 + p x + q y) in the unit disk, u = 0 on its boundary.

    u = (1 - r^2) / 2 n. Unknown: b, p, q. Known: f. The solution has a closed form.

    Args:
        nonlinearity: Range of b, not negative.
        tilt: Range of p and of q.
        forcing: Range of f.
    """

    words: ClassVar[Info] = Info(
        title="Nonlinear diffusion in a disk, for any tilted source",
        equation=r"-\nabla \cdot ((1 + b u^2) \nabla u) = f (1 + p x + q y)",
        description="An example of a family of one's own; its solution is known in closed form.",
        citations=("vadeboncoeur2023",),
        default_solver="rgnp",
    )

    nonlinearity: Range = field(default_factory=lambda: Range(0.0, 3.0))
    tilt: Range = field(default_factory=lambda: Range(-1.0, 1.0))
    forcing: Range = field(default_factory=lambda: Range(2.0, 8.0))

    def family(self, name: str) -> ProblemFamily:
        """See the class."""
        return ProblemFamily(
            name,
            TiltedDiffusion(),
            DiskDomain(),
            unknown=box("z", nonlinearity=self.nonlinearity, tilt_x=self.tilt, tilt_y=self.tilt),
            known=box("w", forcing=self.forcing),
            condition=HardCondition(_lift, _distance),
            reference=solve_disk,
        )


def _lift(_x: Mapping[str, Jet], _p: Parameters) -> dict[str, Jet]:
    return {}


def _distance(x: Mapping[str, Jet], _p: Parameters) -> dict[str, Jet]:
    return {"u": (1 - x["x"] ** 2 - x["y"] ** 2) * 0.5}
