"""The published algorithm: grid values, kernel parameters and two precisions, maximised together by Adam."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.pde.collocation import Collocation
from sciprob.pde.derivative_names import canonical
from sciprob.pde.functionals import AnyPoints, TensorPoints
from sciprob.pde.jet import Jet
from sciprob.priors.kernels import GaussianMixture, StationaryKernel, StudentMixture
from sciprob.solvers.kronecker_gp.published_model import AxisCovariance, CollocationData, PublishedAxis, along

Parameters = dict[str, Tensor]
_SCATTERED = {1: "...i,...ni->...n", 2: "...ij,...ni,...nj->...n", 3: "...ijk,...ni,...nj,...nk->...n"}


@dataclass
class PublishedState:
    """Parameters, first and second moments of Adam, steps made, and the loss before the last step."""

    parameters: Parameters
    first: Parameters
    second: Parameters
    steps: int = 0
    loss: float = math.inf


@dataclass(frozen=True, eq=False)
class PublishedModel:
    r"""Joint maximum a posteriori of U, theta and two precisions, as Fang et al. state and run it.

    U are the values of the field on the collocation grid, a priori N(0, K_1 x ... x K_d) with
    spectral mixtures k_j. Their derivatives are those of the conditional mean,
    D_j^(p) = K_j^(p) (K_j + eps I)^-1 along axis j. With H the residual on all N grid points and b the
    misfit of the N_b rows of all conditions (corners belong to several sides), Adam minimises

        -log N(vec U | 0, K) - weight (N_b log tau_1 - tau_1 |b|^2) / 2 - (N log tau_2 - tau_2 |H|^2) / 2,

    without additive constants, over U, log w, log a (Student-t: log of the inverse length), mu, log tau_1
    and log tau_2. Start: U = 0, w = 1/Q, a = 1, mu evenly on [0, F], tau = 1. Deterministic.

    It is here for comparison. The paper's code reports the smallest of twenty errors on the test
    grid; here the last iterate counts. The maximum does not exist (tau_2 grows without bound as the
    residual vanishes), so more steps may be worse. Sensors are not part of the method.

    Args:
        collocation: Equation, grid, conditions. Batches of sources are trained at once, each for itself.
        largest_frequency: F, in cycles per unit of the coordinates.
        kernel: `student-mixture` (Matern-5/2 envelope) or `gaussian-mixture`.
        components: Q, for each axis.
        boundary_weight: lambda_b; the paper has 200, for advection 500.
        learning_rate: Of Adam.
        jitter: eps, absolute.

    Raises:
        ConfigError: If a number is out of range.
        UnsupportedProblemError: If there are sensors.

    dtype and device: float64, device of the collocation. Cost of a step: O(sum_j N_j^3 + N sum_j N_j).

    Source: Fang, Cooley, Long, Li, Kirby, Zhe, ICLR 2024, arXiv 2311.04465.
    """

    collocation: Collocation
    largest_frequency: float
    kernel: Literal["gaussian-mixture", "student-mixture"] = "student-mixture"
    components: int = 30
    boundary_weight: float = 200.0
    learning_rate: float = 1e-2
    jitter: float = 1e-6
    _data: CollocationData = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("largest_frequency", "components", "boundary_weight", "learning_rate", "jitter"):
            if not getattr(self, name) > 0:
                message = f"`{name}` of the published trainer should be positive, got {getattr(self, name)}."
                raise ConfigError(message)
        if self.collocation.sensors:
            message = "the published algorithm has no place for sensors; the default trainer conditions on them."
            raise UnsupportedProblemError(message)
        object.__setattr__(self, "_data", CollocationData.of(self.collocation))

    def init(self) -> PublishedState:
        """The published starting point."""
        batch, shape = self._data.batch, self.collocation.shape
        like = self._data.points.lines[0]
        parameters = {name: like.new_zeros(batch) for name in ("log_tau_1", "log_tau_2")}
        parameters["values"] = like.new_zeros(*batch, *shape)
        for axis in range(len(shape)):
            start = self._mixture(batch).state_dict()
            parameters |= {f"{axis}.{name}": value.clone() for name, value in start.items()}
        first, second = ({name: torch.zeros_like(p) for name, p in parameters.items()} for _ in range(2))
        return PublishedState(parameters, first, second)

    @property
    def batch(self) -> torch.Size:
        """Batch shape of the right-hand sides."""
        return self._data.batch

    def jet(self, state: PublishedState) -> Jet:
        """U and its derivatives D_j^(p) U on the grid, entries `(*batch, N)`."""
        with torch.no_grad():
            axes, u = self._axes(state.parameters), state.parameters["values"]
            solved = [along(axis.solve, u, j, len(axes)) for j, axis in enumerate(axes)]
            return self._data.jet(u, solved, axes)

    def loss(self, parameters: Parameters) -> Tensor:
        """The objective that is minimised, `(*batch,)`; differentiable in all parameters."""
        u, data = parameters["values"], self._data
        axes = self._axes(parameters)
        d, n = len(axes), math.prod(self.collocation.shape)
        solved = [along(axis.solve, u, j, d) for j, axis in enumerate(axes)]
        jet = data.jet(u, solved, axes)
        misfit, rows = data.misfit(jet)
        weighted = solved[0]
        for j in range(1, d):
            weighted = along(axes[j].solve, weighted, j, d)
        prior = -0.5 * (u * weighted).flatten(-d).sum(-1)
        for axis in axes:
            prior = prior - 0.5 * n / len(axis.nodes) * axis.log_det()
        log_1, log_2 = parameters["log_tau_1"], parameters["log_tau_2"]
        boundary = 0.5 * rows * log_1 - 0.5 * log_1.exp() * misfit
        equation = 0.5 * n * log_2 - 0.5 * log_2.exp() * data.residual(jet).square().sum(-1)
        return -(prior + self.boundary_weight * boundary + equation)

    def step(self, state: PublishedState) -> tuple[PublishedState, Mapping[str, float]]:
        """One step of Adam, with figures for a log; the state is not changed."""
        leaves = {name: value.detach().requires_grad_() for name, value in state.parameters.items()}
        loss = self.loss(leaves).sum()
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        count = state.steps + 1
        new = PublishedState({}, {}, {}, count, float(loss.detach()))
        for (name, value), g in zip(state.parameters.items(), gradients, strict=True):
            first = new.first[name] = 0.9 * state.first[name] + 0.1 * g
            second = new.second[name] = 0.999 * state.second[name] + 0.001 * g.square()
            root = (second / (1 - 0.999**count)).sqrt() + 1e-8
            new.parameters[name] = value - self.learning_rate * first / (1 - 0.9**count) / root
        return new, {"loss": new.loss}

    def kernels(self, state: PublishedState) -> tuple[StationaryKernel, ...]:
        """The kernels of the axes at a state, `(*batch, Q)` parameters each."""
        kernels = []
        for axis in range(len(self.collocation.shape)):
            kernel = self._mixture(self._data.batch)
            kernel.load_state_dict(self._parameters(state.parameters, axis))
            kernels.append(kernel)
        return tuple(kernels)

    def predict(self, state: PublishedState, points: AnyPoints, derivative: str = "") -> Tensor:
        """D^a of the conditional mean given U, k(x, X) (K + eps I)^-1 U along each axis: `(*batch, *points.shape)`."""
        with torch.no_grad():
            axes, u = self._axes(state.parameters), state.parameters["values"]
            for j, axis in enumerate(axes):
                u = along(axis.solve, u, j, len(axes))
            lines = points.lines if isinstance(points, TensorPoints) else points.points.unbind(1)
            orders = [canonical(derivative).count(name) for name in self.collocation.coordinates]
            rows = [a.covariance.at(x, a.nodes, p) for a, x, p in zip(axes, lines, orders, strict=True)]
            if isinstance(points, TensorPoints):
                for j, row in enumerate(rows):
                    u = along(row.matmul, u, j, len(rows))
                return u
            return torch.einsum(_SCATTERED[len(rows)], u, *rows)

    def _axes(self, parameters: Parameters) -> list[PublishedAxis]:
        template = self._mixture()
        axes = []
        for j, nodes in enumerate(self._data.points.lines):
            axes.append(PublishedAxis.of(AxisCovariance(template, self._parameters(parameters, j)), nodes, self.jitter))
        return axes

    def _mixture(self, batch: Sequence[int] = ()) -> StationaryKernel:
        """The mixture before training."""
        one = torch.ones(*batch, self.components, dtype=torch.float64, device=self.collocation.device)
        frequencies = self.largest_frequency * torch.linspace(0, 1, self.components).to(one)
        make = GaussianMixture if self.kernel == "gaussian-mixture" else StudentMixture
        return make(one / self.components, frequencies * one, one)

    @staticmethod
    def _parameters(parameters: Parameters, axis: int) -> Parameters:
        prefix = f"{axis}."
        return {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
