"""Posteriors of linear functionals of a field, such as the source that an equation makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.operators.linear import LinearMap
from sciprob.pde.functionals import ScatteredPoints
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.posteriors.process import ProcessPosterior
from sciprob.problems.collocation_operator import CollocationOperator
from sciprob.spaces import Space


class FieldFunctional(LinearMap):
    """Grid values m of a field u -> sum_a c_a D^a u at points, with the derivatives of a collocation operator.

    Args:
        operator: Says what lies between the grid values.
        points: `(n, d)`, columns in the order of the equation's coordinates.
        terms: c_a by derivative.
        codomain: Space of the result, `(n,)`.
    """

    def __init__(
        self, operator: CollocationOperator, points: Tensor, terms: Mapping[str, float], codomain: Space
    ) -> None:
        super().__init__(operator.domain, codomain)
        self.operator = operator
        self._points, self._weights = ScatteredPoints(points), dict(terms)

    def _apply_batched(self, m: Any) -> Any:
        parts = [weight * self.operator.field(m, self._points, name) for name, weight in self._weights.items()]
        return torch.stack(parts).sum(0)


def functional_posterior(
    posterior: Posterior, operator: CollocationOperator, points: Tensor, terms: Mapping[str, float], space: Space
) -> Posterior:
    """The posterior of sum_a c_a D^a u at points `(n, d)`, on `space`.

    Exact for a process; for posteriors on the grid with the derivatives of the operator's kernels.
    """
    if not isinstance(posterior, ProcessPosterior):
        return posterior.push(FieldFunctional(operator, points, terms, space))
    process, at = posterior.process, ScatteredPoints(points)
    mean = torch.stack([weight * process.mean(at, name) for name, weight in terms.items()]).sum(0)
    roots = [weight * process.root(at, name, posterior.scale, space) for name, weight in terms.items()]
    total = roots[0]
    for root in roots[1:]:
        total = total + root
    return GaussianPosterior(space, mean=mean, root=total, meta=posterior.meta)
