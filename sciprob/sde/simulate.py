"""Paths of a model: exact draws of Gaussian ones, Euler's scheme with exact noise for the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciprob.random import randn
from sciprob.sde.affine import AffineSDE
from sciprob.sde.diffusions import flow
from sciprob.sde.drifts import AffineDrift
from sciprob.sde.gaussian_paths import GaussianPath, MultifractionalPath
from sciprob.sde.parameters import check_times, gamma_variance, variance_at_one
from sciprob.sde.path_model import PathModel
from sciprob.sde.sampling import sample_fgn, sample_gaussian

_STEPS = 1000  # least number of Euler steps
_DENSE = 3000  # times up to which a Cholesky factorisation is used


def simulate_path(
    model: PathModel,
    values: Mapping[str, Tensor],
    times: Tensor,
    *,
    generator: torch.Generator,
    shape: tuple[int, ...] = (),
) -> Tensor:
    """Draws of x at `times (n,)`, `(*shape, n)`, float64.

    Gaussian paths are drawn exactly; others by Euler steps of at most horizon / 1000 with exact noise, whose
    error is O(step) for a smooth drift where the noise is additive. A diffusion acts by its flow over each increment.

    Args:
        model: The equation.
        values: Its numbers by name, without batch axes; see `PathModel.values`.
        times: From 0 on, increasing.
        generator: Source of randomness.
        shape: More draws.
    """
    t = check_times(times)
    exact = model.gaussian and not (model.kind == "II" and model.drift != AffineDrift())
    if exact and bool(values.get("reversion", torch.zeros(())) >= 0):
        return _exact(model, _truth_process(model, values), t, generator, shape)
    return _euler(model, values, t, generator, shape)


def _truth_process(model: PathModel, values: Mapping[str, Tensor]) -> GaussianPath:
    if model.hurst_truth is None:
        return model.process(values)
    return MultifractionalPath(
        model.hurst_truth, values["scale"], model.initial_mean, model.initial_std, model.normalisation
    )


def _exact(
    model: PathModel, process: GaussianPath, times: Tensor, generator: torch.Generator, shape: tuple[int, ...]
) -> Tensor:
    if len(times) <= _DENSE:
        return process.mean(times) + sample_gaussian(process.covariance(times, times), generator=generator, shape=shape)
    return _long(model, process, times, generator, shape)


def _long(
    model: PathModel, process: GaussianPath, times: Tensor, generator: torch.Generator, shape: tuple[int, ...]
) -> Tensor:
    """Equally spaced fractional noise by circulant embedding; anything else densely after all."""
    gaps = times.diff()
    step = float(gaps.mean())
    even = bool(((gaps - step).abs() <= 1e-9 * step).all())
    plain = model.kind == "I" and model.drift == AffineDrift() and not model.changing
    first = float(times[0]) / step
    if not (even and plain and abs(first - round(first)) < 1e-6 and isinstance(model.scale, float)):
        covariance = process.covariance(times, times)
        return process.mean(times) + sample_gaussian(covariance, generator=generator, shape=shape)
    hurst = getattr(process, "hurst")  # noqa: B009 - both classes have it, the protocol does not
    skipped, n = round(first), len(times)
    noise = model.scale * sample_fgn(
        n + skipped, hurst, generator=generator, shape=shape, step=step, normalisation=model.normalisation
    )
    start = model.initial_mean + model.initial_std * randn((*shape, 1), noise, generator)
    if model.observed == "increments":
        return start + noise[..., skipped:]
    path = torch.nn.functional.pad(noise.cumsum(-1), (1, 0))
    return start + path[..., skipped : skipped + n]


def _euler(
    model: PathModel, values: Mapping[str, Tensor], times: Tensor, generator: torch.Generator, shape: tuple[int, ...]
) -> Tensor:
    fine, where = refine(times, float(times[-1]) / _STEPS)
    noise = _noise(model, values, fine, generator, shape)
    x = model.initial_mean + model.initial_std * randn(shape, noise, generator)
    if model.drift_on == "noise":
        return _volterra(model, values, fine, x, noise)[..., where]
    path, diffusion = [x], None if model.diffusion is None else model.diffusion.at(values)
    for i, h in enumerate(fine.diff().tolist()):
        moved, push = h * model.drift(x, values), values["scale"] * (noise[..., i + 1] - noise[..., i])
        x = moved + (x + push if diffusion is None else flow(diffusion, x, push))
        path.append(x)
    return torch.stack(path, dim=-1)[..., where]


def _volterra(model: PathModel, values: Mapping[str, Tensor], times: Tensor, start: Tensor, noise: Tensor) -> Tensor:
    """Paths with the drift in the noise: steps of Euler, the integral of the kernel over each step exact."""
    a = values["hurst"] + 0.5
    h = values["hurst"].double()
    unit = variance_at_one(h, kind=model.kind, normalisation=model.normalisation) / gamma_variance(h, model.kind)
    path, pushes = [start], torch.zeros_like(noise)
    for i in range(1, len(times)):
        pushes[..., i - 1] = model.drift(path[-1], values)
        powers = (times[i] - times[: i + 1]) ** a
        shares = -powers.diff() * unit.sqrt() / torch.exp(torch.lgamma(a + 1))
        path.append(start + values["scale"] * (noise[..., i] + (pushes[..., :i] * shares).sum(-1)))
    return torch.stack(path, dim=-1)


def _noise(
    model: PathModel, values: Mapping[str, Tensor], times: Tensor, generator: torch.Generator, shape: tuple[int, ...]
) -> Tensor:
    """B at `times`, exact."""
    if model.changing:
        process: GaussianPath = MultifractionalPath(
            model.hurst_truth or model.hurst_at(values), normalisation=model.normalisation
        )
    else:
        process = AffineSDE(values["hurst"], kind=model.kind, normalisation=model.normalisation)
    return sample_gaussian(process.covariance(times, times), generator=generator, shape=shape)


def refine(times: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """Times from 0 on with steps of at most `largest` that contain `times`, and the index of those among them."""
    corners = torch.cat([times.new_zeros(1), times]) if float(times[0]) > 0 else times
    pieces = [corners[:1]]
    ends = [0]
    for left, right in zip(corners[:-1].tolist(), corners[1:].tolist(), strict=True):
        count = max(1, int(-(-(right - left) // largest)))
        pieces.append(left + (right - left) * torch.arange(1, count + 1, dtype=times.dtype) / count)
        ends.append(ends[-1] + count)
    index = torch.tensor(ends[len(corners) - len(times) :])
    return torch.cat(pieces).to(times), index
