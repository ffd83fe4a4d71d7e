r"""State-space forms of Gaussian paths whose noise is a Markov approximation.

The first component is x minus its mean; the others are sqrt(2 gamma_k) y_k, of stationary variance 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.sde.affine import AffineSDE
from sciprob.sde.gaussian_paths import MultifractionalPath
from sciprob.sde.kalman import StateSpace
from sciprob.sde.markov import MarkovNoise, markov_noise
from sciprob.sde.parameters import as_double
from sciprob.sde.transition import transition


def path_states(path: AffineSDE | MultifractionalPath, rates: Tensor, times: Tensor, horizon: float) -> StateSpace:
    """The states of a path at `times (n,)`, increasing from 0 on; see `affine_states`, `multifractional_states`."""
    if isinstance(path, MultifractionalPath):
        return multifractional_states(path, rates, times, horizon)
    return affine_states(path, noise_of(path, rates, horizon), times)


def noise_of(path: AffineSDE, rates: Tensor, horizon: float) -> MarkovNoise:
    """The Markov approximation of the noise of an affine equation."""
    return markov_noise(
        path.parameters["hurst"], rates, horizon=horizon, kind=path.kind, normalisation=path.normalisation
    )


def affine_states(sde: AffineSDE, noise: MarkovNoise, times: Tensor) -> StateSpace:
    """States (x, y) of an affine equation."""
    p = sde.parameters
    steps = torch.cat([times[:1], times.diff()]).double()
    # steps that differ by the rounding of the times share one transition
    keys = (steps / (16 * torch.finfo(torch.float64).eps * noise.horizon)).round()
    _, which = keys.unique(return_inverse=True)
    chosen = torch.zeros(int(which.max()) + 1, dtype=steps.dtype, device=steps.device).scatter(0, which, steps)
    moves = transition(chosen, noise.rates, noise.weights, p["reversion"], p["scale"])
    g = noise.rates
    stationary = 2 * (g[:, None] * g).sqrt() / (g[:, None] + g)
    own = stationary if sde.kind == "I" else torch.zeros_like(stationary)
    start = torch.zeros(len(g) + 1, len(g) + 1, dtype=torch.float64, device=steps.device)
    start[0, 0] = 1.0
    initial = torch.nn.functional.pad(own, (1, 0, 1, 0))
    return StateSpace(moves.matrix, moves.noise, which, initial + p["initial_std"].square()[..., None, None] * start)


def multifractional_states(path: MultifractionalPath, rates: Tensor, times: Tensor, horizon: float) -> StateSpace:
    r"""States (x, x(0), y) of a path in value form, x(t) = x(0) + scale sum_k omega_k(H(t)) y_k(t), y(0) = 0.

    The weights at each time are those of a constant index H(t), since the value at t depends on H(t) alone.
    """
    t = times.double()
    noise = markov_noise(path.hurst(t), rates, horizon=horizon, kind="II", normalisation=path.normalisation)
    g, steps = noise.rates.to(t.device), torch.cat([t[:1], t.diff()])
    scale = as_double(path.scale, t.device)[..., None, None]
    row = scale * noise.weights / (2 * g).sqrt()  # of x in y, (*batch, n, K)
    # (x(0), y) moves by itself, and x is read off after each step
    decay = torch.nn.functional.pad(torch.exp(-g * steps[:, None]), (1, 0), value=1.0)
    total = g[:, None] + g
    spread = 2 * (g[:, None] * g).sqrt() * -torch.expm1(-total * steps[:, None, None]) / total
    spread = torch.nn.functional.pad(spread, (1, 0, 1, 0))
    top = torch.nn.functional.pad(row, (1, 0), value=1.0)[..., None, :]  # (*batch, n, 1, K + 1)
    lift = torch.cat([top, torch.eye(len(g) + 1, dtype=t.dtype, device=t.device).expand(*top.shape[:-2], -1, -1)], -2)
    matrix = torch.nn.functional.pad(lift * decay[:, None, :], (1, 0))
    initial = torch.zeros(len(g) + 2, len(g) + 2, dtype=t.dtype, device=t.device)
    initial[:2, :2] = 1.0
    start = as_double(path.initial_std, t.device).square()[..., None, None] * initial
    which = torch.arange(len(t), device=t.device)
    return StateSpace(matrix, lift @ spread @ lift.mT, which, start)
