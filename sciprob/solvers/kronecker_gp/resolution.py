"""Whether the grid resolves the solution, and what to do if not."""

from __future__ import annotations

import math

from sciprob.pde.collocation import Collocation
from sciprob.solvers.kronecker_gp.candidates import Candidate
from sciprob.solvers.kronecker_gp.scoring import Fit

_POOR = 1e-3  # residual between the nodes, relative: beyond, the solution is not resolved
_AS_AT_NODES = 10.0  # ratio of residuals between and at the nodes that noise explains
_FAIR = 1e-4  # expected relative error that spares the kernels that are tried only in need
_ALIAS = 0.1  # residual between the nodes, relative: beyond, the fit has other frequencies than the solution
_POINTS = 4.0  # per wavelength, which is enough for smooth amplitudes


def is_good(best: Fit, tolerance: float, following: Candidate | None) -> bool:
    """Whether the kernel that follows need not be tried."""
    enough = _FAIR if following is not None and following.fallback else tolerance
    return following is None or (best.settled and best.expected_error <= enough)


def advice(best: Fit, collocation: Collocation) -> str:
    """A sentence where the equation is not obeyed between the points, with the number of points that would do."""
    if not best.settled:
        return "The nonlinear iteration did not settle; try more points, or `nonlinear = 'gauss-newton'`."
    if best.held_out is None or best.held_out <= _POOR:
        return ""
    if best.spread is None and best.held_out <= _AS_AT_NODES * (best.at_nodes or 0.0):
        return ""  # noisy rows, obeyed between the nodes as well as at them
    needed = [max(n, wanted) for n, wanted in zip(collocation.shape, _wanted(best, collocation), strict=True)]
    shape = " x ".join(map(str, needed))
    what = f"The equation is obeyed between the grid points only to {best.held_out:.1g} of its terms"
    return f"{what} ({best.at_nodes or 0.0:.1g} at them), which the grid does not resolve; use {shape} points."


def _wanted(best: Fit, collocation: Collocation) -> list[int]:
    """Points for `_POINTS` per wavelength of the fastest component, and twice as many as now where it has them.

    Where the equation is not obeyed at all the components are aliases, and their frequencies say nothing.
    """
    wanted, aliases = [], best.held_out is not None and best.held_out > _ALIAS
    for low, high, n, frequency in zip(
        collocation.lower, collocation.upper, collocation.shape, best.frequencies, strict=True
    ):
        count = math.ceil(_POINTS * frequency * (high - low)) + 1
        wanted.append(count if count > n and not aliases else max(count, 2 * n - 1))
    return wanted
