"""Parameters of an equation from noisy values of its solution, through a surrogate of the solution."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import DataError, NonFiniteError, SciprobWarning, ShapeError
from sciprob.posteriors.ensemble import Ensemble
from sciprob.problems.family import ParameterBox
from sciprob.random import randn
from sciprob.solvers.rgnp.infer_covariance import CostlyLaw, covariance_near
from sciprob.solvers.rgnp.infer_proposal import Mixture, find_modes, mixture_around
from sciprob.solvers.rgnp.infer_target import FieldLaw, FieldPosterior
from sciprob.solvers.rgnp.infer_tempering import correct, flattened, temper
from sciprob.solvers.rgnp.low_rank import LowRankGaussian

_SCAN = 256  # prior draws looked at first
_STARTS = 48
_FEWEST, _MANY_DATA = 8, 100  # with more data than these, fewer starts: posteriors are narrow and starts cost more
_PRIOR_SHARE = 0.05
_GUESS_SHARE = 0.1
_LEAST = 0.3  # share of the members that should be effective


def infer_parameters(
    box: ParameterBox,
    law: FieldLaw,
    data: Tensor,
    noise: Tensor | float,
    *,
    generator: torch.Generator,
    samples: int = 1000,
    guess: LowRankGaussian | None = None,
) -> Ensemble:
    r"""p(z | y) ~ p(z) N(y; mean(z), cov(z) + diag(noise^2)), z uniform in its box, no equation solved.

    1. Draws of the prior, and of `guess`, are looked at; Gauss-Newton leads from the best to the modes.
    2. Student distributions around the modes, a share of the prior and of the guess make a proposal.
    3. Importance weights; where too few members are effective, other proposals, then tempering with Langevin moves.

    A `CostlyLaw` is searched with one covariance, that of the centre of the box and then of the best mode; the members
    are weighted with the covariance that follows z, by a checked polynomial if one is close enough.

    The result is exact for the surrogate's likelihood as `samples` grows, whatever the guess; it is a posterior of
    the true equation as far as the surrogate's covariance covers its error. Data that say little leave
    the prior; what hits an end of the box stays inside.

    Args:
        box: Of z.
        law: Mean and covariance of the field at the data's points for any z; see `FieldLaw`.
        data: y `(n,)`, n >= 1, any number and any place of the points.
        noise: Standard deviation of the noise, a number or `(n,)`, > 0.
        generator: Randomness.
        samples: Members of the result.
        guess: A Gaussian of the unit-scale z `(dz,)`, such as an inverse map gives.

    Returns:
        Ensemble of z with weights. Its `meta` holds `ess` (effective members), `modes`, `misfit` (squared distance
        of the data from their law at the best member, per datum; about one where the surrogate can explain
        them), the other figures of `temper` and `covariance_near`, and `advice` if there is any.

    Raises:
        DataError: If there are no data, or data or noise are not usable.
        ShapeError: If the law does not give n values.
        NonFiniteError: If the surrogate gives a finite likelihood nowhere.

    Warns:
        SciprobWarning: If no member explains the data, or the tempering did not reach the posterior.
    """
    target = _target(box, law, data, noise)
    search = target
    if isinstance(law, CostlyLaw):
        search = replace(target, law=law.anchored(target.parameters(data.new_zeros(box.size))))
    first, drawn = _first_look(search, guess, generator)
    modes = find_modes(search, _promising(search, first, generator))
    if isinstance(law, CostlyLaw):
        best = modes[0][modes[1].argmax()]
        search = replace(target, law=law.anchored(target.parameters(best)))
        modes = find_modes(search, modes[0])
    proposal = mixture_around(*modes, _PRIOR_SHARE)
    if drawn is not None:
        proposal = _with_guess(proposal, drawn)
    particles, figures = temper(search, proposal, samples, _LEAST, generator)
    if isinstance(law, CostlyLaw):
        target, more = covariance_near(target, particles, generator)
        particles, corrected = correct(target, particles, _LEAST, generator)
        figures |= more | {"ess": min(figures["ess"], corrected)}
    best = particles.xi[particles.posterior.argmax()]
    meta: dict[str, Any] = {
        "modes": len(proposal.centres) - (drawn is not None),
        "misfit": float(target.misfit(best[None])[0]),
        **figures,
    }
    if advice := _advice(meta, len(data)):
        meta["advice"] = advice
        warnings.warn(advice, SciprobWarning, stacklevel=2)
    return Ensemble(box.space, target.parameters(particles.xi), particles.log_weights, meta=meta)


def _target(box: ParameterBox, law: FieldLaw, data: Tensor, noise: Tensor | float) -> FieldPosterior:
    sigma = torch.as_tensor(noise, dtype=data.dtype, device=data.device)
    if data.ndim != 1 or not len(data) or not bool(torch.isfinite(data).all()):
        message = f"data should be finite numbers (n,), n >= 1, got {tuple(data.shape)}; leave missing ones out."
        raise DataError(message)
    if sigma.ndim > 1 or sigma.numel() not in (1, len(data)) or not bool(((sigma > 0) & sigma.isfinite()).all()):
        message = (
            f"noise should be a positive standard deviation, one or {len(data)} of them, got {sigma.flatten()[:3]}."
        )
        raise DataError(message)
    target = FieldPosterior(box, law, data, sigma.expand(len(data)))
    shape = law.mean(target.parameters(data.new_zeros(1, box.size))).shape
    if tuple(shape) != (1, len(data)):
        message = f"the law of the field should give {len(data)} values for each z, got {tuple(shape)} for one."
        raise ShapeError(message)
    return target


def _first_look(
    target: FieldPosterior, guess: LowRankGaussian | None, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Draws of the prior, and of the guess if there is one."""
    xi = randn((_SCAN, target.box.size), target.data, generator)
    if guess is None:
        return xi, None
    unit = guess.sample((_SCAN,), generator=generator).to(target.data).clamp(-1, 1)
    drawn = target.whiten(target.box.from_unit(unit)).clamp(-3, 3)
    return torch.cat([xi, drawn]), drawn


