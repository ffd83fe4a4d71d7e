"""New data arrive: the posterior of the old data is the prior of the new."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import DataError, SciprobWarning, UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.operators.base import Capability
from sciprob.operators.low_rank import LowRankRoot
from sciprob.posteriors import Ensemble, GaussianPosterior, Posterior, SamplerPosterior
from sciprob.priors.base import GaussianPrior

_DEGENERATE = 0.02  # share of effective members below which reweighting has failed


def update(posterior: Posterior, likelihood: Likelihood, data: Tensor) -> Posterior:
    """The posterior after further data, independent of the old ones given m.

    - Gaussian with a root, linear operator, Gaussian noise: exact, as if all data had been there at once, by one
      adjoint solve per datum.
    - Ensembles: weights are multiplied by p(data | m), one forward solve per member. The members stay where they
      are, so many or precise data leave few of them with weight: below 2 % effective members it warns.

    For a Gaussian posterior and a nonlinear operator use it as a prior (`as_prior`) and solve:
    `sciprob.solve(Problem(name, as_prior(posterior), likelihood, data), "laplace")`.

    Args:
        posterior: Of the old data.
        likelihood: Operator and noise of the new data.
        data: New data, `(*codomain.shape)`.

    Raises:
        ShapeError: If `data` does not fit the operator.
        DataError: If they are not finite.
        UnsupportedProblemError: For another kind of posterior, or a nonlinear operator with a Gaussian.
    """
    likelihood.operator.codomain.batch_shape(data, "data")
    if not bool(torch.isfinite(data).all()):
        message = "new data should be finite; remove or mask the entries that are not."
        raise DataError(message)
    likelihood.noise.check(data)
    if isinstance(posterior, SamplerPosterior):
        posterior = posterior.stored
    if isinstance(posterior, Ensemble):
        return _reweighted(posterior, likelihood, data)
    if isinstance(posterior, GaussianPosterior) and posterior.root is not None:
        return _conditioned(posterior, likelihood, data)
    message = (
        f"`update` takes an ensemble or a Gaussian posterior with a root, got {type(posterior).__name__}; draw "
        "`posterior.ensemble(n, generator=g)` first."
    )
    raise UnsupportedProblemError(message)


def as_prior(posterior: Posterior) -> GaussianPrior:
    """A Gaussian posterior as the prior of the next problem; solvers then start at its mean.

    Raises:
        UnsupportedProblemError: If it has no root.
    """
    if not isinstance(posterior, GaussianPosterior) or posterior.root is None:
        message = f"only a Gaussian posterior with a root can be a prior, got {type(posterior).__name__}."
        raise UnsupportedProblemError(message)
    return GaussianPrior(posterior.mean, posterior.root)


def _conditioned(posterior: GaussianPosterior, likelihood: Likelihood, data: Tensor) -> GaussianPosterior:
    """Condition m = mean + R xi: B = W^{1/2} A R, then R (I + B^T B)^{-1/2} is the new root."""
    noise: Any = likelihood.noise
    if not likelihood.operator.linear or Capability.GAUSSIAN_NOISE not in noise.capabilities:
        message = (
            "updating a Gaussian posterior needs a linear operator and Gaussian noise; solve with "
            "`as_prior(posterior)` as the prior by `laplace` instead."
        )
        raise UnsupportedProblemError(message)
    clean = likelihood.operator(posterior.mean)
    residual = noise.whiten(clean, data - clean).flatten()
    rows = _data_rows(posterior, likelihood, clean, len(residual))
    _, singular, vectors = torch.linalg.svd(rows, full_matrices=False)
    kept = singular > torch.finfo(singular.dtype).eps * singular.max().clamp_min(1e-300)
    eigenvalues, v = singular[kept].square(), vectors[kept]
    # (I + B^T B)^{-1} B^T r lies in the span of V
    xi = ((v @ (rows.T @ residual)) / (1 + eigenvalues)) @ v
    white = posterior.root.domain.shape
    root = LowRankRoot(posterior.root, v.reshape(-1, *white), eigenvalues)
    mean = posterior.mean + posterior.root(xi.reshape(white))
    meta = {**posterior._origin(), "updates": posterior.meta.get("updates", 0) + 1}
    return GaussianPosterior(
        posterior.space, mean=mean, root=root, variance=root.variance(posterior.variance), meta=meta
    )


def _data_rows(posterior: GaussianPosterior, likelihood: Likelihood, clean: Tensor, count: int) -> Tensor:
    """B, `(count, white size)`, by the adjoint of each white datum."""
    units = torch.eye(count, dtype=clean.dtype, device=clean.device)
    shaped = units.reshape(count, *likelihood.noise.whiten(clean, torch.zeros_like(clean)).shape)
    back = likelihood.noise.whiten_adjoint(clean, shaped)
    operator: Any = likelihood.operator
    rows: Tensor = posterior.root.T(operator.T(back)).reshape(count, -1)
    return rows.detach()


def _reweighted(posterior: Ensemble, likelihood: Likelihood, data: Tensor) -> Ensemble:
    with torch.no_grad():
        gain = likelihood.log_prob(posterior.samples, data).double()
    before = gain.new_zeros(len(gain)) if posterior.log_weights is None else posterior.log_weights.double()
    meta = {**posterior._origin(), "updates": posterior.meta.get("updates", 0) + 1}
    updated = Ensemble(posterior.space, posterior.samples, before + gain, posterior.chains, meta)
    if updated.ess < max(2.0, _DEGENERATE * len(updated)):
        message = (
            f"after the new data {updated.ess:.1f} of {len(updated)} members have weight; solve again with all data, "
            "or update in smaller portions of data from more members."
        )
        warnings.warn(SciprobWarning(message), stacklevel=3)
    return updated
