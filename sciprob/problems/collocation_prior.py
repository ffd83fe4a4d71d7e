"""Initial kernels for the solution of an equation, from source, boundary and initial data alone."""

from __future__ import annotations

from collections.abc import Sequence

from sciprob.errors import ConfigError
from sciprob.pde.collocation import Collocation
from sciprob.pde.jet import Jet
from sciprob.priors.kernels import StationaryKernel
from sciprob.priors.kernels.spectrum import initial_mixture
from sciprob.problems.collocation_spectrum import Symbol, Tones, tones_of_side, tones_of_source

_FAINT = 1e-12  # of the strongest power: weaker tones are rounding
_LEAST_TREND = 1.0  # power of the component of frequency zero, relative to all tones


def initial_kernels(
    collocation: Collocation,
    kind: str = "gaussian",
    components: int = 8,
    *,
    scale: float | Sequence[float] = 1.0,
    u: Jet | None = None,
) -> tuple[StationaryKernel, ...]:
    """One mixture kernel per coordinate; the variance of u is the product of theirs.

    Args:
        collocation: The equation and its data; an exact solution is never used.
        kind: `"gaussian"` or `"student"`.
        components: Most tones per axis, besides the component of frequency zero.
        scale: Envelopes per length of an axis: larger values let amplitudes vary faster. One number, or one per axis.
        u: Jets of an iterate at which a nonlinear equation is linearised; default zero.

    Raises:
        ConfigError: If the kind is unknown, or there are too few or many scales.
        DataError: If source or data are not finite.
    """
    scales = (float(scale),) * len(collocation.shape) if isinstance(scale, int | float) else tuple(scale)
    if len(scales) != len(collocation.shape):
        message = f"`scale` should be a number or have one entry per coordinate {collocation.coordinates}, got {scale}."
        raise ConfigError(message)
    axes = solution_tones(collocation, components, u)
    known = [
        rows.values for rows in (*collocation.conditions_at(), *collocation.sensors_at()) if set(rows.terms) == {""}
    ]
    data = max((float(values.square().mean()) for values in known if values.numel()), default=0.0)
    variance = max(data, *(axis.total for axis in axes)) or 1.0
    like = collocation.points().lines[0]
    kernels = []
    for axis, envelopes in zip(axes, scales, strict=True):
        tones = {s: power for s, power in axis.power.items() if s > 0 and power > _FAINT * axis.total}
        strongest = sorted(tones, key=lambda s: -tones[s])[:components]
        amplitudes = like.new_tensor([tones[s] for s in strongest]).sqrt()
        oscillating = sum(tones[s] for s in strongest)
        trend = max(axis.power.get(0.0, 0.0) / oscillating, _LEAST_TREND) if oscillating else 1.0
        kernel = initial_mixture(
            like.new_tensor(strongest),
            amplitudes,
            axis.length,
            kind,
            scale=envelopes,
            low=trend,
            variance=variance ** (1 / len(axes)),
        )
        kernels.append(kernel)
    return tuple(kernels)


def solution_tones(collocation: Collocation, count: int = 8, u: Jet | None = None) -> list[Tones]:
    """Power of the solution by frequency, one `Tones` per coordinate."""
    axes = _no_tones(collocation)
    equation = collocation.equations(u)
    symbol = Symbol.of(equation, axes)
    tones_of_source(equation, symbol, axes, count)
    for condition, rows in zip(collocation.conditions, collocation.conditions_at(), strict=True):
        found = _no_tones(collocation)
        tones_of_side(rows, collocation.coordinates.index(condition.axis), symbol, found, count)
        for axis, others in zip(axes, found, strict=True):
            axis.merge(others)
    return axes


def _no_tones(collocation: Collocation) -> list[Tones]:
    bounds = zip(collocation.lower, collocation.upper, collocation.spacing, strict=True)
    return [Tones(b - a, step) for a, b, step in bounds]
