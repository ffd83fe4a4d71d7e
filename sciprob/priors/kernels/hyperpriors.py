r"""Proper priors of a kernel's parameters: for fully Bayesian inference and for maximisation that stays bounded.

- Amplitudes A = sqrt(w) of the components: half-Cauchy of scale tau with a Gaussian slab of width c,
  p(A) = 2 / (pi tau (1 + A^2 / tau^2)) exp(-A^2 / (2 c^2)) / erfcx(tau / (sqrt(2) c)): unneeded components are drawn
  towards zero, needed ones are left alone up to c. This is the half-Cauchy with the slab of the regularised horseshoe.
- Lengths of the envelopes: log-normal. Frequencies: normal around those of a start, about half a resolution cell
  1 / L wide, because the likelihood has one mode per cell.

All densities are with respect to the raw parameters (log w, mu, log a, ...), Jacobians included, as samplers need
them. A flat density in log w, "Jeffreys' prior", is improper and changes nothing in a maximum.

Sources: Carvalho, Polson, Scott, Biometrika 97 (2010); for the slab Piironen and Vehtari, Electron. J. Stat. 11 (2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.priors.kernels.base import StationaryKernel

_LENGTHS = {"log_decay": -2.0, "log_inverse_lengths": -1.0, "log_lengths": 1.0}  # log parameter per log length


@dataclass(frozen=True, eq=False)
class KernelPrior:
    """Independent priors of all parameters of a mixture, or of a single-scale kernel.

    Args:
        scale: tau > 0, typical amplitude of an unneeded component, in the unit of the field.
        slab: c >= tau, amplitude beyond which components are held back.
        length: Median length of envelopes, in the unit of the coordinate; 1 / sqrt(a) for Gaussian mixtures.
        spread: Standard deviation of the logarithm of lengths.
        frequencies: Centres `(components,)`, for mixtures; None for kernels without frequencies.
        frequency_std: Standard deviation around the centres, in cycles per unit of the coordinate.

    Raises:
        ConfigError: If a number is not positive, or the slab is narrower than the scale.
    """

    scale: float
    slab: float
    length: float
    spread: float = 1.0
    frequencies: Tensor | None = None
    frequency_std: float = 1.0

    def __post_init__(self) -> None:
        for name in ("scale", "slab", "length", "spread", "frequency_std"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                message = f"`{name}` of a kernel prior should be positive and finite, got {value}."
                raise ConfigError(message)
        if self.slab < self.scale:
            message = f"`slab` should not be below `scale`, got {self.slab:g} and {self.scale:g}; swap or raise it."
            raise ConfigError(message)

    @classmethod
    def around(cls, kernel: StationaryKernel, interval: float) -> Self:
        """A weakly informative prior about a starting kernel on an interval of this length.

        With s = sqrt(k(0)): tau = s / components, c = 3 s, lengths about the interval, frequencies within
        0.5 / interval of those of the kernel.
        """
        parameters = {name: value.detach() for name, value in kernel.named_parameters()}
        weights = parameters["log_weights"].exp()
        size = float(weights.sum(-1).mean().sqrt())
        frequencies = parameters["frequencies"].clone() if "frequencies" in parameters else None
        return cls(size / weights.shape[-1], 3 * size, interval, 1.0, frequencies, 0.5 / interval)

    def log_prior(self, kernel: StationaryKernel) -> Tensor:
        """Log density of the kernel's parameters, `(*batch,)`, differentiable in them."""
        return self.log_prob(dict(kernel.named_parameters()))

    def log_prob(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Log density `(*batch,)` of raw parameters `(*batch, components)` by name, normalised.

        Raises:
            UnsupportedProblemError: If a name is not known.
        """
        terms = [self._log_density(name, value) for name, value in parameters.items()]
        return torch.stack([term.sum(-1) for term in torch.broadcast_tensors(*terms)]).sum(0)

    def sample(
        self, kernel: StationaryKernel, shape: tuple[int, ...] = (), *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Raw parameters `(*shape, components)` by name, as the kernel has them."""
        found = {}
        for name, value in kernel.named_parameters():
            size = (*shape, value.shape[-1])
            if name == "log_weights":
                found[name] = 2 * self._amplitudes(size, value, generator).log()
            else:
                mean, std = self._normal(name, value)
                found[name] = mean + std * _normals(size, value, generator)
        return found

    def _log_density(self, name: str, value: Tensor) -> Tensor:
        if name == "log_weights":
            return self._log_density_of_weights(value)
        mean, std = self._normal(name, value)
        return -0.5 * ((value - mean) / std).square() - math.log(std) - 0.5 * math.log(2 * math.pi)

    def _log_density_of_weights(self, log_weights: Tensor) -> Tensor:
        """Log p(A) + log |dA / d log w| with A = sqrt(w), dA / d log w = A / 2."""
        square = (log_weights - 2 * math.log(self.scale)).exp()  # (A / tau)^2
        half_cauchy = math.log(2 / (math.pi * self.scale)) - square.log1p()
        ratio = torch.as_tensor(self.scale / (math.sqrt(2) * self.slab), dtype=torch.float64)
        constant = float(torch.special.erfcx(ratio).log())
        slab = -0.5 * (log_weights - 2 * math.log(self.slab)).exp()
        return half_cauchy + slab - constant + 0.5 * log_weights - math.log(2)

    def _normal(self, name: str, value: Tensor) -> tuple[Tensor | float, float]:
        """Mean and standard deviation of a normal parameter."""
        if name in _LENGTHS:
            factor = _LENGTHS[name]
            return factor * math.log(self.length), abs(factor) * self.spread
        if name == "frequencies" and self.frequencies is not None:
            return self.frequencies.to(value), self.frequency_std
        message = (
            f"this kernel prior has no density for `{name}`; it knows log_weights, frequencies, {sorted(_LENGTHS)}."
        )
        raise UnsupportedProblemError(message)

    def _amplitudes(self, size: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
        """Draws of A: half-Cauchy, each kept with probability exp(-A^2 / (2 c^2)), at least half of them."""
        drawn = like.new_full(size, torch.inf)
        missing = torch.ones_like(drawn, dtype=torch.bool)
        while bool(missing.any()):
            uniform = _uniforms((2, int(missing.sum())), like, generator)
            candidates = self.scale * torch.tan(0.5 * math.pi * uniform[0])
            kept = uniform[1] < torch.exp(-0.5 * (candidates / self.slab).square())
            drawn[missing] = torch.where(kept & (candidates > 0), candidates, torch.inf)
            missing = drawn.isinf()
        return drawn


def _uniforms(size: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(size, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def _normals(size: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(size, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)
