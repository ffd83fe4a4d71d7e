"""Exponential integrators and Heun: orders, exactness, schedules, call counts, laws of the SDE, W2 on Gaussians."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from sciprob.errors import ConfigError
from sciprob.operators.linear import DiagonalMap
from sciprob.priors.diffusion import sampler as sampler_module
from sciprob.priors.diffusion.conversions import PathDenoiser, convert
from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.priors.diffusion.exponential import data_integrals, derivative_weights, noise_integrals, phi
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.heun import HeunSampler
from sciprob.priors.diffusion.levels import karras_levels, log_snr_levels
from sciprob.priors.diffusion.mixture import MixtureDenoiser
from sciprob.priors.diffusion.path import OptimalTransport, Path, VariancePreserving
from sciprob.priors.diffusion.presets import PRESETS, make_sampler
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.priors.diffusion.sampler import MultistepSampler, SinglestepSampler, fast_orders
from sciprob.spaces import Space

SAMPLERS = {
    "ddim": (MultistepSampler(1), 1),
    "2m": (MultistepSampler(2), 2),
    "2m-taylor": (MultistepSampler(2, midpoint=False), 2),
    "3m": (MultistepSampler(3), 3),
    "2s": (SinglestepSampler(2, "data"), 2),
    "3s": (SinglestepSampler(3, "data"), 3),
    "noise-1": (MultistepSampler(1, "noise"), 1),
    "noise-2m": (MultistepSampler(2, "noise"), 2),
    "noise-3m": (MultistepSampler(3, "noise"), 3),
    "noise-2s": (SinglestepSampler(2, "noise"), 2),
    "noise-3s": (SinglestepSampler(3, "noise"), 3),
    "heun": (HeunSampler(), 2),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ellipse(angle: float, first: float, second: float) -> torch.Tensor:
    rotation = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    return (rotation * torch.tensor([first, second], dtype=torch.float64)) @ rotation.T


@pytest.fixture(scope="module")
def mixture() -> MixtureDenoiser:
    means = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [-0.5, -2.0]], dtype=torch.float64)
    covariances = torch.stack([ellipse(0.3, 0.25, 0.04), ellipse(1.2, 0.16, 0.09), ellipse(-0.5, 0.36, 0.01)])
    return MixtureDenoiser(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), means, covariances)


@pytest.fixture(scope="module")
def flow(mixture: MixtureDenoiser) -> tuple[torch.Tensor, torch.Tensor]:
    """Starts at level 20 and where scipy's DOP853 carries them at level 0.02."""
    start = 20 * torch.randn(64, 2, generator=seeded(), dtype=torch.float64)

    def velocity(place: float, flat: np.ndarray) -> np.ndarray:
        z = torch.from_numpy(flat.reshape(64, 2))
        return (mixture(z, math.exp(-place)) - z).numpy().ravel()

    span = (-math.log(20), -math.log(0.02))
    solution = solve_ivp(velocity, span, start.numpy().ravel(), method="DOP853", rtol=1e-12, atol=1e-13)
    return start, torch.from_numpy(solution.y[:, -1].reshape(64, 2))


@pytest.mark.parametrize("name", SAMPLERS)
def test_order_of_convergence(name: str, mixture: MixtureDenoiser, flow: tuple[torch.Tensor, torch.Tensor]) -> None:
    method, order = SAMPLERS[name]
    start, end = flow
    grid = karras_levels if name == "heun" else log_snr_levels
    errors = []
    for steps in (160, 640):
        reached = method.run(mixture, start, grid(steps + 1, 20, 0.02)[:-1])
        errors.append(float((reached - end).square().mean().sqrt()))
    assert abs(math.log2(errors[0] / errors[1]) / 2 - order) < 0.15, errors


