r"""A model of paths: dx = b(x) dt + sigma dB_H(t), with numbers that are known or to be estimated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.random import randn
from sciprob.sde.affine import AffineSDE
from sciprob.sde.diffusions import RootDiffusion
from sciprob.sde.drifts import AffineDrift, Drift, NetworkDrift
from sciprob.sde.gaussian_paths import MultifractionalPath, NoiseSeries
from sciprob.sde.hurst_curve import HurstFormula, HurstKnots
from sciprob.sde.parameters import Kind, Normalisation
from sciprob.sde.quantities import Quantity, Range, Unknown, check_range, from_real, to_real


@dataclass(frozen=True)
class PathModel:
    r"""x on [0, horizon] and its errors: dx = b(x) dt + scale s(x) o dB, x(0) ~ N(initial_mean, initial_std^2).

    With `observed = "increments"` x is the noise itself: x(t) = level + scale (B(t + step) - B(t)), and the initial law
    is that of the level.

    Args:
        horizon: End of the paths.
        drift: b.
        hurst: H in (0, 1), known or unknown, or a formula of t (type II, no drift, or a drift without closed form).
        hurst_knots: With an unknown `hurst`: number of knots of H(t); 1 for a constant.
        hurst_truth: Formula of the H(t) behind simulated data, with knots.
        scale: sigma.
        initial_mean: Mean of x(0).
        initial_std: Its standard deviation; 0 for a known start.
        kind: "I" (a past, stationary increments) or "II" (Riemann-Liouville).
        normalisation: Of B, "unit" or "gamma".
        observed: "levels" for the path, "increments" for its noise.
        step: Length of the increments.
        noise_std: Standard deviation of the errors of the data where it is unknown; else None.
        drift_on: "path" for the equation above; "noise" for the drift inside the noise, the Volterra equation
            x(t) = x(0) + scale int_0^t K(t - r) (b(x(r)) dr + dW(r)) with the kernel K of B.
        diffusion: s; None for 1.

    Raises:
        ConfigError: For numbers out of range, or combinations that do not exist.
    """

    horizon: float
    drift: Drift = field(default_factory=AffineDrift)
    hurst: Quantity | HurstFormula = 0.5
    hurst_knots: int = 1
    hurst_truth: HurstFormula | None = None
    scale: Quantity = 1.0
    initial_mean: float = 0.0
    initial_std: float = 0.0
    kind: Kind = "I"
    normalisation: Normalisation = "unit"
    observed: Literal["levels", "increments"] = "levels"
    step: float = 1.0
    noise_std: Unknown | None = None
    drift_on: Literal["path", "noise"] = "path"
    diffusion: RootDiffusion | None = None

    def __post_init__(self) -> None:
        for name, inside in self._ranges().items():
            quantity = self._quantity(name)
            known = not isinstance(quantity, Unknown)
            if quantity is not None and not (name == "reversion" and known):
                check_range(name, quantity, inside)
        changing = self.hurst_knots > 1 or isinstance(self.hurst, HurstFormula)
        if self.hurst_knots > 1 and not isinstance(self.hurst, Unknown):
            message = "`hurst_knots` need an unknown `hurst`; give its `start`, or a formula instead of knots."
            raise ConfigError(message)
        if changing and (self.kind != "II" or self.observed != "levels"):
            message = 'a Hurst index that changes is defined for levels of type II noise; set `noise = "II"`.'
            raise ConfigError(message)
        if self.observed == "increments" and (self.kind != "I" or self.drift != AffineDrift()):
            message = 'increments are those of type I noise without a drift; leave `drift` out and set `noise = "I"`.'
            raise ConfigError(message)
        if self.diffusion is not None and (self.observed == "increments" or self.drift_on == "noise"):
            message = 'a `diffusion` belongs to levels of a path with `drift_on = "path"`; leave it out.'
            raise ConfigError(message)

    @property
    def unknowns(self) -> dict[str, Unknown]:
        """What is to be estimated, by name."""
        found = {name: self._quantity(name) for name in self._ranges()}
        return {name: q for name, q in found.items() if isinstance(q, Unknown)}

    @property
    def size(self) -> int:
        """Number of unknown real variables."""
        return sum(self._count(name) for name in self.unknowns)

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per unknown real variable."""
        names: list[str] = []
        for name in self.unknowns:
            count = self._count(name)
            names += [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
        return tuple(names)

    def values(self, raw: Tensor) -> dict[str, Tensor]:
        """All numbers by name, those that are unknown from `raw (*batch, size)`; knots of H are `(*batch, k)`."""
        found, start = {}, 0
        for name, inside in self._ranges().items():
            quantity = self._quantity(name)
            if isinstance(quantity, Unknown):
                count = self._count(name)
                part = from_real(raw[..., start : start + count], inside)
                found[name] = part if count > 1 else part[..., 0]
                start += count
            elif isinstance(quantity, (int, float)):
                found[name] = torch.tensor(float(quantity), dtype=raw.dtype, device=raw.device)
        return found

    def start(self) -> Tensor:
        """Real variables at the starts of the search, `(size,)`, float64."""
        start = self._centre()
        if isinstance(self.drift, NetworkDrift):
            at = self.labels.index("weights_0")
            weights = self.drift.start()
            start[at : at + len(weights)] = weights
        return start

    def log_prior(self, raw: Tensor) -> Tensor:
        """Log density of the priors of `raw (*batch, size)`, up to a constant; flat ones count 0."""
        std = self._spreads().to(raw)
        return -((raw - self._centre().to(raw)) / std).square().sum(-1) / 2

    def truth(self, generator: torch.Generator) -> Tensor:
        """Real variables behind simulated data, `(size,)`: the truths, else a draw of the prior."""
        start = self._centre()
        spread = self._spreads()
        drawn = start + torch.where(spread.isinf(), torch.zeros_like(spread), spread) * randn(
            tuple(start.shape), start, generator
        )
        known = self._raw(lambda unknown: torch.nan if unknown.truth is None else unknown.truth)
        return torch.where(known.isnan(), drawn, known)

    def hurst_at(self, values: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """H of times `(n,)` -> `(*batch, n)`, constant or not."""
        if isinstance(self.hurst, HurstFormula):
            return self.hurst
        if self.hurst_knots > 1:
            return HurstKnots(values["hurst"], self.horizon)
        return lambda times: values["hurst"][..., None].expand(*values["hurst"].shape, len(times))

    @property
    def changing(self) -> bool:
        """Whether H depends on time."""
        return self.hurst_knots > 1 or isinstance(self.hurst, HurstFormula)

    @property
    def gaussian(self) -> bool:
        """Whether paths are a Gaussian process."""
        if self.diffusion is not None:
            return False
        return self.drift == AffineDrift() or (self.drift.linear and not self.changing and self.drift_on == "path")

    def process(self, values: Mapping[str, Tensor]) -> AffineSDE | NoiseSeries | MultifractionalPath:
        """The Gaussian process with these numbers.

        Raises:
            UnsupportedProblemError: If the drift is nonlinear, or there is one and H changes.
        """
        if not self.gaussian:
            changing = " and a changing H" if self.changing else ""
            changing += " and a diffusion that depends on x" if self.diffusion is not None else ""
            message = (
                f"paths with a {type(self.drift).__name__}{changing} are no Gaussian process in closed form; "
                "use a variational solver such as `fbm-vi`."
            )
            raise UnsupportedProblemError(message)
        if self.observed == "increments":
            return NoiseSeries(
                values["hurst"], values["scale"], self.initial_mean, self.initial_std, self.step, self.normalisation
            )
        if self.changing:
            return MultifractionalPath(
                self.hurst_at(values), values["scale"], self.initial_mean, self.initial_std, self.normalisation
            )
        return AffineSDE(
            values["hurst"],
            reversion=values["reversion"],
            intercept=values["reversion"] * values["level"],
            scale=values["scale"],
            initial_mean=self.initial_mean,
            initial_std=self.initial_std,
            kind=self.kind,
            normalisation=self.normalisation,
        )

    def _ranges(self) -> dict[str, Range]:
        ranges: dict[str, Range] = {"hurst": "unit", "scale": "positive", **self.drift.ranges}
        if self.diffusion is not None:
            ranges["diffusion_width"] = "positive"
        ranges["noise_std"] = "positive"
        return ranges

    def _quantity(self, name: str) -> Quantity | None:
        if name == "diffusion_width":
            return self.diffusion.width if self.diffusion is not None else None
        owner = self if name in ("hurst", "scale", "noise_std") else self.drift
        value = getattr(owner, name)
        return None if isinstance(value, HurstFormula) else value

    def _count(self, name: str) -> int:
        return self.hurst_knots if name == "hurst" else self.drift.vectors.get(name, 1)

    def _centre(self) -> Tensor:
        """Medians of the priors, `(size,)`, float64."""
        return self._raw(lambda unknown: unknown.start)

    def _raw(self, number: Callable[[Unknown], float]) -> Tensor:
        parts = []
        for name, unknown in self.unknowns.items():
            value = torch.full((self._count(name),), number(unknown), dtype=torch.float64)
            if name == "hurst" and self.hurst_truth is not None and bool(value.isnan().any()):
                value = self.hurst_truth(torch.linspace(0, self.horizon, self.hurst_knots, dtype=torch.float64))
            parts.append(to_real(value, self._ranges()[name]))
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def _spreads(self) -> Tensor:
        spread = [
            torch.inf if unknown.spread is None else unknown.spread
            for name, unknown in self.unknowns.items()
            for _ in range(self._count(name))
        ]
        return torch.tensor(spread, dtype=torch.float64)
