"""Stochastic Gauss-Newton steps in the space of residuals, with momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError, NonFiniteError
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.jacobian import sample_jacobian
from sciprob.solvers.rgnp.network import PointNetwork
from sciprob.solvers.rgnp.parallel import ALONE, Processes
from sciprob.solvers.rgnp.residuals import weighted_residuals
from sciprob.solvers.rgnp.sampling import Collocation, choose_large, sobol_collocation

_CANDIDATES = 3  # candidates per sample that is chosen by its residual
_LARGEST_STEP = 0.5  # in the norm of all weights


@dataclass(frozen=True)
class GaussNewton:
    """How steps are made; defaults are those of the method's card.

    Args:
        points: Collocation samples per step, N; cost N^2 P + N^3 / 3 for P weights.
        steps: Number of steps; the rate falls linearly over the second half of them.
        rate: Length of a step after the first ones.
        momentum: Share of the last direction that is kept, in [0, 1).
        damping: lam over the mean diagonal of J J^T.
        warmup: Steps over which the rate rises.
        resampled: Share of the samples that is drawn in proportion to the residual, in the second half.

    Raises:
        ConfigError: If a number is out of its range.
    """

    points: int = 1000
    steps: int = 200
    rate: float = 1.0
    momentum: float = 0.9
    damping: float = 1e-3
    warmup: int = 20
    resampled: float = 0.5

    def __post_init__(self) -> None:
        whole = self.points >= 1 and self.steps >= 1 and self.warmup >= 0
        if not (whole and self.rate > 0 and self.damping > 0 and 0 <= self.momentum < 1 and 0 <= self.resampled <= 1):
            message = (
                "Gauss-Newton needs points and steps of at least 1, positive rate and damping, momentum in [0, 1) and "
                f"`resampled` in [0, 1], got {self}."
            )
            raise ConfigError(message)

    def rate_at(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.rate * rise * min(1.0, 2 * (1 - step / self.steps))

    def samples(
        self,
        family: ProblemFamily,
        network: PointNetwork,
        step: int,
        generator: torch.Generator,
        processes: Processes = ALONE,
    ) -> Collocation:
        """The collocation samples of a step, those of all processes."""
        dtype = next(network.parameters()).dtype
        chosen = round(self.resampled * self.points) if 2 * step >= self.steps else 0
        batch = sobol_collocation(family, self.points - chosen, generator, dtype)
        if not chosen:
            return batch
        candidates = sobol_collocation(family, _CANDIDATES * chosen, generator, dtype)
        with torch.no_grad():
            own = weighted_residuals(family, network, candidates[processes.part(len(candidates))])
        residuals = processes.gather(own, len(candidates))
        return batch.join(choose_large(candidates, residuals, chosen, generator))

    def direction(
        self, residuals: Tensor, jacobian: Tensor, last: Tensor, processes: Processes = ALONE, n: int | None = None
    ) -> Tensor:
        """Next direction phi = mu phi' + J^T (J J^T + lam I)^{-1} (r - mu J phi').

        Without momentum and as lam -> 0 it is the Gauss-Newton step of least norm. The N x N system is solved
        in float64, whatever the dtype of J.

        Args:
            residuals: r `(N,)`, or this process's part of them.
            jacobian: J `(N, P)`, or the same part.
            last: phi' `(P,)`.
            processes: That have the other parts.
            n: Number of samples of all processes; each may have several residuals.

        Source: Goldshlager, Abrahamsen, Lin, A Kaczmarz-inspired approach to accelerate the optimization
        of neural network wavefunctions, J. Comput. Phys. 516 (2024).
        """
        kept, n = self.momentum * last, len(residuals) if n is None else n
        gram = processes.gram(jacobian, n)
        gram.diagonal().add_(self.damping * gram.diagonal().mean())
        right = processes.gather((residuals - jacobian @ kept).double(), n).unsqueeze(-1)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if int(failed):
            message = (
                "the kernel matrix of a Gauss-Newton step is not positive definite; lower `rate` or raise `damping`."
            )
            raise NonFiniteError(message)
        solution = torch.cholesky_solve(right, factor).squeeze(-1).to(jacobian.dtype)
        each = len(solution) // n
        part = processes.part(n)
        own = solution[each * part.start : each * part.stop]
        return processes.agreed(kept + processes.sum(jacobian.mT @ own))


def gauss_newton_step(
    method: GaussNewton,
    family: ProblemFamily,
    network: PointNetwork,
    last: Tensor,
    step: int,
    generator: torch.Generator,
    *,
    compiled: bool = False,
    processes: Processes = ALONE,
) -> tuple[Tensor, float]:
    """One step; changes the network's weights in place.

    Args:
        method: Settings.
        family: Equation and boxes.
        network: The mean's network.
        last: Direction of the last step `(P,)`; zeros at first.
        step: Steps made before.
        generator: Randomness of the samples; the same for all processes.
        compiled: Whether residuals and their derivatives come from a compiled graph.
        processes: That share the samples.

    Returns:
        The new direction, and the root mean square of the weighted residuals before the step.
    """
    batch = method.samples(family, network, step, generator, processes)
    n = len(batch)
    own = batch[processes.part(n)]
    if compiled:
        from sciprob.solvers.rgnp.compiled import compiled_jacobian

        residuals, jacobian = compiled_jacobian(family, network, own)(network, own)
    else:
        residuals, jacobian = sample_jacobian(network, lambda: weighted_residuals(family, network, own))
    rows, r = jacobian.flatten(0, 1), residuals.flatten()
    scale = 1 / math.sqrt(n * residuals.shape[-1])
    direction = method.direction(r * scale, rows.mul_(scale), last, processes, n)
    norm = torch.linalg.vector_norm(direction)
    rate = method.rate_at(step)
    move(network, -rate * torch.clamp(_LARGEST_STEP / (rate * norm).clamp_min(1e-30), max=1.0) * direction)
    return direction, math.sqrt(float(processes.sum(r.double().square().sum()))) * scale


def weights(network: PointNetwork) -> Tensor:
    """All weights as one vector `(P,)`, a copy."""
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


@torch.no_grad()
def move(network: PointNetwork, change: Tensor) -> None:
    """Add a vector `(P,)` to the weights."""
    start = 0
    for parameter in network.parameters():
        size = parameter.numel()
        parameter.add_(change[start : start + size].view_as(parameter))
        start += size
