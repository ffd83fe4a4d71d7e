"""Guided paths: exact for affine drifts, Girsanov's divergence, gradients, orders."""

import math

import numpy as np
import pytest
import torch

from sciprob.errors import ConfigError
from sciprob.sde import AffineSDE, DensePathPosterior, MarkovPathPosterior, PathData, markov_noise, rates_for_times
from sciprob.solvers.fbm_vi.control import NetworkShape
from sciprob.solvers.fbm_vi.guide import make_guide
from sciprob.solvers.fbm_vi.linearise import linearise, observable_moments
from sciprob.solvers.fbm_vi.reference import make_reference
from sciprob.solvers.fbm_vi.simulate import Noise, draw_noise, simulate
from sciprob.solvers.fbm_vi.sites import Sites, merge_times

HORIZON = 2.0


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def markov(hurst, kind="I", horizon=HORIZON):
    h = torch.as_tensor(hurst, dtype=torch.float64)
    rates = rates_for_times(horizon=horizon, resolution=0.05, kind=kind)
    return markov_noise(h, rates, horizon=horizon, kind=kind, normalisation="unit")


def seen(step, precision=100.0):
    times, values = real(0.5, 1.3, 2.0), real(0.3, -0.4, 0.6)
    grid, index = merge_times(times, HORIZON, step)
    return times, values, grid, Sites(index, values[:, None], torch.full((3, 1), precision, dtype=torch.float64))


