"""What training on a family gives: solutions with uncertainty for any of its parameters, at any points."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError, DataError, SciprobWarning, ShapeError
from sciprob.operators.linear import DenseMap
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.calibration import conformal_factor, field_scores, temperature
from sciprob.solvers.rgnp.conditioning import condition_root
from sciprob.solvers.rgnp.laplace import (
    LaplaceCovariance,
    field_root,
    field_variance,
    principal_directions,
    sample_rows,
)
from sciprob.solvers.rgnp.low_rank import LowRankGaussian
from sciprob.solvers.rgnp.network import NetworkShape, PointNetwork
from sciprob.solvers.rgnp.residuals import in_precision, mean_field, residuals_at
from sciprob.solvers.rgnp.sampling import Collocation
from sciprob.solvers.rgnp.surrogate import SurrogateOperator, field_space
from sciprob.spaces import Space

_AT_ONCE = 1 << 16  # points that the network sees at once: about 0.2 GB with width 64
_DIRECTIONS = 256


class OutsideBoxWarning(SciprobWarning):
    """Parameters lie outside the box that was trained, where neither mean nor uncertainty has been checked."""


@dataclass(frozen=True)
class Amortised:
    r"""u(x) | z, w ~ N(B + D n(x, z, w), T^2 g S g^T): the trained mean, and its calibrated Laplace covariance.

    Draws are functions of x, so that points and fields are joint, and any points do. Everything is closed form and
    needs no solve of the equation. Before `calibrate`, T = 1, and standard deviations only rank points and
    parameters. Means take dtype and device of the parameters; uncertainty is computed in float64.

    Shapes: z `(*batch, dz)`, w `(*batch, dw)`, x `(n, d)` or `(*batch, n, d)`, fields `(*batch, n, fields)`;
    `predict` and `condition` take one z and w and return posteriors on `(n, fields)`.

    Args:
        family: The family.
        shape: Of the network.
        network: Mean n in network space, float64.
        covariance: Of its weights.
        temperature: T.
        bands: Conformal factor by confidence.
        meta: Plain numbers about the training.
    """

    family: ProblemFamily
    shape: NetworkShape
    network: PointNetwork
    covariance: LaplaceCovariance
    temperature: float = 1.0
    bands: Mapping[float, float] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def mean(self, z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        """Mean fields `(*batch, n, fields)`, in chunks; gradients are not recorded (`operator` has them).

        Warns:
            OutsideBoxWarning: If parameters lie outside the box.
        """
        self._warn_outside(z, w)
        batch = torch.broadcast_shapes(x.shape[:-2], z.shape[:-1], w.shape[:-1])
        n, d = self._count(x), x.shape[-1]
        x, z, w = x.to(z).expand(*batch, n, d), z.expand(*batch, -1), w.to(z).expand(*batch, -1)
        x, z, w = x.reshape(-1, n, d), z.reshape(-1, z.shape[-1]), w.reshape(-1, w.shape[-1])
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
        return self.temperature * field_variance(self.family, self.network, self.covariance, x, z, w).sqrt()

    def predict(self, z: Tensor, w: Tensor, x: Tensor) -> GaussianPosterior:
        """The joint law of all fields at points `(n, d)`, a Gaussian posterior on `(n, fields)`.

        Warns:
            OutsideBoxWarning: If parameters lie outside the box.

        Raises:
            DataError: If points lie outside the domain.
        """
        z, w, x = self._one(z, w, x)
        root = self._root(z, w, x)
        return self._gaussian(x, self._mean_at(z, w, x), root)

    def condition(
        self,
        x: Tensor,
        y: Tensor,
        sigma: float | Tensor,
        z: Tensor,
        w: Tensor,
        at: Tensor | None = None,
        fields: Sequence[str] | None = None,
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

        Raises:
            ShapeError: If y does not fit points and fields.
            DataError: If y is not finite or sigma not positive.
            ConfigError: For an unknown field.
        """
        z, w, x = self._one(z, w, x)
        at = x if at is None else self._one(z, w, at)[2]
        columns = self._columns(fields)
        y, noise = _data(x, y.to(z), sigma, len(columns))
        everything = torch.cat([x, at])
        root = self._root(z, w, everything).reshape(len(everything), self.family.n_fields, -1)
        mean = self._mean_at(z, w, everything)
        m = len(x)
        misfit = (y - mean[:m, columns]).flatten()
        shift, conditioned = condition_root(
            root[:m, columns].flatten(0, 1), root[m:].flatten(0, 1), misfit, noise.flatten()
        )
        return self._gaussian(at, mean[m:] + shift.reshape(len(at), -1), conditioned)

    def law(self, z: Tensor, w: Tensor, x: Tensor) -> LowRankGaussian:
        """Laws of the fields for many parameters at once, over `n fields` numbers (by point, then by field).

        The covariance is that of `predict` projected onto its 256 leading directions over the box: a little
        smaller, and far cheaper. The law's own diagonal is zero.

        Args:
            z: `(b, dz)`.
            w: `(dw,)` or `(b, dw)`.
            x: `(n, d)`.
        """
        n, b = len(x), len(z)
        zs, ws = z.double(), w.to(z).double().expand(b, -1)
        batch = Collocation(x.to(zs).repeat(b, 1), zs.repeat_interleave(n, dim=0), ws.repeat_interleave(n, dim=0))
        factors = sample_rows(self.family, self.network, batch, self._directions).reshape(
            b, n * self.family.n_fields, -1
        )
        mean = mean_field(self.family, self.network, x.to(zs).expand(b, n, -1), zs, ws).detach().flatten(-2)
        return LowRankGaussian(mean, torch.zeros_like(mean), self.temperature * factors)

    def residual(self, z: Tensor, w: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Residuals of the mean by equation, `(*batch, n)`: how well it solves its equation, without any reference."""
        network = in_precision(self.network, z)
        return {name: r.detach() for name, r in residuals_at(self.family, network, x.to(z), z, w.to(z)).items()}

    def calibrate(self, z: Tensor, w: Tensor, x: Tensor, u: Tensor, confidence: float | None = None) -> Amortised:
        """A copy whose standard deviations are fitted to reference solutions.

        T makes mean +- 2 sd hold 95.45 % of all values. `confidence` c adds a conformal factor for `band`; half of the
        solutions then serve for T, the others for the factor, as its guarantee needs.

        Args:
            z: `(k, dz)`, draws of the prior.
            w: `(k, dw)`.
            x: `(n, d)`.
            u: Reference solutions `(k, n, fields)`, e.g. `family.solve(z, w, x)`.
            confidence: In (0, 1), or None.

        Raises:
            DataError: If there are no solutions, too few for the confidence, or one is not finite.
        """
        if len(z) == 0:
            message = "calibration needs at least one reference solution, got none."
            raise DataError(message)
        plain = replace(self, temperature=1.0, bands={})
        errors = u.double() - plain.mean(z.double(), w.double(), x.double())
        std = torch.stack([plain.std(a, b, x) for a, b in zip(z, w, strict=True)])
        k = len(z) if confidence is None else (len(z) + 1) // 2
        fitted = float(temperature(errors[:k], std[:k]))
        bands = {}
        if confidence is not None:
            scores = field_scores(errors[k:], fitted * std[k:], confidence)
            bands[confidence] = conformal_factor(scores, confidence)
        return replace(self, temperature=fitted, bands=bands, meta={**self.meta, "calibration_cases": len(z)})

    def band(self, z: Tensor, w: Tensor, x: Tensor, confidence: float = 0.9) -> tuple[Tensor, Tensor]:
        """Ends `(n, fields)` of a band with a guarantee, whatever the shape of the errors.

        For new parameters drawn as those of the calibration, it holds a share `confidence` of the values with a
        probability of at least `confidence`.

        Raises:
            ConfigError: If `calibrate` was not asked for this confidence.
        """
        if confidence not in self.bands:
            message = (
                f"there is no band of confidence {confidence:g}; call `calibrate(..., confidence={confidence:g})`."
            )
            raise ConfigError(message)
        mean, std = self._mean_at(*self._one(z, w, x)), self.std(z, w, x)
        return mean - self.bands[confidence] * std, mean + self.bands[confidence] * std

    def with_meta(self, figures: Mapping[str, Any]) -> Amortised:
        """A copy with more plain numbers or words."""
        return replace(self, meta={**self.meta, **figures})

    def operator(self, x: Tensor, w: Tensor) -> SurrogateOperator:
        """The map z -> mean at points x for known w, as a forward operator: `laplace`, `pcn` and `nuts` run on it."""
        return SurrogateOperator(self.family, self.network, x, w)

    def save(self, folder: str | Path) -> Path:
        """Write a folder that `Amortised.load` restores bit for bit, in any process."""
        from sciprob.solvers.rgnp.store import save_amortised

        return save_amortised(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, family: ProblemFamily | None = None) -> Amortised:
        """Read what `save` wrote; `folder` may also be that of a fit.

        Args:
            folder: The folder.
            family: The family, if it was built in Python and not from a problem file.

        Raises:
            DataError: If there is none, or its files are damaged.
            ConfigError: If its family was built in Python and is not given.
        """
        from sciprob.solvers.rgnp.store import load_amortised

        return load_amortised(folder, family)

    @cached_property
    def _directions(self) -> Tensor:
        return principal_directions(self.family, self.network, self.covariance, _DIRECTIONS)

    def _root(self, z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        return self.temperature * field_root(self.family, self.network, self.covariance, x, z, w)

    def _mean_at(self, z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            return mean_field(self.family, self.network, x, z, w)

    def _gaussian(self, x: Tensor, mean: Tensor, root: Tensor) -> GaussianPosterior:
        space = field_space(self.family, x)
        dense = DenseMap(root, Space((root.shape[-1],), "xi"), space)
        variance = root.square().sum(-1).reshape(space.shape)
        return GaussianPosterior(space, mean=mean, root=dense, variance=variance, meta={"problem": self.family.name})

    def _one(self, z: Tensor, w: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One set of parameters and of points in float64, checked."""
        for name, value, space in (("z", z, self.family.unknown.space), ("w", w, self.family.known.space)):
            if tuple(value.shape) != space.shape:
                message = (
                    f"`{name}` should be one set of parameters {space.shape}, got {tuple(value.shape)}; loop over them."
                )
                raise ShapeError(message)
        z, w, x = (value.to(self.covariance.vectors) for value in (z, w, x))
        field_space(self.family, x)
        inside = self.family.domain.contains(x)
        if not bool(inside.all()):
            first = int((~inside).nonzero()[0])
            message = (
                f"points should lie in the domain of `{self.family.name}`, point {first} {x[first].tolist()} does not."
            )
            raise DataError(message)
        self._warn_outside(z, w)
        return z, w, x

    def _count(self, x: Tensor) -> int:
        self.family.domain.check(x)
        return x.shape[-2]

    def _columns(self, fields: Sequence[str] | None) -> list[int]:
        known = self.family.fields
        for name in fields or ():
            if name not in known:
                message = f"family `{self.family.name}` has no field `{name}`; {did_you_mean(name, known)}"
                raise ConfigError(message)
        return [known.index(name) for name in (known if fields is None else fields)]

    def _warn_outside(self, z: Tensor, w: Tensor) -> None:
        for box, value in ((self.family.unknown, z), (self.family.known, w)):
            inside = box.contains(value)
            if not bool(inside.all()):
                share = float((~inside).double().mean())
                message = (
                    f"{100 * share:.3g} % of the parameters {box.names} lie outside the box {box.lower} to {box.upper} "
                    "that was trained; results there are extrapolated and their uncertainty is not calibrated."
                )
                warnings.warn(message, OutsideBoxWarning, stacklevel=4)


def _data(x: Tensor, y: Tensor, sigma: float | Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Data and standard deviations of their noise, `(m, columns)` each."""
    if tuple(y.shape) != (len(x), columns):
        message = f"data at {len(x)} points of {columns} fields should be {(len(x), columns)}, got {tuple(y.shape)}."
        raise ShapeError(message)
    noise = torch.as_tensor(sigma).to(y).expand(y.shape)
    if not bool(torch.isfinite(y).all() and (noise > 0).all()):
        message = "data should be finite and their noise positive; remove entries that are not."
        raise DataError(message)
    return y, noise
