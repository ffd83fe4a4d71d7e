"""The trained map as a forward operator for `rgnp.py`: the package's solvers on it and on the true operator."""

from __future__ import annotations

from typing import Any

import torch
from _rgnp_cases import Case
from _rgnp_inverse import COUNT, SIGMA, data
from torch import Tensor
from torch.distributions import Uniform

import sciprob
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators.base import ForwardOperator
from sciprob.priors import DistributionPrior
from sciprob.problems.family import ProblemFamily
from sciprob.solvers import NUTS, PCN, Laplace

SOLVERS: dict[str, Any] = {
    "laplace": Laplace(),
    "pcn": PCN(samples=400, thin=2, burn_in=300),
    "nuts": NUTS(samples=200, warm_up=100),
}


class TrueOperator(ForwardOperator):
    """z to the reference solution at points, `(*batch, dz)` to `(*batch, n, fields)`."""

    def __init__(self, family: ProblemFamily, points: Tensor, w: Tensor, codomain: Any) -> None:
        super().__init__(family.unknown.space, codomain)
        self.family, self.points, self.w = family, points, w

    def _apply_batched(self, m: Tensor) -> Tensor:
        return self.family.solve(m, self.w, self.points)


def surrogate_scores(case: Case, model: Any) -> dict[str, float]:
    """Posteriors of one data set by each solver on both operators: how far apart."""
    generator = torch.Generator().manual_seed(900)
    family = case.family
    x = family.domain.sample(COUNT, generator)
    _, w, y = data(case, x, generator)
    learned = model.operator(x, w)
    prior = DistributionPrior(family.unknown.space, Uniform(*family.unknown.ends(x)))
    scores = {}
    for name, solver in SOLVERS.items():
        found = []
        for operator in (learned, TrueOperator(family, x, w, learned.codomain)):
            likelihood = Likelihood(operator, GaussianNoise(operator.codomain, SIGMA))
            problem = sciprob.Problem("surrogate", prior, likelihood, data=y)
            found.append(sciprob.solve(problem, solver, seed=0, progress=False))
        ours, true = found
        apart, ratio = (ours.mean - true.mean).abs() / true.std, ours.std / true.std
        scores |= {
            f"{name}: mean off in sd of the true operator's, max": float(apart.max()),
            f"{name}: sd over that of the true operator's, min": float(ratio.min()),
            f"{name}: sd over that of the true operator's, max": float(ratio.max()),
        }
    return scores
