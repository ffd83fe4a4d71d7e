r"""Markov approximation of fractional noise: a weighted sum of Ornstein-Uhlenbeck processes of one Brownian motion.

dy_k = -gamma_k y_k dt + dW, Bhat(t) = sum_k omega_k (y_k(t) - y_k(0)); y(0) stationary for type I, zero for type II.
The weights minimise J = int_0^T E (B - Bhat)^2 dt = omega^T A omega - 2 b^T omega + c. Sources: Carmona and Coutin,
Electron. Commun. Probab. 3 (1998); Daems, Opper, Crevecoeur and Birdal, ICLR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.sde.covariance import power
from sciprob.sde.markov_integrals import cross_variance, gram_matrix, target_vector
from sciprob.sde.parameters import Kind, Normalisation, check_hurst, check_times, gamma_variance, variance_at_one


@dataclass(frozen=True)
class MarkovNoise:
    """A Markov approximation of fractional noise; made by `markov_noise`.

    Attributes:
        rates: gamma `(K,)`, float64.
        weights: omega `(*batch, K)`, float64, differentiable in H.
        hurst: H `(*batch,)`, float64.
        horizon: T; the weights are the best on [0, T].
        kind: "I" or "II".
        normalisation: "unit" or "gamma".
        path_error: sqrt(J / int_0^T E B^2 dt), `(*batch,)`: what the approximation misses, relative.
    """

    rates: Tensor
    weights: Tensor
    hurst: Tensor
    horizon: float
    kind: Kind
    normalisation: Normalisation
    path_error: Tensor

    def error(self, times: Tensor) -> Tensor:
        """Root mean square of B - Bhat at `times` relative to the deviation of B, `(*batch, n)`; times > 0."""
        t = check_times(times)
        cross = cross_variance(self.rates, t, self.hurst, self.kind) * self._scale()[..., None, None]
        exact = variance_at_one(self.hurst, kind=self.kind, normalisation=self.normalisation)
        exact = exact[..., None] * power(t, 2 * self.hurst[..., None])
        approximate = self.covariance(t, t).diagonal(dim1=-2, dim2=-1)
        square = exact - 2 * (cross * self.weights[..., None, :]).sum(-1) + approximate
        return (square.clamp_min(0) / exact).sqrt()

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        """Covariance of Bhat, `(*batch, n, m)`, float64; for type I its increments are exactly stationary."""
        s, t = check_times(s)[:, None], check_times(t)[None, :]
        if self.kind == "I":
            return (self._variogram(s) + self._variogram(t) - self._variogram((t - s).abs())) / 2
        total = self.rates[:, None] + self.rates
        early, gap = torch.minimum(s, t), (t - s).abs()
        value = torch.zeros((*self.weights.shape[:-1], *gap.shape), dtype=torch.float64, device=gap.device)
        for k, rate in enumerate(self.rates):  # a loop, since pairs of times are many
            grown = -torch.expm1(-total[k] * early[..., None]) / total[k]
            along = (grown * self.weights[..., None, None, :]).sum(-1)
            value = value + self.weights[..., k, None, None] * along * torch.exp(-rate * gap)
        return value

    def _variogram(self, gap: Tensor) -> Tensor:
        """E (Bhat(t + gap) - Bhat(t))^2 of type I: sum_ij w_i w_j (2 - e^{-g_i gap} - e^{-g_j gap}) / (g_i + g_j)."""
        total = self.rates[:, None] + self.rates
        shares = self.weights * (self.weights[..., None, :] / total).sum(-1)
        return -2 * (shares[..., None, None, :] * torch.expm1(-self.rates * gap[..., None])).sum(-1)

    def _scale(self) -> Tensor:
        """Deviation over that of the gamma normalisation."""
        exact = variance_at_one(self.hurst, kind=self.kind, normalisation=self.normalisation)
        return (exact / gamma_variance(self.hurst, self.kind)).sqrt()


def markov_noise(
    hurst: Tensor | float, rates: Tensor, *, horizon: float, kind: Kind, normalisation: Normalisation
) -> MarkovNoise:
    r"""Fractional noise with the L2-optimal weights for given rates.

    Solved at T = 1 in float64 (weights scale as T^{H - 1/2}), after equilibration, by Cholesky with a jitter of
    1e-13 of the trace: the Ornstein-Uhlenbeck processes are nearly collinear, so the weights of a dense grid
    are not unique to working precision, though the process is. Differentiable in H, for any gamma T.

    Args:
        hurst: H in (0, 1), `(*batch,)`.
        rates: gamma `(K,)`, positive and increasing; see `rates_for_times`.
        horizon: T.
        kind: "I" (stationary increments) or "II" (Riemann-Liouville).
        normalisation: "unit" or "gamma", as in `fbm_covariance` and `riemann_liouville_covariance`.

    Raises:
        ConfigError: If H leaves (0, 1), or rates or horizon are not positive.
    """
    h = check_hurst(hurst)
    rates = torch.as_tensor(rates).to(h.device).double().detach()
    increasing = rates.ndim == 1 and len(rates) > 0 and bool((rates[0] > 0) & (rates.diff() > 0).all())
    if not increasing or not bool(rates.isfinite().all()) or not 0 < horizon < float("inf"):
        message = f"rates should increase from above 0, with a positive horizon, got {rates.tolist()} and {horizon:g}."
        raise ConfigError(message)
    scale = variance_at_one(h, kind=kind, normalisation=normalisation) / gamma_variance(h, kind)
    z = rates * horizon
    a, b = gram_matrix(z, kind), target_vector(z, h, kind)
    weights = _solve(a, b)
    c = gamma_variance(h, kind) / (2 * h + 1)
    excess = (weights * ((a @ weights[..., None]).squeeze(-1) - 2 * b)).sum(-1)
    path_error = ((c + excess).clamp_min(0) / c).detach().sqrt()
    weights = weights * (scale.sqrt() * horizon ** (h - 0.5))[..., None]
    return MarkovNoise(rates, weights, h, float(horizon), kind, normalisation, path_error)


def _solve(a: Tensor, b: Tensor) -> Tensor:
    """A^{-1} b, equilibrated, with jitter and two refinements of the residual."""
    root = a.diagonal().sqrt()
    scaled = a / (root[:, None] * root)
    jitter = 1e-13 * torch.eye(len(a), dtype=a.dtype, device=a.device)
    factor = torch.linalg.cholesky(scaled + jitter)
    right = (b / root)[..., None]
    x = torch.cholesky_solve(right, factor)
    for _ in range(2):
        x = x + torch.cholesky_solve(right - scaled @ x, factor)
    return x.squeeze(-1) / root
