"""The problem: prior, likelihood, data, and what is known of the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.errors import DataError, NonFiniteError
from sciprob.likelihoods.base import Likelihood
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.priors.base import Prior
from sciprob.spaces import Space

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior

Simulator = Callable[[torch.Generator], tuple[Tensor, Tensor]]
Report = Callable[["Problem", "Posterior", Path | None], Mapping[str, Any]]


@dataclass(frozen=True)
class Info:
    """Words about a problem.

    Args:
        title: One line.
        equation: LaTeX without dollar signs.
        description: A short paragraph: what is unknown, what is measured, where the data come from.
        citations: BibTeX keys, resolved in `sciprob.io.citations`.
        default_solver: Solver used when none is named.
        solver_settings: Its settings for this problem where they differ from the solver's own, by name.
    """

    title: str = ""
    equation: str = ""
    description: str = ""
    citations: tuple[str, ...] = ()
    default_solver: str = "laplace"
    solver_settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """prior x forward operator x likelihood, with data: everything a solver needs.

    Args:
        name: Short name.
        prior: Distribution of the unknown m.
        likelihood: Forward operator and noise.
        data: Measured y, `(*codomain.shape)`.
        truth: The m behind the data on `parameter`, where it is known.
        simulator: generator -> (truth, data) from a finer model than the inversion's; by default
            a draw from prior and likelihood.
        report: Extra scores and figures of this problem: `(problem, posterior, folder or None)` -> numbers.
        info: Words.
        config: The table that rebuilds the problem, as in its TOML file.
    """

    name: str
    prior: Prior
    likelihood: Likelihood
    data: Tensor | None = None
    truth: Tensor | None = None
    simulator: Simulator | None = field(default=None, repr=False)
    report: Report | None = field(default=None, repr=False)
    info: Info = field(default_factory=Info, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.truth is not None:
            self.parameter.batch_shape(self.truth, "truth")
        if self.data is not None:
            self.operator.codomain.batch_shape(self.data, "data")
            if not bool(torch.isfinite(self.data).all()):
                bad = int((~torch.isfinite(self.data.flatten())).nonzero()[0])
                message = f"the data of `{self.name}` should be finite, entry {bad} is not; remove or mask it."
                raise DataError(message)
            self.likelihood.noise.check(self.data)

    @property
    def operator(self) -> ForwardOperator:
        """The forward operator m -> y."""
        return self.likelihood.operator

    @property
    def parameter(self) -> Space:
        """Space of the unknown."""
        return self.prior.space

    @property
    def offers(self) -> frozenset[Capability]:
        """What solvers can rely on."""
        prior = self.prior.capabilities
        if Capability.WHITENED_PRIOR in prior:
            prior |= {Capability.DENOISER}
        return prior | self.likelihood.capabilities

    @property
    def observed(self) -> Tensor:
        """The data.

        Raises:
            DataError: If there are none.
        """
        if self.data is None:
            message = f"problem `{self.name}` has no data; call `problem.observe(y)` or `problem.simulate(generator)`."
            raise DataError(message)
        return self.data

    def observe(self, data: Tensor) -> Problem:
        """The same problem with other data and no known truth."""
        return replace(self, data=data, truth=None)

    def simulate(self, generator: torch.Generator) -> Problem:
        """The same problem with a new truth and new data."""
        if self.simulator is not None:
            truth, data = self.simulator(generator)
        else:
            truth = self.prior.sample(generator=generator)
            data = self.likelihood.sample(truth, generator=generator)
        if not bool(torch.isfinite(data).all()):
            message = f"simulating `{self.name}` gave data that are not finite; check the prior's scale."
            raise NonFiniteError(message)
        return replace(self, truth=truth, data=data)

    def as_pyro_model(self) -> Callable[..., Tensor]:
        """A Pyro model of this problem with the sites `m` and `y`; see `sciprob.problems.pyro_model`."""
        from sciprob.problems.pyro_model import as_pyro_model

        return as_pyro_model(self)

    def to(self, device: torch.device | str) -> Problem:
        """The same problem with all tensors on `device`."""
        moved = {k: v.to(device) for k in ("data", "truth") if (v := getattr(self, k)) is not None}
        return replace(self, prior=self.prior.to(device), likelihood=self.likelihood.to(device), **moved)
