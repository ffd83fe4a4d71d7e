"""The rows of a collocation problem, with the errors of exact ones in proportion to the prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from sciprob.pde.collocation import Collocation
from sciprob.pde.functionals import Functionals
from sciprob.pde.jet import Jet
from sciprob.priors.kernels import StationaryKernel
from sciprob.solvers.kronecker_gp.scales import prior_std

if TYPE_CHECKING:
    from sciprob.problems.collocation_operator import CollocationOperator
    from sciprob.problems.problem import Problem

_TERMS = 6  # products of a coefficient: with two derivatives as many as conditioning takes apart
_CLOSE = 1e-5


@dataclass(frozen=True, eq=False)
class ProblemRows:
    """Equation, conditions and sensors of a problem, linearised where asked for.

    Attributes:
        operator: The problem's, with its kernels.
        changed: The problem's data less those of the collocation, per part `(*batch, *shape)`; None where they agree.
            The source is then known on the grid alone.
    """

    operator: CollocationOperator
    changed: tuple[Tensor, ...] | None = None

    @classmethod
    def of(cls, problem: Problem) -> ProblemRows:
        """The rows of a problem whose operator has a collocation."""
        operator, data = cast("CollocationOperator", problem.operator), problem.observed
        own = operator.data.to(data)
        if data.shape == own.shape and torch.equal(own, data):
            return cls(operator)
        parts = operator.functionals(data - own)
        return cls(operator, tuple(part.values for part in parts))

    @property
    def collocation(self) -> Collocation:
        """The equation and its data."""
        return self.operator.collocation

    @property
    def noisy(self) -> bool:
        """Whether some data have a noise level of their own, so that the scale of the posterior is not free."""
        c = self.collocation
        return bool(c.sensors) or c.std is not None or any(condition.std is not None for condition in c.conditions)

    @property
    def known_between(self) -> bool:
        """Whether source and data are known between the grid points too."""
        c = self.collocation
        values = [*c.parameters.values(), *(condition.values for condition in c.conditions)]
        return self.changed is None and not any(isinstance(v, Tensor) and v.ndim for v in values)

    def at(self, kernels: Sequence[StationaryKernel], u: Jet | None = None) -> list[Functionals]:
        """All rows; exact ones get a std of `collocation.jitter` times their prior std.

        Rows of different units differ by omega^2, up to 1e10; a std in proportion makes the least-squares problem
        well scaled, and does not force on a kernel what it cannot produce.

        Args:
            kernels: The prior, which gives the rows their size.
            u: Jets at which a nonlinear equation is linearised.
        """
        c = self.collocation
        rows = [c.equations(u) if u is None else shortened(c.equations(u), u), *c.conditions_at()]
        exact = [c.std is None, *(condition.std is None for condition in c.conditions)]
        scaled = [
            _scaled(row, kernels, c.jitter) if is_exact else row for row, is_exact in zip(rows, exact, strict=True)
        ]
        found = [*scaled, *c.sensors_at()]
        if self.changed is None:
            return found
        return [replace(row, values=row.values + more) for row, more in zip(found, self.changed, strict=True)]


def shortened(row: Functionals, u: Jet) -> Functionals:
    """Rows linearised at u on a plane grid, coefficients replaced by at most `_TERMS` products where these are close.

    Few products make rows factorise, which large grids need. The rows stay true at u, because the values move along:
    the iteration has the same fixed point and converges at the rate `_CLOSE`; the covariance is off by about as much.
    """
    terms, values = dict(row.terms), row.values
    if len(row.shape) != 2:
        return row
    for name, coefficient in row.terms.items():
        if coefficient.numel() == 1:
            continue
        left, sizes, right = torch.linalg.svd(coefficient.expand(row.shape), full_matrices=False)
        tails = sizes.square().flip(0).cumsum(0).flip(0).sqrt()
        rank = int((tails > _CLOSE * tails[0]).sum())
        if rank <= _TERMS:
            terms[name] = (left[:, :rank] * sizes[:rank]) @ right[:rank]
            values = values + (terms[name] - coefficient) * u[name].reshape(row.shape)
    return replace(row, terms=terms, values=values)


def _scaled(row: Functionals, kernels: Sequence[StationaryKernel], jitter: float) -> Functionals:
    largest = prior_std(kernels, row).amax()
    return replace(row, std=jitter * largest) if bool(largest > 0) else row
