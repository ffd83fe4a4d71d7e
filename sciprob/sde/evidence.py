r"""Log evidence of the unknown numbers of a path model, by whichever exact route fits the data.

| route | for | cost |
|---|---|---|
| `toeplitz` | equally spaced series without drift, type I, equal errors | O(n^2) |
| `dense` | Gaussian paths with a closed covariance | O(n^3) |
| `markov` | any drift sign, both types, a changing index; noise approximated | O(n K^3) |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.sde.covariance import fgn_autocovariance
from sciprob.sde.dense_paths import DensePathPosterior
from sciprob.sde.drifts import AffineDrift
from sciprob.sde.gaussian_paths import NoiseSeries
from sciprob.sde.markov_paths import MarkovPathPosterior
from sciprob.sde.path_data import PathData
from sciprob.sde.path_model import PathModel
from sciprob.sde.quantities import Unknown
from sciprob.sde.rates import rates_for_times
from sciprob.sde.toeplitz import toeplitz_gram

Method = Literal["dense", "markov"]
Route = Literal["toeplitz", "dense", "markov"]


@dataclass(frozen=True)
class PathEvidence:
    """Model and data, and the log evidence of the model's unknown numbers.

    Args:
        model: The equation, with a Gaussian path.
        times: Of the data, `(n,)`, increasing.
        values: `(n,)`.
        noise_std: Standard deviation of their errors, `(n,)`; not used where the model has it unknown.
    """

    model: PathModel
    times: Tensor
    values: Tensor
    noise_std: Tensor

    def data(self, raw: Tensor) -> PathData:
        """The data, with the error that `raw (*batch, size)` names if it is unknown."""
        if self.model.noise_std is None:
            return PathData(self.times, self.values, self.noise_std)
        return PathData(self.times, self.values, self.model.values(raw)["noise_std"][..., None])

    def condition(self, raw: Tensor, method: Method) -> DensePathPosterior | MarkovPathPosterior:
        """The path given the data and the numbers `raw (*batch, size)`."""
        path = self.model.process(self.model.values(raw))
        if method == "dense":
            return DensePathPosterior(path, self.data(raw))
        if isinstance(path, NoiseSeries):
            message = "increments have no Markov form here; use `dense`, or fewer values (`last`)."
            raise UnsupportedProblemError(message)
        return MarkovPathPosterior(path, self.data(raw), self.rates(), horizon=self.model.horizon)

    def rates(self) -> Tensor:
        """Rates of the Markov form, from the smallest gap between the data to the horizon."""
        gaps = torch.cat([self.times[:1], self.times.diff()])
        positive = gaps[gaps > 1e-6 * self.model.horizon]
        resolution = float(positive.min()) if len(positive) else self.model.horizon
        return rates_for_times(horizon=self.model.horizon, resolution=resolution, kind=self.model.kind)

    def log_likelihood(self, raw: Tensor, route: Route) -> Tensor:
        """Log p(values | raw), `(*batch,)`, differentiable; on the route `toeplitz` that of the increments."""
        if route == "toeplitz":
            return self._series(raw)
        return self.condition(raw, "dense" if route == "dense" else "markov").log_evidence

    def log_posterior(self, raw: Tensor, route: Route) -> Tensor:
        """The log likelihood plus the log density of the priors."""
        return self.log_likelihood(raw, route) + self.model.log_prior(raw)

    @property
    def closed(self) -> bool:
        """Whether the covariance of the path is known in closed form for all numbers in reach."""
        drift = self.model.drift
        if drift == AffineDrift():
            return True
        assert isinstance(drift, AffineDrift)
        reversion = drift.reversion
        return self.model.kind == "I" and (isinstance(reversion, Unknown) or reversion >= 0)

    @property
    def is_series(self) -> bool:
        """Whether the route `toeplitz` applies."""
        gaps = self.times.diff()
        even = len(gaps) >= 8 and bool(((gaps - gaps[0]).abs() <= 1e-6 * gaps[0]).all())
        equal = bool((self.noise_std == self.noise_std[0]).all())
        plain = self.model.drift == AffineDrift() and self.model.kind == "I" and not self.model.changing
        free = self.model.observed == "increments" or self._start_is_free()
        unit_step = self.model.observed == "levels" or abs(float(gaps[0]) - self.model.step) <= 1e-6 * self.model.step
        return even and equal and plain and free and unit_step

    def _start_is_free(self) -> bool:
        """Whether the first level says nothing: it is at time 0 and its prior is far wider than the data."""
        spread = float((self.values - self.values.mean()).square().mean().sqrt())
        return float(self.times[0]) == 0 and self.model.initial_std >= 5 * spread

    def _series(self, raw: Tensor) -> Tensor:
        values = self.model.values(raw)
        levels = self.model.observed == "levels"
        y = (self.values.diff() if levels else self.values).double()
        step = float(self.times[1] - self.times[0])
        r = fgn_autocovariance(len(y), values["hurst"], step=step, normalisation=self.model.normalisation)
        r = r * values["scale"].square()[..., None]
        error = values["noise_std"].square() if self.model.noise_std is not None else self.noise_std[0].square()
        shape = torch.zeros(len(y), dtype=r.dtype, device=r.device)
        shape[:2] = torch.tensor([2.0, -1.0] if levels else [1.0, 0.0], dtype=r.dtype)
        r = r + error[..., None] * shape
        if levels:
            gram, log_det = toeplitz_gram(r, y[None])
            return -(gram[..., 0, 0] + log_det + len(y) * math.log(2 * math.pi)) / 2
        # the level is integrated out with a flat prior
        gram, log_det = toeplitz_gram(r, torch.stack([y, torch.ones_like(y)]))
        square = gram[..., 0, 0] - gram[..., 0, 1].square() / gram[..., 1, 1]
        return -(square + log_det + gram[..., 1, 1].log() + (len(y) - 1) * math.log(2 * math.pi)) / 2
