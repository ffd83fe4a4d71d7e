"""The solver `rgnp`: from a family of problems to an amortised map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from sciprob.errors import ConfigError
from sciprob.operators.base import Capability
from sciprob.problems.family import ProblemFamily
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, one_of
from sciprob.solvers.rgnp.amortised import Amortised
from sciprob.solvers.rgnp.gauss_newton import GaussNewton, gauss_newton_step, weights
from sciprob.solvers.rgnp.laplace import LaplaceCovariance
from sciprob.solvers.rgnp.network import NetworkShape, PointNetwork
from sciprob.solvers.rgnp.parallel import ALONE, Processes
from sciprob.solvers.rgnp.sampling import sobol_collocation
from sciprob.solvers.rgnp.store import new_network
from sciprob.solvers.rgnp.variational import Variational, VariationalSettings, VariationalState

if TYPE_CHECKING:
    from lightning_fabric import Fabric

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
        published: State of the published trainer, if that is used; the first two are then empty.
    """

    weights: Tensor
    direction: Tensor
    step: int
    residual: float
    seed: int
    published: VariationalState | None = None


@dataclass(frozen=True)
class RandomGridNeuralProcess:
    """Random-grid neural process: a network n(x, z, w) that solves every member of a family of equations at once.

    u = B + D n satisfies the conditions exactly; random points of domain and parameter boxes, drawn anew in
    each step, make its residual small by stochastic Gauss-Newton steps. No equation is solved for training. A
    linearised Laplace approximation over the residuals then gives the uncertainty, its scale fitted to a few
    reference solutions, where the family has a reference.

    Fails where the network is too small for the sharpest member of the family: figures by member differ by orders
    of magnitude, and the largest errors sit at the corners of the box.

    Args:
        network: Width, depth, frequencies, for `gauss-newton`.
        gauss_newton: Points per step, number of steps, rate.
        trainer: `gauss-newton`, or `variational`: Adam on the evidence lower bound, as published. Of that the mean is
            kept; its own standard deviations are no error bars, and the Laplace approximation replaces them.
        variational: Networks, batches, rate and steps, for `variational`.
        precision: `single` or `double` during `gauss-newton`; results are always double.
        compiled: Whether steps of `gauss-newton` run as one compiled graph of static shapes (`torch.compile`, CUDA
            graphs on a GPU): `auto` on a GPU, `always`, or `never`. Compilation takes about a minute.
        laplace_residuals: Residuals, over all equations, that the Laplace approximation is made of.
        calibration_cases: Reference solutions that standard deviations are fitted to; 0 leaves the map uncalibrated.
        calibration_points: Points of each of them.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023, for the model; Goldshlager et al., J. Comput.
    Phys. 516 (2024), for the steps.
    """

    name: ClassVar[str] = "rgnp"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.FAMILY})
    citations: ClassVar[tuple[str, ...]] = ("vadeboncoeur2023",)

    network: NetworkShape = field(default_factory=NetworkShape)
    gauss_newton: GaussNewton = field(default_factory=GaussNewton)
    trainer: Literal["gauss-newton", "variational"] = "gauss-newton"
    variational: VariationalSettings = field(default_factory=VariationalSettings)
    precision: Literal["single", "double"] = "single"
    compiled: Literal["auto", "always", "never"] = "auto"
    laplace_residuals: int = 1000
    calibration_cases: int = 32
    calibration_points: int = 64

    def __post_init__(self) -> None:
        one_of(self, "trainer", ("gauss-newton", "variational"))
        one_of(self, "precision", tuple(_DTYPES))
        one_of(self, "compiled", ("auto", "always", "never"))
        at_least(self, 1, "laplace_residuals", "calibration_points")
        at_least(self, 0, "calibration_cases")

    @property
    def max_steps(self) -> int:
        """Number of steps."""
        return self.variational.steps if self.trainer == "variational" else self.gauss_newton.steps

    @property
    def shape(self) -> NetworkShape:
        """Of the network that is trained."""
        return self.variational.network if self.trainer == "variational" else self.network

    def shared(self, fabric: Fabric) -> SharedTraining:
        """This training by all processes of a launched Fabric.

        Raises:
            ConfigError: For the `variational` training, which runs in one process.
        """
        if self.trainer == "variational":
            message = 'the `variational` training runs in one process; use `trainer="gauss-newton"` or leave it alone.'
            raise ConfigError(message)
        return SharedTraining(self, Processes(fabric))

    def init(self, problem: ProblemFamily, streams: Streams) -> FitState:
        """A network with random weights."""
        generator = streams["calibration"]
        seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
        if self.trainer == "variational":
            none = torch.empty(0, dtype=torch.float64, device=generator.device)
            first = Variational(problem, self.variational, generator.device).init(streams)
            return FitState(none, none.clone(), 0, float("inf"), seed, first)
        network = new_network(problem, self.network, streams["weights"]).to(_DTYPES[self.precision])
        start = weights(network)
        return FitState(start, torch.zeros_like(start), 0, float("inf"), seed)

    def step(
        self, problem: ProblemFamily, state: FitState, streams: Streams, processes: Processes = ALONE
    ) -> tuple[FitState, Mapping[str, float]]:
        """One step on new samples, which several processes may share."""
        if state.published is not None:
            trainer = Variational(problem, self.variational, state.weights.device)
            published, info = trainer.step(state.published, streams)
            figures = {name: float(value) for name, value in info.items()}
            return replace(state, step=state.step + 1, residual=figures["residual"], published=published), figures
        network, method = self._network(problem, state), self.gauss_newton
        on_gpu = state.weights.is_cuda
        direction, residual = gauss_newton_step(
            method,
            problem,
            network,
            state.direction,
            state.step,
            streams["collocation"],
            compiled=self.compiled == "always" or (self.compiled == "auto" and on_gpu),
            processes=processes,
        )
        moved = FitState(weights(network), direction, state.step + 1, residual, state.seed)
        return moved, {"residual": residual, "rate": method.rate_at(state.step)}

    def finished(self, state: FitState) -> Status | None:
        """After all steps."""
        return Status.COMPLETED if state.step >= self.max_steps else None

    def result(self, problem: ProblemFamily, state: FitState) -> Amortised:
        """The trained mean with its covariance, calibrated where the family has a reference solver."""
        network = self._network(problem, state).double().requires_grad_(requires_grad=True)
        generator = torch.Generator(state.weights.device).manual_seed(state.seed)
        samples = max(1, self.laplace_residuals // len(problem.equations))
        batch = sobol_collocation(problem, samples, generator, torch.float64)
        covariance = LaplaceCovariance.of(problem, network, batch)
        meta = {"family": problem.name, "solver": self.name, "steps": state.step, "residual": state.residual}
        amortised = Amortised(problem, self.shape, network, covariance, meta=meta)
        if not self.calibration_cases or problem.reference is None:
            return amortised
        host = torch.Generator().manual_seed(state.seed + 1)
        z, w = (box.sample(self.calibration_cases, host).to(batch.z) for box in (problem.unknown, problem.known))
        x = problem.domain.sample(self.calibration_points, host).to(batch.z)
        return amortised.calibrate(z, w, x, problem.solve(z, w, x))

    def _network(self, family: ProblemFamily, state: FitState) -> PointNetwork:
        generator = torch.Generator(state.weights.device)
        network = new_network(family, self.shape, generator).to(state.weights.dtype)
        if state.published is not None:
            trained = Variational(family, self.variational, state.weights.device).forward_map(state.published).network
            last = f"layers.{self.shape.depth}."  # its other outputs are standard deviations and factors
            tensors = {k: v[: family.n_fields] if k.startswith(last) else v for k, v in trained.state_dict().items()}
            network.load_state_dict(tensors)
            return network
        vector_to_parameters(state.weights.clone(), network.parameters())
        return network


@dataclass(frozen=True)
class SharedTraining:
    """A `RandomGridNeuralProcess` whose steps several processes make together; all else it does itself.

    Args:
        solver: The method.
        processes: Who shares the samples.
    """

    solver: RandomGridNeuralProcess
    processes: Processes

    def step(self, problem: ProblemFamily, state: FitState, streams: Streams) -> tuple[FitState, Mapping[str, float]]:
        """One step; every process calls it."""
        return self.solver.step(problem, state, streams, self.processes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.solver, name)