class Constant:
    """The control v, everywhere."""

    def __init__(self, v):
        self.v = v

    def along(self, times):
        return [lambda z: self.v.expand(z.shape[:-1])] * len(times)

    def at_states(self, times, states):
        return self.v.expand(states.shape[:-1])


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("hurst", [0.1, 0.3, 0.7, 0.9])
def test_an_affine_drift_is_exact_in_any_step(hurst, kind):
    """Every path has the weight of the evidence: there is no gap and no variance, even with steps of 0.5."""
    times, values, grid, sites = seen(0.5)
    noise, theta, c = markov(hurst, kind), 1.2, 0.5
    sde = AffineSDE(hurst, theta, c, scale=0.8, initial_mean=0.2, initial_std=0.3, kind=kind)
    exact = MarkovPathPosterior(sde, PathData(times, values, 0.1), noise.rates, horizon=HORIZON)
    drift = lambda t, x: c - theta * x  # noqa: E731

    def reference(found):
        theta, c = (found.reversion, found.intercept) if found else (None, None)
        numbers = {"scale": real(0.8), "initial_mean": real(0.2), "initial_std": real(0.3)}
        return make_reference(noise, grid, reversion=theta, intercept=c, **numbers)

    found = linearise(drift, reference, sites, iterations=2)
    torch.testing.assert_close(found.reversion, real(theta))
    process = reference(found)
    guide = make_guide(process, sites)
    paths = simulate(process, guide, draw_noise(process, 10, source()), drift=drift)
    weights = paths.log_ratio + sites.log_density(paths.x)
    assert float(weights.std()) < 1e-7  # the slope is found to eight digits
    assert float(weights.mean()) == pytest.approx(float(exact.log_evidence), abs=3e-6)
    mean, variance = observable_moments(process, guide)
    exact_mean, exact_std = exact.at(grid)
    torch.testing.assert_close(mean[:, 0], exact_mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(variance[:, 0].sqrt(), exact_std, rtol=0, atol=1e-6)


def test_dimensions_are_independent():
    """Two equations at once have the sum of both evidences, one dimension unseen at one time."""
    times, values, grid, sites = seen(0.25)
    hurst, scale = real(0.3, 0.8), real(0.8, 1.5)
    precision = torch.tensor([[100.0, 25.0], [100.0, 0.0], [100.0, 25.0]], dtype=torch.float64)
    both = Sites(sites.index, torch.stack([values, 2 * values], dim=-1), precision)
    zero = torch.zeros(2, dtype=torch.float64)
    process = make_reference(markov(hurst), grid, scale=scale, initial_mean=zero, initial_std=zero)
    paths = simulate(process, make_guide(process, both), draw_noise(process, 4, source()))
    weights = paths.log_ratio + both.log_density(paths.x)
    keep = torch.tensor([0, 2])
    parts = [(times, values, 0.1), (times[keep], 2 * values[keep], 0.2)]
    total = sum(
        float(MarkovPathPosterior(AffineSDE(hurst[d], scale=scale[d]), PathData(*part), markov(0.5).rates).log_evidence)
        for d, part in enumerate(parts)
    )
    torch.testing.assert_close(weights, torch.full((4,), total, dtype=torch.float64), rtol=0, atol=1e-5)


def brownian_start():
    return {"scale": real(1.0), "initial_mean": real(0.0), "initial_std": real(0.0)}


def test_index_one_half_is_brownian():
    """Evidence and moments of the Ornstein-Uhlenbeck process, from the closed covariance."""
    times, values, grid, sites = seen(0.5)
    dense = DensePathPosterior(AffineSDE(0.5, 0.7), PathData(times, values, 0.1))
    process = make_reference(markov(0.5), grid, reversion=real(0.7), **brownian_start())
    paths = simulate(process, make_guide(process, sites), draw_noise(process, 2, source()))
    weights = paths.log_ratio + sites.log_density(paths.x)
    assert float(weights[0]) == pytest.approx(float(dense.log_evidence), abs=2e-3)  # of the Markov noise


@pytest.mark.parametrize("v", [0.0, 0.7])
def test_divergence_of_a_constant_control(v):
    """From the prior it is v^2 T / 2, Girsanov's; from the posterior the bound is the evidence less the divergence."""
    _, _, grid, sites = seen(0.1)
    process = make_reference(markov(0.3), grid, **brownian_start())
    free = make_guide(process, Sites(sites.index[:0], sites.values[:0], sites.precision[:0]))
    noise = draw_noise(process, 2, source())  # a mirrored pair: terms linear in the noise cancel
    control = Constant(real(v)[:, None])
    divergence = -simulate(process, free, noise, control=control).log_ratio.mean()
    assert float(divergence) == pytest.approx(v**2 * HORIZON / 2, rel=1e-5, abs=1e-12)

    guide = make_guide(process, sites)
    exact, moved = simulate(process, guide, noise), simulate(process, guide, noise, control=control)
    evidence, bound = (float((p.log_ratio + sites.log_density(p.x)).mean()) for p in (exact, moved))
    shift = torch.linalg.solve(guide.spread.mT, v * process.push[..., None])  # in units of the posterior's noise
    assert evidence - bound == pytest.approx(float(shift.square().sum()) / 2, rel=1e-8, abs=1e-9)


def test_gradient_of_the_control_lands():
    """Zero on every path at the posterior; elsewhere that of the divergence, which is quadratic in the control."""
    _, _, grid, sites = seen(0.2)
    process = make_reference(markov(0.7), grid, **brownian_start())
    guide, noise = make_guide(process, sites), draw_noise(process, 2, source())
    rank = process.initial_root.shape[-1]
    for v in (0.0, 0.4):
        control = Constant(torch.full((1, 1), v, dtype=torch.float64, requires_grad=True))
        shift = torch.zeros(1, rank, dtype=torch.float64, requires_grad=True)
        paths = simulate(process, guide, noise, control=control, shift=shift)
        bounds = paths.log_ratio + sites.log_density(paths.x)
        unit = torch.linalg.solve(guide.spread.mT, process.push[..., None]).square().sum()
        if v == 0:
            one, start = torch.autograd.grad(bounds[0], [control.v, shift], retain_graph=True)
            assert float(one.abs()) < 1e-9
            assert float(start.abs().max()) < 1e-9
        (slope,) = torch.autograd.grad(bounds.mean(), control.v)
        assert float(slope) == pytest.approx(-v * float(unit), rel=1e-8, abs=1e-9)


def well(t, x):
    return 1.5 * (x - x**3)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_gradient_in_the_hurst_index(kind):
    """Reparameterised, so equal to differences with the same random numbers; a nonlinear drift and a network."""
    _, _, grid, sites = seen(0.25)
    shape = NetworkShape(1 + len(markov(0.5, kind).rates), 8, HORIZON, real(0.0), real(1.0))
    network = shape.at(shape.start(source()) + 0.1 * torch.randn(shape.count, dtype=torch.float64, generator=source(1)))

    def bound(hurst):
        process = make_reference(markov(hurst, kind), grid, **brownian_start())
        noise = draw_noise(process, 16, source(2))
        paths = simulate(process, make_guide(process, sites), noise, drift=well, control=network)
        return (paths.log_ratio + sites.log_density(paths.x)).mean()

    for h in (0.3, 0.7):
        hurst = torch.tensor(h, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(bound(hurst), hurst)
        with torch.no_grad():
            difference = (bound(h + 1e-5) - bound(h - 1e-5)) / 2e-5
        assert float(slope) == pytest.approx(float(difference), rel=1e-4)


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.8])
def test_strong_order(hurst):
    """Order H + 1/2, the best that values of the noise on a grid allow; by regression, on the same noise."""
    noise, errors = markov(hurst, horizon=1.0), []
    zero = {"scale": real(1.0), "initial_mean": real(0.5), "initial_std": real(0.0)}
    fine = make_reference(noise, torch.linspace(0, 1, 513, dtype=torch.float64), **zero)

    def prior(process):
        none = torch.zeros(0, dtype=torch.float64)
        return make_guide(process, Sites(none.long(), none[:, None], none[:, None]))

    free = simulate(fine, prior(fine), draw_noise(fine, 200, source(3)))
    last = simulate(fine, prior(fine), Noise(draw_noise(fine, 200, source(3)).start, free.noises), drift=well)
    counts = (8, 16, 32, 64)
    for n in counts:
        process = make_reference(noise, torch.linspace(0, 1, n + 1, dtype=torch.float64), **zero)
        states = free.states[:: 512 // n]
        moved = states[1:] - states[:-1] @ process.matrix.mT
        scale = process.root.square().sum(-1).sqrt()[..., None]  # equilibrated: rows differ by orders of magnitude
        e = torch.linalg.lstsq(process.root / scale, moved.mT / scale, driver="gelsd").solution.mT
        start = draw_noise(fine, 200, source(3)).start
        coarse = simulate(process, prior(process), Noise(start, e), drift=well)
        errors.append(float((coarse.x[:, -1] - last.x[:, -1]).square().mean().sqrt()))
    x, y = real(*(math.log(n) for n in counts)), real(*(math.log(e) for e in errors))
    slope = -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    assert slope == pytest.approx(hurst + 0.5, abs=0.2)


def test_steps_of_a_cubic_drift_do_not_explode():
    _, _, grid, sites = seen(0.2)
    start = {"scale": real(1.0), "initial_mean": real(6.0), "initial_std": real(1.0)}
    process = make_reference(markov(0.3), grid, **start)
    paths = simulate(process, make_guide(process, sites), draw_noise(process, 100, source()), drift=well)
    assert float(paths.x.abs().max()) < 12


@pytest.mark.parametrize("paths", [0, 1, 3])
def test_any_number_of_paths(paths):
    _, _, grid, sites = seen(0.5)
    process = make_reference(markov(0.3), grid, **brownian_start())
    drawn = simulate(process, make_guide(process, sites), draw_noise(process, paths, source()), drift=well)
    assert drawn.x.shape == (paths, len(grid), 1)
    assert drawn.log_ratio.shape == (paths,)


def positive_start():
    return {"scale": real(0.6), "initial_mean": real(1.5), "initial_std": real(0.0)}


@pytest.mark.parametrize("hurst", [0.25, 0.7])
def test_multiplicative_noise_obeys_the_chain_rule(hurst):
    """Stratonovich: dx = x o sigma dB has the solution x(0) exp(sigma B), path by path."""
    _, _, grid, sites = seen(0.02)
    process = make_reference(markov(hurst), grid, **positive_start())
    free = make_guide(process, Sites(sites.index[:0], sites.values[:0], sites.precision[:0]))
    noise = draw_noise(process, 50, source())
    plain = simulate(process, free, noise).x
    found = simulate(process, free, noise, diffusion=lambda x: x).x
    error = (found.log() - math.log(1.5) - plain + 1.5).abs()
    # e^d less its Taylor polynomial of degree 4 is about d^5 / 120 in each step
    allowed = plain.diff(dim=1).abs().pow(5).sum(1, keepdim=True) / 60
    assert bool((error <= allowed + 1e-12).all())
    assert float((plain - 1.5).abs().max()) > 1


@pytest.mark.parametrize("hurst", [0.3, 0.7])
def test_evidence_of_multiplicative_noise(hurst):
    """Weights of guided paths against the integral over B(T), which is Gaussian."""
    grid, index = merge_times(real(1.0), HORIZON, 0.05)
    sites = Sites(index, real(2.5)[:, None], real(1 / 0.3**2)[:, None])
    noise = markov(hurst)
    process = make_reference(noise, grid, **positive_start())
    drawn = simulate(process, make_guide(process, sites), draw_noise(process, 4000, source()), diffusion=lambda x: x)
    weights = (drawn.log_ratio + sites.log_density(drawn.x)).double()
    nodes, shares = np.polynomial.hermite_e.hermegauss(80)
    std = 0.6 * float(noise.covariance(real(1.0), real(1.0)).sqrt())
    ends = 1.5 * np.exp(std * nodes)
    density = np.exp(-((2.5 - ends) ** 2) / (2 * 0.09)) / math.sqrt(2 * math.pi * 0.09)
    exact = float((shares * density).sum() / shares.sum())
    ratio = weights.exp() / exact
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / 4000**0.5
    assert float(ratio.std()) < 5


def test_diffusion_and_reversion_are_refused_together():
    _, _, grid, sites = seen(0.5)
    process = make_reference(markov(0.3), grid, reversion=real(1.0), **brownian_start())
    with pytest.raises(ConfigError, match="without reversion"):
        simulate(process, make_guide(process, sites), draw_noise(process, 2, source()), diffusion=lambda x: x)
