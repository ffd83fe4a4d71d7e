"""Vorticity of a forced plane flow, long after its start."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.engines.spectral import SpectralBasis
from sciprob.engines.spectral.equations.navier_stokes_2d import NavierStokes2DSpectral
from sciprob.engines.spectral.evolution import Evolution
from sciprob.errors import ConfigError
from sciprob.priors.grid_matern import GridMatern
from sciprob.random import Streams
from sciprob.spaces import GridSpace

_CHUNK = 16  # flows computed at a time


@dataclass(frozen=True)
class Vorticity:
    """Snapshots of omega_t + u . grad omega = Laplace omega / reynolds - 4 cos(4 y) on the torus [0, 2 pi)^2.

    Flows start from Gaussian vorticity and are computed when first asked for (0.1 s each on one core); draws are
    snapshots moved by the symmetries of the forced flow: shifts in x, shifts in y by half a period of the forcing
    with omega -> -omega and x -> -x, and rotation by half a turn.

    Args:
        points: Points a side, a multiple of 8.
        reynolds: Inverse of the viscosity.
        flows: Number of flows.
        first: Time of the first snapshot.
        last: Time of the last one.
        snapshots: Snapshots of a flow, evenly spaced.
        step: Largest time step.

    Raises:
        ConfigError: If a number is out of its range.
    """

    name: ClassVar[str] = "vorticity"
    title: ClassVar[str] = "Vorticity of a plane flow driven by -4 cos(4 y)"
    shift: ClassVar[float] = 0.0
    scale: ClassVar[float] = 4.0

    points: int = 64
    reynolds: float = 200.0
    flows: int = 512
    first: float = 4.0
    last: float = 10.0
    snapshots: int = 7
    step: float = 0.02

    def __post_init__(self) -> None:
        if self.points < 16 or self.points % 8 or min(self.flows, self.snapshots) < 1:
            message = (
                "vorticity needs a multiple of 8 points of at least 16, and at least one flow and snapshot, "
                f"got {self.points}, {self.flows} and {self.snapshots}."
            )
            raise ConfigError(message)
        if not 0 < self.first < self.last or self.step <= 0 or self.reynolds <= 0:
            message = (
                "vorticity needs 0 < first < last, a positive step and a positive Reynolds number, "
                f"got {self.first}, {self.last}, {self.step} and {self.reynolds}."
            )
            raise ConfigError(message)

    @property
    def space(self) -> GridSpace:
        """The torus."""
        shape = (self.points, self.points)
        return GridSpace(
            shape, name="vorticity", dims=("y", "x"), centring="periodic", lower=2 * (0.0,), upper=2 * (2 * math.pi,)
        )

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Snapshots `(count, points, points)`, float32, each moved by a random symmetry."""
        device = generator.device
        pool = snapshots(self).to(device)
        index = torch.randint(len(pool), (count,), generator=generator, device=device)
        return move(pool[index], generator)


def move(vorticity: Tensor, generator: torch.Generator) -> Tensor:
    """Fields `(B, n, n)` with axes y, x under random symmetries of the flow forced by -4 cos(4 y)."""
    count, n = len(vorticity), vorticity.shape[-1]
    device = vorticity.device
    columns = torch.arange(n, device=device) + torch.randint(n, (count, 1), generator=generator, device=device)
    eighths = torch.randint(8, (count, 1), generator=generator, device=device)  # half periods of the forcing
    rows = torch.arange(n, device=device) + eighths * (n // 8)
    turned = torch.rand(count, 1, generator=generator, device=device) < 0.5
    odd = eighths % 2 == 1  # the forcing changes its sign, and so does the vorticity of the mirrored flow
    rows = torch.where(turned, -rows, rows) % n
    columns = torch.where(turned ^ odd, -columns, columns) % n
    picked = vorticity[torch.arange(count, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return torch.where(odd[:, :, None], -picked, picked)


@lru_cache(maxsize=2)
def snapshots(family: Vorticity) -> Tensor:
    """All snapshots `(flows * snapshots, points, points)`, float32, from seeds 0 on; kept in memory."""
    grid = family.space
    equation = NavierStokes2DSpectral.kolmogorov(
        SpectralBasis(grid), viscosity=1 / family.reynolds, wavenumber=4, amplitude=1.0
    )
    times = torch.linspace(family.first, family.last, family.snapshots, dtype=torch.float64)
    evolution = Evolution(equation, times, step=family.step, scheme="etdrk4")
    start = GridMatern(grid, std=2.0, length=1.0, smoothness=3.0, mean=torch.zeros(grid.shape), boundary="periodic")
    parts = []
    with torch.no_grad():
        for begin in range(0, family.flows, _CHUNK):
            draws = Streams(begin)["vorticity"]
            initial = start.sample((min(_CHUNK, family.flows - begin),), generator=draws)
            parts.append(evolution(initial - initial.mean((-2, -1), keepdim=True)).flatten(0, 1).float())
    return torch.cat(parts)
