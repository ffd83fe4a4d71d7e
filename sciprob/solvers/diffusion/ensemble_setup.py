"""From settings and a problem to moves, correctors and starting particles."""

from __future__ import annotations

import math
import warnings
import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError, SciprobWarning, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.problems.problem import Problem
from sciprob.solvers.diffusion.correctors import LangevinCorrector
from sciprob.solvers.diffusion.denoised import DenoisedMove, TwistedMove
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.level_step import Correct
from sciprob.solvers.diffusion.linear_algebra import LinearData, linear_data
from sciprob.solvers.diffusion.moves import ConditionedMove, ContinuousMove, FlowMove, Move, RenoisingCorrector
from sciprob.solvers.diffusion.particles import Particles
from sciprob.solvers.diffusion.renoised import DenoisedCovariance, RenoisedMove
from sciprob.solvers.diffusion.spectrum_surrogate import surrogate_of
from sciprob.solvers.diffusion.surrogate import IsotropicSurrogate, Surrogate
from sciprob.solvers.diffusion.twists import SurrogateTwist, TemperedTwist, Tempering, Twist

_TEMPERED = ("isotropic", "linear", "constant")


@dataclass(frozen=True)
class EnsembleMethod:
    """How particles move; see `DiffusionEnsemble` for what the fields mean.

    Raises:
        ConfigError: If they contradict each other.
    """

    move: str
    twist: str
    kappa: float | None = None
    gamma: float = 1.0
    correctors: int = 0
    corrector: str = "renoising"
    corrector_step: float = 0.4
    weighted: bool = False
    products: int = 12
    start: str = ""

    def __post_init__(self) -> None:
        if self.start and (self.move not in ("auto", "renoised") or self.weighted or self.twist != "surrogate"):
            message = (
                '`start` is for equal weights and the move "renoised", which may begin anywhere; leave `move`, '
                "`weights` and `twist` at their defaults, or leave it out."
            )
            raise ConfigError(message)
        if self.move == "renoised" and (self.weighted or self.twist != "surrogate"):
            message = (
                'the move "renoised" has no weights and no twist but the surrogate\'s; use `weights="auto"` and '
                '`twist="surrogate"`, or the move "denoised".'
            )
            raise ConfigError(message)
        if self.move in ("conditioned", "denoised") and self.twist in _TEMPERED:
            message = (
                f'`twist="{self.twist}"` belongs to the continuous and flow moves, not to "{self.move}"; use '
                '"surrogate" or "inflation".'
            )
            raise ConfigError(message)
        if self.move == "denoised" and self.twist == "inflation":
            message = 'the move "denoised" needs the finite variance of a surrogate; use `twist="surrogate"`.'
            raise ConfigError(message)
        if self.correctors and self.move == "denoised":
            message = 'the move "denoised" has no correctors, its target has no known gradient; set `correctors=0`.'
            raise ConfigError(message)
        if self.correctors and self.corrector == "renoising" and self.twist in _TEMPERED:
            message = 'the corrector "renoising" needs `twist="surrogate"` or "inflation"; use "langevin".'
            raise ConfigError(message)

    @property
    def renoises(self) -> bool:
        """Whether the move is `renoised` for every problem."""
        return self.move == "renoised" or bool(self.start)


