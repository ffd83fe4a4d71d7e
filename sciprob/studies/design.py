"""Where to put the next sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.operators import PointObservation
from sciprob.operators.algebra import Composition, LinearComposition
from sciprob.operators.base import ForwardOperator
from sciprob.operators.observe_spectral import SpectralObservation
from sciprob.posteriors import Ensemble, GaussianPosterior, Posterior, SamplerPosterior

_DRAWS = 400


@dataclass(frozen=True)
class Design:
    """Sensors in the order in which they tell most.

    Attributes:
        chosen: Indices of the candidates, best first, `(count,)`.
        gains: Value of each choice when it is made, `(count,)`: information in nats, or variance taken away.
        first: Value of every candidate as the first one, `(candidates,)`; a map to look at.
        criterion: `information` or `variance`.
        variance_before: Sum of the marginal variances of m.
        variance_after: The same, expected after all chosen sensors.
    """

    chosen: Tensor
    gains: Tensor
    first: Tensor
    criterion: str
    variance_before: float
    variance_after: float


def next_sensors(
    posterior: Posterior,
    candidates: ForwardOperator,
    noise_std: float | Tensor,
    *,
    count: int = 1,
    criterion: Literal["information", "variance"] = "information",
    generator: torch.Generator | None = None,
) -> Design:
    """Choose sensors one after the other, each the best given the ones before.

    With the covariance K of the candidates' clean readings under the posterior and the cross-covariance C with m, a
    sensor i of noise s_i tells

        information: log(1 + K_ii / s_i^2) / 2 nats, the expected Kullback-Leibler divergence of the update,
        variance:    sum_j C_ji^2 / (K_ii + s_i^2), the drop of the summed variances of m,

    after which K and C are conditioned on it. Exact for Gaussian posteriors and linear candidates; for others K and
    C come from the derivative at the posterior mean (Gaussian) or from the members (ensembles), and the answer is
    that of the Gaussian with those covariances. Greedy choice reaches at least 1 - 1/e of the best information.

    Args:
        posterior: What is known so far.
        candidates: Operator from m to the readings of all candidates, `(candidates,)`; see `readings_at`.
        noise_std: Standard deviation of a reading, a number or `(candidates,)`.
        count: How many sensors to choose.
        criterion: `information` or `variance`.
        generator: Randomness of draws, where the posterior is neither Gaussian with a root nor an ensemble.

    Raises:
        ConfigError: For a count, criterion or noise level that cannot be.

    Source: Krause, Singh, Guestrin, JMLR 9 (2008); Alexanderian, Inverse Problems 37 (2021).
    """
    size = candidates.codomain.size
    if criterion not in ("information", "variance") or not 1 <= count <= size:
        message = f"choose 1 to {size} sensors by `information` or `variance`, got {count} by `{criterion}`."
        raise ConfigError(message)
    readings, unknown = _deviations(posterior, candidates, generator)
    noise = torch.as_tensor(noise_std, dtype=readings.dtype, device=readings.device).square().expand(size)
    if not bool((noise > 0).all() and torch.isfinite(noise).all()):
        message = "`noise_std` should be positive and finite for every candidate."
        raise ConfigError(message)
    # columns are conditioned in white coordinates: K = readings^T readings, C = unknown^T readings
    before = float(unknown.square().sum())
    chosen: list[int] = []
    gains: list[Tensor] = []
    first = torch.empty(0)
    for number in range(count):
        variance = readings.square().sum(0)
        value = torch.log1p(variance / noise) / 2
        if criterion == "variance":
            value = (unknown.T @ readings).square().sum(0) / (variance + noise)
        first = value.clone() if number == 0 else first
        value[chosen] = -math.inf
        best = int(value.argmax())
        chosen.append(best)
        gains.append(value[best])
        readings, unknown = _conditioned(readings, unknown, readings[:, best], noise[best])
    return Design(torch.tensor(chosen), torch.stack(gains), first, criterion, before, float(unknown.square().sum()))


def readings_at(operator: ForwardOperator, points: Tensor) -> ForwardOperator:
    """The problem's operator with other sensors.

    Args:
        operator: An operator that ends in point values of a state, as those of problems with sensors.
        points: Candidates `(n, d)` in the order x, y, z.

    Raises:
        UnsupportedProblemError: If the operator does not end in point values.
        DataError: If a point lies outside the domain.
    """
    if isinstance(operator, PointObservation | SpectralObservation):
        return operator.at(points)
    if isinstance(operator, Composition | LinearComposition):
        return readings_at(operator.outer, points) @ operator.inner
    message = f"{type(operator).__name__} does not end in values at points; give the operator of the candidates itself."
    raise UnsupportedProblemError(message)


def places(operator: ForwardOperator, count: int) -> Tensor:
    """About `count` points of the state's mesh or grid, spread evenly over it, as candidates for `readings_at`.

    Args:
        operator: As of `readings_at`.
        count: How many points at most.

    Returns:
        `(n, d)`, in the order x, y, z.

    Raises:
        UnsupportedProblemError: If the operator does not end in point values.
    """
    if isinstance(operator, Composition | LinearComposition):
        return places(operator.outer, count)
    if not isinstance(operator, PointObservation | SpectralObservation):
        message = f"{type(operator).__name__} does not end in values at points; give candidates and their operator."
        raise UnsupportedProblemError(message)
    space: Any = operator.grid if isinstance(operator, SpectralObservation) else operator.domain
    points: Tensor = space.points()
    return points if len(points) <= count else points[_spread(points, count)]


def _spread(points: Tensor, count: int) -> Tensor:
    """Indices of points of which each is the farthest from those before (Gonzalez, 1985), in their own order."""
    chosen = [int((points - points.mean(0)).square().sum(1).argmin())]
    distance = (points - points[chosen[0]]).square().sum(1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).square().sum(1))
    return torch.tensor(sorted(chosen))


def _deviations(
    posterior: Posterior, candidates: ForwardOperator, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Matrices Y `(r, candidates)` and X `(r, size)` with K = Y^T Y and C = X^T Y."""
    if isinstance(posterior, SamplerPosterior):
        posterior = posterior.stored
    if isinstance(posterior, GaussianPosterior) and posterior.root is not None:
        _, tangent = candidates.linearise(posterior.mean)
        root: Any = posterior.root
        identity = torch.eye(root.domain.size, dtype=posterior.mean.dtype, device=posterior.mean.device)
        columns = root(identity.reshape(-1, *root.domain.shape)).detach()
        return tangent(columns).detach().flatten(1), columns.flatten(1)
    if not isinstance(posterior, Ensemble):
        if generator is None:
            message = (
                f"{type(posterior).__name__} draws samples here; give `generator=torch.Generator().manual_seed(...)`."
            )
            raise ConfigError(message)
        count = _DRAWS if posterior.max_draws is None else posterior.max_draws
        posterior = posterior.ensemble(count, generator=generator)
    weights = posterior.weights.unsqueeze(1).sqrt() * (1 - posterior.weights.square().sum()).rsqrt()
    with torch.no_grad():
        readings = candidates(posterior.samples).flatten(1)
    unknown = posterior.samples.flatten(1)
    w = posterior.weights
    return (readings - w @ readings) * weights, (unknown - w @ unknown) * weights


def _conditioned(readings: Tensor, unknown: Tensor, column: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply by (I + b b^T / s^2)^{-1/2} from the left."""
    square = column @ column
    if float(square) == 0:
        return readings, unknown
    factor = ((noise / (noise + square)).sqrt() - 1) / square
    return readings + factor * torch.outer(column, column @ readings), unknown + factor * torch.outer(
        column, column @ unknown
    )
