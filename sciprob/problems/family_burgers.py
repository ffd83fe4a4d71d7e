"""The family of Burgers equations between walls, for any viscosity, advection and initial wave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from sciprob.pde.burgers import Burgers
from sciprob.pde.conditions import HardCondition
from sciprob.pde.jet import Jet
from sciprob.pde.pde import Parameters, value_of
from sciprob.problems.family import BoxDomain, ProblemFamily
from sciprob.problems.family_settings import FamilySettings, Range, box
from sciprob.problems.problem import Info
from sciprob.problems.references.burgers import solve_burgers
from sciprob.problems.registry import register


@register("burgers-family")
@dataclass(frozen=True, kw_only=True)
class BurgersFamily(FamilySettings):
    """u_t + a u u_x = nu u_xx on (0, 1) x (0, 1], u = 0 at both ends, u(x, 0) = sin(2 pi w x) sin(pi x).

    u = u(x, 0) + t sin(pi x) n. Unknown: nu and a. Known: the frequency w of the initial wave. At the
    walls the initial curvature does not fit the boundary values, so that u_t jumps there at t = 0.

    Args:
        viscosity: Range of nu.
        advection: Range of a.
        frequency: Range of w.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """

    words: ClassVar[Info] = Info(
        title="A steepening wave between walls, for any viscosity, advection and initial wave",
        equation=r"u_t + a u u_x = \nu u_{xx}, \quad u(x, 0) = \sin(2 \pi w x) \sin(\pi x)",
        description="Solutions for all viscosities, advections and initial waves of a box, and these from data.",
        citations=("vadeboncoeur2023",),
        default_solver="rgnp",
    )

    viscosity: Range = field(default_factory=lambda: Range(0.01, 0.1, log=True))
    advection: Range = field(default_factory=lambda: Range(0.5, 1.0))
    frequency: Range = field(default_factory=lambda: Range(0.5, 2.0))

    def family(self, name: str) -> ProblemFamily:
        """See the class."""
        return ProblemFamily(
            name,
            Burgers(),
            BoxDomain(("x", "t"), (0.0, 0.0), (1.0, 1.0)),
            unknown=box("z", viscosity=self.viscosity, advection=self.advection),
            known=box("w", frequency=self.frequency),
            condition=HardCondition(_lift, _distance),
            reference=solve_burgers,
        )


def _lift(x: Mapping[str, Jet], p: Parameters) -> dict[str, Jet]:
    return {"u": _sine(x["x"] * (2 * value_of(p["frequency"]))) * _sine(x["x"])}


def _distance(x: Mapping[str, Jet], _p: Parameters) -> dict[str, Jet]:
    return {"u": x["t"] * _sine(x["x"])}


def _sine(x: Jet) -> Jet:
    sine: Jet = torch.sin(math.pi * x)  # type: ignore[arg-type, assignment]
    return sine
