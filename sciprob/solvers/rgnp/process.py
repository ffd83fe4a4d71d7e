"""A Gaussian process over the solutions of a family, from a trained network and the covariance of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sciprob.operators.linear import DenseMap
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.calibration import ErrorScale
from sciprob.solvers.rgnp.conditioning import condition_root
from sciprob.solvers.rgnp.inputs import check_data, check_parameters, check_points, field_columns, warn_outside
from sciprob.solvers.rgnp.laplace import (
    Directions,
    LaplaceCovariance,
    field_root,
    field_variance,
    principal_directions,
    sample_rows,
)
from sciprob.solvers.rgnp.linearised_error import expected_errors
from sciprob.solvers.rgnp.member import RefinedMember
from sciprob.solvers.rgnp.network import NetworkShape, PointNetwork
from sciprob.solvers.rgnp.refined_scale import RefinedScale
from sciprob.solvers.rgnp.refinement import refine
from sciprob.solvers.rgnp.residuals import in_precision, mean_field, residuals_at
from sciprob.solvers.rgnp.sampling import Collocation
from sciprob.solvers.rgnp.surrogate import field_space
from sciprob.spaces import Space
from sciprob.spaces.shapes import broadcast_shapes

_AT_ONCE = 1 << 16  # points that the network sees at once: about 0.2 GB with width 64
_DIRECTIONS = 256
_REFINING, _EACH = 512, 2


@dataclass(frozen=True)
class FieldProcess:
    r"""u(x) | z, w ~ N(B + D n(x, z, w), T g S g^T T): the trained mean, and its calibrated Laplace covariance.

    T is diagonal, and makes the marginal standard deviations those of `ErrorScale`; correlations are Laplace's. Draws
    are functions of x, so that points and fields are joint, and any points do. Everything is closed form and
    needs no solve of the equation. Before `calibrate`, standard deviations have the size of one linearised
    correction by the residual, which no solution has checked. Means take dtype and device of the parameters;
    uncertainty is computed in float64.

    Shapes: z `(*batch, dz)`, w `(*batch, dw)`, x `(n, d)` or `(*batch, n, d)`, fields `(*batch, n, fields)`;
    `predict` and `condition` take one z and w and return posteriors on `(n, fields)`.

    Args:
        family: The family.
        shape: Of the network.
        network: Mean n in network space, float64.
        covariance: Of its weights.
        scale: The law of its standard deviations.
        refined_scale: The same, of refined solutions.
        bands: Conformal factor by confidence.
        meta: Plain numbers about the training.
    """

    family: ProblemFamily
    shape: NetworkShape
    network: PointNetwork
    covariance: LaplaceCovariance
    scale: ErrorScale = field(default_factory=ErrorScale)
    refined_scale: RefinedScale = field(default_factory=RefinedScale)
    bands: Mapping[float, float] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def mean(self, z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        """Mean fields `(*batch, n, fields)`, in chunks; gradients are not recorded (`operator` has them).

        Warns:
            OutsideBoxWarning: If parameters lie outside the box.
        """
        self.family.domain.check(x)
        warn_outside(self.family, z, w, stacklevel=3)
        batch = broadcast_shapes(x.shape[:-2], z.shape[:-1], w.shape[:-1])
        n, d = x.shape[-2:]
        x, z, w = x.to(z).expand(*batch, n, d), z.expand(*batch, -1), w.to(z).expand(*batch, -1)
        x, z, w = (part.reshape(batch.numel(), *part.shape[len(batch) :]) for part in (x, z, w))  # w may be empty
        network = in_precision(self.network, z)
        out = z.new_empty(*x.shape[:-1], self.family.n_fields)
        rows, columns = max(1, _AT_ONCE // max(n, 1)), max(1, min(n, _AT_ONCE))
        with torch.no_grad():
            for i in range(0, len(x), rows):
                for j in range(0, n, columns):
                    part = x[i : i + rows, j : j + columns]
                    found = mean_field(self.family, network, part, z[i : i + rows], w[i : i + rows])
                    out[i : i + rows, j : j + columns] = found
        return out.reshape(*batch, n, self.family.n_fields)

    def std(self, z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        """Marginal standard deviations `(n, fields)`, for any number of points: `predict` without the joint law."""
        z, w, x = self._one(z, w, x)
        std = self.laplace_std(z, w, x)
        return std * self._ratio(z, w, std)

    def laplace_std(self, z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        """Standard deviations before calibration, `(n, fields)`: they rank points and members, and no more."""
        return field_variance(self.family, self.network, self.covariance, x, z, w).sqrt()

    def predict(self, z: Tensor, w: Tensor, x: Tensor, refined: bool = False) -> GaussianPosterior:
        """The joint law of all fields at points `(n, d)`, a Gaussian posterior on `(n, fields)`.

        Args:
            z: `(dz,)`.
            w: `(dw,)`.
            x: `(n, d)`.
            refined: Whether the solution is refined by its own residual first, see `refine`.

        Warns:
            OutsideBoxWarning: If parameters lie outside the box.

        Raises:
            DataError: If points lie outside the domain.
        """
        z, w, x = self._one(z, w, x)
        return self.gaussian(x, *self._law(z, w, x, refined))

    def refine(self, z: Tensor, w: Tensor) -> RefinedMember:
        """The solution of one member, refined by its own residual: smaller errors, and standard deviations of its own.

        A least-squares problem in the 64 leading tangents of the network, without any reference solution. It
        takes a twentieth of a second on one core for a field on a line, half a second in space and time, and serves
        any number of points. `predict(..., refined=True)` makes one for a single use.

        Warns:
            OutsideBoxWarning: If parameters lie outside the box.
        """
        z, w, _ = self._one(z, w, z.new_zeros(0, self.family.domain.dim))
        return RefinedMember(self, z, w, refine(self.family, self.network, self.refining, z, w))

    def condition(
        self,
        x: Tensor,
        y: Tensor,
        sigma: float | Tensor,
        z: Tensor,
        w: Tensor,
        at: Tensor | None = None,
        fields: Sequence[str] | None = None,
        refined: bool = False,
    ) -> GaussianPosterior:
        """The law of all fields given noisy values of some, for known parameters; closed form.

        Args:
            x: Points of the data `(m, d)`.
            y: Values `(m, len(fields))`.
            sigma: Standard deviation of their noise, > 0; a number or a tensor that broadcasts to y.
            z: `(dz,)`.
            w: `(dw,)`.
            at: Points of the result `(n, d)`; by default those of the data.
            fields: Which fields are the columns of y; by default all.
            refined: Whether the solution is refined by its own residual first, see `refine`.

        Raises:
            ShapeError: If y does not fit points and fields.
            DataError: If y is not finite or sigma not positive.
            ConfigError: For an unknown field.
        """
        z, w, x = self._one(z, w, x)
        at = x if at is None else self._one(z, w, at)[2]
        columns = field_columns(self.family, fields)
        y, noise = check_data(x, y.to(z), sigma, len(columns))
        everything = torch.cat([x, at])
        mean, root = self._law(z, w, everything, refined)
        root = root.reshape(len(everything), self.family.n_fields, -1)
        m = len(x)
        misfit = (y - mean[:m, columns]).flatten()
        shift, conditioned = condition_root(
            root[:m, columns].flatten(0, 1), root[m:].flatten(0, 1), misfit, noise.flatten()
        )
        return self.gaussian(at, mean[m:] + shift.reshape(len(at), -1), conditioned)

    def factors(self, z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        """C `(b, n, fields, k)` with C C^T the covariances for many parameters at once, and k = 256 (or P, if less).

        They are those of `predict`, projected onto their leading directions over domain and boxes: a little
        smaller, and far cheaper.

        Args:
            z: `(b, dz)`.
            w: `(dw,)` or `(b, dw)`.
            x: `(n, d)`.
        """
        plain = self.laplace_factors(z, w, x, self.directions.leading)
        std = torch.linalg.vector_norm(plain, dim=-1)
        expected, domain = self.expected_errors(z, w)
        return plain * self.scale.ratio(std, domain, expected).unsqueeze(-1)

    def laplace_factors(self, z: Tensor, w: Tensor, x: Tensor, directions: Tensor) -> Tensor:
        """As `factors`, before calibration, along directions of the weights `(P, k)`."""
        n, b = len(x), len(z)
        points, zs, ws = (value.to(self.covariance.vectors) for value in (x, z, w))
        ws = ws.expand(b, -1).repeat_interleave(n, dim=0)
        batch = Collocation(points.repeat(b, 1), zs.repeat_interleave(n, dim=0), ws)
        rows = sample_rows(self.family, self.network, batch, directions)
        return rows.reshape(b, n, *rows.shape[1:])

    def expected_errors(self, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Root mean square of the linearised correction `(b, fields)`, and Laplace's sd over the domain.

        The latter is at some points of the domain's measure, `(b, m, fields)`. Needs no reference solution; see
        `linearised_error`.

        Args:
            z: `(b, dz)`.
            w: `(dw,)` or `(b, dw)`.
        """
        z, w = z.to(self.covariance.vectors), w.to(self.covariance.vectors).expand(len(z), -1)
        return expected_errors(self.family, self.network, self.directions, z, w)

    def residual(self, z: Tensor, w: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Residuals of the mean by equation, `(*batch, n)`: how well it solves its equation, without any reference."""
        network = in_precision(self.network, z)
        return {name: r.detach() for name, r in residuals_at(self.family, network, x.to(z), z, w.to(z)).items()}

    @cached_property
    def directions(self) -> Directions:
        """256 leading directions of the weights, and some for the rest."""
        return principal_directions(self.family, self.network, self.covariance, _DIRECTIONS)

    @cached_property
    def refining(self) -> Directions:
        """Those of `refine`: 512, an eighth of which make the solution."""
        return principal_directions(self.family, self.network, self.covariance, _REFINING, each=_EACH)

    def gaussian(self, x: Tensor, mean: Tensor, root: Tensor) -> GaussianPosterior:
        """A posterior on `(n, fields)` at points x, of its mean `(n, fields)` and a root `(n fields, q)`."""
        space = field_space(self.family, x)
        dense = DenseMap(root, Space((root.shape[-1],), "xi"), space)
        variance = root.square().sum(-1).reshape(space.shape)
        return GaussianPosterior(space, mean=mean, root=dense, variance=variance, meta={"problem": self.family.name})

    def _law(self, z: Tensor, w: Tensor, x: Tensor, refined: bool) -> tuple[Tensor, Tensor]:
        """Mean `(n, fields)` and root of the covariance `(n fields, q)`."""
        if refined:
            member = RefinedMember(self, z, w, refine(self.family, self.network, self.refining, z, w))
            return member.mean(x), member.root(x)
        return self._mean_at(z, w, x), self._root(z, w, x)

    def _root(self, z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        root = field_root(self.family, self.network, self.covariance, x, z, w)
        std = torch.linalg.vector_norm(root, dim=-1).reshape(len(x), self.family.n_fields)
        return root * self._ratio(z, w, std).reshape(-1, 1)

    def _ratio(self, z: Tensor, w: Tensor, std: Tensor) -> Tensor:
        """Calibrated over Laplace's standard deviations `(n, fields)`, for one set of parameters."""
        expected, domain = self.expected_errors(z.unsqueeze(0), w)
        return self.scale.ratio(std, domain[0], expected[0])

    def _mean_at(self, z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            return mean_field(self.family, self.network, x, z, w)

    def _one(self, z: Tensor, w: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One set of parameters and of points in float64, checked."""
        z, w, x = (value.to(self.covariance.vectors) for value in (z, w, x))
        check_parameters(self.family, z, w)
        check_points(self.family, x)
        warn_outside(self.family, z, w, stacklevel=4)
        return z, w, x
