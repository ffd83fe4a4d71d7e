"""Collocation problems from their files: they load, simulate, are solved and scored; wrong files say what is wrong."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import sciprob
from sciprob.errors import ConfigError, DataError
from sciprob.operators.base import Capability
from sciprob.pde.functionals import ScatteredPoints
from sciprob.problems.registry import available, build_problem, load_problem

NAMES = [file.name for file in available() if file.table.get("kind") == "collocation"]
SMALL = {"pde": "poisson", "exact": "sin(20*x)", "points": [60], "upper": [1.0]}


def small(**changes: Any) -> Any:
    table = {"kind": "collocation", **SMALL, **changes}
    return build_problem({key: value for key, value in table.items() if value is not None}, name="small")


def test_all_problems_of_the_paper_are_there() -> None:
    titles = " ".join(file.title for file in available())
    assert all(f"(u{i} of Fang et al. 2024)" in titles for i in range(1, 8))
    assert len(NAMES) == 13


@pytest.mark.parametrize("name", NAMES)
def test_problems_load_and_their_truth_fits_their_data(name: str) -> None:
    """On a coarse grid; the exact solution satisfies linear rows at the grid points, whatever the operator does."""
    file = next(file for file in available() if file.name == name)
    d = len(file.table["points"])
    problem = load_problem(name, {"points": [24, 14, 12][:d] if d > 1 else [60]})
    assert Capability.COLLOCATION in problem.offers
    assert problem.truth is not None
    assert problem.truth.shape == problem.operator.domain.shape
    x = problem.operator.collocation.points().columns(problem.operator.collocation.coordinates)
    assert set(x) == set(problem.parameter.dims)
    simulated = problem.simulate(torch.Generator().manual_seed(0))
    assert simulated.observed.shape == problem.observed.shape
    residual = (simulated.observed - problem.operator(simulated.truth)) / problem.likelihood.noise.std
    assert float(residual.square().mean()) == pytest.approx(1.0, abs=0.5)


def test_a_wave_is_solved_by_exact_conditioning_of_grid_values() -> None:
    problem = small()
    posterior = sciprob.solve(problem, "gaussian", seed=0)
    assert problem.report is not None
    numbers = problem.report(problem, posterior, None)
    assert numbers["fine_points"] == 3001
    assert numbers["fine_relative_error"] < 1e-4
    assert numbers["residual_rms"] < 1


def test_transport_is_solved_from_initial_and_inflow_data() -> None:
    problem = load_problem(
        "advection-wave", {"points": [12, 60], "exact": "sin(x - 60*t)", "parameters.velocity_x": 60}
    )
    posterior = sciprob.solve(problem, "gaussian", seed=0)
    assert problem.truth is not None
    assert float((posterior.mean - problem.truth).norm() / problem.truth.norm()) < 1e-4


def test_simulated_data_are_not_scored_by_the_formula() -> None:
    problem = small().simulate(torch.Generator().manual_seed(1))
    numbers = problem.report(problem, sciprob.solve(problem, "gaussian", seed=0), None)
    assert "fine_relative_error" not in numbers


def test_sources_and_sides_without_a_known_solution() -> None:
    """U = x^2 + y from its source, a Dirichlet, a Neumann and a Robin side, all formulas."""
    sides = {
        "x_lower": {"value": "y"},
        "x_upper": {"kind": "neumann", "value": 2.0},
        "y_lower": {"value": "x**2"},
        "y_upper": {"kind": "robin", "coefficient": 3.0, "value": "1 + 3*(x**2 + 1)"},
    }
    problem = small(exact=None, source=2.0, points=[12, 13], upper=[1.0, 1.0], boundary=sides)
    posterior = sciprob.solve(problem, "gaussian", seed=0)
    assert problem.truth is None
    x, y = problem.operator.collocation.points().lines
    torch.testing.assert_close(posterior.mean, x[:, None] ** 2 + y, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": 1.0}, "give `exact` or `source`, not both"),
        ({"exact": None, "source": 1.0}, "side `x_lower` has no value; give `boundary.x_lower.value`"),
        ({"pde": "poison"}, "did you mean `poisson`"),
        ({"pde": "heat"}, "`heat` has other coordinates than the 1"),
        ({"exact": "sin(20*t)"}, "unknown name `t`"),
        ({"exact": "abs(x - 0.5)"}, "`abs` has no derivative everywhere"),
        ({"boundary": {"y_lower": {}}}, "no side `y_lower`"),
        ({"boundary": {"left": {}}}, "a side is written `x_lower`"),
        ({"boundary": {"x_lower": {"kind": "dirichle"}}}, "should be 'dirichlet', 'neumann', 'robin'"),
        ({"upper": ["2*pie"]}, "unknown name `pie`"),
        ({"upper": [1.0, 2.0]}, "as many bounds"),
        ({"parameters": {"wavenumber": 2.0}}, "no parameter `wavenumber`"),
        (
            {
                "exact": None,
                "source": 1.0,
                "sensors": {"count": 3, "std": 0.1},
                "boundary": {"x_lower": {"value": 0.0}},
            },
            "`--data`",
        ),
        ({"sensors": {"count": 3, "std": 0.0}}, "`std` positive"),
        ({"jitter": 0.0}, "`jitter` should be positive"),
    ],
)
def test_wrong_settings_say_what_is_wrong(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        small(**changes)


def test_sources_that_are_not_finite_say_where() -> None:
    sides = {"x_lower": {"value": 0.0}}
    with pytest.raises(DataError, match=r"`forcing` should be finite, and is not at x = 0 \(point 0 of 60\)"):
        small(exact=None, source="1/x", boundary=sides)


def test_measurements_of_a_file_join_the_equation(tmp_path: Path) -> None:
    """Without any side the affine part of u is unknown; two sensors in a file fix it."""
    file = tmp_path / "sensors.csv"
    file.write_text("x,value,std\n0.1,1.02,0.001\n0.9,1.18,0.001\n")
    table = {"kind": "collocation", "pde": "poisson", "source": 0.0, "points": [20], "upper": [1.0]}
    table["boundary"] = {"x_lower": {"kind": "neumann", "value": -0.2}}
    problem = build_problem(table, name="files", data=file)
    posterior = sciprob.solve(problem, "gaussian", seed=0)
    x = problem.operator.collocation.points().lines[0]
    torch.testing.assert_close(posterior.mean, 1 + 0.2 * x, rtol=0, atol=5e-3)
    file.write_text("x,value,std\n1.1,1.02,0.001\n")
    with pytest.raises(DataError, match=r"row 2 of `sensors.csv` has x = 1.1, outside \[0, 1\]"):
        build_problem(table, name="files", data=file)


class TestHeatSource:
    @pytest.fixture(scope="class")
    @classmethod
    def problem(cls) -> Any:
        return load_problem("heat-source-sensors")

    def test_the_truth_solves_the_equation_with_the_source(self, problem: Any) -> None:
        """U_t - D u_xx = f for the spectral truth, by differences of second order inside."""
        x, t = problem.operator.collocation.points().lines
        u = problem.truth
        h, step = float(x[1] - x[0]), float(t[1] - t[0])
        rate = (u[1:-1, 2:] - u[1:-1, :-2]) / (2 * step)
        second = (u[2:, 1:-1] - 2 * u[1:-1, 1:-1] + u[:-2, 1:-1]) / h**2
        source = 4 * torch.exp(-(((x - 0.3) / 0.1) ** 2)) - 2.5 * torch.exp(-(((x - 0.68) / 0.1) ** 2))
        late = slice(len(t) // 2, None)
        error = (rate - 0.01 * second)[:, late] - source[1:-1, None]
        assert float(error.abs().max()) < 0.05 * float(source.abs().max())

    def test_the_source_is_found_with_honest_bands(self, problem: Any) -> None:
        posterior = sciprob.solve(problem, "gaussian", seed=0)
        numbers = problem.report(problem, posterior, None)
        assert numbers["source_relative_error"] < 0.15
        assert numbers["source_coverage"]["0.95"] > 0.85
        assert posterior.meta["relative_error"] < 0.03

    @pytest.mark.filterwarnings("ignore:The equation is obeyed:sciprob.errors.SciprobWarning")  # up to its drift
    def test_a_process_knows_its_source_exactly(self, problem: Any) -> None:
        """`functional_posterior` of a process: its mean is the combination of derivatives, its std that of draws."""
        solver = sciprob.solvers.SpectralMixtureGP(kernel="prior", evidence_steps=0)
        posterior = sciprob.solve(problem, solver, seed=0)
        source = problem.report.posterior_of_source(problem, posterior)
        x = source.space.coords["x"]
        points = ScatteredPoints(torch.stack([x, torch.full_like(x, 0.5)], dim=1))
        mean = posterior.process.mean(points, "t") - 0.01 * posterior.process.mean(points, "xx")
        torch.testing.assert_close(source.mean, mean)
        numbers = problem.report(problem, posterior, None)
        assert numbers["source_relative_error"] < 0.1
        assert numbers["source_coverage"]["0.95"] > 0.85

    def test_temperatures_of_a_file(self, problem: Any, tmp_path: Path) -> None:
        rows = problem.operator.collocation.sensors[0]
        file = tmp_path / "temperatures.csv"
        lines = [
            f"{x!r},{t!r},{value!r},0.03"
            for (x, t), value in zip(rows.points.points.tolist(), rows.values.tolist(), strict=True)
        ]
        file.write_text("x,time,value,std\n" + "\n".join(lines) + "\n")
        same = load_problem("heat-source-sensors", data=file)
        torch.testing.assert_close(same.observed, problem.observed)
        torch.testing.assert_close(same.likelihood.noise.std, problem.likelihood.noise.std)
        assert same.truth is None
        file.write_text("x,time,value,std\n0.5,1.5,0.2,0.01\n")
        with pytest.raises(DataError, match="row 2"):
            load_problem("heat-source-sensors", data=file)


def test_the_box_is_large() -> None:
    table = next(file for file in available() if file.name == "poisson-box").table
    assert math.prod(table["points"]) == 64**3
