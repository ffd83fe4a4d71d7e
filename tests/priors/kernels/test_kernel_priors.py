"""Priors of kernel parameters: normalised, sampled from what they say, proper at both ends."""

from __future__ import annotations

import math

import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.priors.kernels import GaussianMixture, KernelPrior, Matern, StudentMixture

PRIOR = KernelPrior(0.3, 2.0, 1.7, 0.8, torch.tensor([0.0, 4.0], dtype=torch.float64), 0.25)
KERNELS = {
    "gaussian": GaussianMixture([1.0, 0.4], [0.1, 4.2], [1.0, 2.0]),
    "student": StudentMixture([1.0, 0.4], [0.1, 4.2], [1.0, 2.0]),
    "matern": Matern([0.5, 1.0], 2.5, [1.0, 0.4]),
}


def density(name: str, value: float) -> float:
    return math.exp(float(PRIOR.log_prob({name: torch.tensor([value], dtype=torch.float64)})))


@pytest.mark.parametrize("name", ["log_weights", "log_decay", "log_inverse_lengths", "log_lengths"])
def test_densities_of_raw_parameters_integrate_to_one(name: str) -> None:
    total, _ = scipy.integrate.quad(lambda v: density(name, v), -60, 30, points=[-3, 0, 3], limit=200)
    assert total == pytest.approx(1.0, abs=1e-7)


def test_amplitude_density_is_the_half_cauchy_with_a_slab() -> None:
    """In A = sqrt(w), by change of variables; without a slab it is torch's half-Cauchy."""
    wide = KernelPrior(0.3, 1e9, 1.0)
    reference = torch.distributions.HalfCauchy(torch.tensor(0.3, dtype=torch.float64))
    for amplitude in (1e-4, 0.1, 3.0, 200.0):
        a = torch.tensor([amplitude], dtype=torch.float64)
        log_density = wide.log_prob({"log_weights": 2 * a.log()}) - (a / 2).log().squeeze()
        torch.testing.assert_close(log_density, reference.log_prob(a).squeeze(), rtol=1e-8, atol=1e-8)
    ratio = density("log_weights", 2 * math.log(6.0)) / math.exp(
        float(wide.log_prob({"log_weights": torch.tensor([2 * math.log(6.0)], dtype=torch.float64)}))
    )
    small = density("log_weights", 2 * math.log(1e-4)) / math.exp(
        float(wide.log_prob({"log_weights": torch.tensor([2 * math.log(1e-4)], dtype=torch.float64)}))
    )
    assert ratio / small == pytest.approx(math.exp(-0.5 * 6.0**2 / 2.0**2), rel=1e-6)


@pytest.mark.parametrize("kind", list(KERNELS))
def test_draws_have_the_density(kind: str) -> None:
    """Kolmogorov-Smirnov per parameter against the integrated density."""
    kernel = KERNELS[kind]
    draws = PRIOR.sample(kernel, (2000,), generator=torch.Generator().manual_seed(1))
    assert set(draws) == {name for name, _ in kernel.named_parameters()}
    for name, values in draws.items():
        assert values.shape == (2000, 2)
        if name == "frequencies":
            standard = ((values - PRIOR.frequencies) / 0.25).flatten().numpy()
            assert scipy.stats.kstest(standard, "norm").pvalue > 1e-3
            continue
        grid = torch.linspace(-40, 15, 20001, dtype=torch.float64)
        heights = PRIOR.log_prob({name: grid[:, None]}).exp()
        cdf = torch.cumulative_trapezoid(heights, grid)
        ordered = values.flatten().sort().values
        at = torch.searchsorted(grid, ordered).clamp(1, len(cdf))
        expected = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
        assert float((cdf[at - 1] - expected).abs().max()) < 1.95 / math.sqrt(4000)  # p > 0.001


@pytest.mark.parametrize("kind", list(KERNELS))
def test_log_prior_of_a_kernel_and_its_gradient(kind: str) -> None:
    kernel = KERNELS[kind]
    total = PRIOR.log_prior(kernel)
    assert total.shape == ()
    parts = sum(float(PRIOR.log_prob({name: value.detach()})) for name, value in kernel.named_parameters())
    assert float(total.detach()) == pytest.approx(parts, rel=1e-12)
    names = [name for name, _ in kernel.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in kernel.parameters()]

    def log_prob(*given: Tensor) -> Tensor:
        return PRIOR.log_prob(dict(zip(names, given, strict=True)))

    assert torch.autograd.gradcheck(log_prob, values)


def test_components_die_out_or_stay_bounded() -> None:
    """The density falls to zero at both ends: log w -> -infinity, which a flat prior does not, and w -> infinity."""
    values = torch.tensor([-80.0, -2.4, 8.0], dtype=torch.float64)
    low, middle, high = PRIOR.log_prob({"log_weights": values[:, None]}).tolist()
    assert low < middle - 30
    assert high < middle - 30


def test_unneeded_component_is_weaker_a_posteriori_with_the_prior() -> None:
    """Two equal components, one in the data: maximum a posteriori separates their weights by the data alone."""
    x = torch.linspace(0, 2, 60, dtype=torch.float64)
    y = 1.5 * torch.sin(2 * math.pi * 3.0 * x + 0.3)
    kernel = GaussianMixture([1.0, 1.0], [3.0, 7.0], [0.25, 0.25])
    prior = KernelPrior.around(kernel, 2.0)
    optimiser = torch.optim.LBFGS([kernel.log_weights], max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        gram = kernel.derivatives(x[:, None] - x, 0)[0] + 1e-2 * torch.eye(60, dtype=torch.float64)
        loss = -torch.distributions.MultivariateNormal(torch.zeros_like(x), gram).log_prob(y) - prior.log_prior(kernel)
        loss.backward()
        return loss.detach()

    optimiser.step(closure)
    needed, unneeded = kernel.weights.detach().tolist()
    assert unneeded < 1e-2 * needed
    assert unneeded > 1e-8  # proper: not driven to zero without end


def test_start_and_batches() -> None:
    w = torch.rand(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    batch = GaussianMixture(w, [0.0, 4.0], 1.0)
    assert PRIOR.log_prior(batch).shape == (3,)
    prior = KernelPrior.around(KERNELS["gaussian"], 2.0)
    assert (prior.length, prior.frequency_std) == (2.0, 0.25)
    assert prior.scale == pytest.approx(math.sqrt(1.4) / 2)
    assert prior.slab == pytest.approx(3 * math.sqrt(1.4))
    assert KernelPrior.around(KERNELS["matern"], 2.0).frequencies is None


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="`scale` of a kernel prior should be positive and finite, got 0"):
        KernelPrior(0.0, 1.0, 1.0)
    with pytest.raises(ConfigError, match="`slab` should not be below `scale`, got 1 and 2"):
        KernelPrior(2.0, 1.0, 1.0)
    with pytest.raises(UnsupportedProblemError, match="no density for `frequencies`"):
        KernelPrior(1.0, 2.0, 1.0).log_prior(KERNELS["gaussian"])