class EnsembleSetup:
    """Everything about one problem that stays the same, or changes with the point of linearisation only.

    Args:
        problem: The latent problem.
        method: How to move.
        direct_limit: As of `linear_data`.

    Raises:
        UnsupportedProblemError: If the move needs a linear operator, or derivatives that the operator lacks.
        DataError: If the noise is smaller than the rounding errors of the data.
    """

    def __init__(self, problem: LatentProblem, method: EnsembleMethod, direct_limit: int) -> None:
        if method.move == "auto":
            nonlinear = "denoised" if method.weighted or method.twist != "surrogate" else "renoised"
            method = replace(method, move="conditioned" if problem.linear and not method.start else nonlinear)
        self.problem, self.method, self.direct_limit = problem, method, direct_limit
        if not problem.linear:
            _check_nonlinear(problem.problem.name, method)
        offers = problem.problem.operator.capabilities
        if Capability.VJP not in offers or Capability.JVP not in offers:
            message = (
                f"`diffusion-ensemble` needs derivatives of the operator of `{problem.problem.name}`, which has none; "
                "use `pcn`, or an engine with adjoints."
            )
            raise UnsupportedProblemError(message)
        _check_rounding(problem)
        self._point: Tensor | None = None
        self._linear: LinearData | None = None
        self._surrogate: Surrogate | None = None

    def linear(self, point: Tensor | None) -> LinearData:
        """The data of the linear operator, or of the one linearised at `point (*latent.shape)`."""
        if self._linear is None or (point is not None and self._point is not point):
            if point is None:
                matrix, target = self.problem.affine()
            else:
                residual, matrix = self.problem.linearised(point)
                target = matrix(point) - residual
            self._linear = linear_data(matrix, target, self.direct_limit)
            self._point, self._surrogate = point, None
        return self._linear

    def surrogate(self, point: Tensor | None) -> Surrogate:
        """The surrogate with these data."""
        data = self.linear(point)
        if self._surrogate is None:
            self._surrogate = self._new_surrogate(data)
        return self._surrogate

    @property
    def weighted(self) -> bool:
        """Whether the move has weights."""
        return self.method.move != "renoised"

    @property
    def sigma_max(self) -> float:
        """First noise level where none is set."""
        return _WARM if self.method.start else self.problem.prior.sigma_max

    def warn_of_blind_end(self, sigma: float) -> None:
        """Warn if what is left at the last noise level shows in the data, and the step to 0 does not look at them."""
        kind, flat = self.method.move, self.method.twist == "inflation"
        blind = kind in ("continuous", "flow") or (kind == "conditioned" and flat)
        if not (blind and self.problem.linear) or (times := sigma * self.linear(None).norm()) <= _COARSE:
            return
        message = (
            f"the last level, {sigma:.2g}, moves the data by up to {times:.2g} times their noise, and the last step "
            "of this move does not look at them: spreads are too large; use the default move and twist, or a "
            f"`sigma_min` below {sigma / times:.1g}."
        )
        warnings.warn(message, SciprobWarning, stacklevel=3)

    def first_point(self) -> Tensor | None:
        """Where a nonlinear operator is linearised first: near the mode under the surrogate, by Gauss-Newton steps.

        None for linear operators, and for the move that linearises at each particle.

        A step that does not lower the misfit is halved up to four times; the last good point is kept.
        """
        if self.problem.linear or not self.weighted:
            return None
        surrogate = self.problem.prior.surrogate
        zero = self.problem.like.new_zeros(self.problem.latent.shape)
        point = zero if surrogate is None else surrogate.mean.to(zero)
        misfit = float(self.problem.residual(point).square().sum())
        for _ in range(_NEWTON_STEPS):
            target = self.surrogate(point).posterior_mean()
            for halving in range(5):
                tried = point + (target - point) / 2**halving
                reached = float(self.problem.residual(tried).square().sum())
                if reached < 0.99 * misfit:
                    break
            else:
                break
            point, misfit = tried, reached
        return point

    def move(self, point: Tensor | None) -> Move:
        """How to step."""
        kind, denoiser = self.method.move, self.problem.denoiser
        if kind == "conditioned":
            return ConditionedMove(denoiser, self.surrogate(point))
        if kind == "denoised":
            return DenoisedMove(denoiser, self.surrogate(point), self.problem.residual)
        if kind == "twisted":
            return self._twisted()
        if kind == "renoised":
            return self._renoised
        if kind == "flow":
            return FlowMove(denoiser, self.twist(point))
        return ContinuousMove(denoiser, self.twist(point), self.method.kappa)

    def twist(self, point: Tensor | None) -> Twist:
        """The twist of the continuous and flow moves."""
        kind = self.method.twist
        if kind not in _TEMPERED:
            return SurrogateTwist(self.surrogate(point))
        temperings = {
            "isotropic": Tempering.inflation(self.method.gamma * self.linear(point).norm()),
            "linear": Tempering.linear(self.problem.prior.sigma_max),
            "constant": Tempering.constant(),
        }
        trace = self.linear(None).trace(0.0) if self.problem.linear else math.nan
        return TemperedTwist(self.problem, temperings[kind], trace)

    @property
    def correctable(self) -> bool:
        """Whether correctors leave the target of the move unchanged."""
        moves = ("conditioned", "continuous", "flow")
        return self.problem.linear and self.method.move in moves and self.method.twist not in _TEMPERED

    def corrector(self, point: Tensor | None, least: int = 0) -> Correct | None:
        """Steps at every level, at least so many, or none."""
        method, denoiser = self.method, self.problem.denoiser
        count = max(least, method.correctors)
        if count == 0:
            return None
        if method.move == "renoised":
            return lambda z, v, generator: self._renoised.correct(z, v, count, generator)
        if method.corrector == "renoising":
            share = 1 - method.corrector_step
            return RenoisingCorrector(denoiser, self.surrogate(point), count, share).apply
        surrogate = self.surrogate(point)
        variance = surrogate.variance if isinstance(surrogate, IsotropicSurrogate) else 1.0
        twist, data = self.twist(point), self.linear(point)
        return LangevinCorrector(denoiser, twist, data, count, method.corrector_step, variance).apply

    def start(self, count: int, v: float, point: Tensor | None, generator: torch.Generator) -> Particles:
        """Particles at the variance v: from the tilted Gaussian exactly where the twist is the surrogate's."""
        method, sets = self.method, self.problem.sets
        if not self.weighted:
            return self._renoised.start(count, v, generator, method.start)
        surrogate = self.surrogate(point)
        if method.move in ("denoised", "twisted") or method.twist in _TEMPERED:
            like = surrogate.data.target.new_zeros(*sets, count, *self.problem.latent.shape)
            z = surrogate.marginal(like, v, generator)
            seen = self.move(point).look(z, v)
            value = self.twist(point).value(z, v) if seen is None else seen.twist
            particles = Particles.first(z, value.new_zeros(sets), v, seen)
            return Particles(z, -value, particles.log_evidence, particles.ancestors, v, seen)
        z, evidence = surrogate.start(sets, count, v, generator)
        return Particles.first(z, evidence, v)

    @cached_property
    def _renoised(self) -> RenoisedMove:
        latent = self.problem
        covariance = DenoisedCovariance.of(latent.prior.surrogate, latent.like.new_empty(latent.latent.shape))
        return RenoisedMove(latent, latent.denoiser, covariance, self.method.products)

    def _twisted(self) -> TwistedMove:
        latent = self.problem
        if self.method.twist == "constant":
            return TwistedMove(latent.denoiser, lambda r, _: r, lambda _: 0.0, latent.residual_and_pullback)
        data, surrogate = self.linear(None), latent.prior.surrogate
        c = 1.0 if surrogate is None else float(surrogate.variance().mean())
        return TwistedMove(
            latent.denoiser,
            lambda r, v: data.solve(r, v * c / (v + c)),
            lambda v: data.log_det(v * c / (v + c)),
            latent.residual_and_pullback,
        )

    def _new_surrogate(self, data: LinearData) -> Surrogate:
        zero = data.target.new_zeros(data.shape)
        tempered = self.method.twist in _TEMPERED and self.problem.prior.surrogate is None
        if self.method.twist == "inflation" or tempered:
            return IsotropicSurrogate(data, zero)
        if self.problem.prior.surrogate is None:
            return IsotropicSurrogate(data, zero, 1.0)
        return surrogate_of(self.problem.prior.surrogate, data)


