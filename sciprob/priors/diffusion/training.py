"""Denoising score matching on a family of fields, step by step.

The counterpart of a solver's `init` and `step`, so that the loop of runs gives seeds, progress, log, checkpoints,
time budget, NaN guard and Ctrl-C. What the family draws in step n depends on the seed, n and the process alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError
from sciprob.priors.diffusion.ema import power_exponent, update_average
from sciprob.priors.diffusion.preconditioning import NetworkDenoiser
from sciprob.random import Streams

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Batches(Protocol):
    """Where clean fields come from."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Clean fields x `(count, *shape)` in the scale of the network."""
        ...


@dataclass(frozen=True)
class Training:
    """How a denoiser is trained.

    Args:
        steps: Steps of the optimiser.
        batch: Noisy fields of a step, on every device.
        noisings: Noise levels that each clean field is seen at in one step; more spare slow generators.
        rate: Largest learning rate.
        warm_up: Steps in which it grows from zero; it then falls to zero along a cosine.
        weight_decay: Of AdamW.
        clip: Largest norm of the gradient.
        log_level: Mean of the logarithm of the noise level, for fields of spread one.
        log_spread: Its standard deviation.
        smallest: Smallest noise level.
        largest: Largest.
        average: Relative width of the average of weights.
        precision: Of the network's products while it is trained, `single`, `bfloat16`, or `auto`: bfloat16 on CUDA,
            single on a CPU. Recent CPUs train wide networks 1.5 times faster with bfloat16. Weights are single.

    Raises:
        ConfigError: If a number is out of its range.
    """

    steps: int = 6000
    batch: int = 32
    noisings: int = 1
    rate: float = 2e-3
    warm_up: int = 200
    weight_decay: float = 0.0
    clip: float = 1.0
    log_level: float = -0.3
    log_spread: float = 1.5
    smallest: float = 0.002
    largest: float = 80.0
    average: float = 0.08
    precision: Literal["auto", "single", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.noisings) < 1 or self.batch % self.noisings:
            message = (
                "training needs at least one step and a batch that is a multiple of `noisings`, "
                f"got {self.steps}, {self.batch} and {self.noisings}."
            )
            raise ConfigError(message)
        if min(self.rate, self.clip, self.log_spread) <= 0 or min(self.warm_up, self.weight_decay) < 0:
            message = "`rate`, `clip` and `log_spread` should be positive, `warm_up` and `weight_decay` not negative."
            raise ConfigError(message)
        if not 0 < self.smallest < self.largest:
            message = f"noise levels should be 0 < smallest < largest, got {self.smallest} and {self.largest}."
            raise ConfigError(message)
        power_exponent(self.average)

    def learning_rate(self, step: int) -> float:
        """The rate of step 1, 2, ...: linear warm-up, then a cosine that ends at zero."""
        if step <= self.warm_up:
            return self.rate * step / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def noise_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """`(count,)` levels whose logarithms are normal, one from each of `count` equally probable strata."""
        place = torch.arange(count, dtype=torch.float64, device=generator.device)
        place = (place + torch.rand(count, dtype=torch.float64, generator=generator, device=generator.device)) / count
        normal = math.sqrt(2) * torch.erfinv(2 * place.clamp(1e-9, 1 - 1e-9) - 1)
        levels = (self.log_level + self.log_spread * normal).exp().clamp(self.smallest, self.largest)
        order = torch.randperm(count, generator=generator, device=generator.device)
        return levels[order].float()


@dataclass
class TrainingState:
    """Weights, their average, and the moments of Adam, by the names of the weights."""

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]


