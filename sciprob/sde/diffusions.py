r"""Diffusions s(x) that depend on the state: dx = b(x) dt + scale s(x) o dB, in Stratonovich's sense.

That is the limit of smooth noises; Ito's form has no limit for H < 1/2 as the noise is refined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.sde.quantities import Quantity


@dataclass(frozen=True)
class RootDiffusion:
    """s(x) = sqrt(1 + (x / width)^2): constant near 0, proportional to |x| far away.

    Args:
        width: Where the one turns into the other, positive.
    """

    width: Quantity

    def at(self, values: Mapping[str, Tensor]) -> Root:
        """The function of x; `values` hold the width as `diffusion_width`."""
        return Root(values["diffusion_width"])


@dataclass(frozen=True)
class Root:
    """s(x) with a width that is a tensor, and its flow in closed form."""

    width: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The diffusion at `x`."""
        return (1 + (x / self.width).square()).sqrt()

    def flow(self, x: Tensor, length: Tensor) -> Tensor:
        """End of dx = s(x) d length from x."""
        return self.width * torch.sinh(torch.asinh(x / self.width) + length / self.width)


def flow(diffusion: Callable[[Tensor], Tensor], x: Tensor, length: Tensor) -> Tensor:
    """End of dx = s(x) d length from x: the diffusion's own `flow`, or a classical Runge-Kutta step of order 4."""
    exact = getattr(diffusion, "flow", None)
    if exact is not None:
        end: Tensor = exact(x, length)
        return end
    first = diffusion(x)
    second = diffusion(x + length / 2 * first)
    third = diffusion(x + length / 2 * second)
    fourth = diffusion(x + length * third)
    return x + length / 6 * (first + 2 * second + 2 * third + fourth)