def _promising(target: FieldPosterior, xi: Tensor, generator: torch.Generator) -> Tensor:
    """Different good starts: drawn by the likelihood, flattened until several members count."""
    log_likelihood = target.log_likelihood(xi)
    if not bool(torch.isfinite(log_likelihood.max())):
        message = "the surrogate gives no finite likelihood anywhere in the box; check its training, data and noise."
        raise NonFiniteError(message)
    starts = min(_STARTS, max(_FEWEST, _STARTS * _MANY_DATA // len(target.data)))
    shares = torch.softmax(flattened(log_likelihood, 2 * starts), 0).clamp_min(1e-12).to(generator.device)
    chosen = torch.multinomial(shares, starts - 1, generator=generator).to(xi.device)
    return torch.cat([xi[log_likelihood.argmax()][None], xi[chosen]])


def _with_guess(proposal: Mixture, drawn: Tensor) -> Mixture:
    """One more component with the moments of the guess in whitened coordinates."""
    spread = torch.cov(drawn.T).reshape(drawn.shape[-1], -1) + 1e-6 * torch.eye(drawn.shape[-1]).to(drawn)
    share = proposal.weights.new_tensor([_GUESS_SHARE])
    weights = torch.cat([share, (1 - _GUESS_SHARE) * proposal.weights])
    centres = torch.cat([drawn.mean(0, keepdim=True), proposal.centres])
    return Mixture(weights, centres, torch.cat([torch.linalg.cholesky(spread)[None], proposal.roots]))


def _advice(meta: dict[str, Any], n: int) -> str | None:
    if meta["tempered"] < 1:
        return "tempering did not reach the posterior, so the result is too wide; take more samples or larger noise."
    if meta["misfit"] > 1 + 5 * math.sqrt(2 / n):
        return (
            f"no parameters in the box explain the data: their squared distance is {meta['misfit']:.3g} per datum, "
            "where one is expected; check the noise, the box and the training of the surrogate."
        )
    return None