class DenoiserTraining:
    """Steps of AdamW on E |F(c_in (x + sigma e - m), log sigma) - (x - D_0) / c_out|^2.

    The state's tensors are the network's and the optimiser's own, changed in place. Gradients are averaged over
    devices where Fabric was launched on several.

    Args:
        denoiser: What is trained: its network, with weights to start from.
        settings: How.
        seed: Root of what is drawn.
        fabric: Device, precision and processes; a single CPU if not given.
    """

    name = "denoiser-training"

    def __init__(
        self, denoiser: NetworkDenoiser, settings: Training, seed: int = 0, fabric: Fabric | None = None
    ) -> None:
        from lightning_fabric import Fabric  # here, since loading a trained prior needs none of it

        self.fabric = Fabric(accelerator="cpu", devices=1) if fabric is None else fabric
        self.settings, self.seed = settings, seed
        self.denoiser: Any = denoiser.to(self.fabric.device)
        self.max_steps = settings.steps
        self._exponent = power_exponent(settings.average)
        self._optimizer: Any = None

    def init(self, problem: Batches, streams: Streams) -> TrainingState:
        """The state before the first step."""
        weights = self._weights()
        zeros = [{name: torch.zeros_like(weight) for name, weight in weights.items()} for _ in range(2)]
        average = {name: weight.clone() for name, weight in weights.items()}
        return TrainingState(0, weights, average, *zeros)

    def finished(self, state: TrainingState) -> None:
        """Training ends with the number of its steps."""
        return

    def step(self, problem: Batches, state: TrainingState, streams: Streams) -> tuple[TrainingState, dict[str, float]]:
        """One step; the generator of step n is made from the seed, n and the rank of this process."""
        if self._optimizer is None:
            self._bind(state)
        state.step += 1
        fabric, settings = self.fabric, self.settings
        draws = Streams(self.seed, fabric.device)[f"step {state.step} of process {fabric.global_rank}"]
        clean = problem.sample(settings.batch // settings.noisings, draws).to(fabric.device)
        clean = clean.repeat_interleave(settings.noisings, dim=0)
        sigma = settings.noise_levels(len(clean), draws).reshape(-1, *(1 for _ in clean.shape[1:]))
        noise = torch.randn(clean.shape, generator=draws, device=draws.device)
        loss = self._loss(clean, clean + sigma * noise, sigma)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate(state.step)
        self._optimizer.zero_grad()
        fabric.backward(loss)
        norm = fabric.clip_gradients(self._network, self._optimizer, max_norm=settings.clip, error_if_nonfinite=False)
        self._optimizer.step()
        update_average(list(state.average.values()), list(state.weights.values()), state.step, self._exponent)
        return state, {"loss": loss.item(), "gradient": float(norm)}

    def _loss(self, clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        pre = self.denoiser.preconditioning
        with torch.no_grad():
            scaled, target = pre.network_input(noisy, sigma), pre.target(clean, noisy, sigma)
        learnt = self._network(scaled, sigma.flatten().log())
        loss: Tensor = (learnt.float() - target).square().mean()
        return loss

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.denoiser.network.named_parameters()}

    def _bind(self, state: TrainingState) -> None:
        """Let network and optimiser compute in the state's tensors."""
        network: nn.Module = self.denoiser.network
        own = dict(network.named_parameters())
        if {name: w.shape for name, w in own.items()} != {name: w.shape for name, w in state.weights.items()}:
            message = "the checkpoint belongs to another network; resume it with its own settings."
            raise ConfigError(message)
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(state.weights[name])
        # Adam's eps is far below the gradients' size, about 1e-3
        optimizer = torch.optim.AdamW(
            own.values(), lr=self.settings.rate, betas=(0.9, 0.99), weight_decay=self.settings.weight_decay
        )
        for name, weight in own.items():
            optimizer.state[weight] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": state.first[name],
                "exp_avg_sq": state.second[name],
            }
        state.weights = {name: weight.detach() for name, weight in own.items()}
        network.train()
        self._network, self._optimizer = self.fabric.setup(network, optimizer)


def load_average(network: nn.Module, state: TrainingState) -> None:
    """Put the average of the weights into a network."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.copy_(state.average[name])
