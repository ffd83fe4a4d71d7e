"""Random collocation: joint draws of point, unknown and known parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.problems.family import ProblemFamily


@dataclass(frozen=True)
class Collocation:
    """n samples, each with its own point and parameters.

    Args:
        points: `(n, d)`.
        z: `(n, dz)`.
        w: `(n, dw)`.
    """

    points: Tensor
    z: Tensor
    w: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Tensor | slice) -> Collocation:
        return Collocation(self.points[index], self.z[index], self.w[index])

    def join(self, other: Collocation) -> Collocation:
        """Both, one after the other."""
        pairs = ((self.points, other.points), (self.z, other.z), (self.w, other.w))
        return Collocation(*(torch.cat(pair) for pair in pairs))


def sobol_collocation(family: ProblemFamily, n: int, generator: torch.Generator, dtype: torch.dtype) -> Collocation:
    """Scrambled Sobol points of (x, z, w) together: one point per draw of the parameters.

    The network is pointwise, so a whole grid per parameter draw would only spend the same work on fewer
    parameters. Points follow the domain's measure; parameters are uniform in the unit scale of their
    box (log-uniform where the box says so).

    Args:
        family: Domain and boxes.
        n: Number of samples.
        generator: Its next number is the seed of the scrambling; the result lies on its device.
        dtype: Of the result.
    """
    k, dz = family.domain.unit_size, family.unknown.size
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
    engine = torch.quasirandom.SobolEngine(k + dz + family.known.size, scramble=True, seed=seed)
    q = engine.draw(n, dtype=torch.float64).to(generator.device)
    z, w = 2 * q[:, k : k + dz] - 1, 2 * q[:, k + dz :] - 1
    parts = (family.domain.from_unit(q[:, :k]), family.unknown.from_unit(z), family.known.from_unit(w))
    return Collocation(*(part.to(dtype) for part in parts))


def choose_large(candidates: Collocation, residuals: Tensor, n: int, generator: torch.Generator) -> Collocation:
    """`n` of the candidates without replacement, with probability in proportion to |r|.

    Args:
        candidates: At least `n` samples.
        residuals: `(m, k)`; |r| is the norm over its last axis.
        n: How many.
        generator: Randomness of the choice.
    """
    size = torch.linalg.vector_norm(residuals.double(), dim=-1)
    floor = 1e-12 * size.max() + torch.finfo(torch.float64).tiny  # so that even exact solutions can be drawn
    chosen = torch.multinomial((size + floor).to(generator.device), n, replacement=False, generator=generator)
    return candidates[chosen.to(residuals.device)]
