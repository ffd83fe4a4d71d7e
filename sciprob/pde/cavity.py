"""Conditions of the lid-driven cavity, for `NavierStokes("xy")` with unknown density and viscosity."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from sciprob.pde.conditions import HardCondition
from sciprob.pde.jet import Jet
from sciprob.pde.pde import Parameters, value_of


def cavity_conditions() -> HardCondition:
    """Fluid in (0, 1)^2, at rest for t = 0, driven by its lid: u = w (1 - (2 x - 1)^6) t on y = 1.

    On the other walls u = v = 0; p(0, 0, t) = 0:

        u = w (1 - (2 x - 1)^6) y t + sin(pi x) sin(pi y) t n_u
        v = sin(pi x) sin(pi y) t n_v
        p = (x + y) n_p

    Parameter: `lid` w. The continuity equation weighs more in the source (noise ten times smaller),
    which is a matter of the residual's noise, not of the equation.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """
    return HardCondition(_lift, _distance)


def _lift(x: Mapping[str, Jet], p: Parameters) -> dict[str, Jet]:
    return {"u": (1 - (2 * x["x"] - 1) ** 6) * x["y"] * x["t"] * value_of(p["lid"])}


def _distance(x: Mapping[str, Jet], _p: Parameters) -> dict[str, Jet]:
    bubble = _sine(x["x"]) * _sine(x["y"]) * x["t"]
    return {"u": bubble, "v": bubble, "p": x["x"] + x["y"]}


def _sine(x: Jet) -> Jet:
    sine: Jet = torch.sin(math.pi * x)  # type: ignore[arg-type, assignment]
    return sine