def _check_nonlinear(name: str, method: EnsembleMethod) -> None:
    """Raise UnsupportedProblemError if a method is for linear operators."""
    words = None
    if method.move == "conditioned":
        words = 'the move "conditioned" is for linear ones; use `move="denoised"`, or leave it at "auto"'
    elif method.move == "twisted" and method.twist != "constant":
        words = 'inflated variances are for linear ones; set `variance="noise"`'
    elif method.move not in ("denoised", "renoised") and method.twist not in _TEMPERED:
        words = f'the twist "{method.twist}" is for linear ones here; use `twist="isotropic"`'
    elif method.move == "continuous" and method.kappa != 0.5:
        words = "the weights at this kappa need its Laplacian; set `kappa=0.5`"
    elif method.correctors and method.move != "renoised":
        words = 'this move has correctors for linear ones only; set `correctors=0`, or `move="renoised"`'
    if words is not None:
        message = f"the operator of `{name}` is not linear, and {words}."
        raise UnsupportedProblemError(message)


def _check_rounding(problem: LatentProblem) -> None:
    """Raise DataError if data of this dtype cannot tell their noise from rounding."""
    kind = torch.finfo(problem.data.dtype)
    times = kind.eps * float(problem.whiten(problem.data).abs().max())
    if times > 1:
        message = (
            f"the noise of `{problem.problem.name}` is smaller than the rounding errors of its data in {kind.dtype}; "
            f"raise it {times:.2g} times{' or use float64' if kind.bits < 64 else ''}."
        )
        raise DataError(message)


_NEWTON_STEPS = 8
_COARSE = 3.0  # noise stds that the last level may move data by before that is said
_WARM = 1.0  # noise on the draws of an earlier run, about the spread of the latent variable
_latest: dict[str, Any] = {}


def ensemble_setup(problem: Problem, method: EnsembleMethod, level: float | None, direct_limit: int) -> EnsembleSetup:
    """The setup, kept from one step of the driver to the next while the problem is the same object."""
    reference, settings = _latest.get("problem"), (method, level, direct_limit)
    if reference is None or reference() is not problem or _latest["settings"] != settings:
        setup = EnsembleSetup(LatentProblem(problem, level=level), method, direct_limit)
        _latest.clear()
        _latest.update(problem=weakref.ref(problem), settings=settings, setup=setup)
    kept: EnsembleSetup = _latest["setup"]
    return kept
