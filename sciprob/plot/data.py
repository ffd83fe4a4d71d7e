"""Measured against predicted data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciprob.plot.panels import draw_field, to_numpy
from sciprob.plot.style import (
    DATA,
    FIELD_MAP,
    MUTED,
    POSTERIOR,
    colour_bar,
    dress,
    legend,
    legend_below,
    new_figure,
    quantity,
)
from sciprob.posteriors import Ensemble
from sciprob.spaces import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciprob.posteriors import Posterior

Floats = NDArray[np.float64]
_REPLICATES = 400  # draws of the noise behind standardised residuals of noise that is not Gaussian
_FEW = 400  # up to so many data each gets its own interval


@dataclass(frozen=True)
class Predictive:
    """Predictive distribution of the data of a problem, by draws.

    Args:
        space: Space of the data.
        observed: The data, `(*space.shape)`.
        replicated: Draws of new data from posterior and noise, as an `Ensemble` on `space`.
        residual: Standardised residuals, near N(0, 1) where model and noise are right.
    """

    space: Space
    observed: Tensor
    replicated: Ensemble
    residual: Tensor

    @classmethod
    def of(cls, problem: Any, posterior: Posterior, *, generator: torch.Generator, n: int = 100) -> Predictive:
        """Push `n` draws (or the stored ones, if fewer) through operator and noise.

        The residual is W^{1/2} (y - f) for Gaussian noise and (y - E[y | f]) / std[y | f] otherwise,
        at the posterior mean f of the clean data.

        Raises:
            DataError: If the problem has no data.
        """
        noise, observed = problem.likelihood.noise, problem.observed
        count = n if posterior.max_draws is None else min(n, posterior.max_draws)
        with torch.no_grad():
            clean = posterior.ensemble(count, generator=generator).push(problem.operator)
            replicated = Ensemble(clean.space, noise.sample(clean.samples, generator=generator))
            residual = _standardised(problem, clean.mean, observed, generator)
        return cls(clean.space, observed, replicated, residual)


def data_figure(predictive: Predictive, *, title: str = "") -> Figure:
    """Observed against predicted data, and the standardised residuals beside N(0, 1).

    Few data are drawn with 90 % predictive intervals, many as a density. Data with two axes
    (sinograms, space-time) get images of observed, predicted and residual above.
    """
    images = len(predictive.space.shape) == 2 and min(predictive.space.shape) > 1
    figure = new_figure(10.5 if images else 9.0, 7.2 if images else 3.9, title)
    below: Any = figure
    if images:
        above, below = cast("Any", figure.subfigures(2, 1))
        _images(above, predictive)
    left, right = below.subplots(1, 2)
    _against(left, predictive)
    _histogram(right, predictive.residual)
    return figure


def intervals_figure(predictive: Predictive, *, title: str = "", most: int = 60) -> Figure:
    """Predictive 50 % and 90 % intervals of single data with what was measured there.

    Of more than `most` data an even selection is drawn.
    """
    number = np.unique(np.linspace(0, predictive.space.size - 1, min(most, predictive.space.size)).round().astype(int))
    chosen = torch.from_numpy(number)
    values = predictive.replicated.samples.cpu().flatten(1)[:, chosen]
    replicated = Ensemble(Space((len(number),)), values)
    figure = new_figure(9.0, 3.6, title)
    axes = figure.subplots()
    place = np.arange(len(number))
    for level, width, alpha in ((0.9, 2.0, 0.45), (0.5, 5.0, 0.8)):
        low, high = (to_numpy(end) for end in replicated.interval(level))
        axes.vlines(place, low, high, color=POSTERIOR, linewidth=width, alpha=alpha, label=f"{level:.0%} predictive")
    observed = to_numpy(predictive.observed).reshape(-1)[number]
    axes.plot(place, observed, "o", color=DATA, markersize=3.5, markeredgecolor="white", label="measured")
    step = max(1, len(number) // 12)
    axes.set_xticks(place[::step], [str(i) for i in number[::step]])
    axes.margins(x=0.02)
    kind = predictive.space.dims[0] if len(predictive.space.dims) == 1 else "entry"
    dress(axes, "predictive intervals", f"{kind} number", quantity(predictive.space))
    legend_below(figure, axes)
    return figure


def _standardised(problem: Any, clean: Tensor, observed: Tensor, generator: torch.Generator) -> Tensor:
    from sciprob.operators.base import Capability

    noise = problem.likelihood.noise
    if Capability.GAUSSIAN_NOISE in noise.capabilities:
        whitened: Tensor = noise.whiten(clean, observed - clean)
        return whitened
    replicates = noise.sample(clean.expand(_REPLICATES, *clean.shape), generator=generator)
    standardised: Tensor = (observed - replicates.mean(0)) / replicates.std(0).clamp_min(1e-12)
    return standardised


def _images(figure: Any, predictive: Predictive) -> None:
    from matplotlib.colors import Normalize

    space, observed, mean = predictive.space, predictive.observed, predictive.replicated.mean
    panels = figure.subplots(1, 3)
    norm = Normalize(*np.quantile(to_numpy(observed), [0.002, 0.998]))
    for axes, name, field in zip(panels, ("measured", "predicted"), (observed, mean), strict=False):
        mappable = draw_field(axes, space, field, name, cmap=FIELD_MAP, norm=norm)
    colour_bar(figure, mappable, list(panels[:2]), quantity(space))
    if predictive.residual.shape == torch.Size(space.shape):
        wave = {"cmap": "RdBu_r", "norm": Normalize(-4, 4)}
        mappable = draw_field(panels[2], space, predictive.residual, "standardised residual", **wave)
        colour_bar(figure, mappable, [panels[2]], "standard deviations")
    else:
        panels[2].set_axis_off()


def _against(axes: Any, predictive: Predictive) -> None:
    observed = to_numpy(predictive.observed).reshape(-1)
    mean = to_numpy(predictive.replicated.mean).reshape(-1)
    ends = np.array([observed.min(), observed.max()])
    if len(observed) <= _FEW:
        low, high = (to_numpy(end).reshape(-1) for end in predictive.replicated.interval(0.9))
        axes.vlines(observed, low, high, color=POSTERIOR, alpha=0.4, linewidth=1.5, label="90% predictive")
        axes.plot(observed, mean, "o", color=POSTERIOR, markersize=3.5, label="predictive mean")
    else:
        low_high = (*np.quantile(observed, [0.001, 0.999]),) * 2
        axes.hexbin(observed, mean, gridsize=60, bins="log", cmap="Blues", mincnt=1, extent=low_high, linewidths=0.1)
    axes.plot(ends, ends, color=MUTED, linewidth=1, zorder=0, label="equal")
    name = quantity(predictive.space)
    dress(axes, "data", f"measured {name}", f"predicted {name}")
    legend(axes, loc="upper left")


def _histogram(axes: Any, residual: Tensor) -> None:
    values = to_numpy(residual).reshape(-1)
    reach = 4.0 if len(values) > 30 else 3.0
    outside = int((np.abs(values) > reach).sum())
    label = f"residuals ({outside} beyond, at the ends)" if outside else "residuals"
    bins = np.linspace(-reach, reach, int(np.clip(2 * math.sqrt(len(values)), 17, 61)))
    axes.hist(np.clip(values, -reach, reach), bins=bins, density=True, color=POSTERIOR, alpha=0.55, label=label)
    z = np.linspace(-reach, reach, 201)
    axes.plot(z, np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), color=DATA, linewidth=1.3, label="N(0, 1)")
    spread = f"rms {math.sqrt(float(np.mean(values**2))):.2f}, {len(values)} data"
    dress(axes, f"standardised residuals ({spread})", "standard deviations", "density")
    legend(axes, loc="upper right")
