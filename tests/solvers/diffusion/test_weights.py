"""The identities behind the weights: Feynman-Kac rates, twists and their derivatives, resampling."""

import math

import pytest
import torch

from sciprob.errors import NonFiniteError
from sciprob.operators import DenseMap
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.mixture import MixtureDenoiser
from sciprob.solvers.diffusion.kappa import adaptive_kappa, rates
from sciprob.solvers.diffusion.level_step import advance
from sciprob.solvers.diffusion.linear_algebra import linear_data
from sciprob.solvers.diffusion.moves import ContinuousMove, FlowMove
from sciprob.solvers.diffusion.particles import Particles, resample
from sciprob.solvers.diffusion.resampling import effective_size, log_mean_exp, systematic_indices, take
from sciprob.solvers.diffusion.spectrum_surrogate import SpectrumSurrogate
from sciprob.solvers.diffusion.surrogate import IsotropicSurrogate
from sciprob.solvers.diffusion.twists import SurrogateTwist

D, M = 3, 2


def normal(g, *shape):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def covariance(g, d=D):
    root = normal(g, d, d) / 2
    return root @ root.T + 0.05 * torch.eye(d, dtype=torch.float64)


@pytest.fixture
def setting():
    g = torch.Generator().manual_seed(0)
    covariances = torch.stack([covariance(g) for _ in range(4)])
    denoiser = MixtureDenoiser(torch.tensor([0.4, 0.3, 0.2, 0.1]), 2 * normal(g, 4, D), covariances)
    matrix, target = normal(g, M, D), normal(g, M)
    return denoiser, matrix, target, covariance(g), normal(g, D), g


def surrogate_phi(z, v, matrix, target, centre, c):
    """-log N(b; A mu_v(z), I + A G_v A^T) without 2 pi, written out with dense matrices; c None is flat."""
    eye = torch.eye(D, dtype=torch.float64)
    filtered = eye if c is None else c @ torch.linalg.inv(c + v * eye)
    spread = v * filtered
    s = torch.eye(M, dtype=torch.float64) + matrix @ spread @ matrix.T
    r = matrix @ (centre + filtered @ (z - centre)) - target
    return (r @ torch.linalg.solve(s, r) + torch.logdet(s)) / 2


def derivatives(f, z, v):
    """Value, gradient, Laplacian and slope in v of f(z, v)."""
    variance = torch.tensor(v, dtype=torch.float64)
    gradient = torch.func.grad(f)(z, variance)
    laplacian = torch.trace(torch.func.hessian(f)(z, variance))
    return f(z, variance), gradient, laplacian, torch.func.grad(f, argnums=1)(z, variance)


@pytest.mark.parametrize("kind", ["flat", "isotropic", "full"])
def test_derivatives_of_twists_are_those_of_autodiff(setting, kind):
    _, matrix, target, c, centre, g = setting
    data = linear_data(DenseMap(matrix), target)
    eye = torch.eye(D, dtype=torch.float64)
    if kind == "full":
        surrogate = SpectrumSurrogate(data, centre, GaussianDenoiser.of_covariance(c).spectrum)
    else:
        c = None if kind == "flat" else 0.7 * eye
        surrogate = IsotropicSurrogate(data, centre, math.inf if kind == "flat" else 0.7)
    twist = SurrogateTwist(surrogate)
    for v in (0.3, 4.0):
        z = normal(g, 5, D)
        values = twist.at(z, v)
        for i in range(5):
            value, gradient, laplacian, slope = derivatives(
                lambda x, u: surrogate_phi(x, u, matrix, target, centre, c), z[i], v
            )
            assert values.value[i] == pytest.approx(float(value), rel=1e-11)
            assert torch.allclose(values.gradient[i], gradient, rtol=1e-10, atol=1e-11)
            assert values.laplacian == pytest.approx(float(laplacian), rel=1e-10)
            assert values.slope[i] == pytest.approx(float(slope), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0, 1.4])
@pytest.mark.parametrize("nonlinear", [False, True])
def test_weighted_particles_obey_the_tilted_fokker_planck_equation(setting, kappa, nonlinear):
    # d_tau q = -div(b q) + lap q / 2 + g q for q = p_v exp(-phi), b = S - kappa grad phi, tau = -v, divided by q
    denoiser, matrix, target, c, centre, g = setting

    def phi(z, v):
        if nonlinear:
            return ((matrix @ z.sin() - target).square().sum() + z.square().prod()) / (2 + v + v * v)
        return surrogate_phi(z, v, matrix, target, centre, c)

    def log_p(z, v):
        return denoiser.log_prob(z, v.sqrt())

    for v in (0.2, 3.0):
        variance, z = torch.tensor(v, dtype=torch.float64), 2 * normal(g, D)
        _, score, p_laplacian, p_slope = derivatives(log_p, z, v)
        _, gradient, laplacian, slope = derivatives(phi, z, v)
        assert torch.allclose(score, denoiser.score(z, math.sqrt(v)), rtol=1e-9, atol=1e-9)
        fixed, part = rates(score @ gradient, gradient @ gradient, laplacian, slope)
        drift = score - kappa * gradient
        flux = p_laplacian - kappa * laplacian + drift @ (score - gradient)
        curvature = p_laplacian - laplacian + (score - gradient).square().sum()
        terms = torch.stack([-(p_slope - slope), flux, -curvature / 2, -(fixed + kappa * part)])
        assert float(terms.sum().abs()) < 1e-10 * float(terms.abs().max())
        assert variance == v


