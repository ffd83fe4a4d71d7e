"""Elliptic inverse problems on unstructured meshes with point sensors of the state.

`darcy-sensors`: the log-conductivity of a stationary flow; `poisson-source`: the source of a linear
one, with an answer in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from sciprob.engines.choice import Engine, elliptic_engine
from sciprob.expressions import Expression
from sciprob.io.mesh import load_mesh
from sciprob.io.sensors import read_sensors
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import ForwardOperator, PointObservation
from sciprob.priors.fe_matern import FEMatern
from sciprob.problems.point_sensors import FinerMeshSimulator, SensorLayout
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.problems.sensor_noise import SensorNoise
from sciprob.problems.sensor_report import report_sensors
from sciprob.random import Streams
from sciprob.spaces import FESpace, Mesh


@dataclass(frozen=True)
class Meshes:
    """The two meshes of a problem: names in `meshes/`, or paths of `.msh` files.

    Args:
        inversion: Mesh on which the unknown is sought.
        data: Finer mesh of the same domain, on which truth and data are made; not used with `--data`.
    """

    inversion: str
    data: str


@dataclass(frozen=True)
class MaternField:
    """Prior of a field: Gaussian with Matérn covariance, by its SPDE on the mesh.

    Args:
        std: Marginal standard deviation.
        length: Length scale in the units of the mesh; at twice this distance the correlation is about 0.14.
        smoothness: nu; 1 or 3 in two dimensions, 1/2 or 5/2 in three.
        mean: Mean, a number or a formula in x, y, z.
    """

    std: float
    length: float
    smoothness: float = 1.0
    mean: float | str = 0.0

    def on(self, space: FESpace) -> FEMatern:
        """The prior on a space."""
        mean = Expression(self.mean)(space.points()) if isinstance(self.mean, str) else self.mean
        return FEMatern(space, std=self.std, length=self.length, smoothness=self.smoothness, mean=mean)


@dataclass(frozen=True, kw_only=True)
class SensorProblem:
    """What the kinds of this module share: two meshes, a Matérn prior, noisy point sensors of the state.

    Args:
        mesh: The meshes.
        prior: What is known of the field before the data.
        noise: Errors of the sensors; with `--data` those of the file.
        sensors: Where the sensors stand; with `--data` the file says it.
        degree: Polynomial degree of the state's elements, 1 or 2; the unknown is piecewise linear.
        dirichlet: Values of the state on named parts of the boundary, numbers or formulas; the rest is
            impermeable.
        seed: Seed of truth and noise.
        engine: `fenicsx`, `torch`, or `auto`: torch where there is a CUDA device or no FEniCSx.
    """

    words: ClassVar[Info] = Info()

    mesh: Meshes
    prior: MaternField
    noise: SensorNoise
    dirichlet: dict[str, float | str]
    sensors: SensorLayout = field(default_factory=SensorLayout)
    degree: Literal[1, 2] = 1
    seed: int = 0
    engine: Engine = "auto"

    def state_operator(self, mesh: Mesh) -> ForwardOperator:
        """The forward model on a mesh: unknown -> full state u."""
        raise NotImplementedError

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem, with the measurements of a file or with data made on the finer mesh.

        Args:
            name: Its name.
            data: CSV file as in `sciprob.io.sensors`; the problem then has no truth.

        Raises:
            ConfigError: For settings out of range or unknown meshes.
            DataError: For an unusable file or sensors outside the domain.
            MissingExtraError: If the engine is `fenicsx` and not installed.
        """
        state = self.state_operator(load_mesh(self.mesh.inversion))
        measured = None if data is None else read_sensors(data, state.codomain)
        points = self.sensors.place(state.domain.mesh) if measured is None else measured.points
        operator = PointObservation(state.codomain, points) @ state
        noise = GaussianNoise(operator.codomain, self.noise.std if measured is None else measured.std)
        problem = Problem(
            name,
            self.prior.on(state.domain),
            Likelihood(operator, noise),
            simulator=FinerMeshSimulator(self._fine, points, noise, state.domain),
            report=report_sensors,
            info=self.words,
        )
        if measured is not None:
            return problem.observe(measured.values)
        return problem.simulate(Streams(self.seed)["problem"])

    def _fine(self) -> tuple[FEMatern, ForwardOperator]:
        state = self.state_operator(load_mesh(self.mesh.data))
        return self.prior.on(state.domain), state


