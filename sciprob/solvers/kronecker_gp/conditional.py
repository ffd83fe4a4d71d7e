"""A Gaussian process on a box, conditioned on linear functionals: the result of `condition`."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.pde.functionals import AnyPoints, Functionals
from sciprob.pde.jet import Jet


@dataclass(frozen=True, eq=False)
class Conditional(abc.ABC):
    """Posterior of a field u given linear functionals; everything anywhere in the box.

    Attributes:
        coordinates: Names of the coordinates.
        log_evidence: log N(y | 0, G + Sigma) of all data, normalised, `(*batch,)`.
        chi_square: y^T (G + Sigma)^{-1} y / n, `(*batch,)`; 1 on average for data from the model, and the
            factor by which all variances are to be scaled if only their ratios are believed.
        count: Number n of data.
        batch: Batch shape of the data.
    """

    coordinates: tuple[str, ...]
    log_evidence: Tensor
    chi_square: Tensor
    count: int
    batch: torch.Size

    @property
    @abc.abstractmethod
    def rank(self) -> int:
        """Number of unknowns of the linear algebra."""

    @abc.abstractmethod
    def mean(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior mean of a derivative of u, `(*batch, *points.shape)`.

        Raises:
            ShapeError: If the derivative names an unknown coordinate, or the points have other coordinates.
            UnsupportedProblemError: If a kernel is not smooth enough.
        """

    @abc.abstractmethod
    def std(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior standard deviation of a derivative of u, `(*points.shape)`, the same for all data."""

    @abc.abstractmethod
    def sample(self, points: AnyPoints, n: int, generator: torch.Generator, derivative: str = "") -> Tensor:
        """`n` draws of a derivative of u at points, `(n, *batch, *points.shape)`."""

    @abc.abstractmethod
    def covariance_action(self, points: AnyPoints, vector: Tensor, derivative: str = "") -> Tensor:
        """Posterior covariance of a derivative at points, times `(*k, *points.shape)`."""

    def jets(self, points: AnyPoints, derivatives: Iterable[str]) -> Jet:
        """Posterior mean of several derivatives as a jet, entries `(*batch, n)`."""
        size = math.prod(points.shape)
        return Jet({name: self.mean(points, name).reshape(*self.batch, size) for name in derivatives})

    def residual_of(self, functionals: Functionals) -> Tensor:
        """Functionals of the posterior mean minus their values, `(*batch, *points.shape)`."""
        return functionals.of(self.jets(functionals.points, functionals.terms)) - functionals.values

    def _orders(self, derivative: str) -> tuple[int, ...]:
        derivative = "" if derivative == "value" else derivative
        if set(derivative) - set(self.coordinates):
            message = f"derivative `{derivative}` should name only the coordinates {self.coordinates}."
            raise ShapeError(message)
        return tuple(derivative.count(name) for name in self.coordinates)
