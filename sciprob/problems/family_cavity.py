"""The family of lid-driven cavities, for any density and viscosity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from sciprob.pde.cavity import cavity_conditions
from sciprob.pde.navier_stokes import NavierStokes
from sciprob.problems.family import BoxDomain, ProblemFamily
from sciprob.problems.family_settings import FamilySettings, Range, box
from sciprob.problems.problem import Info
from sciprob.problems.references.cavity import solve_cavity
from sciprob.problems.registry import register


@register("cavity-family")
@dataclass(frozen=True, kw_only=True)
class CavityFamily(FamilySettings):
    """Incompressible flow in (0, 1)^2, from rest, driven by a lid of velocity w (1 - (2x - 1)^6) t, 0 < t <= 1.

    Conditions as in `cavity_conditions`. Unknown: density rho and dynamic viscosity mu. Known: the lid's
    speed w. Pressure and friction grow with mu, so that momentum residuals are weighted by 1 / mu;
    continuity has the weight 10 of the source.

    Args:
        density: Range of rho.
        viscosity: Range of mu.
        lid: Speed w of the lid; a range, or one number for all members.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """

    words: ClassVar[Info] = Info(
        title="Flow in a cavity whose lid starts to move, for any density and viscosity",
        equation=r"\rho (u_t + u \cdot \nabla u) + \nabla p - \mu \Delta u = 0, \quad \nabla \cdot u = 0",
        description="Velocity and pressure for all densities and viscosities of a box, and those numbers from data.",
        citations=("vadeboncoeur2023",),
        default_solver="rgnp",
    )

    density: Range = field(default_factory=lambda: Range(0.8, 1.0))
    viscosity: Range = field(default_factory=lambda: Range(0.1, 1.0, log=True))
    lid: Range | float = 1.0

    def family(self, name: str) -> ProblemFamily:
        """See the class."""
        varies = isinstance(self.lid, Range)
        lid = self.lid

        def reference(z: Tensor, w: Tensor, points: Tensor) -> Tensor:
            return solve_cavity(z, w if varies else z.new_tensor([lid]), points)

        return ProblemFamily(
            name,
            NavierStokes("xy"),
            BoxDomain(("x", "y", "t"), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            unknown=box("z", density=self.density, viscosity=self.viscosity),
            known=box("w", **({"lid": lid} if isinstance(lid, Range) else {})),
            constants={} if isinstance(lid, Range) else {"lid": lid},
            condition=cavity_conditions(),
            weights=_weights,
            reference=reference,
        )


def _weights(p: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
    return {"momentum_x": 1 / p["viscosity"], "momentum_y": 1 / p["viscosity"], "continuity": 10.0}