def test_phi_functions_and_their_integrals() -> None:
    x = torch.tensor([-40.0, -3.0, -1.0001, -0.9999, -0.3, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 0.5, 0.9999, 1.0001, 5.0])
    x = x.to(torch.float64)
    for k in (1, 2, 3):
        for value, at in zip(phi(k, x), x.tolist(), strict=True):
            # phi_k(x) = int_0^1 e^{(1 - s) x} s^{k-1} / (k-1)! ds
            exact = quad(lambda s, a=at, n=k: math.exp((1 - s) * a) * s ** (n - 1) / math.factorial(n - 1), 0, 1)[0]
            assert abs(float(value) / exact - 1) < 2e-14, (k, at)
    for h in (1e-6, 0.3, 4.0):
        step = torch.tensor(h, dtype=torch.float64)
        for rate in (1.0, 1.7):
            e = [float(value) for value in data_integrals(step, rate, 3)]
            assert abs(e[0] / -math.expm1(-rate * h) - 1) < 1e-14
            if h > 0.1:
                assert abs(e[1] - (h - e[0] / rate)) < 1e-14 * h
                assert abs(e[2] - (h**2 / 2 - e[1] / rate)) < 1e-14 * h**2
        g = [float(value) for value in noise_integrals(step, 3)]
        exact = quad(lambda u, s=h: math.exp(s - u) * u**2 / 2, 0, h, epsrel=1e-13)[0]
        assert abs(g[2] / exact - 1) < 1e-12


def test_derivative_weights_are_exact_on_polynomials() -> None:
    nodes = [0.7, 0.2, -1.1]
    for count in (1, 2, 3):
        weights = derivative_weights(nodes[:count])
        for power in range(count):
            for n in range(count):
                value = sum(w * x**power for w, x in zip(weights[n], nodes[:count], strict=True))
                falling = math.prod(range(power - n + 1, power + 1)) if n <= power else 0
                assert abs(value - falling * nodes[0] ** max(power - n, 0)) < 1e-13


@pytest.mark.parametrize("levels", [log_snr_levels(7, 30.0, 0.01), karras_levels(7, 30.0, 0.01)[:-1]])
def test_first_order_forms_are_ddim(mixture: MixtureDenoiser, levels: torch.Tensor) -> None:
    z = 30 * torch.randn(9, 2, generator=seeded(3), dtype=torch.float64)
    by_hand = z
    for start, end in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        denoised = mixture(by_hand, start)
        by_hand = denoised + end / start * (by_hand - denoised)
    for form in ("data", "noise"):
        for method in (MultistepSampler(1, form), SinglestepSampler(1, form)):
            assert torch.allclose(method.run(mixture, z, levels), by_hand, atol=1e-13)


