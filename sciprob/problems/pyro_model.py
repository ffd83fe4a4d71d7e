"""A problem as a Pyro model, for Pyro's own inference algorithms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.priors.distribution import DistributionPrior
from sciprob.problems.problem import Problem


def as_pyro_model(problem: Problem) -> Callable[..., Tensor]:
    """Pyro model with the sites `m` (the unknown) and `y` (the data).

    Where the prior is whitened, `xi` is the latent site, standard normal, and `m` a deterministic
    function of it; for other distributions `m` itself is latent. Called without argument the model
    is conditioned on the problem's data, if there are any; `model(None)` simulates `y`.

    Args:
        problem: The problem.

    Raises:
        UnsupportedProblemError: If the prior is neither whitened nor a `DistributionPrior`.
    """
    prior: Any = problem.prior
    whitened = Capability.WHITENED_PRIOR in prior.capabilities
    if not whitened and not isinstance(prior, DistributionPrior):
        message = f"a Pyro model needs a whitened prior or a `DistributionPrior`, got {type(prior).__name__}."
        raise UnsupportedProblemError(message)
    like = problem.data if problem.data is not None else torch.zeros((), dtype=torch.float64)

    def model(data: Tensor | None = problem.data) -> Tensor:
        if whitened:
            shape = prior.whitening.domain.shape
            normal = dist.Normal(like.new_zeros(()), like.new_ones(())).expand(shape).to_event(len(shape))
            m = pyro.deterministic("m", prior.whitening(pyro.sample("xi", normal)))
        else:
            m = pyro.sample("m", _whole(prior.distribution))
        y: Tensor = pyro.sample("y", NoiseDistribution(problem.likelihood.noise, problem.operator(m)), obs=data)
        return y

    return model


class NoiseDistribution(dist.TorchDistribution):  # type: ignore[misc]
    """A noise model around clean values as a Pyro distribution.

    Args:
        noise: A `NoiseModel`.
        clean: G(m), `(*batch, *event)`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - the interface of torch.distributions
    support = constraints.real

    def __init__(self, noise: Any, clean: Tensor) -> None:
        self.noise, self.clean = noise, clean
        batch = noise.space.batch_shape(clean)
        super().__init__(batch, clean.shape[len(batch) :], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(y | f), `(*batch,)`."""
        density: Tensor = self.noise.log_prob(self.clean, value)
        return density

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws of y, seeded from torch's global generator, as Pyro's are."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        clean = self.clean.expand(*sample_shape, *self.clean.shape)
        y: Tensor = self.noise.sample(clean, generator=generator)
        return y

    def expand(self, batch_shape: torch.Size | tuple[int, ...], _instance: Any = None) -> NoiseDistribution:
        """The same distribution for a larger batch."""
        return NoiseDistribution(self.noise, self.clean.expand(*batch_shape, *self.event_shape))


def _whole(distribution: Any) -> Any:
    """All entries as one event."""
    axes = len(distribution.batch_shape)
    return torch.distributions.Independent(distribution, axes) if axes else distribution
