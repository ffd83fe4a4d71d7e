"""The affine reference that is nearest to a nonlinear drift along the posterior: statistical linearisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.solvers.fbm_vi.guide import Guide, make_guide
from sciprob.solvers.fbm_vi.quadrature import normal_nodes
from sciprob.solvers.fbm_vi.reference import Reference
from sciprob.solvers.fbm_vi.simulate import Drift
from sciprob.solvers.fbm_vi.sites import Sites


@dataclass(frozen=True)
class Linearised:
    """b(t, x) is about intercept(t) - reversion x: `intercept (N, D)`, `reversion (D,)`."""

    reversion: Tensor
    intercept: Tensor

    def towards(self, other: Linearised, share: float) -> Linearised:
        """Between this and another."""
        parts = ((self.reversion, other.reversion), (self.intercept, other.intercept))
        return Linearised(*(torch.lerp(a, b, share) for a, b in parts))


def linearise(
    drift: Drift, reference_of: Callable[[Linearised | None], Reference], sites: Sites, *, iterations: int = 8
) -> Linearised:
    """Slope and intercept from the moments of the linearised posterior itself, by damped fixed-point steps.

    The slope is the mean over time of Cov(b, x) / Var(x), the intercept the rest of E b at each time; an affine drift
    is found in one step. Where it does not settle (a bimodal posterior) the last iterate is as good a guide.

    Args:
        drift: b(t, x), as in `simulate`.
        reference_of: From reversion and intercept to the reference process; None for zeros.
        sites: The data.
        iterations: Number of steps.
    """
    with torch.no_grad():
        reference = reference_of(None)
        found = Linearised(reference.reversion, reference.intercept)
        for i in range(iterations):
            mean, variance = observable_moments(reference, make_guide(reference, sites))
            new = _fit(drift, reference.times[:-1], mean[:-1], variance[:-1])
            found = found.towards(new, 1.0 if i == 0 else 0.5)
            reference = reference_of(found)
    return found


def observable_moments(reference: Reference, guide: Guide) -> tuple[Tensor, Tensor]:
    """Mean and variance of x at the nodes under the guide, `(N + 1, D)` each, with the reference's own drift."""
    root, spread = reference.initial_root, guide.start_spread
    mean = reference.initial_mean + (root @ guide.start[..., None]).squeeze(-1)
    half = root @ spread.mT
    covariance = half @ half.mT
    means, variances = [mean[:, 0]], [covariance[:, 0, 0]]
    for n in range(len(reference.root)):
        matrix, root = reference.matrix[n], reference.root[n]
        forced = (reference.pull[n] * reference.intercept[n])[:, None]
        zbar = (matrix @ mean[..., None]).squeeze(-1) + torch.nn.functional.pad(forced, (0, mean.shape[-1] - 1))
        by_noise = root @ guide.feedback[n]
        mean = zbar + (root @ guide.offset[n][..., None] - by_noise @ zbar[..., None]).squeeze(-1)
        closed = matrix - by_noise @ matrix
        half = root @ guide.spread[n].mT
        covariance = closed @ covariance @ closed.mT + half @ half.mT
        means.append(mean[:, 0])
        variances.append(covariance[:, 0, 0])
    return torch.stack(means), torch.stack(variances)


def _fit(drift: Drift, times: Tensor, mean: Tensor, variance: Tensor) -> Linearised:
    nodes, weights = normal_nodes(mean.shape[-1], mean)
    std = variance.clamp_min(0).sqrt()
    values = torch.stack([drift(t, m + s * nodes) for t, m, s in zip(times, mean, std, strict=True)])  # (N, M, D)
    average = torch.einsum("m,nmd->nd", weights, values)
    covariance = torch.einsum("m,md,nmd->nd", weights, nodes, values) * std
    reversion = -covariance.sum(0) / variance.sum(0).clamp_min(1e-300)
    return Linearised(reversion, average + reversion * mean)
