"""A costly covariance over the region of a posterior: a polynomial through it at few parameters, and its check."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sciprob.random import randn
from sciprob.solvers.rgnp.infer_moves import Particles
from sciprob.solvers.rgnp.infer_target import FieldLaw, FieldPosterior
from sciprob.solvers.rgnp.infer_tempering import flattened, resampled
from sciprob.solvers.rgnp.low_rank import LowRankGaussian

_TESTS = 16  # members at which the polynomial is compared with the covariance itself
_TOLERANCE = 0.1  # standard deviation of its error in log likelihood, in nats: far below what weights can tell
_EXACT = 1 << 16  # values of fields up to which the covariance itself is affordable for all members
_TERMS = 32  # most of a polynomial
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
        degree: Of the polynomials.
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

    Polynomials of rising degree, up to 32 terms, are fitted by least squares to the factors at members that are spread
    a little, until log likelihoods at other members say that one is good enough. Where none is, the covariance
    itself is used as long as the number of data and members allows, else the best polynomial.

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
    tests, nodes = members[:_TESTS], _Nodes.of(exact, members, generator)
    truth, found, degree, error = exact.log_likelihood(tests), exact, -1, torch.inf
    for tried in range(1, nodes.highest + 1):
        fitted = replace(exact, law=nodes.fit(tried))
        off = float((fitted.log_likelihood(tests) - truth).std(correction=0))
        if degree < 0 or off < error:
            found, degree, error = fitted, tried, off
        if error < _TOLERANCE:
            break
    if not error < _TOLERANCE and n * len(target.data) <= _EXACT:
        found, degree, error = exact, -1, 0.0
    return found, {"covariance_degree": float(degree), "covariance_error": error}


@dataclass
class _Nodes:
    """Places of the posterior at which a law is known, in standardised coordinates."""

    target: FieldPosterior
    centre: Tensor
    root: Tensor
    reach: Tensor
    eta: Tensor
    values: Tensor

    @classmethod
    def of(cls, target: FieldPosterior, members: Tensor, generator: torch.Generator) -> _Nodes:
        """Members, spread a little and blurred; nothing is evaluated yet."""
        n, d = members.shape
        centre, identity = members.mean(0), torch.eye(d).to(members)
        root = torch.linalg.cholesky(torch.cov(members.T).reshape(d, d) + 1e-12 * identity)
        index = torch.arange(_TESTS, _TESTS + 2 * _TERMS, device=members.device) % n
        standard = _standardised(members, centre, root)
        eta = _WIDER * standard[index] + _BLUR * randn((2 * _TERMS, d), members, generator)
        return cls(target, centre, root, standard.norm(dim=-1).max(), eta, members.new_zeros(0, len(target.data), 0))

    @property
    def highest(self) -> int:
        """Degree."""
        d = self.eta.shape[-1]
        return max([1, *(degree for degree in range(2, 5) if math.comb(d + degree, degree) <= _TERMS)])

    def fit(self, degree: int) -> InterpolatedLaw:
        """Least squares over twice as many nodes as there are terms."""
        eta = self.eta[: 2 * math.comb(self.eta.shape[-1] + degree, degree)]
        new = eta[len(self.values) :]
        with torch.no_grad():
            law = self.target.law(self.target.parameters(self.centre + new @ self.root.mT))
        values = torch.cat([law.factors, law.std.expand(law.mean.shape).unsqueeze(-1)], dim=-1)
        self.values = torch.cat([self.values, values]) if len(self.values) else values
        # the number of columns is that of the law, and known only now
        solved = torch.linalg.pinv(_monomials(eta, degree)) @ self.values.flatten(1)
        coefficients = solved.reshape(-1, *self.values.shape[1:])
        return InterpolatedLaw(self.target, self.centre, self.root, self.reach, degree, coefficients)


def _monomials(eta: Tensor, degree: int) -> Tensor:
    """Products of up to `degree` coordinates `(b, terms)`."""
    axes = range(eta.shape[-1])
    chosen = [c for k in range(degree + 1) for c in combinations_with_replacement(axes, k)]
    return torch.stack([eta[:, list(c)].prod(-1) for c in chosen], dim=-1)


def _standardised(xi: Tensor, centre: Tensor, root: Tensor) -> Tensor:
    eta: Tensor = torch.linalg.solve_triangular(root, (xi - centre).mT, upper=False).mT
    return eta
