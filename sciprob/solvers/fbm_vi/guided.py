"""The paper's model: drift in the path, guide and network on the common noise, trained by simulation."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sciprob.solvers.fbm_vi.control import BoundedControl, NetworkShape
from sciprob.solvers.fbm_vi.guide import Guide, make_guide
from sciprob.solvers.fbm_vi.linearise import Linearised, linearise, observable_moments
from sciprob.solvers.fbm_vi.reference import Reference
from sciprob.solvers.fbm_vi.simulate import Control, draw_noise, simulate
from sciprob.solvers.fbm_vi.sites import Sites, merge_times
from sciprob.solvers.fbm_vi.target import Numbers, PathTarget, Sample

_SHARES = (1.0, 0.5, 0.25, 0.0)
_REACH = 4.0  # deviations of x from its centre that a control tells apart where the diffusion grows with x
_TRIAL = 256  # paths that choose between guides


@dataclass(eq=False)
class GuideState:
    """The affine drift that the guide knows, and the scale of the path.

    Args:
        share: How much of the linearised drift it is: all for drifts that are nearly affine, little or none
            where the path changes between wells.
        reversion: `(1,)`.
        times: Starts of the steps on which the intercept is constant `(N,)`.
        intercept: `(N, 1)`.
        center: Mean of x along the path `(1,)`.
        spread: Its deviation `(1,)`.
    """

    share: float
    reversion: Tensor
    times: Tensor
    intercept: Tensor
    center: Tensor
    spread: Tensor

    def on(self, grid: Tensor) -> Linearised:
        """The affine drift on another grid."""
        middle = (grid[:-1] + grid[1:]) / 2
        at = (torch.searchsorted(self.times, middle) - 1).clamp_min(0)
        return Linearised(self.reversion, self.intercept[at])


@dataclass(frozen=True)
class _Prepared:
    """Process, data and guide on a grid."""

    grid: Tensor
    sites: Sites
    reference: Reference
    guide: Guide


# of the training grid, where no number is unknown: the same in every step, and made again after a reload
_PREPARED: WeakKeyDictionary[GuideState, _Prepared] = WeakKeyDictionary()


@dataclass(frozen=True)
class Guided:
    """Bound and paths; the vector of what is trained holds raw numbers, shift of the start, weights of the network.

    Args:
        target: The problem.
        step: Largest time step.
        width: Of the network.
    """

    target: PathTarget
    step: float
    width: int

    def guide(self, raw: Tensor, generator: torch.Generator | None, share: float | None = None) -> GuideState:
        """Linearise the drift at given numbers; without a share, that with the largest bound on the same noise."""
        numbers = self.target.numbers(raw.detach())
        grid, index = self._grid(self.target.times)
        sites, drift = self.target.sites(numbers, index), self.target.drift(numbers)
        with torch.no_grad():
            found = linearise(drift, lambda part: self.target.reference(numbers, grid, part), sites)
            none = Linearised(torch.zeros_like(found.reversion), torch.zeros_like(found.intercept))
            diffusion = self.target.diffusion(numbers)
            shares = _SHARES if diffusion is None else (0.0,)  # as `simulate` asks
            best, chosen = -torch.inf, shares[0] if share is None else share
            seed = 0 if generator is None else int(torch.randint(2**31, (), generator=generator, device=grid.device))
            for trial in shares if share is None else ():
                reference = self.target.reference(numbers, grid, none.towards(found, trial))
                noise = draw_noise(reference, _TRIAL, torch.Generator(grid.device).manual_seed(seed))
                guide = make_guide(reference, sites)
                paths = simulate(reference, guide, noise, drift=drift, diffusion=diffusion)
                bound = float((paths.log_ratio + sites.log_density(paths.x)).mean())
                if bound > best + 1e-6:
                    best, chosen = bound, trial
            part = none.towards(found, chosen)
            reference = self.target.reference(numbers, grid, part)
            mean, variance = observable_moments(reference, make_guide(reference, sites))
        spread = (variance.mean(0) + mean.var(0)).sqrt().clamp_min(1e-12)
        return GuideState(chosen, part.reversion, grid[:-1].clone(), part.intercept, mean.mean(0), spread)

    def start(self, guide: GuideState, raw: Tensor, generator: torch.Generator) -> Tensor:
        """The first vector: given numbers, no shift, a network that is zero."""
        shift = raw.new_zeros(self._reference(guide, raw, self._grid(self.target.times)[0]).initial_root.shape[-1])
        return torch.cat([raw, shift, self._network(guide).start(generator)])

    def rates(self, guide: GuideState, vector: Tensor, rate: float) -> Tensor:
        """Step lengths: five times larger for numbers and shift than for weights."""
        lengths = torch.full_like(vector, 5 * rate)
        lengths[len(vector) - self._network(guide).count :] = rate
        return lengths

    def draw(
        self, guide: GuideState, vector: Tensor, paths: int, generator: torch.Generator, wanted: Tensor | None = None
    ) -> Sample:
        """Paths on a grid that contains the times of the data and those `wanted`; differentiable in the vector."""
        target, size = self.target, self.target.model.size
        network = self._network(guide)
        raw, shift, weights = vector.tensor_split([size, len(vector) - network.count])
        at = self._prepare(guide, raw, wanted)
        numbers, diffusion = target.numbers(raw), target.diffusion(target.numbers(raw))
        control: Control = network.at(weights)
        if diffusion is not None:
            control = BoundedControl(network.at(weights), guide.center, _REACH * guide.spread)
        drawn = simulate(
            at.reference,
            at.guide,
            draw_noise(at.reference, paths, generator),
            drift=target.drift(numbers),
            diffusion=diffusion,
            control=control,
            shift=shift.expand(1, -1),
        )
        return Sample(at.grid, drawn.x[..., 0], drawn.log_ratio + at.sites.log_density(drawn.x))

    def _prepare(self, guide: GuideState, raw: Tensor, wanted: Tensor | None) -> _Prepared:
        target = self.target
        kept = wanted is None and not target.model.size
        if kept and guide in _PREPARED:
            return _PREPARED[guide]
        grid, index = self._grid(target.times if wanted is None else torch.cat([target.times, wanted]))
        sites = target.sites(target.numbers(raw), index[: len(target.times)])
        reference = self._reference(guide, raw, grid)
        found = _Prepared(grid, sites, reference, make_guide(reference, sites))
        if kept:
            _PREPARED[guide] = found
        return found

    def _grid(self, times: Tensor) -> tuple[Tensor, Tensor]:
        return merge_times(times, self.target.model.horizon, self.step)

    def _reference(self, guide: GuideState, raw: Tensor, grid: Tensor) -> Reference:
        numbers: Numbers = self.target.numbers(raw)
        return self.target.reference(numbers, grid, guide.on(grid))

    def _network(self, guide: GuideState) -> NetworkShape:
        size = len(self.target.rates) + 1
        return NetworkShape(size, self.width, self.target.model.horizon, guide.center, guide.spread)
