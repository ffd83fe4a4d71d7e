"""The family of nonlinear Poisson equations on (-1, 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from sciprob.pde.conditions import HardCondition
from sciprob.pde.jet import Jet
from sciprob.pde.pde import Parameters
from sciprob.pde.poisson import NonlinearPoisson
from sciprob.problems.family import BoxDomain, ProblemFamily
from sciprob.problems.family_settings import FamilySettings, Range, box
from sciprob.problems.problem import Info
from sciprob.problems.references.poisson import solve_poisson
from sciprob.problems.registry import register


@register("poisson-family")
@dataclass(frozen=True, kw_only=True)
class PoissonFamily(FamilySettings):
    """-(kappa(u, x) u')' = w on (-1, 1), u(-1) = u(1) = 0, kappa = log(1 + exp(u s(x))) + 0.1, s = sum_i z_i T_i.

    u = cos(pi x / 2) n. Unknown: the five coefficients z. Known: the forcing w.

    Args:
        coefficient: Range of every z_i.
        forcing: Range of w.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """

    words: ClassVar[Info] = Info(
        title="Nonlinear diffusion on a line, for any conductivity and forcing",
        equation=r"-(\kappa(u, x) u')' = w, \quad \kappa = \log(1 + e^{u s(x)}) + 0.1, \quad s = \sum_i z_i T_i",
        description="Solutions for all conductivities and forcings of a box, and conductivities from solutions.",
        citations=("vadeboncoeur2023",),
        default_solver="rgnp",
    )

    coefficient: Range = field(default_factory=lambda: Range(-1.0, 1.0))
    forcing: Range = field(default_factory=lambda: Range(1.0, 2.0))

    def family(self, name: str) -> ProblemFamily:
        """See the class."""
        return ProblemFamily(
            name,
            NonlinearPoisson(),
            BoxDomain(("x",), (-1.0,), (1.0,)),
            unknown=box("z", **{f"z{i}": self.coefficient for i in range(5)}),
            known=box("w", forcing=self.forcing),
            condition=HardCondition(_lift, _distance),
            reference=solve_poisson,
        )


def _lift(_x: Mapping[str, Jet], _p: Parameters) -> dict[str, Jet]:
    return {}


def _distance(x: Mapping[str, Jet], _p: Parameters) -> dict[str, Jet]:
    cosine: Jet = torch.cos(math.pi / 2 * x["x"])  # type: ignore[arg-type, assignment]
    return {"u": cosine}
