"""A path problem in the form that the variational methods take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.observe_stored import StoredTimes
from sciprob.problems.problem import Problem
from sciprob.sde.markov import MarkovNoise, markov_noise
from sciprob.sde.path_model import PathModel
from sciprob.solvers.fbm_vi.linearise import Linearised
from sciprob.solvers.fbm_vi.reference import Reference, make_reference
from sciprob.solvers.fbm_vi.simulate import Diffusion, Drift
from sciprob.solvers.fbm_vi.sites import Sites

Numbers = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sample:
    """Paths `x (P, n)` on `grid (n,)` with log weights `(P,)`: log p(x, data) / q(x)."""

    grid: Tensor
    x: Tensor
    log_weights: Tensor


@dataclass(frozen=True)
class PathTarget:
    """Model, data, and the rates of the Markov noise; one latent dimension, float64.

    Attributes:
        model: The equation.
        times: Of the data `(J,)`.
        values: `(J,)`.
        std: Of the errors `(J,)`, where they are known.
        stored: Times at which the path is wanted `(n,)`.
        rates: `(K,)`.
    """

    model: PathModel
    times: Tensor
    values: Tensor
    std: Tensor
    stored: Tensor
    rates: Tensor

    @classmethod
    def of(cls, problem: Problem, rates: Tensor) -> PathTarget:
        """The target of a path problem.

        Raises:
            UnsupportedProblemError: If the data are not values of a path at stored times, or the path is a series
                of increments or has a Hurst index that changes.
        """
        operator, model = problem.operator, getattr(problem.prior, "model", None)
        if not isinstance(operator, StoredTimes) or not isinstance(model, PathModel):
            message = f"`fbm-vi` needs values of a path at stored times, got {type(operator).__name__}."
            raise UnsupportedProblemError(message)
        if model.observed == "increments" or model.changing:
            what = "a series of increments" if model.observed == "increments" else "a Hurst index that changes"
            message = f"`fbm-vi` needs levels of a path with a constant Hurst index, got {what}; use `kalman`."
            raise UnsupportedProblemError(message)
        values = problem.observed.double()
        std = problem.likelihood.noise.std.double().expand(values.shape)
        times = operator.codomain.coords["time"].to(values)
        return cls(model, times, values, std, problem.prior.space.coords["time"].to(values), rates.to(values))

    def numbers(self, raw: Tensor) -> dict[str, Tensor]:
        """All numbers of the equation."""
        return self.model.values(raw)

    def noise(self, numbers: Numbers) -> MarkovNoise:
        """The Markov noise with its weights."""
        model = self.model
        return markov_noise(
            numbers["hurst"], self.rates, horizon=model.horizon, kind=model.kind, normalisation=model.normalisation
        )

    def drift(self, numbers: Numbers) -> Drift:
        """b(t, x)."""
        return lambda _, x: self.model.drift(x, numbers)

    def diffusion(self, numbers: Numbers) -> Diffusion | None:
        """s(x); None where it is 1."""
        return None if self.model.diffusion is None else self.model.diffusion.at(numbers)

    def initial(self) -> dict[str, Tensor]:
        """Mean and deviation of x(0)."""
        law = {"initial_mean": self.model.initial_mean, "initial_std": self.model.initial_std}
        return {name: self.values.new_full((1,), value) for name, value in law.items()}

    def reference(self, numbers: Numbers, grid: Tensor, found: Linearised | None) -> Reference:
        """The affine process on a grid."""
        theta, c = (None, None) if found is None else (found.reversion, found.intercept)
        scale = numbers["scale"].reshape(1)
        return make_reference(self.noise(numbers), grid, scale=scale, reversion=theta, intercept=c, **self.initial())

    def data_std(self, numbers: Numbers) -> Tensor:
        """Deviation of each error `(J,)`."""
        return numbers["noise_std"].expand(self.std.shape) if "noise_std" in numbers else self.std

    def sites(self, numbers: Numbers, index: Tensor) -> Sites:
        """The data as sites at nodes of a grid."""
        return Sites(index, self.values[:, None], self.data_std(numbers)[:, None] ** -2)
