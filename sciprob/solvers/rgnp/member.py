"""One member of a family with its refined solution: mean, standard deviation, joint law, at any points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciprob.solvers.rgnp.inputs import check_points
from sciprob.solvers.rgnp.laplace import sample_rows
from sciprob.solvers.rgnp.linearised_error import member_points
from sciprob.solvers.rgnp.refined_scale import Sizes
from sciprob.solvers.rgnp.refinement import Refinement, extrapolated
from sciprob.solvers.rgnp.residuals import mean_field
from sciprob.solvers.rgnp.sampling import Collocation

if TYPE_CHECKING:
    from sciprob.posteriors.gaussian import GaussianPosterior
    from sciprob.solvers.rgnp.process import FieldProcess

_SIZED = 128  # points over which sizes are averaged


@dataclass(frozen=True)
class RefinedMember:
    r"""u(x) | z, w ~ N(B + D n + g S^{1/2} V a, T F F^T T + c^2 e e^T), F = g S^{1/2} [V R, rest], R R^T = cov(a).

    The refinement is a nonlinear least squares in 64 tangents of the trained network; e(x) is what 448 further ones
    would add. So the errors of a member are known in size and, by half, in shape. T is diagonal; T and c give the
    standard deviation the law of `RefinedScale`. See `refinement`.

    Args:
        process: The trained map.
        z: `(dz,)`, float64.
        w: `(dw,)`, float64.
        refinement: Coefficients a, and their covariance.
    """

    process: FieldProcess
    z: Tensor
    w: Tensor
    refinement: Refinement

    def mean(self, x: Tensor) -> Tensor:
        """Fields `(n, fields)` at points `(n, d)`."""
        x = self._checked(x)
        tangents = self._tangents(x, (self.process.refining.leading @ self.refinement.coefficients).unsqueeze(-1))
        return self._trained(x) + tangents[..., 0]

    def std(self, x: Tensor) -> Tensor:
        """Standard deviations `(n, fields)`; for many points, `predict` without the joint law."""
        return self.process.refined_scale.deviation(*self.laplace(x), self.sizes)

    def predict(self, x: Tensor) -> GaussianPosterior:
        """The joint law of all fields at points `(n, d)`, a Gaussian posterior on `(n, fields)`.

        Raises:
            DataError: If points lie outside the domain.
        """
        x = self._checked(x)
        return self.process.gaussian(x, self.mean(x), self.root(x))

    def root(self, x: Tensor) -> Tensor:
        """[T F, c e] `(n fields, q)`, rows by point and then by field."""
        tangents = self._tangents(self._checked(x), torch.cat([self._factors, self._beyond], dim=-1))
        factors, beyond = tangents[..., :-2], tangents[..., -2]
        ratio, amplitude = self.process.refined_scale.parts(torch.linalg.vector_norm(factors, dim=-1), self.sizes)
        columns = [factors * ratio.unsqueeze(-1), (amplitude * beyond).unsqueeze(-1)]
        return torch.cat(columns, dim=-1).flatten(0, 1)

    def laplace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Laplace's s, and e, at points, `(n, fields)` each, for `RefinedScale`."""
        tangents = self._tangents(self._checked(x), torch.cat([self._factors, self._beyond], dim=-1))
        return torch.linalg.vector_norm(tangents[..., :-2], dim=-1), tangents[..., -2]

    @cached_property
    def sizes(self) -> Sizes:
        """X, and s and e over the domain."""
        x = member_points(self.process.family).to(self.z)[:_SIZED]
        tangents = self._tangents(x, torch.cat([self._factors, self._beyond], dim=-1))
        beyond, last = tangents[..., -2:].square().mean(0).sqrt().unbind(-1)
        std = torch.linalg.vector_norm(tangents[..., :-2], dim=-1)
        return Sizes(extrapolated(beyond, last), std, tangents[..., -2])

    @property
    def _factors(self) -> Tensor:
        directions = self.process.refining
        return torch.cat([directions.leading @ self.refinement.root, directions.rest], dim=-1)

    @property
    def _beyond(self) -> Tensor:
        found = torch.stack([self.refinement.beyond, self.refinement.last], dim=-1)
        directions: Tensor = self.process.refining.leading @ found
        return directions

    def _tangents(self, x: Tensor, directions: Tensor) -> Tensor:
        """Derivatives of u along directions of the weights, `(n, fields, k)`, in chunks."""
        batch = Collocation(x, self.z.expand(len(x), -1), self.w.expand(len(x), -1))
        return sample_rows(self.process.family, self.process.network, batch, directions)

    def _trained(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return mean_field(self.process.family, self.process.network, x, self.z, self.w)

    def _checked(self, x: Tensor) -> Tensor:
        check_points(self.process.family, x)
        return x.to(self.z)