@register("darcy-sensors")
@dataclass(frozen=True, kw_only=True)
class DarcySensors(SensorProblem):
    """Log-conductivity m from sensors of the head u: -div(exp(m) grad u) = f.

    Well-posed for any m as long as `dirichlet` names
    at least one part of the boundary.

    Args:
        mesh: The meshes.
        prior: Prior of the log-conductivity.
        noise: Errors of the sensors; with `--data` those of the file.
        dirichlet: Head on named parts of the boundary, numbers or formulas; the rest is impermeable.
        source: f, a number or a formula in x, y, z.
        sensors: Where the sensors stand; with `--data` the file says it.
        degree: Polynomial degree of the state's elements, 1 or 2; the unknown is piecewise linear.
        seed: Seed of truth and noise.
        engine: `fenicsx`, `torch`, or `auto`: torch where there is a CUDA device or no FEniCSx.
    """

    words: ClassVar[Info] = Info(
        title="Log-conductivity from sensors of the head",
        equation=r"-\nabla \cdot (e^{m} \nabla u) = f",
        description="The log-conductivity of a porous medium is sought from noisy point values of the head.",
        citations=("lindgren2011", "roininen2014", "daon2018", "baratta2023"),
        default_solver="laplace",
    )

    source: float | str = 0.0

    def state_operator(self, mesh: Mesh) -> ForwardOperator:
        """The nonlinear map m -> u."""
        engine = elliptic_engine(self.engine)
        operator: ForwardOperator = engine.elliptic_operator(
            mesh, self.degree, source=_value(self.source), dirichlet=_values(self.dirichlet)
        )
        return operator


@register("poisson-source")
@dataclass(frozen=True, kw_only=True)
class PoissonSource(SensorProblem):
    """Source m from sensors of the state u: -div(k grad u) = m, linear and Gaussian.

    The posterior is Gaussian in closed form, so this problem referees the others' solvers.

    Args:
        mesh: The meshes.
        prior: Prior of the source.
        noise: Errors of the sensors; with `--data` those of the file.
        dirichlet: Named parts of the boundary where the state is zero; other values make it affine.
        conductivity: k, a positive number or formula.
        sensors: Where the sensors stand; with `--data` the file says it.
        degree: Polynomial degree of the state's elements, 1 or 2; the unknown is piecewise linear.
        seed: Seed of truth and noise.
        engine: `fenicsx`, `torch`, or `auto`: torch where there is a CUDA device or no FEniCSx.
    """

    words: ClassVar[Info] = Info(
        title="Source of a Poisson equation from point sensors",
        equation=r"-\nabla \cdot (k \nabla u) = m",
        description="A distributed source is sought from noisy point values of the state; everything is Gaussian.",
        citations=("lindgren2011", "roininen2014", "daon2018", "stuart2010", "baratta2023"),
        default_solver="gaussian",
    )

    conductivity: float | str = 1.0

    def state_operator(self, mesh: Mesh) -> ForwardOperator:
        """The map m -> u, linear if all values in `dirichlet` are zero."""
        engine = elliptic_engine(self.engine)
        operator: ForwardOperator = engine.source_operator(
            mesh, self.degree, conductivity=_value(self.conductivity), dirichlet=_values(self.dirichlet)
        )
        return operator


def _value(value: float | str) -> float | Expression:
    """A number, or a formula as a function of points."""
    return Expression(value) if isinstance(value, str) else float(value)


def _values(values: dict[str, float | str]) -> dict[str, float | Expression]:
    return {part: _value(value) for part, value in values.items()}
