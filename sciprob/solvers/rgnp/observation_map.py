"""An inverse map for noisy, sparse observations, trained on a forward map that stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError, DataError
from sciprob.problems.family import ProblemFamily
from sciprob.random import randn
from sciprob.solvers.rgnp.designs import random_designs
from sciprob.solvers.rgnp.gicnet import GICShape
from sciprob.solvers.rgnp.inverse_map import InverseMap
from sciprob.solvers.rgnp.low_rank import LowRankGaussian

Mean = Callable[[Tensor, Tensor, Tensor], Tensor]  # (z (b, dz), w (b, dw), points (b, m, d)) -> (b, m, fields)

_UNSEEN = 10.0  # noise, in scales of the field, of a field that is not observed


@dataclass(frozen=True)
class ObservationSettings:
    """How an observation map is built and trained.

    Args:
        shape: Of its GICNet.
        rank: Factors of its Gaussian.
        floor: Smallest variance in unit scale.
        batch: Parameter draws per step.
        most_points: Numbers of points are log-uniform from 1 to this.
        noise: Smallest and largest standard deviation of the noise, log-uniform, in units of each field's scale.
        steps: Steps of Adam.
        rate: Its rate at first; it falls to zero along a cosine.

    Raises:
        ConfigError: If a number is out of range.
    """

    shape: GICShape = field(default_factory=lambda: GICShape(lifts=2, convolutions=2))
    rank: int = 1
    floor: float = 1e-6
    batch: int = 64
    most_points: int = 300
    noise: tuple[float, float] = (1e-3, 0.3)
    steps: int = 1000
    rate: float = 2e-3

    def __post_init__(self) -> None:
        positive = min(self.batch, self.most_points, self.steps) >= 1 and self.rate > 0
        if not (positive and 0 < self.noise[0] <= self.noise[1]):
            message = f"training needs positive batch, points, steps, rate and 0 < noise[0] <= noise[1], got {self}."
            raise ConfigError(message)


class ObservationMap(nn.Module):
    r"""p(z | y, sigma, points, w): what noisy values of the field say of z, at once, for any number of points.

    Per point and field the network sees (y - B) / scale, the distance D and log(sigma / scale), and per
    set the means of the latter. Data are never divided by D, which near the boundary would blow up their
    noise. It is a proposal for `infer`: Gaussian, and only as good as its training.

    Args:
        family: Equation, domain, parameters.
        scale: Size of the fields over the family `(fields,)`.
        settings: Shape, rank, floor.
        generator: Randomness of the initial weights.
    """

    scale: Tensor

    def __init__(
        self, family: ProblemFamily, scale: Tensor, settings: ObservationSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.family = family
        self.register_buffer("scale", scale.detach().double())
        values = 3 * family.n_fields
        self.inverse = InverseMap(
            family, values, settings.rank, settings.floor, settings.shape, generator, extra=family.n_fields
        )

    def forward(
        self, points: Tensor, y: Tensor, sigma: Tensor, w: Tensor, log_weights: Tensor | None = None
    ) -> LowRankGaussian:
        """Law of the unit-scale z, `(*batch, dz)`.

        Args:
            points: `(*batch, m, d)`, m > 0.
            y: `(*batch, m, fields)`; entries with infinite noise are not looked at.
            sigma: Standard deviation of the noise, broadcasts with y; inf where a field is not observed.
            w: `(*batch, dw)`.
            log_weights: 0, or -inf for points that are padding `(*batch, m)`.

        Raises:
            DataError: If there is no point.
        """
        if points.shape[-2] == 0:
            message = "an observation map needs at least one point, got none."
            raise DataError(message)
        box = self.family.unknown
        centre = box.from_unit(points.new_zeros(box.size)).expand(*points.shape[:-2], -1)
        lift, distance = self.family.lift_and_distance(points, centre, w)
        relative = (sigma / self.scale).expand(y.shape)
        level = 1 + 0.5 * relative.clamp_max(_UNSEEN).log()  # of order one for usual noise
        weights = torch.softmax(torch.zeros_like(y[..., 0]) if log_weights is None else log_weights, -1)
        overall = (weights.unsqueeze(-2) @ level)[..., 0, :]
        deviation = torch.where(torch.isinf(relative), torch.zeros_like(y), (y - lift) / self.scale)
        values = torch.cat([deviation, distance, level], dim=-1)
        law: LowRankGaussian = self.inverse(points, values, w, log_weights, overall)
        return law


def train_observation_map(
    family: ProblemFamily,
    mean: Mean,
    settings: ObservationSettings,
    generator: torch.Generator,
    report: Callable[[int, float], None] | None = None,
) -> ObservationMap:
    """Maximise E log p(z | y, ...) over parameters, designs, noise levels and noise, with the forward map frozen.

    In every step all is drawn anew: z and w from their priors, the number of points, the place of the points
    (`random_designs`), the noise level, and y = mean + noise. No equation is solved.

    Args:
        family: Equation, domain, parameters.
        mean: The forward map, `(z, w, points) -> (b, m, fields)`; no gradient is asked of it.
        settings: See there.
        generator: Randomness of everything.
        report: Called as `report(step, loss)` after each step.
    """
    model = ObservationMap(family, _field_scale(family, mean, generator), settings, generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.rate)
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.5 * settings.rate * (1 + math.cos(math.pi * step / settings.steps))
        with torch.no_grad():
            z, w, points, y, sigma = simulated(family, mean, model.scale, settings, generator)
        optimiser.zero_grad()
        loss = -model(points, y, sigma, w).log_prob(family.unknown.unit(z)).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        if report is not None:
            report(step, float(loss.detach()))
    return model.requires_grad_(requires_grad=False)


def simulated(
    family: ProblemFamily, mean: Mean, scale: Tensor, settings: ObservationSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A batch of z, w, points, y, sigma `(batch, 1, fields)`; all sets of a batch have the same number of points."""
    n = settings.batch
    z, w = family.unknown.sample(n, generator), family.known.sample(n, generator)
    u = torch.rand(n + 1, generator=generator, device=generator.device, dtype=torch.float64)
    m = min(settings.most_points, int(math.exp(float(u[0]) * math.log(settings.most_points + 1))))
    points = random_designs(family.domain, n, m, generator)
    low, high = (math.log(end) for end in settings.noise)
    sigma = torch.exp(low + (high - low) * u[1:])[:, None, None] * scale
    field = mean(z, w, points)
    return z, w, points, field + sigma * randn(tuple(field.shape), field, generator), sigma


def _field_scale(family: ProblemFamily, mean: Mean, generator: torch.Generator, n: int = 256) -> Tensor:
    """Root mean square of u - B by field, over domain and boxes."""
    z, w = family.unknown.sample(n, generator), family.known.sample(n, generator)
    points = family.domain.sample(n, generator).unsqueeze(-2)
    with torch.no_grad():
        deviation = mean(z, w, points) - family.lift_and_distance(points, z, w)[0]
    return deviation.square().mean((0, 1)).sqrt().clamp_min(torch.finfo(deviation.dtype).tiny)
