"""The published training: it learns fields and parameters, resumes bit for bit, weighs data as told."""

import math
from dataclasses import replace

import pytest
import torch

from sciprob.errors import ConfigError
from sciprob.pde import HardCondition
from sciprob.pde.poisson import Poisson
from sciprob.problems.family import BoxDomain, ParameterBox, ProblemFamily
from sciprob.random import Streams
from sciprob.solvers.rgnp.elbo import FieldRecords
from sciprob.solvers.rgnp.gicnet import GICShape
from sciprob.solvers.rgnp.network import NetworkShape
from sciprob.solvers.rgnp.variational import Variational, VariationalSettings

SETTINGS = VariationalSettings(
    network=NetworkShape(width=16, depth=2, harmonics=1),
    gicnet=GICShape(channels=4, width=16),
    batch=16,
    points=8,
    steps=200,
    rate=3e-2,
    residual_noise=0.1,
)


def family():
    """-u'' = f on (-1, 1), u(-1) = u(1) = 0: u = f (1 - x^2) / 2."""
    return ProblemFamily(
        name="line",
        pde=Poisson("x"),
        domain=BoxDomain(("x",), (-1.0,), (1.0,)),
        unknown=ParameterBox(("forcing",), (0.5,), (2.0,)),
        condition=HardCondition(lambda x, p: {}, lambda x, p: {"u": torch.cos(0.5 * torch.pi * x["x"])}),
    )


def exact(x, z):
    return z * (1 - x[..., 0] ** 2) / 2


def train(settings, steps, records=None, seed=0):
    trainer, streams = Variational(family(), settings), Streams(seed)
    state = trainer.init(streams)
    for _ in range(steps):
        state, figures = trainer.step(state, streams, records)
    return trainer, state, figures


def nse(trainer, state):
    x = torch.linspace(-1, 1, 41, dtype=torch.float64)[:, None]
    z = torch.linspace(0.6, 1.9, 9, dtype=torch.float64)[:, None]
    with torch.no_grad():
        mean = trainer.forward_map(state).field(x, z, z[:, :0]).mean
    truth = exact(x, z)
    return float(((mean - truth).square().sum(-1) / truth.square().sum(-1)).mean())


def test_it_solves_the_equation_and_reads_the_parameter_off_the_field():
    trainer, state, figures = train(replace(SETTINGS, rate=1e-2, steps=300), 300)
    assert nse(*train(SETTINGS, 1)[:2]) > 0.3
    assert nse(trainer, state) < 3e-3
    assert float(figures["residual"]) < 5 * SETTINGS.residual_noise
    x = torch.linspace(-0.9, 0.9, 25, dtype=torch.float64)[:, None]
    z = torch.linspace(0.6, 1.9, 9, dtype=torch.float64)[:, None]
    n = (exact(x, z) / torch.cos(0.5 * torch.pi * x[:, 0])).unsqueeze(-1)
    with torch.no_grad():
        law = trainer.inverse_map(state)(x.expand(9, 25, 1), n, z[:, :0])
    error = (trainer.family.unknown.from_unit(law.mean) - z).abs()
    assert float(error.max()) < 0.3  # prior: 0.43 standard deviation, 0.65 at the ends
    assert float(error.mean()) < 0.12


def test_stopped_and_resumed_it_gives_the_same_numbers():
    trainer, whole, _ = train(SETTINGS, 6)
    streams = Streams(0)
    state = trainer.init(streams)
    for _ in range(3):
        state, _ = trainer.step(state, streams)
    again, states = Variational(family(), SETTINGS), streams.state_dict()
    resumed = Streams(0)
    resumed.load_state_dict(states)
    for _ in range(3):
        state, _ = again.step(state, resumed)
    assert state.step == whole.step == 6
    assert all(torch.equal(state.weights[name], whole.weights[name]) for name in whole.weights)
    assert any(
        not torch.equal(state.weights[name], value) for name, value in train(SETTINGS, 6, seed=1)[1].weights.items()
    )


def test_learnt_noise_follows_the_residuals():
    settings = replace(SETTINGS, learn_noise=True, residual_noise=3.0, train_inverse=False)
    trainer, state, _ = train(settings, 150)
    figures = [float(trainer.step(state, Streams(seed))[1]["residual"]) for seed in range(10)]
    assert float(trainer.eps(state)) < 2.5
    assert float(trainer.eps(state)) == pytest.approx(sum(figures) / 10, rel=0.3)
    fixed, state, _ = train(replace(settings, learn_noise=False), 5)
    assert float(fixed.eps(state)) == pytest.approx(3.0, rel=1e-12)


def test_data_pull_the_field_by_their_weight():
    """Records that contradict the equation, twice its solution: ignored or believed, as the weight says."""
    g = torch.Generator().manual_seed(5)
    z = family().unknown.sample(30, g)
    points = family().domain.sample(30 * 6, g).reshape(30, 6, 1)
    records = FieldRecords(points, 2 * exact(points, z).unsqueeze(-1), z, z[:, :0], 0.02)
    x, middle = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    centres = []
    for weight in (1e-3, 1e3):
        settings = replace(SETTINGS, data_weight=weight, data_batch=10, train_inverse=False)
        trainer, state, figures = train(settings, 100, records)
        centres.append(float(trainer.forward_map(state).field(x, middle, middle[:0]).mean.detach()))
        assert math.isfinite(float(figures["data"]))
    assert centres[0] == pytest.approx(0.5, abs=0.15)
    assert centres[1] == pytest.approx(1.0, abs=0.15)


def test_the_rate_is_halved_in_stairs():
    trainer = Variational(family(), replace(SETTINGS, steps=60, halvings=5))
    state = trainer.init(Streams(0))
    ones = {name: torch.ones_like(value) for name, value in state.weights.items()}
    moves = []
    for _ in range(60):
        new = trainer._adam(state, ones)
        moves.append(float(state.weights["raw_noise"] - new.weights["raw_noise"]))
        state = new
    for i, move in enumerate(moves):
        assert move == pytest.approx(SETTINGS.rate * 0.5 ** (i // 10), rel=1e-6), i


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="`batch`"):
        replace(SETTINGS, batch=0)
    with pytest.raises(ConfigError, match="positive"):
        replace(SETTINGS, residual_noise=0.0)
    trainer, state, _ = train(replace(SETTINGS, train_inverse=False), 1)
    with pytest.raises(ConfigError, match="no inverse map"):
        trainer.inverse_map(state)
