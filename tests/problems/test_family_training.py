"""Every family trains, and its map can be asked: also one without known parameters."""

from __future__ import annotations

import pytest
import torch

import sciprob
from sciprob.solvers.rgnp.gauss_newton import GaussNewton
from sciprob.solvers.rgnp.network import NetworkShape
from sciprob.solvers.rgnp.solver import RandomGridNeuralProcess


@pytest.mark.parametrize("name", ["poisson-family", "burgers-family", "cavity-family", "disk-family"])
def test_a_few_steps_reduce_the_residual(name: str) -> None:
    family = sciprob.load_family(name)
    solver = RandomGridNeuralProcess(
        network=NetworkShape(12, 2),
        gauss_newton=GaussNewton(points=100, steps=30, warmup=5, resampled=0.0),
        laplace_residuals=50,
        calibration_cases=0,
    )
    residuals: list[float] = []
    amortised = sciprob.fit(
        family,
        solver,
        progress=False,
        device="cpu",
        callbacks=[lambda _step, _state, info: residuals.append(info["residual"])],
    )
    assert sum(residuals[-3:]) / 3 < 0.7 * residuals[0]
    g = torch.Generator().manual_seed(0)
    z, w, x = family.unknown.sample(3, g), family.known.sample(3, g), family.domain.sample(5, g)
    means = amortised.mean(z, w, x)
    assert means.shape == (3, 5, family.n_fields)
    assert torch.allclose(amortised.predict(z[1], w[1], x).mean, means[1], atol=1e-12)
    assert amortised.mean(z[:0], w[:0], x).shape == (0, 5, family.n_fields)
