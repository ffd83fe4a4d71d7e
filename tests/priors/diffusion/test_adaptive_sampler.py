"""The adaptive sampler: errors follow the tolerance, members are independent, calls are counted, D is reused."""

import math

import pytest
import torch

from sciprob.errors import ConfigError, ConvergenceError
from sciprob.priors.diffusion.adaptive import AdaptiveSampler
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.mixture import MixtureDenoiser


def starts(count: int) -> torch.Tensor:
    return 20 * torch.randn(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def mixture() -> MixtureDenoiser:
    means = torch.tensor([[2.0, 0.0], [-1.0, 1.5]], dtype=torch.float64)
    covariances = torch.stack([torch.diag(torch.tensor([0.2, 0.03])), torch.diag(torch.tensor([0.05, 0.3]))])
    return MixtureDenoiser(torch.tensor([0.6, 0.4], dtype=torch.float64), means, covariances.double())


@pytest.mark.parametrize("order", [2, 3])
def test_error_follows_the_tolerance(order: int) -> None:
    covariance = torch.tensor([[0.5, 0.2], [0.2, 0.1]], dtype=torch.float64)
    denoiser = GaussianDenoiser.of_covariance(covariance, torch.tensor([1.0, -2.0], dtype=torch.float64))
    z = starts(16)
    exact = denoiser(denoiser.flow(z, 20.0, 0.01), 0.01)
    errors, calls = [], []
    for tolerance in (1e-2, 1e-3, 1e-4):
        before = denoiser.calls
        end = AdaptiveSampler(order, rtol=tolerance, atol=tolerance).run(denoiser, z, 20.0, 0.01, 1)
        errors.append(float((end - exact).abs().max()))
        calls.append(denoiser.calls - before)
    # dozens of local errors of at most the tolerance, which the flow contracts
    assert all(error < 10 * tolerance for error, tolerance in zip(errors, (1e-2, 1e-3, 1e-4), strict=True)), errors
    assert errors[2] < 0.2 * errors[1] < 0.04 * errors[0]
    # the local error of the lower formula is h^order, so that calls grow as tolerance^(-1/order)
    growth = math.log10(calls[2] / calls[1])
    assert abs(growth - 1 / order) < 0.15, calls


def test_members_do_not_depend_on_their_batch(mixture: MixtureDenoiser) -> None:
    method, z = AdaptiveSampler(3, rtol=1e-3, atol=1e-3), starts(12)
    together = method.run(mixture, z.reshape(3, 4, 2), 20.0, 0.02, 1)
    assert together.shape == (3, 4, 2)
    alone = torch.stack([method.run(mixture, member, 20.0, 0.02, 1) for member in z])
    assert torch.allclose(together.reshape(12, 2), alone, atol=1e-12)


def test_denoiser_at_the_start_is_reused_after_a_rejection(mixture: MixtureDenoiser) -> None:
    asked = []

    def recording(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append((z.clone(), sigma.clone()))
        return mixture(z, sigma)

    AdaptiveSampler(2, rtol=1e-3, atol=1e-3, first_step=4.0).run(recording, starts(1), 20.0, 0.02, 1)
    levels = [float(sigma) for _, sigma in asked]
    assert levels[0] == pytest.approx(20.0)
    # the first step of 4 fails; what follows are stages of shorter steps from the same start
    assert len(set(levels)) == len(levels)
    assert levels[2] > levels[1] == pytest.approx(20 * math.exp(-2.0))


def test_bad_input_is_refused(mixture: MixtureDenoiser) -> None:
    with pytest.raises(ConfigError, match="order 2 or 3"):
        AdaptiveSampler(4)
    with pytest.raises(ConfigError, match="sigma_min"):
        AdaptiveSampler().run(mixture, starts(2), 1.0, 2.0, 1)
    with pytest.raises(ConvergenceError, match="too small"):
        AdaptiveSampler().run(lambda z, sigma: z * math.nan, starts(2), 20.0, 0.02, 1)
