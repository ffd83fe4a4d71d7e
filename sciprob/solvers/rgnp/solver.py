"""The solver `rgnp`: from a family of problems to an amortised map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from sciprob.operators.base import Capability
from sciprob.problems.family import ProblemFamily
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, one_of
from sciprob.solvers.rgnp.amortised import Amortised
from sciprob.solvers.rgnp.gauss_newton import GaussNewton, gauss_newton_step, weights
from sciprob.solvers.rgnp.laplace import LaplaceCovariance
from sciprob.solvers.rgnp.network import NetworkShape, PointNetwork
from sciprob.solvers.rgnp.sampling import sobol_collocation
from sciprob.solvers.rgnp.store import new_network

_DTYPES = {"single": torch.float32, "double": torch.float64}


@dataclass
class FitState:
    """What training changes.

    Args:
        weights: Of the network `(P,)`.
        direction: Of the last step `(P,)`.
        step: Steps made.
        residual: Root mean square of the last step's weighted residuals.
        seed: Of what follows training.
    """

    weights: Tensor
    direction: Tensor
    step: int
    residual: float
    seed: int


@dataclass(frozen=True)
class RandomGridNeuralProcess:
    """Random-grid neural process: a network n(x, z, w) that solves every member of a family of equations at once.

    u = B + D n satisfies the conditions exactly; random points of domain and parameter boxes, drawn anew in
    each step, make its residual small by stochastic Gauss-Newton steps. No equation is solved for training. A
    linearised Laplace approximation over the residuals then gives the uncertainty, with a temperature from a few
    reference solutions, where the family has a reference.

    Fails where the network is too small for the sharpest member of the family: figures by member differ by orders
    of magnitude, and the largest errors sit at the corners of the box.

    Args:
        network: Width, depth, frequencies.
        gauss_newton: Points per step, number of steps, rate.
        precision: `single` or `double` during training; results are always double.
        laplace_points: Collocation samples of the Laplace approximation.
        calibration_cases: Reference solutions for the temperature; 0 leaves the map uncalibrated.
        calibration_points: Points of each of them.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023, for the model; Goldshlager et al., J. Comput.
    Phys. 516 (2024), for the steps.
    """

    name: ClassVar[str] = "rgnp"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.FAMILY})
    citations: ClassVar[tuple[str, ...]] = ("vadeboncoeur2023",)

    network: NetworkShape = field(default_factory=NetworkShape)
    gauss_newton: GaussNewton = field(default_factory=GaussNewton)
    precision: Literal["single", "double"] = "single"
    laplace_points: int = 1000
    calibration_cases: int = 32
    calibration_points: int = 64

    def __post_init__(self) -> None:
        one_of(self, "precision", tuple(_DTYPES))
        at_least(self, 1, "laplace_points", "calibration_points")
        at_least(self, 0, "calibration_cases")

    @property
    def max_steps(self) -> int:
        """Number of steps."""
        return self.gauss_newton.steps

    def init(self, problem: ProblemFamily, streams: Streams) -> FitState:
        """A network with random weights."""
        network = new_network(problem, self.network, streams["weights"]).to(_DTYPES[self.precision])
        start = weights(network)
        generator = streams["calibration"]
        seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
        return FitState(start, torch.zeros_like(start), 0, float("inf"), seed)

    def step(self, problem: ProblemFamily, state: FitState, streams: Streams) -> tuple[FitState, Mapping[str, float]]:
        """One Gauss-Newton step on new samples."""
        network, method = self._network(problem, state), self.gauss_newton
        direction, residual = gauss_newton_step(
            method, problem, network, state.direction, state.step, streams["collocation"]
        )
        moved = FitState(weights(network), direction, state.step + 1, residual, state.seed)
        return moved, {"residual": residual, "rate": method.rate_at(state.step)}

    def finished(self, state: FitState) -> Status | None:
        """After all steps."""
        return Status.COMPLETED if state.step >= self.gauss_newton.steps else None

    def result(self, problem: ProblemFamily, state: FitState) -> Amortised:
        """The trained mean with its covariance, calibrated where the family has a reference solver."""
        network = self._network(problem, state).double().requires_grad_(requires_grad=True)
        generator = torch.Generator(state.weights.device).manual_seed(state.seed)
        batch = sobol_collocation(problem, self.laplace_points, generator, torch.float64)
        covariance = LaplaceCovariance.of(problem, network, batch)
        meta = {"family": problem.name, "solver": self.name, "steps": state.step, "residual": state.residual}
        amortised = Amortised(problem, self.network, network, covariance, meta=meta)
        if not self.calibration_cases or problem.reference is None:
            return amortised
        host = torch.Generator().manual_seed(state.seed + 1)
        z, w = (box.sample(self.calibration_cases, host).to(batch.z) for box in (problem.unknown, problem.known))
        x = problem.domain.sample(self.calibration_points, host).to(batch.z)
        return amortised.calibrate(z, w, x, problem.solve(z, w, x))

    def _network(self, family: ProblemFamily, state: FitState) -> PointNetwork:
        generator = torch.Generator(state.weights.device)
        network = new_network(family, self.network, generator).to(state.weights.dtype)
        vector_to_parameters(state.weights.clone(), network.parameters())
        return network
