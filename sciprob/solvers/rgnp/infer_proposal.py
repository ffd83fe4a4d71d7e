"""Where the posterior's mass is: modes by Gauss-Newton, and a mixture of densities around them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.random import randn
from sciprob.solvers.rgnp.infer_target import FieldPosterior

_STEPS = 25
_NEAR = 0.05  # gain in log density that is expected of a step and not worth it: that near is a good centre
_FREEDOM = 7.0  # of the Student distributions: tails that outlast those of the posterior
_WIDER = 1.2
_NEGLIGIBLE = 1e-3
_LENGTHS = (1.0, 0.5, 0.25, 0.12)  # in units of the prior's standard deviation
_SAME = 0.3  # Mahalanobis distance below which two modes are one


@dataclass(frozen=True)
class Mixture:
    """Student distributions and, as a safeguard, the prior N(0, I).

    Args:
        weights: `(components + 1,)`, the prior's last; they sum to one.
        centres: `(components, d)`.
        roots: Lower triangular scale matrices `(components, d, d)`.
    """

    weights: Tensor
    centres: Tensor
    roots: Tensor

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws `(n, d)`."""
        device, d = generator.device, self.centres.shape[-1]
        which = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator)
        which = which.to(self.centres.device)
        normal = randn((n, d), self.centres, generator)
        if not len(self.centres):
            return normal
        squares = randn((n, int(_FREEDOM)), self.centres, generator).square().sum(-1, keepdim=True)
        student = normal * (_FREEDOM / squares).sqrt()
        k = which.clamp_max(len(self.centres) - 1)
        around = self.centres[k] + (self.roots[k] @ student[..., None])[..., 0]
        return torch.where((which == len(self.centres))[:, None], normal, around)

    def log_prob(self, xi: Tensor) -> Tensor:
        """Log density `(b,)`, up to the constant (2 pi)^(-d/2) of the prior."""
        d = xi.shape[-1]
        deviation = (xi[:, None] - self.centres)[..., None]
        scaled = torch.linalg.solve_triangular(self.roots, deviation, upper=False).square().sum((-2, -1))
        log_det = self.roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        tails = -0.5 * (_FREEDOM + d) * (scaled / _FREEDOM).log1p()
        gammas = math.lgamma(0.5 * (_FREEDOM + d)) - math.lgamma(0.5 * _FREEDOM)
        constant = gammas - 0.5 * d * math.log(0.5 * _FREEDOM)
        parts = torch.cat([constant - log_det + tails, -0.5 * xi.square().sum(-1, keepdim=True)], dim=-1)
        return (parts + self.weights.log()).logsumexp(-1)


def find_modes(target: FieldPosterior, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Newton with damping from each of `starts (b, d)`, to where a step would gain next to nothing.

    Along a ridge, where nothing is to be gained, starts stay apart, so that their ends cover it.

    Returns:
        Ends `(b, d)`, log densities `(b,)`, and lower roots of the inverse Gauss-Newton Hessians `(b, d, d)`.
    """
    xi, density = starts.clone(), target.log_density(starts)
    damping = torch.zeros_like(density)
    identity = torch.eye(xi.shape[-1]).to(xi)
    gradient, hessian = target.linearise(xi)
    for _ in range(_STEPS):
        newton = torch.linalg.solve(hessian, gradient[..., None])[..., 0]
        active = ((gradient * newton).sum(-1) > 2 * _NEAR).nonzero()[:, 0]  # the others cost nothing any more
        if not len(active):
            break
        damped = hessian[active] + damping[active, None, None] * identity
        trial = (xi[active] - torch.linalg.solve(damped, gradient[active][..., None])[..., 0]).clamp(-8, 8)
        new = target.log_density(trial)
        better = new > density[active]
        moved = active[better]
        xi[moved], density[moved] = trial[better], new[better]
        scale = hessian[active].diagonal(dim1=-2, dim2=-1).mean(-1)
        changed = torch.where(better, 0.2 * damping[active], (5 * damping[active]).clamp_min(0.3 * scale))
        damping[active] = torch.where(changed < 1e-3, torch.zeros_like(changed), changed)
        gradient[moved], hessian[moved] = target.linearise(xi[moved])
    inverse = torch.linalg.inv(hessian)
    return xi, density, torch.linalg.cholesky(0.5 * (inverse + inverse.mT))


def mixture_around(modes: Tensor, densities: Tensor, roots: Tensor, prior_share: float) -> Mixture:
    """Components at different modes, each weighted by its Laplace approximation of the evidence."""
    evidence = densities + roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    kept: list[int] = []
    for i in evidence.argsort(descending=True).tolist():
        if not math.isfinite(float(evidence[i])):
            continue
        apart = [_distance(modes[i] - modes[j], roots[j]) > _SAME for j in kept]
        if all(apart):
            kept.append(i)
    evidence = evidence[kept]
    shares = torch.softmax(evidence, 0).clamp_min(_NEGLIGIBLE)
    shares = shares / shares.sum() * (1 - prior_share) if kept else shares
    weights = torch.cat([shares, shares.new_tensor([prior_share if kept else 1.0])])
    return Mixture(weights, modes[kept], _WIDER * roots[kept])


def mixture_of_moments(xi: Tensor, log_weights: Tensor, prior_share: float) -> Mixture:
    """One component with mean and covariance of a weighted population `(n, d)`: for one mode, however skewed."""
    weights = torch.softmax(log_weights, 0)
    centre = weights @ xi
    deviation = xi - centre
    covariance = deviation.mT @ (weights[:, None] * deviation)
    covariance = covariance + 1e-10 * torch.eye(xi.shape[-1]).to(xi)
    shares = xi.new_tensor([1 - prior_share, prior_share])
    return Mixture(shares, centre[None], _WIDER * torch.linalg.cholesky(covariance)[None])


def mixture_of_members(target: FieldPosterior, members: Tensor, prior_share: float) -> Mixture:
    """Small components at members `(k, d)` of a population that is near the posterior already.

    Each has the shape of the Gauss-Newton Hessian at its place, with no axis longer than one of a few
    lengths, so that together they follow a curved ridge of which no large Gaussian is a good image.
    """
    _, hessian = target.linearise(members)
    values, axes = torch.linalg.eigh(hessian)
    longest = torch.tensor(_LENGTHS).to(members).repeat(-(-len(members) // len(_LENGTHS)))[: len(members), None]
    lengths = torch.minimum(values.rsqrt(), longest)
    covariance = axes @ (lengths.square().unsqueeze(-1) * axes.mT)
    weights = members.new_full((len(members) + 1,), (1 - prior_share) / len(members))
    weights[-1] = prior_share
    return Mixture(weights, members, torch.linalg.cholesky(0.5 * (covariance + covariance.mT)))


def _distance(difference: Tensor, root: Tensor) -> float:
    return float(torch.linalg.solve_triangular(root, difference[:, None], upper=False).norm())
