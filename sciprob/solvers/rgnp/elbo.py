"""The evidence lower bound of a random-grid neural process, term by term."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.problems.family import ProblemFamily
from sciprob.random import randn
from sciprob.solvers.rgnp.forward_map import NeuralGP
from sciprob.solvers.rgnp.inverse_map import InverseMap


@dataclass(frozen=True)
class Draw:
    """Randomness of a batch of one-sample estimates.

    Args:
        points: Grids X `(b, m, d)`, each with points of its own.
        z: Parameters `(b, dz)` from their prior.
        w: Known parameters `(b, dw)` from theirs.
        noise: White noise e of the field at the points `(b, m, fields)`.
        latents: Latents l `(b, k)`.
    """

    points: Tensor
    z: Tensor
    w: Tensor
    noise: Tensor
    latents: Tensor

    @classmethod
    def of(cls, family: ProblemFamily, batch: int, points: int, rank: int, generator: torch.Generator) -> Draw:
        """A new batch: everything redrawn, the grid too, so that its average is over grids as well."""
        z, w = family.unknown.sample(batch, generator), family.known.sample(batch, generator)
        x = family.domain.sample(batch * points, generator).reshape(batch, points, family.domain.dim)
        noise = randn((batch, points, family.n_fields), x, generator)
        return cls(x, z, w, noise, randn((batch, rank), x, generator))


@dataclass(frozen=True)
class Bound:
    """Terms of the bound by sample, `(b,)` each, and the mean squared residuals.

    Args:
        residual: log N(0; r, eps^2), summed over points and equations.
        inverse: log p(z | n, w, X), density of the unit-scale z; zero without an inverse map.
        entropy: Entropy of n at the points, in closed form.
        squares: Mean squared residual by equation `(equations,)`, without gradient.
    """

    residual: Tensor
    inverse: Tensor
    entropy: Tensor
    squares: Tensor

    @property
    def total(self) -> Tensor:
        """The estimate of the bound, up to constants, `(b,)`."""
        return self.residual + self.inverse + self.entropy


def evidence_bound(
    forward: NeuralGP, inverse: InverseMap | None, draw: Draw, eps: Tensor, *, stop_gradient: bool = False
) -> Bound:
    r"""E_q[log N(0; r, eps^2 I) + log p(z | n, w, X) - log q(n | z, w, X)], one sample of q per parameter draw.

    "The residual is zero" counts as an observation with noise eps. Residuals are those of
    u = B + D n at the points, n = m + s e + C l with e and l held constant in space, times the family's
    residual weights.

    Args:
        forward: q, the law of the field n.
        inverse: p(z | n, w, X), fed with the sampled n; None leaves its term out.
        draw: Parameters, grids and noise.
        eps: Standard deviation of the virtual observations by equation `(equations,)`.
        stop_gradient: Keep the inverse term from changing the forward map, which otherwise is also
            pushed towards fields from which z can be read.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """
    family = forward.family
    heads = forward(forward.jets(draw.points), draw.z, draw.w)
    fields = heads.draw(family.fields, draw.noise, draw.latents)
    found, weights = family.residual(draw.points, fields, draw.z, draw.w), family.residual_weights(draw.z, draw.w)
    r = torch.stack([found[name] * weights[name] for name in family.equations], dim=-1)  # (b, m, equations)
    logs = -0.5 * (r / eps).square() - eps.log() - 0.5 * math.log(2 * math.pi)
    entropy = heads.law.entropy()
    inverse_term = torch.zeros_like(entropy)
    if inverse is not None:
        n = torch.stack([fields[name].value for name in family.fields], dim=-1)
        law = inverse(draw.points, n.detach() if stop_gradient else n, draw.w)
        inverse_term = law.log_prob(family.unknown.unit(draw.z))
    return Bound(logs.sum((-2, -1)), inverse_term, entropy, r.detach().square().mean((0, 1)))


@dataclass(frozen=True)
class FieldRecords:
    """Noisy observations of fields with known parameters; every record at points of its own, or all at the same.

    Args:
        points: `(records, n, d)`, or `(n, d)` for all.
        values: y `(records, n, fields)`.
        z: `(records, dz)`.
        w: `(records, dw)`.
        noise: Standard deviation, a number or a tensor that broadcasts with the values.

    Raises:
        ShapeError: If the shapes do not fit each other.
    """

    points: Tensor
    values: Tensor
    z: Tensor
    w: Tensor
    noise: Tensor | float

    def __post_init__(self) -> None:
        n = len(self.values)
        lead, sizes = self.points.shape[:-1], (len(self.z), len(self.w))
        if self.values.ndim != 3 or lead not in (self.values.shape[:2], self.values.shape[1:2]) or sizes != (n, n):
            message = (
                "records should be points (records, n, d), values (records, n, fields), z and w (records, .), got "
                f"{tuple(self.points.shape)}, {tuple(self.values.shape)}, {tuple(self.z.shape)}, {tuple(self.w.shape)}."
            )
            raise ShapeError(message)

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, n: int, generator: torch.Generator) -> FieldRecords:
        """At most `n` different records, at random."""
        order = torch.randperm(len(self), generator=generator, device=generator.device)[:n].to(self.values.device)
        points = self.points[order] if self.points.ndim == 3 else self.points
        noise = self.noise
        if isinstance(noise, Tensor):
            noise = noise.expand(self.values.shape)[order]
        return FieldRecords(points, self.values[order], self.z[order], self.w[order], noise)


def data_log_likelihood(forward: NeuralGP, records: FieldRecords) -> Tensor:
    """Log N(y; B + D m, D (diag(s^2) + C C^T) D + sigma^2) by record, with the field integrated out, `(records,)`."""
    law = forward.field(records.points, records.z, records.w)
    noise = records.noise
    if isinstance(noise, Tensor):
        noise = noise.expand(records.values.shape).flatten(-2)
    return law.noisy(noise).log_prob(records.values.flatten(-2))