@pytest.mark.parametrize("name", SAMPLERS)
def test_point_mass_is_reached_and_straight_noise_is_followed(name: str) -> None:
    method, _ = SAMPLERS[name]
    target = torch.tensor([0.3, -2.0], dtype=torch.float64)
    z = 10 * torch.randn(5, 2, generator=seeded(), dtype=torch.float64)
    noise_form = "noise" in name
    one_step, several = torch.tensor([10.0, 0.1]), log_snr_levels(4, 10.0, 0.1)[:-1]
    for levels in (one_step, several):
        if not noise_form:  # D constant: z - D shrinks with sigma
            end = method.run(lambda x, s: target.expand_as(x), z, levels)
            assert torch.allclose(end, target + 0.1 / 10 * (z - target), atol=1e-12)
        if noise_form or name == "heun":  # noise constant: z moves on a straight line in sigma
            end = method.run(lambda x, s: x - s * target, z, levels)
            assert torch.allclose(end, z + (levels[-1] - levels[0]).double() * target, atol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_schedule_invariance(name: str, mixture: MixtureDenoiser) -> None:
    """Networks trained along VP and straight paths are stepped through the same z."""
    method, _ = SAMPLERS[name]
    levels, z = log_snr_levels(12, 20.0, 0.02), 20 * torch.randn(6, 2, generator=seeded(), dtype=torch.float64)
    straight = method.run(mixture, z, levels)
    for path in (VariancePreserving(), OptimalTransport()):
        along = PathDenoiser(mixture.space, _network(mixture, path), path, "velocity")
        assert (method.run(along, z, levels) - straight).abs().max() < 1e-12 * straight.abs().max()


def _network(mixture: MixtureDenoiser, path: Path):
    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        time = t[:, None]
        data = mixture(x / path.alpha(time), path.sigma(t))
        return convert(data, x, time, path, "data", "velocity")

    return network


def test_shift_and_rotation_equivariance(mixture: MixtureDenoiser) -> None:
    shift = torch.tensor([3.0, -5.0], dtype=torch.float64)
    rotation = ellipse(0.7, 1.0, 1.0) @ torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    levels, z = log_snr_levels(9, 20.0, 0.02), 20 * torch.randn(6, 2, generator=seeded(), dtype=torch.float64)
    for method, _ in SAMPLERS.values():
        plain = method.run(mixture, z, levels)
        moved = method.run(
            lambda x, s: mixture((x - shift) @ rotation, s) @ rotation.T + shift, z @ rotation.T + shift, levels
        )
        assert torch.allclose(moved, plain @ rotation.T + shift, atol=1e-11)


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_are_counted_as_advertised(name: str, mixture: MixtureDenoiser) -> None:
    method, order = SAMPLERS[name]
    per_step = order if isinstance(method, SinglestepSampler) else 2 if name == "heun" else 1
    z = torch.randn(3, 2, generator=seeded(), dtype=torch.float64)
    for levels, expected in (
        (log_snr_levels(6, 9.0, 0.1), 5 * per_step + 1),
        (log_snr_levels(6, 9.0, 0.1)[:-1], 5 * per_step),
    ):
        before, members = mixture.calls, mixture.evaluations
        method.run(mixture, z, levels)
        assert mixture.calls - before == method.calls(levels) == expected
        assert mixture.evaluations - members == 3 * expected


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5, 6, 7, 20])
def test_presets_keep_to_their_calls(calls: int, mixture: MixtureDenoiser) -> None:
    z = 20 * torch.randn(4, 2, generator=seeded(), dtype=torch.float64)
    for name in PRESETS:
        method, levels = make_sampler(name, calls, 20.0, 0.02)
        before = mixture.calls
        method.run(mixture, z, levels)
        expected = calls - (calls % 2 == 0) if name == "edm-heun" else calls
        assert mixture.calls - before == method.calls(levels) == expected
        assert float(levels[-1]) == 0
    assert sum(fast_orders(calls)) == calls


# Laws on Gaussian data: a sampler is linear there, so that its law follows from unit impulses, without Monte Carlo.


