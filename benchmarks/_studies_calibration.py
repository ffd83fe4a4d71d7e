"""Simulation-based calibration of every solver, with the right noise level and with wrong ones."""

from __future__ import annotations

import time

from _diffusion_table import Table
from _studies_problems import SETTINGS, configured, problem_of

from sciprob.studies import calibrate

_DRAWS = {"pcn": 39, "nuts": 9}  # fewer than their effective draws


def bench_calibration(table: Table, simulations: int, wrong: int) -> None:
    """Right noise by `simulations` data sets, and a solver that believes in twice or half the noise by `wrong`."""
    for solver in SETTINGS:
        for factor in (1.0, 2.0, 0.5):
            _calibrated(table, solver, factor, simulations if factor == 1 else wrong)


def _calibrated(table: Table, solver: str, factor: float, simulations: int) -> None:
    start = time.process_time()
    result = calibrate(
        problem_of(solver, factor),
        configured(solver),
        simulations=simulations,
        draws=_DRAWS.get(solver, 99),
        seed=7,
        truths="simulator",
        progress=False,
    )
    case = f"noise x {factor:g}, {simulations} data sets"
    print(f"{case:34} {solver:30} {result.verdict}", flush=True)
    table.add(case, solver, "calibrated", float(result.verdict.startswith("calibrated")))
    smallest = min(test.p_value for test in result.tests.values()) * len(result.tests)
    table.add(case, solver, "smallest corrected p", min(smallest, 1.0))
    table.add(case, solver, "p of TARP", result.tests["distance to a random point"].p_value)
    table.add(case, solver, "p of log-likelihood", result.tests["log-likelihood"].p_value)
    table.add(case, solver, "90 % intervals hold", result.coverage(0.9))
    table.add(case, solver, "CPU time", time.process_time() - start, "s")
