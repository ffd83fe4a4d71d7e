"""Are probabilities right? Brier score, reliability diagram, calibration error; probabilities from posteriors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError, ShapeError, UnsupportedProblemError
from sciprob.posteriors import Ensemble, GaussianPosterior, Posterior, SamplerPosterior, TransformedPosterior


def probability_above(posterior: Posterior, threshold: float) -> Tensor:
    """Posterior probability that each entry exceeds a threshold, `(*space.shape)`.

    Exact for Gaussian and transformed Gaussian posteriors; the weight of the members above it for ensembles and
    samplers.

    Raises:
        UnsupportedProblemError: For other posteriors.
    """
    if isinstance(posterior, SamplerPosterior):
        posterior = posterior.stored
    if isinstance(posterior, Ensemble):
        above = (posterior.samples > threshold).to(posterior.samples.dtype)
        share: Tensor = torch.tensordot(posterior.weights, above, dims=1)
        return share.clamp(0, 1)
    if isinstance(posterior, TransformedPosterior):
        lower, upper = posterior.transform.range
        if not lower < threshold < upper:
            return torch.full_like(posterior.base.mean, float(threshold <= lower))
        return probability_above_gaussian(
            posterior.base.mean,
            posterior.base.std,
            posterior.transform.inverse(posterior.base.mean.new_tensor(threshold)),
        )
    if isinstance(posterior, GaussianPosterior):
        return probability_above_gaussian(posterior.mean, posterior.std, posterior.mean.new_tensor(threshold))
    message = f"no rule for probabilities of {type(posterior).__name__}; draw an `ensemble` first."
    raise UnsupportedProblemError(message)


def probability_above_gaussian(mean: Tensor, std: Tensor, threshold: Tensor) -> Tensor:
    """P(N(mean, std^2) > threshold), elementwise."""
    z = (mean - threshold) / std.clamp_min(torch.finfo(std.dtype).tiny)
    above: Tensor = torch.special.ndtr(z)
    return above


def brier_score(probability: Tensor, event: Tensor) -> float:
    """Mean of (p - [event])^2: proper, small is good; p = 1/2 everywhere scores 1/4.

    Raises:
        ShapeError: If the shapes differ.
        DataError: If a probability lies outside [0, 1].

    Source: Brier, Monthly Weather Review 78 (1950).
    """
    p, o = _checked(probability, event)
    return float((p - o).square().mean())


@dataclass(frozen=True, eq=False)
class Reliability:
    """Forecast probabilities and what happened, by classes of probability.

    Attributes:
        forecast: Mean probability in each class, `(bins,)`; NaN where it is empty.
        observed: Frequency of the event in each class, `(bins,)`.
        counts: Forecasts in each class, `(bins,)`.
    """

    forecast: Tensor
    observed: Tensor
    counts: Tensor

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean of |observed - forecast| weighted by counts; 0 is perfect."""
        full = self.counts > 0
        gap = (self.observed - self.forecast)[full].abs()
        return float((self.counts[full] * gap).sum() / self.counts.sum())


def reliability(probability: Tensor, event: Tensor, bins: int = 10) -> Reliability:
    """Reliability diagram: where p is forecast, the event should happen with frequency p.

    Args:
        probability: Any shape, in [0, 1].
        event: Boolean, the same shape.
        bins: Equal classes of [0, 1]; the last includes 1.

    Raises:
        ShapeError: If the shapes differ.
        DataError: If a probability lies outside [0, 1].
        ConfigError: If there is no class.

    Source: Murphy, Winkler, Applied Statistics 26 (1977).
    """
    if bins < 1:
        message = f"`bins` should be at least 1, got {bins}."
        raise ConfigError(message)
    p, o = _checked(probability, event)
    index = (p * bins).long().clamp_max(bins - 1)
    counts, forecast, observed = (
        torch.zeros(bins, dtype=torch.float64).index_add(0, index, values) for values in (torch.ones_like(p), p, o)
    )
    return Reliability(forecast / counts, observed / counts, counts)


def _checked(probability: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
    """Flat float64 probabilities and events, on the host."""
    if probability.shape != event.shape:
        message = (
            f"`probability` and `event` should have one shape, got {tuple(probability.shape)}, {tuple(event.shape)}."
        )
        raise ShapeError(message)
    p, o = probability.detach().double().flatten().cpu(), event.detach().double().flatten().cpu()
    if not len(p) or not bool(((p >= 0) & (p <= 1)).all()):
        message = "probabilities should be one or more numbers in [0, 1]; some lie outside or there are none."
        raise DataError(message)
    return p, o
