"""A latent equation with Brownian noise, H = 1/2, beside torchsde: same drift, data, network size, paths and steps."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sciprob.sde import geometric_rates, markov_noise
from sciprob.solvers.fbm_vi.adam import Climb
from sciprob.solvers.fbm_vi.control import NetworkShape
from sciprob.solvers.fbm_vi.guide import make_guide
from sciprob.solvers.fbm_vi.reference import make_reference
from sciprob.solvers.fbm_vi.simulate import draw_noise, simulate
from sciprob.solvers.fbm_vi.sites import Sites, merge_times

SCALE, STD, WIDTH, PATHS = 0.7, 0.1, 32, 64
TIMES = torch.tensor([0.5, 1.5, 2.5, 3.5], dtype=torch.float64)
VALUES = torch.tensor([-0.9, -1.1, 0.8, 1.0], dtype=torch.float64)
HORIZON = 4.0


@dataclass(frozen=True)
class Trained:
    """Path steps per second of training (forward and backward), and the bound with its error."""

    rate: float
    bound: float
    error: float


def well(_: Any, x: Tensor) -> Tensor:
    return x - x**3


def ours(step: float, steps: int, *, guided: bool) -> Trained:
    """One Ornstein-Uhlenbeck process of rate near 0: Brownian motion."""
    one = torch.ones(1, dtype=torch.float64)
    noise = markov_noise(0.5, geometric_rates(1e-7, 1e-7, 1), horizon=HORIZON, kind="I", normalisation="unit")
    grid, index = merge_times(TIMES, HORIZON, step)
    sites = Sites(index, VALUES[:, None], torch.full((4, 1), STD**-2, dtype=torch.float64))
    reference = make_reference(noise, grid, scale=SCALE * one, initial_mean=-one, initial_std=0.2 * one)
    guide = make_guide(reference, sites if guided else Sites(index[:0], sites.values[:0], sites.precision[:0]))
    shape = NetworkShape(2, WIDTH, HORIZON, 0 * one, one)
    generator = torch.Generator().manual_seed(0)
    climb = Climb.at(torch.cat([torch.zeros(reference.initial_root.shape[-1]).double(), shape.start(generator)]))

    def bounds(vector: Tensor, paths: int) -> Tensor:
        shift, weights = vector.split([len(vector) - shape.count, shape.count])
        drawn = simulate(
            reference,
            guide,
            draw_noise(reference, paths, generator),
            drift=well,
            control=shape.at(weights),
            shift=shift.expand(1, -1),
        )
        return drawn.log_ratio + sites.log_density(drawn.x)

    start = time.process_time()
    for _ in range(steps):
        vector = climb.position.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(bounds(vector, PATHS).mean(), vector)
        climb = climb.ascend(gradient, torch.full_like(vector, 5e-3), steps)
    seconds = time.process_time() - start
    with torch.no_grad():
        values = bounds(climb.average, 2000)
    return Trained(steps * PATHS * (len(grid) - 1) / seconds, float(values.mean()), float(values.std()) / 2000**0.5)


def theirs(torchsde: Any, step: float, steps: int) -> Trained:
    """`torchsde.sdeint` with `logqp`, Euler, float64."""
    torch.manual_seed(0)

    class Latent(nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def __init__(self) -> None:
            super().__init__()
            sizes = (8, WIDTH, WIDTH, 1)
            layers: list[nn.Module] = []
            for a, b in itertools.pairwise(sizes):
                layers += [nn.Linear(a, b, dtype=torch.float64), nn.SiLU()]
            self.control = nn.Sequential(*layers[:-1])
            nn.init.zeros_(layers[-2].weight)
            self.start = nn.Parameter(torch.tensor([-1.0, 0.2], dtype=torch.float64))  # mean and deviation

        def f(self, t: Tensor, x: Tensor) -> Tensor:
            phase = torch.pi * t / HORIZON
            waves = [2 * t / HORIZON - 1] + [g(k * phase) for k in (1, 2, 3) for g in (torch.sin, torch.cos)]
            return well(t, x) + SCALE * self.control(torch.cat([torch.stack(waves).expand(len(x), -1), x], dim=-1))

        def h(self, t: Tensor, x: Tensor) -> Tensor:
            return well(t, x)

        def g(self, t: Tensor, x: Tensor) -> Tensor:
            return torch.full_like(x, SCALE)

        def bounds(self, paths: int) -> Tensor:
            mean, std = self.start
            x0 = mean + std * torch.randn(paths, 1, dtype=torch.float64)
            law, prior = torch.distributions.Normal(mean, std), torch.distributions.Normal(-1.0, 0.2)
            ts = torch.cat([torch.zeros(1, dtype=torch.float64), TIMES, torch.tensor([HORIZON], dtype=torch.float64)])
            x, path_kl = torchsde.sdeint(self, x0, ts, dt=step, method="euler", logqp=True)
            seen = torch.distributions.Normal(x[1:-1, :, 0], STD).log_prob(VALUES[:, None]).sum(0)
            return seen - path_kl.sum(0) - torch.distributions.kl_divergence(law, prior)

    model = Latent()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    start = time.process_time()
    for _ in range(steps):
        optimiser.zero_grad()
        (-model.bounds(PATHS).mean()).backward()
        optimiser.step()
        schedule.step()
    seconds = time.process_time() - start
    with torch.no_grad():
        values = model.bounds(2000)
    count = steps * PATHS * round(HORIZON / step)
    return Trained(count / seconds, float(values.mean()), float(values.std()) / 2000**0.5)
