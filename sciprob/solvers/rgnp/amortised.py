"""What training on a family gives: solutions with uncertainty for any of its parameters, at any points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError
from sciprob.posteriors.ensemble import Ensemble
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.calibration import ErrorScale, conformal_factor, field_scores
from sciprob.solvers.rgnp.field_law import SurrogateLaw, infer_from_field
from sciprob.solvers.rgnp.inputs import OutsideBoxWarning, check_data, field_columns
from sciprob.solvers.rgnp.low_rank import LowRankGaussian
from sciprob.solvers.rgnp.observation_map import ObservationMap, ObservationSettings, train_observation_map
from sciprob.solvers.rgnp.process import FieldProcess
from sciprob.solvers.rgnp.refined_scale import RefinedScale, Sizes
from sciprob.solvers.rgnp.surrogate import SurrogateOperator

__all__ = ["Amortised", "OutsideBoxWarning"]


@dataclass(frozen=True)
class Amortised(FieldProcess):
    """The trained map of a family, to use: predict, condition, infer, calibrate, save.

    Fields and shapes are those of `FieldProcess`.

    Args:
        inverse: A map from noisy values to parameters, that joins the proposal of `infer`; see `with_inverse`.
    """

    inverse: ObservationMap | None = None

    def with_inverse(
        self,
        *,
        generator: torch.Generator,
        settings: ObservationSettings | None = None,
        report: Callable[[int, float], None] | None = None,
    ) -> Amortised:
        """A copy with an inverse map, trained on this map's mean as it is: simulated data, no equation solved.

        Args:
            generator: Randomness of the training.
            settings: Of network and training; the defaults take a few minutes on one core.
            report: Called as `report(step, loss)` after each step.

        Raises:
            ConfigError: If the family has no unknown.
        """
        chosen = ObservationSettings() if settings is None else settings
        return replace(self, inverse=train_observation_map(self.family, self.mean, chosen, generator, report))

    def infer(
        self,
        x: Tensor,
        y: Tensor,
        sigma: float | Tensor,
        w: Tensor,
        *,
        generator: torch.Generator,
        samples: int = 1000,
        fields: Sequence[str] | None = None,
        guess: LowRankGaussian | None = None,
    ) -> Ensemble:
        """The posterior of z from noisy values of fields, through the likelihood of the amortised law.

        z is uniform in its box; the doubt of the map counts as noise, shared between points. No equation is solved.

        Args:
            x: Points `(m, d)`, any number and anywhere.
            y: Values `(m, len(fields))`.
            sigma: Standard deviation of their noise, > 0; a number or a tensor that broadcasts to y.
            w: `(dw,)`.
            generator: Randomness.
            samples: Members of the result.
            fields: Which fields are the columns of y; by default all.
            guess: A Gaussian of z in unit scale that joins the proposal; by default that of `inverse`, if there is one.

        Raises:
            ShapeError: If y does not fit points and fields.
            DataError: If y is not finite or sigma not positive.
            ConfigError: For an unknown field, or a family without unknown.
        """
        columns = field_columns(self.family, fields)
        centre = self.family.unknown.from_unit(self.covariance.vectors.new_zeros(self.family.unknown.size))
        _, w, x = self._one(centre, w, x)
        y, noise = check_data(x, y.to(x), sigma, len(columns))
        law = SurrogateLaw(self, x, w, tuple(columns))
        if guess is None and self.inverse is not None and len(x):
            guess = self.inverse(x, *self._all_fields(y, noise, columns), w)
        found = infer_from_field(law, y.flatten(), noise.flatten(), samples=samples, generator=generator, guess=guess)
        found.meta |= {"problem": self.family.name, "solver": "rgnp"}
        return found

    def _all_fields(self, y: Tensor, noise: Tensor, columns: list[int]) -> tuple[Tensor, Tensor]:
        """Values and noise `(m, fields)`; infinite noise says what is not observed."""
        values = y.new_zeros(len(y), self.family.n_fields)
        sigma = torch.full_like(values, torch.inf)
        values[:, columns], sigma[:, columns] = y, noise
        return values, sigma

    def calibrate(self, z: Tensor, w: Tensor, x: Tensor, u: Tensor, confidence: float | None = None) -> Amortised:
        """A copy whose standard deviations are fitted to reference solutions, by the law of `ErrorScale`.

        Those of refined solutions are fitted to the same. Some sixteen to thirty solutions are enough. `confidence` c
        adds a conformal factor for `band`; half of the solutions then serve for the law, the others for the factor,
        as its guarantee needs.

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
        z, w, x = (value.to(self.covariance.vectors) for value in (z, w, x))
        errors = u.to(z) - self.mean(z, w, x)
        std = torch.stack([self.laplace_std(a, b, x) for a, b in zip(z, w, strict=True)])
        expected, domain = self.expected_errors(z, w)
        k = len(z) if confidence is None else (len(z) + 1) // 2
        scale = ErrorScale.fit(errors[:k], std[:k], domain[:k], expected[:k])
        members = [self.refine(a, b) for a, b in zip(z, w, strict=True)]
        s, beyond = (torch.stack(part) for part in zip(*(member.laplace(x) for member in members), strict=True))
        refined_errors = u.to(z) - torch.stack([member.mean(x) for member in members])
        refined = RefinedScale.fit(refined_errors, s, beyond, Sizes.stack([member.sizes for member in members]))
        bands = {}
        if confidence is not None:
            calibrated = std[k:] * scale.ratio(std[k:], domain[k:], expected[k:])
            bands[confidence] = conformal_factor(field_scores(errors[k:], calibrated, confidence), confidence)
        meta = {**self.meta, "calibration_cases": len(z)}
        return replace(self, scale=scale, refined_scale=refined, bands=bands, meta=meta)

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