def test_half_kappa_weighs_like_the_probability_flow(setting):
    # at kappa 1/2 the rate is -d phi / d tau along the flow, whatever noise the particles get
    denoiser, matrix, target, c, centre, g = setting
    surrogate = SpectrumSurrogate(
        linear_data(DenseMap(matrix), target), centre, GaussianDenoiser.of_covariance(c).spectrum
    )
    twist, v = SurrogateTwist(surrogate), 1.7
    particles = Particles.first(2 * normal(g, 6, D), torch.zeros(()), v)
    half = ContinuousMove(denoiser, twist, 0.5).prepare(particles)
    general = ContinuousMove(denoiser, twist, 0.5 + 1e-12).prepare(particles)
    step = 1e-5
    flow = FlowMove(denoiser, twist, 1).prepare(particles)
    ahead, back = flow.increment(v - step) / step, flow.increment(v + step) / -step
    assert torch.allclose(half.increment(v - 1), general.increment(v - 1), rtol=1e-9)
    assert torch.allclose(half.increment(v - 1), (ahead + back) / 2, rtol=1e-6)


def test_adaptive_kappa_minimises_the_variance_of_the_rate():
    g = torch.Generator().manual_seed(1)
    log_weights, fixed = normal(g, 2, 50), normal(g, 2, 50)
    slope = -fixed + 0.5 * normal(g, 2, 50)
    kappa = adaptive_kappa(log_weights, fixed, slope)

    def variance(k):
        w, rate = log_weights.softmax(-1), fixed + k * slope
        return (w * (rate - (w * rate).sum(-1, keepdim=True)).square()).sum(-1)

    assert bool((variance(kappa) < variance(kappa + 0.01)).all() and (variance(kappa) < variance(kappa - 0.01)).all())
    assert torch.equal(adaptive_kappa(log_weights, fixed, torch.ones_like(fixed)), torch.ones(2, 1).double())
    order = torch.randperm(50, generator=g)
    permuted = adaptive_kappa(log_weights[:, order], fixed[:, order], slope[:, order])
    assert torch.allclose(permuted, kappa, rtol=1e-12)


def test_resampling_is_unbiased_and_systematic():
    g = torch.Generator().manual_seed(2)
    log_weights = normal(g, 12) * 1.5
    log_weights[3] = -math.inf
    w = log_weights.softmax(0)
    trials = 10_000
    indices = systematic_indices(log_weights.expand(trials, 12), g)
    counts = torch.zeros(trials, 12, dtype=torch.float64).scatter_add_(1, indices, torch.ones(trials, 12).double())
    assert bool(((counts - 12 * w).abs() < 1).all())  # each n w times, rounded up or down
    assert int(counts[:, 3].sum()) == 0
    error = counts.std(0) / math.sqrt(trials)
    assert bool(((counts.mean(0) - 12 * w).abs() < 4 * error + 1e-12).all())


def test_resampling_carries_the_evidence_and_touches_poor_sets_only():
    g = torch.Generator().manual_seed(3)
    log_weights = torch.stack([5 * normal(g, 40), 0.01 * normal(g, 40)])
    z = normal(g, 2, 40, D)
    particles = Particles(z, log_weights, torch.tensor([1.0, 2.0]).double(), torch.arange(40).expand(2, 40), 1.0)
    chosen, happened = resample(particles, 0.5, g)
    assert happened
    assert torch.allclose(chosen.evidence, particles.evidence)
    assert torch.equal(chosen.z[1], z[1])
    assert torch.equal(chosen.log_weights[1], log_weights[1])
    assert torch.equal(chosen.z[0], z[0][chosen.ancestors[0]])
    assert bool((chosen.log_weights[0] == 0).all())
    assert torch.equal(take(z, chosen.ancestors), chosen.z)


def test_effective_sizes():
    equal = torch.zeros(7, dtype=torch.float64)
    assert float(effective_size(equal)) == pytest.approx(7)
    one = torch.full((7,), -math.inf, dtype=torch.float64)
    assert float(effective_size(one)) == 0
    assert float(log_mean_exp(one)) == -math.inf
    one[2] = 700.0
    assert float(effective_size(one)) == pytest.approx(1)
    assert float(log_mean_exp(one)) == pytest.approx(700 - math.log(7))


class Jump:
    """A move to given places with given weights."""

    kappa = None

    def __init__(self, z, increments):
        self.z, self.increments = z, increments

    def prepare(self, particles):
        return self

    def move(self, after, generator):
        return self.z, self.increments, None


def test_a_particle_that_is_no_number_loses_its_weight_and_does_not_reach_the_network():
    g = torch.Generator().manual_seed(4)
    z, increments = normal(g, 2, 5, D), normal(g, 2, 5)
    broken, weights = z.clone(), increments.clone()
    broken[0, 1, 2], broken[1, 0, 0], weights[0, 3], weights[1, 4] = math.inf, math.nan, math.nan, -math.inf
    zeroed = torch.tensor([[False, True, False, True, False], [True, False, False, False, False]])
    dead = zeroed | (weights == -math.inf)
    particles = Particles.first(z, torch.zeros(2), 1.0)
    moved, figures = advance(particles, Jump(broken, weights), lambda *_: 0.25, g)
    assert torch.equal(moved.log_weights, torch.where(dead, -math.inf, increments))
    assert torch.equal(moved.z, torch.where(zeroed[..., None], 0.0, z))
    assert figures.level_ess == pytest.approx(float(effective_size(moved.log_weights).min()) / 5)
    weights[1] = math.nan
    with pytest.raises(NonFiniteError, match=r"no particle is left at noise level 0.5"):
        advance(particles, Jump(broken, weights), lambda *_: 0.25, g)
