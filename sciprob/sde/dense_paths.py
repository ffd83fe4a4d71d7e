"""Exact posterior of paths by dense linear algebra: the reference, O(n^3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError
from sciprob.random import randn
from sciprob.sde.gaussian_paths import GaussianPath
from sciprob.sde.path_data import PathData
from sciprob.sde.sampling import gaussian_root


class DensePathPosterior:
    """Posterior of a Gaussian path (`AffineSDE`, `MultifractionalPath`, `NoiseSeries`) without approximation.

    Args:
        sde: Prior of the paths; its batch broadcasts with that of the values.
        data: Observations.

    Raises:
        ConvergenceError: If the covariance of the data is singular (repeated exact values, or an exact
            value of a known start).
        UnsupportedProblemError: If the prior has no closed covariance; see `AffineSDE.covariance`.
    """

    def __init__(self, sde: GaussianPath, data: PathData) -> None:
        self.sde, self.data = sde, data
        covariance = sde.covariance(data.times, data.times) + torch.diag_embed(data.noise_variance)
        self._root, info = torch.linalg.cholesky_ex(covariance)
        if bool((info != 0).any()):
            message = "the covariance of the data is singular; give a positive `noise_std`, or leave repeated rows out."
            raise ConvergenceError(message, sample=int(info.flatten().nonzero()[0]))
        residual = data.values.double() - sde.mean(data.times)
        self._white = torch.linalg.solve_triangular(self._root, residual[..., None], upper=False)
        self._prior_root: tuple[tuple[float, ...], Tensor] | None = None  # of the times of the last draw

    @property
    def log_evidence(self) -> Tensor:
        """The log of p(values), `(*batch,)`, float64; differentiable in all parameters and `noise_std`."""
        log_det = 2 * self._root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        square = self._white.square().sum((-2, -1))
        total: Tensor = -(square + log_det + len(self.data.times) * math.log(2 * math.pi)) / 2
        return total

    def at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation of x at any times `(m,)`: both `(*batch, m)`, float64."""
        mean, covariance = self._moments(times)
        std = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        return mean, std.expand(mean.shape)

    def sample(self, times: Tensor, *, generator: torch.Generator, shape: tuple[int, ...] = ()) -> Tensor:
        """Joint draws of x at `times`, `(*shape, *batch, m)`, float64."""
        mean = self.at(times)[0]
        white = randn((*shape, *mean.shape[:-1], self.white_size(times)), mean.detach(), generator)
        return mean + self.deviation(times, white)

    def white_size(self, times: Tensor) -> int:
        """Number of white variables behind a path at `times`; see `deviation`."""
        return len(self._union(times)[0]) + len(self.data.times)

    def deviation(self, times: Tensor, white: Tensor) -> Tensor:
        """Path minus mean, linear in `white (*shape, *batch, white_size)`, whose standard normal draws give exact ones.

        A draw of the prior, minus what the data would have said of it (Matheron's rule); unlike a root of the posterior
        covariance this stays well conditioned however exact the data are.
        """
        every, wanted, seen = self._union(times)
        key = tuple(every.tolist())
        if self._prior_root is None or self._prior_root[0] != key:
            self._prior_root = key, gaussian_root(self.sde.covariance(every, every))
        prior = _apply(self._prior_root[1], white[..., : len(every)])
        missed = prior[..., seen] + self.data.noise_variance.sqrt() * white[..., len(every) :]
        columns = _columns(missed, self._root.ndim - 2)
        weights = torch.cholesky_solve(columns, self._root)
        correction = self.sde.covariance(times, self.data.times) @ weights
        return prior[..., wanted] - _rows(correction, missed.shape[:-1])

    def _union(self, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Wanted and observed times together, each once, and where either are."""
        every, index = torch.cat([times.double(), self.data.times.double()]).unique(return_inverse=True)
        return every, index[: len(times)], index[len(times) :]

    def _moments(self, times: Tensor) -> tuple[Tensor, Tensor]:
        cross = self.sde.covariance(self.data.times, times)
        white_cross = torch.linalg.solve_triangular(self._root, cross, upper=False)
        mean = self.sde.mean(times) + (white_cross.mT @ self._white).squeeze(-1)
        return mean, self.sde.covariance(times, times) - white_cross.mT @ white_cross


def _apply(matrix: Tensor, vectors: Tensor) -> Tensor:
    """`(*batch, n, m)` times `(*shape, *batch, m)`, without copies of the matrix for each draw."""
    return _rows(matrix @ _columns(vectors, matrix.ndim - 2), vectors.shape[:-1])


def _columns(vectors: Tensor, batch: int) -> Tensor:
    """`(*shape, *batch, m)` -> `(*batch, m, k)`, where `batch` is the number of its axes."""
    lead = vectors.ndim - 1 - batch
    own = vectors.shape[lead:]
    return vectors.reshape(vectors.shape[:lead].numel(), *own).movedim(0, -1)


def _rows(columns: Tensor, shape: torch.Size) -> Tensor:
    """Undo `_columns`: `(*batch, n, k)` -> `(*shape, n)`."""
    return columns.movedim(-1, 0).reshape(*shape, columns.shape[-2])
