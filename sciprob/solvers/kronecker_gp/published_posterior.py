"""The Gaussian that the published model gives the field once its parameters are fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.pde.functionals import AnyPoints
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.priors.kernels import StationaryKernel, covariance
from sciprob.problems.collocation_operator import unknown_space
from sciprob.solvers.kronecker_gp.columns import Columns, outer
from sciprob.solvers.kronecker_gp.conditional import Conditional
from sciprob.solvers.kronecker_gp.conditioning import factorise, log_evidence, whitened
from sciprob.solvers.kronecker_gp.factor_form import FactorConditional
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.null_space import Polynomials
from sciprob.solvers.kronecker_gp.published import PublishedModel, PublishedState
from sciprob.solvers.kronecker_gp.rows import rows_of


@dataclass(frozen=True, eq=False)
class PublishedConditional(Conditional):
    """The covariance of U given theta, around the prediction of the trainer's last iterate.

    Attributes:
        model: The published model.
        state: Its state.
        gaussian: The Gaussian of U given theta; its mean is the maximum, which the last iterate has not reached.
    """

    model: PublishedModel
    state: PublishedState
    gaussian: FactorConditional

    @property
    def rank(self) -> int:
        """Number of directions with a posterior of their own."""
        return self.gaussian.rank

    def mean(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """The prediction of the last iterate; see `PublishedModel.predict`."""
        return self.model.predict(self.state, points, derivative)

    def std(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Standard deviation of a derivative of u given theta, `(*points.shape)`."""
        return self.gaussian.std(points, derivative)

    def sample(self, points: AnyPoints, n: int, generator: torch.Generator, derivative: str = "") -> Tensor:
        """`n` draws of a derivative of u at points, `(n, *batch, *points.shape)`."""
        draws = self.gaussian.sample(points, n, generator, derivative)
        return draws - self.gaussian.mean(points, derivative) + self.mean(points, derivative)

    def covariance_action(self, points: AnyPoints, vector: Tensor, derivative: str = "") -> Tensor:
        """Covariance of a derivative at points, times `(*k, *points.shape)`."""
        return self.gaussian.covariance_action(points, vector, derivative)


def published_posterior(model: PublishedModel, state: PublishedState, rank: int = 1000) -> GaussianPosterior:
    """The posterior on the collocation grid: the last iterate's prediction, and the band of `published_conditional`.

    Between the nodes it is interpolated linearly, as every field on a grid; `PublishedModel.predict` is not.

    Args:
        model: What was trained.
        state: Where it was trained to.
        rank: As in `published_conditional`.

    Raises:
        UnsupportedProblemError: For a batch of right-hand sides.
    """
    conditional, space = published_conditional(model, state, rank), unknown_space(model.collocation)
    points = model.collocation.points()
    root = conditional.gaussian.root(points, "", 1.0, space)
    variance = conditional.std(points).square()
    return GaussianPosterior(space, mean=conditional.mean(points), root=root, variance=variance)


def published_conditional(model: PublishedModel, state: PublishedState, rank: int = 1000) -> PublishedConditional:
    r"""N(., (C^-1 + weight tau_1 B^T B + tau_2 L_D^T L_D)^-1) of U, at fixed kernels and precisions.

    L_D has the matrices D_j in place of derivatives, so what the grid leaves open of a derivative is
    taken for known: the band is too narrow, the more so the coarser the grid. A nonlinear
    equation is linearised at the state. The paper itself gives no covariance.

    Args:
        model: What was trained.
        state: Where it was trained to.
        rank: Largest number of products of eigenvectors of K_1, K_2, ... that are conditioned; the prior variance
            of the others is added to the result.

    Raises:
        UnsupportedProblemError: For a batch of right-hand sides, of which each has kernels of its own.
    """
    if model.batch:
        message = f"a band belongs to one right-hand side, got a batch {tuple(model.batch)}; train them one at a time."
        raise UnsupportedProblemError(message)
    collocation = model.collocation
    with torch.no_grad():
        grid = collocation.points()
        pairs = zip(model.kernels(state), grid.lines, strict=True)
        factors = tuple(_node_factors(kernel, line, model.jitter) for kernel, line in pairs)
        columns = Columns.of(factors, _cut(factors, rank), 1.0)
        std_1 = (model.boundary_weight * state.parameters["log_tau_1"].exp()) ** -0.5
        std_2 = (-0.5 * state.parameters["log_tau_2"]).exp()
        equations = collocation.equations(model.jet(state))
        functionals = [replace(equations, std=std_2), *(replace(f, std=std_1) for f in collocation.conditions_at())]
        batch, values = whitened(functionals)
        triangle = factorise([rows_of(f, factors) for f in functionals], values, columns)
        count = sum(value[0].numel() for value in values)
        evidence = log_evidence(functionals, triangle, count).reshape(batch)
    chi_square = triangle.rest.reshape(batch) / count
    common = (collocation.coordinates, evidence, chi_square, count, batch)
    return PublishedConditional(*common, model, state, FactorConditional(*common, factors, columns, triangle))


def _node_factors(kernel: StationaryKernel, nodes: Tensor, jitter: float) -> AxisFactors:
    """Factors that know u at the nodes alone, with the jitter of the model."""
    identity = torch.eye(len(nodes), dtype=nodes.dtype, device=nodes.device)
    eigenvalues, vectors = torch.linalg.eigh(covariance(kernel, nodes, nodes) + jitter * identity)
    eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    values = (vectors * eigenvalues.sqrt())[None]
    none = Polynomials(0, float(nodes[0]), float(nodes[-1]))
    return AxisFactors(kernel, nodes, (0,), nodes.new_ones(1), vectors / eigenvalues.sqrt(), eigenvalues, values, none)


def _cut(factors: Sequence[AxisFactors], rank: int) -> float:
    """The fraction of the largest product of eigenvalues that at most `rank` products exceed."""
    weights = reduce(torch.multiply, outer([f.weights for f in factors])).flatten()
    if len(weights) <= rank:
        return 0.0
    return float(weights.kthvalue(len(weights) - rank).values)