def final_variance(method: MultistepSampler, steps: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Variance at sigma 0.02 of data with variance 1/4, started from the exact law at sigma 20."""
    denoiser = GaussianDenoiser.of_covariance(torch.tensor([[0.25]], dtype=torch.float64))
    count = 0

    def impulse(shape: tuple[int, ...], like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        nonlocal count
        count += 1
        noise = like.new_zeros(shape)
        noise[count] = 1
        return noise

    monkeypatch.setattr(sampler_module, "randn", impulse)
    start = torch.zeros(steps + 1, 1, dtype=torch.float64)
    start[0] = math.sqrt(0.25 + 400)
    end = method.run(denoiser, start, log_snr_levels(steps + 1, 20, 0.02)[:-1], seeded())
    return float(end.square().sum())


EXACT = 0.25 + 0.02**2


def test_variance_errors_of_the_sde(monkeypatch: pytest.MonkeyPatch) -> None:
    """First-order ancestral and second-order multistep; the numbers come from an independent implementation."""
    for method, order, expected in (
        (MultistepSampler(1, eta=1.0), 1, (-0.458, -0.154, -0.0419)),
        (MultistepSampler(2, eta=1.0), 2, (0.0798, 0.00962, 6.13e-4)),
        (MultistepSampler(2, eta=1.0, midpoint=False), 2, (0.326, 0.0210, 1.25e-3)),
    ):
        errors = [final_variance(method, n, monkeypatch) / EXACT - 1 for n in (10, 40, 160, 640)]
        assert errors[:3] == pytest.approx(expected, rel=6e-3)
        assert abs(math.log2(errors[2] / errors[3]) / 2 - order) < 0.15


def test_ancestral_step_is_the_posterior_of_a_point_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    """With D constant, eta = 1 and order 1 give the law of z' given z for x known: variance v' (1 - v' / v)."""
    monkeypatch.setattr(sampler_module, "randn", lambda shape, like, generator: torch.ones_like(like))
    z = torch.tensor([[5.0]], dtype=torch.float64)
    end = MultistepSampler(1, eta=1.0).run(lambda x, s: torch.zeros_like(x), z, torch.tensor([3.0, 2.0]), seeded())
    assert float(end) == pytest.approx(4 / 9 * 5 + math.sqrt(4 * (1 - 4 / 9)), rel=1e-14)


@pytest.mark.parametrize(("form", "eta"), [("data", 0.0), ("data", 0.5), ("data", 2.0), ("noise", 1.0)])
def test_marginals_do_not_depend_on_eta(form: str, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    method = MultistepSampler(2, form, eta=eta)
    errors = [final_variance(method, steps, monkeypatch) / EXACT - 1 for steps in (160, 640)]
    assert abs(errors[1]) < 1e-3
    assert abs(errors[1]) < 0.1 * abs(errors[0])  # and falling at second order


def test_wasserstein_distance_on_gaussian_fields() -> None:
    """Sqrt(sum (|g_k| 80 - sqrt c_k)^2) over the modes' gains g_k; numbers of an independent implementation."""
    k = torch.cat([torch.arange(0, 33), torch.arange(-31, 0)]).to(torch.float64)
    c = (1 + (0.2 * math.pi * k) ** 2) ** -2
    c = 16 * c / c.sum()
    denoiser = GaussianDenoiser.of_covariance(torch.diag(c))

    def distance(method, levels: torch.Tensor) -> float:
        gains = method.run(denoiser, torch.eye(64, dtype=torch.float64), levels).diagonal().abs()
        return float((80 * gains - c.sqrt()).square().sum().sqrt())

    for method, expected in (
        (MultistepSampler(1), (1.655, 0.932, 0.497, 0.207)),
        (MultistepSampler(2), (0.177, 0.160, 0.0613, 0.00989)),
    ):
        for steps, value in zip((5, 10, 20, 50), expected, strict=True):
            assert distance(method, log_snr_levels(steps + 1, 80, 0.002)[:-1]) == pytest.approx(value, rel=5e-3)
    for calls, value in ((4, 20.9), (10, 2.34), (20, 0.491), (50, 0.0695)):
        levels = karras_levels(calls // 2 + 1, 80, 0.002)[:-1]
        assert distance(HeunSampler(), levels) == pytest.approx(value, rel=5e-3)
    floor = float((80 * (c / (c + 6400)).sqrt() - c.sqrt()).square().sum().sqrt())
    assert floor == pytest.approx(distance(MultistepSampler(3), log_snr_levels(400, 80, 1e-4)), rel=0.01)


def test_guidance_is_a_changed_denoiser() -> None:
    """D + sigma^2 grad log L with the exact likelihood of a linear-Gaussian problem gives its posterior."""
    variance, noise, data = 1.0, 0.3, 1.2
    prior = GaussianDenoiser.of_covariance(torch.tensor([[variance]], dtype=torch.float64))

    def guided(z: torch.Tensor, sigma: float) -> torch.Tensor:
        gain = variance / (variance + sigma**2)
        spread = noise**2 + sigma**2 * gain
        return prior(z, sigma) + sigma**2 * gain / spread * (data - gain * z)

    z = 80 * torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    low, middle, high = MultistepSampler(3).run(guided, z, log_snr_levels(300, 80, 1e-4)).flatten().tolist()
    assert middle == pytest.approx(data * variance / (variance + noise**2), rel=5e-3)
    assert (high - low) / 2 == pytest.approx(math.sqrt(variance * noise**2 / (variance + noise**2)), rel=2e-3)


def test_churn_keeps_the_law() -> None:
    denoiser = GaussianDenoiser.of_covariance(torch.tensor([[0.25]], dtype=torch.float64))
    start = math.sqrt(0.25 + 400) * torch.randn(20000, 1, generator=seeded(1), dtype=torch.float64)
    levels = karras_levels(65, 20, 0.02)[:-1]
    for churn in (0.0, 20.0):
        end = HeunSampler(churn=churn).run(denoiser, start, levels, seeded(2))
        assert float(end.var()) == pytest.approx(EXACT, rel=4.5 * math.sqrt(2 / 20000))
        assert (float((start * end).mean()) > 1) == (churn == 0)  # churn forgets the start


def test_prior_draws() -> None:
    space = Space((3,), "m")
    covariance = torch.tensor([[2.0, 0.6, 0.0], [0.6, 0.5, -0.2], [0.0, -0.2, 0.4]], dtype=torch.float64)
    scale = DiagonalMap(torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64), space)
    prior = DiffusionPrior(GaussianDenoiser.of_covariance(covariance), scale, sigma_max=40.0)
    expected = torch.outer(scale.to_dense().diagonal(), scale.to_dense().diagonal()) * covariance
    spread = torch.outer(expected.diagonal(), expected.diagonal()).sqrt()
    for name in (None, "dpm-solver", "dpm-solver++", "edm-heun", "ddim"):
        calls = prior.denoiser.calls
        draws = prior.sample((60, 100), generator=seeded(4), sampler=name, calls=40, members=4000)
        assert draws.shape == (60, 100, 3)
        assert draws.dtype == torch.float64
        bias = 0.15 if name == "ddim" else 0.01  # ddim's own error at 40 steps, see the table of W2
        error = (draws.flatten(0, 1).T.cov() - expected).abs() / spread
        assert error.max() < bias + 4.5 * math.sqrt(2 / 6000)
        made = {None: 0, "edm-heun": 78}.get(name, 80)
        assert prior.denoiser.calls - calls == made
    assert prior.sample(generator=seeded()).shape == (3,)
    assert prior.sample((0,), generator=seeded(), sampler="ddim").shape == (0, 3)
    again = [prior.sample((5,), generator=seeded(7), sampler="ddim", calls=5) for _ in range(2)]
    assert torch.equal(*again)


class Constant(Denoiser):
    """A denoiser without exact draws."""

    def _denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.full_like(z, 0.5)


def test_prior_without_exact_draws_uses_a_sampler() -> None:
    prior = DiffusionPrior(Constant(Space((2,))))
    draws = prior.sample((3,), generator=seeded())
    assert torch.equal(draws, torch.full((3, 2), 0.5, dtype=torch.float64))
    assert prior.denoiser.calls == 50


def test_bad_settings_are_refused(mixture: MixtureDenoiser) -> None:
    z = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ConfigError, match="order 1, 2 or 3"):
        MultistepSampler(4)
    with pytest.raises(ConfigError, match="order 1, 2 or 3"):
        SinglestepSampler((3, 5))
    with pytest.raises(ConfigError, match="eta"):
        MultistepSampler(1, eta=-1.0)
    with pytest.raises(ConfigError, match="generator"):
        MultistepSampler(1, eta=1.0).run(mixture, z, karras_levels(3, 2.0, 0.1))
    with pytest.raises(ConfigError, match="falling"):
        MultistepSampler(1).run(mixture, z, torch.tensor([1.0, 2.0]))
    with pytest.raises(ConfigError, match="as many orders"):
        SinglestepSampler((3, 2)).run(mixture, z, karras_levels(3, 2.0, 0.1))
    with pytest.raises(ConfigError, match="churn"):
        HeunSampler(churn=1.0).run(mixture, z, karras_levels(3, 2.0, 0.1))
    with pytest.raises(ConfigError, match=r"dpm-solver\+\+"):
        make_sampler("dpm-solver+", 5, 80.0, 0.002)
    with pytest.raises(ConfigError, match="at least 1 step"):
        make_sampler("ddim", 0, 80.0, 0.002)
    with pytest.raises(ConfigError, match="sigma_min"):
        karras_levels(5, 1.0, 2.0)
    with pytest.raises(ConfigError, match="members"):
        DiffusionPrior(Constant(Space((2,)))).sample((3,), generator=seeded(), members=0)
