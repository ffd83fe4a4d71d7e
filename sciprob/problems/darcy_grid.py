"""`darcy-grid`: the log-conductivity of a square from sensors of the head, without any mesh."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sciprob.engines.grid_darcy import CellDarcy
from sciprob.problems.grid_data import Measurements, Model
from sciprob.problems.grid_problem import GridProblem
from sciprob.problems.grid_report import report_residuals
from sciprob.problems.grid_settings import GridField, GridSensors, field_on
from sciprob.problems.problem import Info, Report
from sciprob.problems.registry import register
from sciprob.spaces import GridSpace


@register("darcy-grid")
@dataclass(frozen=True, kw_only=True)
class DarcyGrid(GridProblem):
    """Log-conductivity m from sensors of the head u: -div(exp(m) grad u) = f, u = 0 on the unit square's boundary.

    Args:
        grid: Cells along each axis of the two grids.
        prior: Prior of the log-conductivity.
        noise: Errors of the sensors; with `--data` those of the file.
        source: f, a number or a formula in x, y.
        sensors: Where the sensors stand; with `--data` the file says it.
        seed: Seed of truth and noise.
    """

    words: ClassVar[Info] = Info(
        title="Log-conductivity of a square from sensors of the head",
        equation=r"-\nabla \cdot (e^{m} \nabla u) = f, \quad u = 0 \text{ on the boundary}",
        description="The log-conductivity of a porous square is sought from noisy point values of the head.",
        citations=("stuart2010", "cotter2013"),
        default_solver="laplace",
    )
    boundary: ClassVar[str] = "dirichlet"

    prior: GridField
    source: float | str = 1.0
    sensors: GridSensors = field(default_factory=GridSensors)

    def space(self, points: int) -> GridSpace:
        """Cell-centred unit square, images with y increasing along the rows."""
        return GridSpace(
            (points, points),
            name="log_conductivity",
            dims=("y", "x"),
            lower=(0.0, 0.0),
            upper=(1.0, 1.0),
            centring="cell",
        )

    def layout(self, grid: GridSpace) -> Measurements:
        """All sensors, once."""
        return Measurements(self.sensors.place(grid))

    def model(self, layout: Measurements, *, fine: bool) -> Model:
        """Prior and finite volumes."""
        grid = self.space(self.grid.data if fine else self.grid.inversion)
        state = CellDarcy(grid, self.source if isinstance(self.source, float) else field_on(grid, self.source))
        return self.observed(self.prior_of(self.prior, grid, "stationary"), state, grid, layout)

    def report(self, layout: Measurements) -> Report:
        """Residuals."""
        return report_residuals
