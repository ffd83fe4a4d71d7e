"""The state of `SpectralMixtureGP`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from torch import Tensor

from sciprob.pde.jet import Jet
from sciprob.solvers.kronecker_gp.bayesian import KernelChains
from sciprob.solvers.kronecker_gp.candidates import Packed
from sciprob.solvers.kronecker_gp.scoring import Fit


@dataclass
class GPState:
    """State of `SpectralMixtureGP`: the kernel being tried, the nonlinear iterate, and the best fit so far.

    Attributes:
        phase: `fit`, `evidence`, `chains` or `done`.
        candidate: Number of the kernel that is being tried.
        kernels: Its parameters; empty before it is begun.
        u: Jets of the iterate on the grid, by derivative; empty before the first and for linear equations.
        residual: Of the iterate, relative.
        iterations: Iterations of the current kernel.
        newton: Iterations of all kernels.
        best: The best fit.
        first: Its kernels before any step on the evidence.
        chains: Of the kernels' parameters.
        tried: One line per fit.
    """

    phase: str = "fit"
    candidate: int = 0
    kernels: Packed = field(default_factory=dict)
    u: dict[str, Tensor] = field(default_factory=dict)
    residual: float = 1e300
    iterations: int = 0
    newton: int = 0
    rounds: int = 0
    best: Fit | None = None
    first: Packed = field(default_factory=dict)
    chains: KernelChains | None = None
    tried: list[str] = field(default_factory=list)


def moved(state: GPState, u: Jet, residual: float, iterations: int) -> GPState:
    """The state at another nonlinear iterate."""
    entries = {name: u[name].detach().clone() for name in u.names}
    residual = residual if math.isfinite(residual) else 1e300
    return replace(
        state,
        u=entries,
        residual=residual,
        iterations=state.iterations + iterations,
        newton=state.newton + iterations,
    )
