"""Posterior of paths through the Markov approximation of the noise: linear in the number of times."""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.random import randn
from sciprob.sde.affine import AffineSDE
from sciprob.sde.gaussian_paths import MultifractionalPath
from sciprob.sde.kalman import Filtered, StateSpace, kalman_filter, smooth
from sciprob.sde.markov import MarkovNoise, markov_noise
from sciprob.sde.parallel_kalman import ParallelFiltered, parallel_filter, parallel_smooth
from sciprob.sde.parameters import check_times
from sciprob.sde.path_data import PathData
from sciprob.sde.states import noise_of, path_states
from sciprob.spaces.shapes import broadcast_shapes

_FEW = 2


class MarkovPathPosterior:
    """Exact posterior of an affine equation whose noise is a `MarkovNoise`, by Kalman filter and smoother.

    Filter and smoother run through time step by step, or by associative scans in O(log n) rounds: for one or two paths,
    where that has less overhead, and on a GPU. Costs O(n K^3) for n times and K rates, without a solve; any drift sign,
    both kinds of noise, and a Hurst index that changes (type II, value form). How far it is from fractional noise is
    `noise.path_error`.

    Args:
        sde: Prior of the paths; its batch broadcasts with that of the values.
        data: Observations.
        rates: Of the Ornstein-Uhlenbeck processes, `(K,)`, for instance from `rates_for_times`.
        horizon: Time up to which paths are wanted; default the last observation.

    Raises:
        ConfigError: If a time passes the horizon.
        DataError: If an exact value repeats what is known exactly.
    """

    def __init__(
        self, sde: AffineSDE | MultifractionalPath, data: PathData, rates: Tensor, *, horizon: float | None = None
    ) -> None:
        self.sde, self.data = sde, data
        self.horizon = float(data.times[-1]) if horizon is None else horizon
        self.rates = rates
        self._residual = data.values.double() - sde.mean(data.times)
        self._filtered = self._filter(self._model(data.times), self._residual, list(range(len(data.times))))

    @property
    def noise(self) -> MarkovNoise:
        """The approximation of the noise, with one index for each observed time where H changes."""
        if isinstance(self.sde, AffineSDE):
            return noise_of(self.sde, self.rates, self.horizon)
        hurst = self.sde.hurst(self.data.times.double())
        normalisation = self.sde.normalisation
        return markov_noise(hurst, self.rates, horizon=self.horizon, kind="II", normalisation=normalisation)

    @property
    def log_evidence(self) -> Tensor:
        """The log of p(values), `(*batch,)`, float64; differentiable in all parameters and `noise_std`."""
        return self._filtered.log_evidence

    def at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation of x at any times `(m,)` up to the horizon: `(*batch, m)`, float64."""
        every, observed, rows = self._merge(times)
        model = self._model(every)
        mean, variance = _smooth(model, self._filter(model, self._residual, observed))
        mean = mean[..., rows] + self.sde.mean(times)
        return mean, variance[..., rows].clamp_min(0).sqrt().expand(mean.shape)

    def sample(self, times: Tensor, *, generator: torch.Generator, shape: tuple[int, ...] = ()) -> Tensor:
        """Joint draws of x at `times`, `(*shape, *batch, m)`, float64.

        A draw of the prior, corrected by the smoothed mean of what it misses of the data (Durbin and Koopman,
        Biometrika 89 (2002)).
        """
        batch = broadcast_shapes(self._residual.shape[:-1], self._model(self.data.times).initial.shape[:-2])
        white = randn((*shape, *batch, self.white_size(times)), self._residual.detach(), generator)
        return self.at(times)[0] + self.deviation(times, white)

    def white_size(self, times: Tensor) -> int:
        """Number of white variables behind a path at `times`; see `deviation`."""
        n, m = len(self.data.times), len(times)
        size = self._model(self.data.times[:1]).initial.shape[-1]
        return (n + m + 1) * size + n

    def deviation(self, times: Tensor, white: Tensor) -> Tensor:
        """Path minus mean, linear in `white (*shape, *batch, white_size)`, whose standard normal draws give exact ones.

        A draw of the prior, minus the smoothed mean of what the data would have said of it.
        """
        every, observed, rows = self._merge(times)
        model = self._model(every)
        count = len(self.data.times)
        moves, errors = white[..., :-count], white[..., -count:]
        prior = _simulate(model, moves.unflatten(-1, (len(every) + 1, -1)))
        seen = [i for i, column in enumerate(observed) if column is not None]
        missed = prior[..., seen] + errors * self.data.noise_variance.sqrt()
        correction, _ = _smooth(model, self._filter(model, missed, observed))
        return prior[..., rows] - correction[..., rows]

    def _filter(
        self, model: StateSpace, residual: Tensor, observed: list[int | None] | list[int]
    ) -> Filtered | ParallelFiltered:
        noise = self.data.noise_variance
        own = broadcast_shapes(model.initial.shape[:-2], model.matrix.shape[:-3], noise.shape[:-1])
        one = broadcast_shapes(own, residual.shape[:-1]).numel()
        # covariances of the scan take the batch of the values; on a CPU the loop over time wins for more than two
        if one == own.numel() and (0 < one <= _FEW or (one and residual.is_cuda)):
            return parallel_filter(model, residual, noise, list(observed))
        return kalman_filter(model, residual, noise, list(observed))

    def _merge(self, times: Tensor) -> tuple[Tensor, list[int | None], Tensor]:
        """All times in order, the datum seen at each, and where the wanted ones are."""
        wanted = check_times(times)
        if len(wanted) and float(wanted.max()) > self.horizon * (1 + 1e-9):
            message = f"times should not pass the horizon {self.horizon:g}, got {float(wanted.max()):g}; set `horizon`."
            raise ConfigError(message)
        every, order = torch.cat([self.data.times.double(), wanted]).sort(stable=True)
        count = len(self.data.times)
        observed = [int(i) if int(i) < count else None for i in order]
        return every, observed, order.argsort()[count:]

    def _model(self, times: Tensor) -> StateSpace:
        return path_states(self.sde, self.rates, times, self.horizon)


def _smooth(model: StateSpace, filtered: Filtered | ParallelFiltered) -> tuple[Tensor, Tensor]:
    return parallel_smooth(filtered) if isinstance(filtered, ParallelFiltered) else smooth(model, filtered)


def _simulate(model: StateSpace, white: Tensor) -> Tensor:
    """First component of a path of the prior, `(*shape, n)`, from `white (*shape, n + 1, size)`."""
    roots = _root(model.noise)
    state = (_root(model.initial) @ white[..., 0, :, None]).squeeze(-1)
    path = []
    for i, step in enumerate(model.which.tolist()):
        moved = model.matrix[..., step, :, :] @ state[..., None] + roots[..., step, :, :] @ white[..., i + 1, :, None]
        state = moved.squeeze(-1)
        path.append(state[..., 0])
    return torch.stack(path, dim=-1)


def _root(covariance: Tensor) -> Tensor:
    """C with C C^T = covariance, which may be singular."""
    scale = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    values, vectors = torch.linalg.eigh(covariance / (safe[..., :, None] * safe[..., None, :]))
    root: Tensor = safe[..., :, None] * vectors * values.clamp_min(0).sqrt()[..., None, :]
    return root
