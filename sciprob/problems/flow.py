"""Inverse problems of incompressible flow: numbers of a driven cavity, and of the flow past a cylinder.

The unknowns are few and positive; each forward run is a time-dependent Navier-Stokes solve with
velocity and pressure coupled. Truth and data come from a finer mesh and a smaller time step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor
from torch.distributions import LogNormal, Uniform

from sciprob.errors import ConfigError
from sciprob.io.mesh import load_mesh
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.priors.distribution import DistributionPrior
from sciprob.problems.flow_data import FinerFlowSimulator, FlowNoise
from sciprob.problems.flow_report import FlowReport
from sciprob.problems.point_sensors import SensorLayout
from sciprob.problems.positive_number import PositiveNumber
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.random import Streams
from sciprob.spaces import Mesh, box_mesh

if TYPE_CHECKING:
    from sciprob.operators.host import HostOperator


@dataclass(frozen=True)
class Interval:
    """Uniform prior of one number.

    Args:
        lower: Lower end, positive.
        upper: Upper end.
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not 0 < self.lower < self.upper < math.inf:
            message = f"an interval needs 0 < lower < upper, got {self.lower} and {self.upper}."
            raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class FlowProblem:
    """What the two kinds share: sensors at points and times, a finer run that makes the data, a report.

    Args:
        times: When the sensors measure.
        noise: Errors of the sensors.
        sensors: Where they are.
        pressure: Whether they measure the pressure, too.
        seed: Seed of truth and noise.
    """

    words: ClassVar[Info] = Info()

    times: tuple[float, ...]
    noise: FlowNoise
    sensors: SensorLayout
    pressure: bool
    seed: int

    def flow(self, *, fine: bool) -> HostOperator:
        """Unknown numbers to the flow at `times`."""
        raise NotImplementedError

    def _mesh(self, *, fine: bool) -> Mesh:
        raise NotImplementedError

    def _prior(self, flow: HostOperator) -> DistributionPrior:
        raise NotImplementedError

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem, with truth and data of the finer run.

        Args:
            name: Its name.
            data: Not read by these kinds.

        Raises:
            ConfigError: For settings out of range, unknown meshes, or a data file.
            MissingExtraError: If FEniCSx is not installed.
        """
        from sciprob.engines.fenicsx_flow_space import FlowObservation

        if data is not None:
            message = (
                f"`{name}` reads no data file; build the problem in Python, `sciprob.load_problem({name!r})`, and "
                "give it the measurements, `problem.observe(y)`."
            )
            raise ConfigError(message)
        flow = self.flow(fine=False)
        points = self.sensors.place(self._mesh(fine=False))
        observation = FlowObservation(flow.codomain, points, self._measured)
        noise = GaussianNoise(observation.codomain, self.noise.on(observation.codomain))
        prior = self._prior(flow)
        simulator = FinerFlowSimulator(lambda: self.flow(fine=True), points, self._measured, prior, noise)
        problem = Problem(
            name,
            prior,
            Likelihood(observation @ flow, noise),
            simulator=simulator,
            report=FlowReport(flow, points),
            info=self.words,
        )
        return problem.simulate(Streams(self.seed)["problem"])

    @property
    def _measured(self) -> tuple[Literal["velocity", "pressure"], ...]:
        return ("velocity", "pressure") if self.pressure else ("velocity",)


@dataclass(frozen=True)
class CavityResolution:
    """Squares along each side of the cavity, each cut in two triangles, and the time step.

    Args:
        cells: Squares along each side.
        step: Time step; all times of measurements are multiples of it.
    """

    cells: int
    step: float


@register("cavity")
@dataclass(frozen=True, kw_only=True)
class Cavity(FlowProblem):
    """Density and viscosity of a fluid in a cavity whose lid starts to move: rho, mu from u, v and p at points.

    Velocities alone determine only mu / rho: (rho, mu) -> c (rho, mu) changes nothing but the pressure, by
    the factor c. Without `pressure` the density therefore keeps its prior spread.

    Args:
        lid: w; the lid moves with the velocity w (1 - (2x - 1)^6) t.
        density: Prior of rho.
        viscosity: Prior of mu (dynamic).
        inversion: Resolution of the forward model.
        data: Finer resolution, which makes the data.
    """

    words: ClassVar[Info] = Info(
        title="Density and viscosity of a lid-driven cavity",
        equation=r"\rho (u_t + u \cdot \nabla u) + \nabla p - \mu \Delta u = 0, \quad \nabla \cdot u = 0",
        description="Two numbers are sought from velocities and pressures at a few points of a starting flow.",
        citations=("vadeboncoeur2023", "baratta2023"),
        default_solver="laplace",
    )

    inversion: CavityResolution
    data: CavityResolution
    density: Interval = field(default_factory=lambda: Interval(0.8, 1.0))
    viscosity: Interval = field(default_factory=lambda: Interval(0.1, 1.0))
    noise: FlowNoise = field(default_factory=lambda: FlowNoise(0.003, 0.03))
    sensors: SensorLayout = field(default_factory=lambda: SensorLayout(count=20, distance=0.15))
    times: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    lid: float = 1.0
    pressure: bool = True
    seed: int = 0

    def _mesh(self, *, fine: bool) -> Mesh:
        n = (self.data if fine else self.inversion).cells
        return box_mesh((n, n))

    def flow(self, *, fine: bool) -> HostOperator:
        """(rho, mu) to the flow at `times`."""
        from sciprob.engines.fenicsx_navier_stokes import navier_stokes_operator

        def lid(x: Tensor, t: float) -> Tensor:
            return self.lid * (1 - (2 * x[:, 0] - 1) ** 6) * t

        walls = {side: (0.0, 0.0) for side in ("left", "right", "bottom")}
        return navier_stokes_operator(
            self._mesh(fine=fine),
            times=self.times,
            step=(self.data if fine else self.inversion).step,
            unknown=("density", "viscosity"),
            velocity={**walls, "top": (lid, 0.0)},
            pressure_point=(0.0, 0.0),
            on_failure="nan",
        )

    def _prior(self, flow: HostOperator) -> DistributionPrior:
        ends = [(p.lower, p.upper) for p in (self.density, self.viscosity)]
        lower, upper = torch.tensor(ends, dtype=torch.float64).T
        return DistributionPrior(flow.domain, Uniform(lower, upper))


@dataclass(frozen=True)
class ChannelResolution:
    """Mesh and time step.

    Args:
        mesh: Name in `meshes/`, or path of a `.msh` file, with the parts inlet, outlet, walls and cylinder.
        step: Time step; all times of measurements are multiples of it.
    """

    mesh: str
    step: float


@register("cylinder-wake")
@dataclass(frozen=True, kw_only=True)
class CylinderWake(FlowProblem):
    """Viscosity and inflow of a channel with a cylinder, from velocities at points of its wake.

    The inflow is 4 s (1 - s) ((1 - s) a_0 + s a_1) with s = y / height: a parabola for a_0 = a_1, its peak
    near the wall y = 0 for a_0 > a_1. It grows from rest like sin^2 until the time `ramp`.

    Args:
        viscosity: Prior of mu; the density is 1.
        inflow: Prior of both amplitudes a_0 and a_1.
        ramp: Time until the inflow is steady.
        inversion: Mesh and step of the forward model.
        data: Finer ones, which make the data.
    """

    words: ClassVar[Info] = Info(
        title="Viscosity and inflow of a channel with a cylinder",
        equation=r"u_t + u \cdot \nabla u + \nabla p - \mu \Delta u = 0, \quad \nabla \cdot u = 0",
        description="Three numbers are sought from velocities at points around and behind a cylinder.",
        citations=("schaefer1996", "baratta2023"),
        default_solver="laplace",
    )

    inversion: ChannelResolution
    data: ChannelResolution
    viscosity: PositiveNumber = field(default_factory=lambda: PositiveNumber(2e-3, 0.4))
    inflow: PositiveNumber = field(default_factory=lambda: PositiveNumber(1.5, 0.2))
    noise: FlowNoise = field(default_factory=lambda: FlowNoise(0.05, 0.05))
    sensors: SensorLayout = field(default_factory=lambda: SensorLayout(count=20, distance=0.05))
    times: tuple[float, ...] = (0.5, 0.75, 1.0)
    ramp: float = 0.5
    pressure: bool = False
    seed: int = 0

    def _mesh(self, *, fine: bool) -> Mesh:
        return load_mesh((self.data if fine else self.inversion).mesh)

    def flow(self, *, fine: bool) -> HostOperator:
        """(mu, a_0, a_1) to the flow at `times`."""
        from sciprob.engines.fenicsx_navier_stokes import Inflow, navier_stokes_operator

        mesh = self._mesh(fine=fine)
        height = float(mesh.points[:, 1].max())

        def lower(x: Tensor) -> Tensor:
            s = x[:, 1] / height
            return 4 * s * (1 - s) ** 2

        def upper(x: Tensor) -> Tensor:
            s = x[:, 1] / height
            return 4 * s**2 * (1 - s)

        def start(t: float) -> float:
            return math.sin(math.pi / 2 * min(t / self.ramp, 1.0)) ** 2 if self.ramp > 0 else 1.0

        return navier_stokes_operator(
            mesh,
            times=self.times,
            step=(self.data if fine else self.inversion).step,
            unknown=("viscosity", "inflow"),
            velocity={"walls": (0.0, 0.0), "cylinder": (0.0, 0.0)},
            inflow=Inflow("inlet", (lower, upper), ramp=start),
            on_failure="nan",
        )

    def _prior(self, flow: HostOperator) -> DistributionPrior:
        numbers = [(math.log(p.median), p.spread) for p in (self.viscosity, self.inflow, self.inflow)]
        mean, std = torch.tensor(numbers, dtype=torch.float64).T
        return DistributionPrior(flow.domain, LogNormal(mean, std))
