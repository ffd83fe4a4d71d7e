r"""Affine drift and fractional noise: the exact Gaussian process, and its Markov form.

dx = (c - theta x) dt + sigma dB, x(0) ~ N(m_0, P_0) independent of B. Level plus noise is theta = 0, a bridge is an
observation at the end, the fractional Ornstein-Uhlenbeck process is theta > 0.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.sde.covariance import fbm_covariance, riemann_liouville_covariance
from sciprob.sde.fractional_ou import fou_covariance
from sciprob.sde.parameters import Kind, Normalisation, as_double, check_hurst, check_times, variance_at_one
from sciprob.sde.special import exponential_moments
from sciprob.spaces.shapes import broadcast_shapes


@dataclass(frozen=True)
class AffineSDE:
    """dx = (intercept - reversion x) dt + scale dB_H, x(0) ~ N(initial_mean, initial_std^2).

    All numbers are tensors (or floats) whose shapes broadcast to the batch, and all may carry gradients.

    Args:
        hurst: H in (0, 1).
        reversion: theta, 1 / time; 0 for none.
        intercept: c, so that x tends to c / theta.
        scale: sigma.
        initial_mean: m_0.
        initial_std: Root of P_0; 0 for a known start.
        kind: "I" (noise with a past, stationary increments) or "II" (Riemann-Liouville).
        normalisation: Of B, "unit" or "gamma".

    Raises:
        ConfigError: If H leaves (0, 1), or for an unknown kind or normalisation.
    """

    hurst: Tensor | float
    reversion: Tensor | float = 0.0
    intercept: Tensor | float = 0.0
    scale: Tensor | float = 1.0
    initial_mean: Tensor | float = 0.0
    initial_std: Tensor | float = 0.0
    kind: Kind = "I"
    normalisation: Normalisation = "unit"

    def __post_init__(self) -> None:
        variance_at_one(check_hurst(self.hurst), kind=self.kind, normalisation=self.normalisation)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The numbers by name, float64, on the device of those that are tensors."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("kind", "normalisation")}
        device = next((value.device for value in given.values() if isinstance(value, Tensor)), None)
        return {name: as_double(value, device) for name, value in given.items()}

    @property
    def batch_shape(self) -> torch.Size:
        """Common shape of the numbers."""
        return broadcast_shapes(*(value.shape for value in self.parameters.values()))

    def mean(self, times: Tensor) -> Tensor:
        """Prior mean e^{-theta t} m_0 + c (1 - e^{-theta t}) / theta, `(*batch, n)`, float64."""
        p, t = self.parameters, check_times(times)
        theta = p["reversion"][..., None]
        start = torch.exp(-theta * t) * p["initial_mean"][..., None]
        return start + p["intercept"][..., None] * exponential_moments(0, theta, t)

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        """Prior covariance without approximation, `(*batch, n, m)`, float64.

        Raises:
            UnsupportedProblemError: For type II with reversion, or a negative one, where no closed form is known
                here (the Markov form has no such limit).
        """
        p = self.parameters
        s, t = check_times(s), check_times(t)
        theta = p["reversion"]
        decay = torch.exp(-theta[..., None, None] * (s[:, None] + t))
        start = p["initial_std"][..., None, None].square() * decay
        return p["scale"][..., None, None].square() * self._noise_covariance(s, t, p["hurst"], theta) + start

    def _noise_covariance(self, s: Tensor, t: Tensor, hurst: Tensor, theta: Tensor) -> Tensor:
        if not bool((theta != 0).any()) and not theta.requires_grad:
            kernel = fbm_covariance if self.kind == "I" else riemann_liouville_covariance
            return kernel(s, t, hurst, normalisation=self.normalisation)
        if self.kind == "II" or not bool((theta > 0).all()):
            message = (
                f"an exact covariance needs reversion 0, or type I and reversion > 0, got type {self.kind} and "
                f"{theta.flatten().tolist()[:3]}; use the Markov form."
            )
            raise UnsupportedProblemError(message)
        scale = variance_at_one(hurst, kind="I", normalisation=self.normalisation)
        return scale[..., None, None] * fou_covariance(s, t, hurst, theta)
