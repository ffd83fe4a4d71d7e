"""Equations with the drift in the noise: sites trained without simulation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.solvers.fbm_vi.guide import make_guide
from sciprob.solvers.fbm_vi.simulate import draw_noise, simulate
from sciprob.solvers.fbm_vi.sites import Sites, merge_times
from sciprob.solvers.fbm_vi.target import Numbers, PathTarget, Sample
from sciprob.solvers.fbm_vi.volterra import (
    Prior,
    PseudoData,
    drift_cost,
    drift_gain,
    expected_log_likelihood,
    quadrature_times,
    site_moments,
)

_FINAL = 16  # nodes between two sites for the bound that is reported


@dataclass(frozen=True)
class Matched:
    """Bound and paths; the vector of what is trained holds raw numbers, values and log precisions of the sites.

    Args:
        target: The problem.
        between: Sites in each gap between data, in addition to one at each datum.
        nodes: Random times in each gap between sites, for one estimate of the bound.
        step: Largest time step of paths, which are drawn after training.
    """

    target: PathTarget
    between: int
    nodes: int
    step: float

    @property
    def times(self) -> Tensor:
        """Times of the sites, increasing; the start has none."""
        corners = torch.cat([self.target.times.new_tensor([0.0, self.target.model.horizon]), self.target.times])
        corners = corners.unique()
        share = torch.arange(1, self.between + 2, dtype=corners.dtype, device=corners.device) / (self.between + 1)
        times: Tensor = corners[:-1, None] + corners.diff()[:, None] * share
        return times.flatten()

    def start(self, raw: Tensor) -> Tensor:
        """The data as sites at their times, and nearly nothing in between, at the posterior without a drift."""
        target, times = self.target, self.times
        numbers = target.numbers(raw)
        precision = target.data_std(numbers) ** -2
        order = target.times.argsort(stable=True)
        data = PseudoData(target.times[order], target.values[order, None], precision[order].log()[:, None])
        with torch.no_grad():
            found = site_moments(self._prior(numbers), data, times)
        log_precision = (1e-2 / found.variance.clamp_min(1e-12)).log()[:, 0]
        near = (times[:, None] - target.times).abs() < 1e-9 * target.model.horizon
        seen = near.any(-1)
        total = (near * precision).sum(-1)
        mean = (near * precision * target.values).sum(-1) / torch.where(seen, total, torch.ones_like(total))
        values = torch.where(seen, mean, found.mean[:, 0])
        log_precision = torch.where(seen, torch.where(seen, total, torch.ones_like(total)).log(), log_precision)
        return torch.cat([raw, values, log_precision])

    def rates(self, vector: Tensor, rate: float) -> Tensor:
        """Step lengths: that of values in units of the noise's deviation over the horizon."""
        numbers = self.target.numbers(vector[: self.target.model.size])
        count = len(self.times)
        lengths = torch.full_like(vector, 10 * rate)
        lengths[self.target.model.size : self.target.model.size + count] *= float(
            numbers["scale"] * self.target.model.horizon ** numbers["hurst"]
        )
        return lengths

    def bound(self, vector: Tensor, generator: torch.Generator | None) -> Tensor:
        """The evidence lower bound: an unbiased estimate, or by deterministic quadrature without a generator."""
        numbers, sites = self._split(vector)
        target = self.target
        breaks = torch.cat([sites.times.new_zeros(1), sites.times])
        nodes, weights = quadrature_times(breaks, self.nodes if generator else _FINAL, generator)
        moments = site_moments(self._prior(numbers), sites, torch.cat([nodes, target.times]))
        count = len(nodes)
        seen = expected_log_likelihood(
            target.values, target.data_std(numbers), moments.mean[count:, 0], moments.variance[count:, 0]
        )
        cost = drift_cost(target.drift(numbers), nodes, moments.first(count))
        return seen - moments.divergence - (weights * cost).sum()

    def draw(self, vector: Tensor, paths: int, generator: torch.Generator, wanted: Tensor | None = None) -> Sample:
        """Paths with log weights against the prior with the drift, discretised with `step`; see `Guided.draw`."""
        numbers, sites = self._split(vector)
        target, count = self.target, len(sites.times)
        every = torch.cat([sites.times, target.times] if wanted is None else [sites.times, target.times, wanted])
        grid, index = merge_times(every, target.model.horizon, self.step)
        reference = target.reference(numbers, grid, None)
        guide = make_guide(reference, Sites(index[:count], sites.values, sites.log_precision.exp()))
        drawn = simulate(reference, guide, draw_noise(reference, paths, generator))
        data = target.sites(numbers, index[count : count + len(target.times)])
        log_weights = drawn.log_ratio + drift_gain(reference, drawn, target.drift(numbers)) + data.log_density(drawn.x)
        return Sample(grid, drawn.x[..., 0], log_weights)

    def _split(self, vector: Tensor) -> tuple[Numbers, PseudoData]:
        size, count = self.target.model.size, len(self.times)
        raw, values, log_precision = vector.split([size, count, count])
        return self.target.numbers(raw), PseudoData(self.times, values[:, None], log_precision[:, None])

    def _prior(self, numbers: Numbers) -> Prior:
        return Prior(self.target.noise(numbers), numbers["scale"].reshape(1), **self.target.initial())
