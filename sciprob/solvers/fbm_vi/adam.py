"""Adam on one vector, with its state in plain tensors that can be stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_BETAS = (0.9, 0.95)  # a short memory: gradients in unknown numbers are far larger at the start


@dataclass
class Climb:
    """Position `(P,)`, its moments of the gradient, the average of late positions, and the number of steps."""

    position: Tensor
    first: Tensor
    second: Tensor
    average: Tensor
    step: int = 0

    @classmethod
    def at(cls, position: Tensor) -> Climb:
        """A start."""
        start = position.detach().clone()
        return cls(start, torch.zeros_like(start), torch.zeros_like(start), start.clone())

    def ascend(self, gradient: Tensor, rate: Tensor, steps: int) -> Climb:
        """One step up, with the cosine schedule of `steps` steps; the average is over the last fifth.

        Args:
            gradient: `(P,)`; its norm is cut at ten times what the moments expect, since single paths can be extreme.
            rate: Step length of each entry `(P,)`, at the start.
            steps: Planned number.

        Source: Kingma and Ba, ICLR 2015.
        """
        count = self.step + 1
        scale = (self.second.sum() / max(1 - _BETAS[1] ** self.step, 1e-12)).sqrt()
        if self.step > 10:
            gradient = gradient * (10 * scale / gradient.norm().clamp_min(1e-300)).clamp_max(1)
        first = torch.lerp(self.first, gradient, 1 - _BETAS[0])
        second = torch.lerp(self.second, gradient.square(), 1 - _BETAS[1])
        mean, square = first / (1 - _BETAS[0] ** count), second / (1 - _BETAS[1] ** count)
        decay = (1 + math.cos(math.pi * min(self.step / steps, 1))) / 2
        position = self.position + rate * decay * mean / (square.sqrt() + 1e-12)
        late = count - math.floor(0.8 * steps)
        average = position.clone() if late <= 1 else torch.lerp(self.average, position, 1 / late)
        return Climb(position, first, second, average, count)
