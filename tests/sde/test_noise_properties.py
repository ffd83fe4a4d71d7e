"""Properties of fractional noise and its Markov form that hold whatever the code."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sciprob.sde import (
    AffineSDE,
    fbm_covariance,
    geometric_rates,
    markov_noise,
    rates_for_hurst,
    riemann_liouville_covariance,
)
from sciprob.sde.states import affine_states, noise_of


def test_increments_of_type_one_are_stationary():
    """By propagation of the states: Var(x(t + d) - x(t)) is the double sum over rates, at every t."""
    rates, d, steps = geometric_rates(1e-2, 1e2, 5), 0.25, 12
    sde = AffineSDE(0.35, normalisation="gamma")
    noise = noise_of(sde, rates, 3.0)
    model = affine_states(sde, noise, d * torch.arange(1, steps + 1, dtype=torch.float64))
    w, total = noise.weights, rates[:, None] + rates
    decay = torch.exp(-rates * d)
    expected = float((w[:, None] * w * (2 - decay[:, None] - decay) / total).sum())
    p = model.initial
    for i in range(steps):
        f, q = model.matrix[model.which[i]], model.noise[model.which[i]]
        move = f.clone()
        move[0, 0] -= 1  # x(t + d) - x(t) as a function of the state at t
        variance = (move @ p @ move.mT + q)[0, 0]
        assert float(variance) == pytest.approx(expected, rel=1e-10)
        p = f @ p @ f.mT + q


@pytest.mark.parametrize(
    ("kind", "h", "count", "error", "start"),
    [("I", 0.3, 2, 0.169, (0.17, 15.0)), ("II", 0.3, 2, 0.0760, (0.66, 59.0)), ("I", 0.1, 2, 0.467, (2.8, 530.0))],
)
def test_the_best_geometric_grid_errs_at_the_end_as_on_the_path(kind, h, count, error, start):
    def of(ends):
        rates = geometric_rates(math.exp(ends[0]), math.exp(ends[0]) + math.exp(ends[1]), count)
        return markov_noise(h, rates, horizon=1.0, kind=kind, normalisation="unit")

    first = np.log([start[0], start[1] - start[0]])
    best = minimize(
        lambda e: float(of(e).path_error), first, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12}
    )
    noise = of(best.x)
    assert best.fun == pytest.approx(error, abs=6e-4)
    assert float(noise.error(torch.tensor([1.0], dtype=torch.float64))) == pytest.approx(best.fun, rel=1e-4)


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("h", [0.1, 0.3, 0.7])
def test_errors_decay_exponentially_in_the_root_of_the_count(kind, h):
    counts = np.array([4, 6, 9, 13, 18])
    errors = [
        float(
            markov_noise(
                h, rates_for_hurst(h, horizon=1.0, count=k, kind=kind), horizon=1.0, kind=kind, normalisation="unit"
            ).path_error
        )
        for k in counts
    ]
    assert all(b < a for a, b in itertools.pairwise(errors))
    correlation = np.corrcoef(np.sqrt(counts), np.log(errors))[0, 1]
    assert correlation < -0.995


def test_ratio_of_the_variances_of_the_two_types():
    h = torch.tensor([0.05, 0.3, 0.5, 0.7, 0.95], dtype=torch.float64)
    t = torch.tensor([1.7], dtype=torch.float64)
    ratio = riemann_liouville_covariance(t, t, h, normalisation="gamma") / fbm_covariance(
        t, t, h, normalisation="gamma"
    )
    for value, x in zip(ratio.flatten().tolist(), h.tolist(), strict=True):
        v = 1 / (math.gamma(2 * x + 1) * math.sin(math.pi * x))
        assert value == pytest.approx(1 / (2 * x * math.gamma(x + 0.5) ** 2 * v), rel=1e-12)
