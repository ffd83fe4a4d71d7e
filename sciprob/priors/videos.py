"""Videos of a ball between four walls, drawn by a procedure."""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.operators.base import Capability
from sciprob.priors.base import Prior
from sciprob.spaces import Space

_SIDE, _RADIUS, _FASTEST = 64, 8, 4  # of the square in which the ball moves, whatever the resolution
_SLOPE = 2.5  # of the ball's logistic edge, per pixel


class BouncingBall(Prior):
    r"""Videos of a disc that moves straight on and bounces off the walls in a random direction.

    Positions and velocities are whole numbers in a square of side 64, the radius is 8. Velocities start uniform on
    {-4, .., 4}^2. Where a step reaches a wall the disc stops at it and gets a new velocity: of 1 to 4
    away from the wall, and uniform on {-4, .., 4} along it. Brightness is a logistic function of the distance from
    the rim, 0 outside and 1 inside. Its law has no density; solvers learn it from draws (`Capability.VIDEO`).

    Args:
        frames: Number of frames.
        pixels: Of each side; 64 shows the square at full resolution.
        interval: Time between two frames.

    dtype and device: draws are float32 on the device of the generator.
    """

    def __init__(self, frames: int, pixels: int, interval: float) -> None:
        pixel = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (_SIDE / pixels)
        time = interval * torch.arange(frames, dtype=torch.float64)
        super().__init__(
            Space(
                (frames, pixels, pixels),
                name="brightness",
                dims=("time", "y", "x"),
                coords={"time": time, "y": pixel, "x": pixel},
            )
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Videos."""
        return frozenset({Capability.VIDEO})

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, frames, pixels, pixels)`."""
        return self.render(self.positions(shape, generator=generator))

    def positions(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Centres of the disc, x before y, `(*shape, frames, 2)`, float32."""

        def whole(low: int, high: int) -> Tensor:
            return torch.randint(low, high + 1, (*shape, 2), generator=generator, device=generator.device)

        low, high = _RADIUS, _SIDE - _RADIUS
        place, velocity = whole(low, high), whole(-_FASTEST, _FASTEST)
        places = [place]
        for _ in range(self.space.shape[0] - 1):
            ahead = place + velocity
            below, above = ahead <= low, ahead >= high
            away, along = whole(1, _FASTEST), whole(-_FASTEST, _FASTEST)
            hit = (below | above).any(-1, keepdim=True)
            velocity = torch.where(hit, along, velocity)
            velocity = torch.where(below, away, torch.where(above, -away, velocity))
            place = ahead.clamp(low, high)
            places.append(place)
        return torch.stack(places, dim=-2).float()

    def render(self, positions: Tensor) -> Tensor:
        """Frames of discs at `positions (*batch, 2)`, `(*batch, pixels, pixels)`."""
        pixel = self.space.coords["x"].to(positions)
        x, y = positions[..., 0, None, None], positions[..., 1, None, None]
        distance = ((pixel - x).square() + (pixel[:, None] - y).square()).sqrt()
        return torch.sigmoid(_SLOPE * self.space.shape[-1] / _SIDE * (_RADIUS - distance))
