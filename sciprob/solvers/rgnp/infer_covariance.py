"""A costly covariance over the region of a posterior: a polynomial through it at few parameters, and its check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sciprob.random import randn
from sciprob.solvers.rgnp.infer_moves import Particles
from sciprob.solvers.rgnp.infer_target import FieldLaw, FieldPosterior
from sciprob.solvers.rgnp.infer_tempering import flattened, resampled
from sciprob.solvers.rgnp.low_rank import LowRankGaussian

_TESTS = 16  # members at which the polynomial is compared with the covariance itself
_TOLERANCE = 0.2  # standard deviation of its error in log likelihood, in nats: far below what weights can tell
_EXACT = 1 << 16  # values of fields up to which the covariance itself is affordable for all members
_HIGHEST = 2  # degree
_WIDER, _BLUR = 1.3, 0.3  # spread of the nodes, over that of the members: tails lie between nodes too


@runtime_checkable
class CostlyLaw(FieldLaw, Protocol):
    """A law whose mean is cheap and whose covariance is not; its factors are smooth in z, column by column."""

    def anchored(self, z: Tensor) -> FieldLaw:
        """The law with the covariance of one `z (dz,)` for all."""
        ...

    def narrowed(self, z: Tensor, noise: Tensor, generator: torch.Generator) -> FieldLaw:
        """The law with only those factors that count beside the noise `(n,)`, near parameters `(b, dz)`."""
        ...


@dataclass(frozen=True)
class InterpolatedLaw:
    """A law with factors that are polynomials of eta = root^{-1} (xi - centre), constant along rays beyond `reach`.

    Args:
        target: Whose box gives xi, and whose law the mean.
        centre: `(dz,)`.
        root: Lower triangular `(dz, dz)`.
        reach: Norm of eta from which nothing changes any more.
        degree: 1 or 2.
        coefficients: `(terms, n, k + 1)`; the last column is the entries' own standard deviation.
    """

    target: FieldPosterior
    centre: Tensor
    root: Tensor
    reach: Tensor
    degree: int
    coefficients: Tensor

    def mean(self, z: Tensor) -> Tensor:
        """As `FieldLaw`."""
        return self.target.law.mean(z)

    def __call__(self, z: Tensor) -> LowRankGaussian:
        """As `FieldLaw`."""
        eta = _standardised(self.target.whiten(z), self.centre, self.root)
        eta = eta * (self.reach / eta.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
        found = torch.einsum("bt,tnk->bnk", _monomials(eta, self.degree), self.coefficients)
        return LowRankGaussian(self.mean(z), found[..., -1].abs(), found[..., :-1])


def covariance_near(
    target: FieldPosterior, particles: Particles, generator: torch.Generator
) -> tuple[FieldPosterior, dict[str, float]]:
    """The target for all members of an approximate posterior, with polynomial factors if those are good enough.

    A linear, then a quadratic polynomial is fitted by least squares to the factors at members that are spread a
    little. Log likelihoods at other members say how good it is. Where it is not, the covariance itself
    is used as long as the number of data and members allows.

    Args:
        target: The posterior; its law is a `CostlyLaw`.
        particles: Members of an approximate posterior.
        generator: Randomness.

    Returns:
        The target, and the figures `covariance_degree` (of the polynomial; -1 for the covariance itself) and
        `covariance_error` (standard deviation of the error in log likelihood, in nats).
    """
    law, n = target.law, len(particles.xi)
    assert isinstance(law, CostlyLaw)
    even = replace(particles, log_weights=flattened(particles.log_weights, max(0.1 * n, 2.0)))
    members = resampled(even, generator).xi
    members = members[torch.randperm(n, generator=generator, device=generator.device).to(members.device)]
    exact = replace(target, law=law.narrowed(target.parameters(members[:4]), target.noise, generator))
    tests, nodes, found = members[:_TESTS], _Nodes.of(exact, members, generator), exact
    truth, degree, error = exact.log_likelihood(tests), 0, torch.inf
    while degree < _HIGHEST and not error < _TOLERANCE:
        degree += 1
        found = replace(exact, law=nodes.fit(degree))
        error = float((found.log_likelihood(tests) - truth).std(correction=0))
    if not error < _TOLERANCE and n * len(target.data) <= _EXACT:
        found, degree, error = exact, -1, 0.0
    return found, {"covariance_degree": float(degree), "covariance_error": error}


@dataclass
class _Nodes:
    """Places of the posterior at which a law is known, in standardised coordinates."""

    target: FieldPosterior
    centre: Tensor
    root: Tensor
    eta: Tensor
    values: Tensor

    @classmethod
    def of(cls, target: FieldPosterior, members: Tensor, generator: torch.Generator) -> _Nodes:
        """Members, spread a little and blurred; nothing is evaluated yet."""
        n, d = members.shape
        centre, identity = members.mean(0), torch.eye(d).to(members)
        root = torch.linalg.cholesky(torch.cov(members.T).reshape(d, d) + 1e-12 * identity)
        index = torch.arange(_TESTS, _TESTS + 2 * _terms(d, _HIGHEST), device=members.device) % n
        eta = _WIDER * _standardised(members[index], centre, root)
        eta = eta + _BLUR * randn(tuple(eta.shape), eta, generator)
        return cls(target, centre, root, eta, members.new_zeros(0, len(target.data), 0))

    def fit(self, degree: int) -> InterpolatedLaw:
        """Least squares over twice as many nodes as there are terms."""
        eta = self.eta[: 2 * _terms(self.eta.shape[-1], degree)]
        new = eta[len(self.values) :]
        with torch.no_grad():
            law = self.target.law(self.target.parameters(self.centre + new @ self.root.mT))
        values = torch.cat([law.factors, law.std.expand(law.mean.shape).unsqueeze(-1)], dim=-1)
        self.values = torch.cat([self.values, values]) if len(self.values) else values
        # the number of columns is that of the law, and known only now
        solved = torch.linalg.pinv(_monomials(eta, degree)) @ self.values.flatten(1)
        coefficients = solved.reshape(-1, *self.values.shape[1:])
        reach = eta.norm(dim=-1).max()
        return InterpolatedLaw(self.target, self.centre, self.root, reach, degree, coefficients)


def _terms(d: int, degree: int) -> int:
    return 1 + d + (d * (d + 1) // 2 if degree > 1 else 0)


def _monomials(eta: Tensor, degree: int) -> Tensor:
    """`(b, terms)`: one, the coordinates, and their products."""
    parts = [torch.ones_like(eta[:, :1]), eta]
    if degree > 1:
        i, j = torch.triu_indices(eta.shape[-1], eta.shape[-1], device=eta.device)
        parts.append(eta[:, i] * eta[:, j])
    return torch.cat(parts, dim=-1)


def _standardised(xi: Tensor, centre: Tensor, root: Tensor) -> Tensor:
    eta: Tensor = torch.linalg.solve_triangular(root, (xi - centre).mT, upper=False).mT
    return eta
