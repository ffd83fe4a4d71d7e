"""Spectral-mixture Gaussian processes on high-frequency and multi-scale PDEs, beside their alternatives.

    python benchmarks/kronecker_gp.py [--quick] [--threads N] [--training SECONDS] [--only PART] [--case START ...]
        [--json PATH]

All methods get the equation, the source and the boundary values; errors are relative, in L2, on grids much denser
than the nodes and not aligned with them. `sm-gp` runs with its defaults. The published trainer and the network
(DeepXDE, random Fourier features) are given `--training` seconds of processor time each, and are told the largest
frequency, as in the paper; what counts is their last iterate. Chebyshev and Fourier collocation have as many nodes per
axis. For the advection problem the published trainer has data on all four sides, as in its code, all others at t = 0
and at the inflow alone. Peers that are not installed are shown as absent.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _kronecker_cases import Case, cube_case, paper_cases, random_cases, wave_case
from _kronecker_collocation import collocation_of
from _kronecker_pinn import PRESENT, pinn
from _kronecker_spectral import chebyshev, fourier

import sciprob
from sciprob.pde.functionals import TensorPoints
from sciprob.problems.collocation_prior import initial_kernels
from sciprob.problems.collocation_problem import collocation_problem
from sciprob.solvers.kronecker_gp import condition
from sciprob.solvers.kronecker_gp.published import PublishedModel, PublishedState


class Table:
    """Rows for the JSON file, printed as they come and kept safe after each."""

    def __init__(self, path: Path | None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.path = path
        self.versions = {name: module.__version__ for name, module in (("torch", torch), ("numpy", np))}
        self.versions |= {"python": platform.python_version(), "deepxde": "present" if PRESENT else "absent"}
        print(f"torch {torch.__version__} with {torch.get_num_threads()} threads, deepxde {self.versions['deepxde']}")
        print(f"{'case':40} {'method':10} {'metric':34} {'value':>10} unit    seconds  processor")

    def add(
        self,
        case: str,
        method: str,
        metric: str,
        value: float | None,
        unit: str = "1",
        times: tuple[float, float] | None = None,
    ) -> None:
        """One figure; None where the peer is absent."""
        seconds, processor = times or (None, None)
        row = {"case": case, "method": method, "metric": metric, "value": value, "unit": unit, "seconds": seconds}
        row["processor_seconds"] = processor
        self.rows.append(row | {"device": "cpu", "threads": torch.get_num_threads(), "versions": self.versions})
        shown = "absent" if value is None else f"{value:.3g}"
        clock = "" if times is None else f"{seconds:8.2f} {processor:10.2f}"
        print(f"{case[:40]:40} {method:10} {metric:34} {shown:>10} {unit:6} {clock}", flush=True)
        if self.path:
            self.path.write_text(json.dumps(self.rows, indent=1))


def timed(action: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """The result, and seconds on the wall and of the processors, which other programs do not change."""
    wall, processor = time.perf_counter(), time.process_time()
    result = action()
    return result, (time.perf_counter() - wall, time.process_time() - processor)


def lines_of(case: Case) -> TensorPoints:
    return TensorPoints(tuple(map(torch.from_numpy, case.test_lines())))


def bench_sm_gp(table: Table, case: Case) -> None:
    """Error against what is promised, time from data to posterior, and how much of the truth the bands hold."""
    posterior, times = timed(
        lambda: sciprob.solve(collocation_problem(case.name, collocation_of(case)), "sm-gp", seed=0, progress=False)
    )
    mean = posterior.process.mean(lines_of(case)).numpy()
    error = case.relative_error(mean)
    table.add(case.name, "sm-gp", "relative error", error, times=times)
    if math.isfinite(case.bound):
        table.add(case.name, "sm-gp", "error over its bound", error / case.bound)
    points = case.random_points(2000)
    inside = posterior.at(points)
    truth = case.exact(*points.unbind(1))
    table.add(case.name, "sm-gp", "covered by the 95 % band", _covered(inside, truth))
    table.add(
        case.name, "sm-gp", "rms error over std", float(((inside.mean - truth) / inside.std).square().mean().sqrt())
    )


def _covered(posterior: Any, truth: torch.Tensor) -> float:
    return float(((posterior.mean - truth).abs() <= 1.96 * posterior.std).double().mean())


def bench_published(table: Table, case: Case, budget: float) -> None:
    weight = 500.0 if case.equation == "advection" else 200.0
    model = PublishedModel(collocation_of(case, all_sides=True), case.largest, boundary_weight=weight)

    def train() -> PublishedState:
        state, start = model.init(), time.process_time()
        while time.process_time() - start < budget:
            state, _ = model.step(state)
        return state

    state, times = timed(train)
    error = case.relative_error(model.predict(state, lines_of(case)).numpy())
    table.add(case.name, "published", f"relative error, {state.steps} steps", error, times=times)


def bench_peers(table: Table, case: Case, budget: float) -> None:
    if PRESENT:
        (u, steps), times = timed(lambda: pinn(case, budget))
        table.add(case.name, "RFF-PINN", f"relative error, {steps} steps", case.relative_error(u), times=times)
    else:
        table.add(case.name, "RFF-PINN", "relative error", None)
    bench_spectral(table, case)


def bench_spectral(table: Table, case: Case) -> None:
    u, times = timed(lambda: chebyshev(case))
    table.add(case.name, "Chebyshev", "relative error", case.relative_error(u), times=times)
    u, times = timed(lambda: fourier(case))
    if u is not None:
        table.add(case.name, "Fourier", "relative error", case.relative_error(u), times=times)


SCALING = """
import json, sys
sys.path.insert(0, {folder!r})
from kronecker_gp import measure_conditioning, pin
pin({threads})
print(json.dumps(measure_conditioning({nodes}, {waves})))
"""


def peak_kib() -> int:
    """Peak memory of this process; getrusage would count its parent's before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def pin(threads: int) -> None:
    """Keep the process, and with it every peer's thread pool, on as many cores as torch has threads."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def warm_up() -> None:
    """Load what torch and the package load late."""
    collocation = collocation_of(wave_case(20, 2, 1))
    condition(initial_kernels(collocation), collocation.functionals())


def measure_conditioning(nodes: int, waves: int) -> dict[str, Any]:
    """Kernels from the spectrum, then conditioning in factor form, of a 2-D case; memory above that at the start."""
    case = wave_case(nodes, waves, 2)
    collocation = collocation_of(case)
    warm_up()
    before = peak_kib()
    conditional, times = timed(lambda: condition(initial_kernels(collocation), collocation.functionals()))
    memory = (peak_kib() - before) / 2**20
    error = case.relative_error(conditional.mean(lines_of(case)).numpy())
    return {"times": times, "memory": memory, "rank": conditional.rank, "error": error}


def bench_scaling(table: Table, sizes: list[tuple[int, int]]) -> None:
    """Nodes per axis at fixed rank, then rank at fixed nodes; a process of its own for each, for its memory."""
    for nodes, waves in sizes:
        folder, threads = str(Path(__file__).parent), torch.get_num_threads()
        script = SCALING.format(folder=folder, threads=threads, nodes=nodes, waves=waves)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        name = f"2-D, {waves} waves, {nodes}^2"
        table.add(name, "sm-gp", f"time, rank {found['rank']}", found["times"][0], "s", found["times"])
        table.add(name, "sm-gp", "memory above start", found["memory"], "GiB")
        table.add(name, "sm-gp", "relative error", found["error"])


def bench_batch(table: Table, case: Case, count: int) -> None:
    """Many right-hand sides of one operator against one, at given kernels."""
    collocation = collocation_of(case)
    kernels, rows = initial_kernels(collocation), collocation.functionals()
    factors = torch.linspace(0.5, 2.0, count, dtype=torch.float64)
    many = [replace(row, values=torch.stack([factor * row.values for factor in factors])) for row in rows]
    one = min(timed(lambda: condition(kernels, rows).coefficients)[1][1] for _ in range(3))
    all_, times = timed(lambda: condition(kernels, many).coefficients)
    table.add(f"{case.name}, {count} sources", "sm-gp", "processor time over that of one", times[1] / one, times=times)
    single = condition(kernels, rows).coefficients
    gap = float((all_[-1] - 2 * single).norm() / (2 * single).norm())
    table.add(f"{case.name}, {count} sources", "sm-gp", "difference from single solves", gap)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few seconds of training, fewer and smaller cases")
    parser.add_argument("--threads", type=int, default=2, help="threads of every method")
    parser.add_argument(
        "--training", type=float, help="processor seconds for each trained method (default 600, quick 5)"
    )
    parser.add_argument("--only", default="", help="paper, random, scaling, batch, cube: this part alone")
    parser.add_argument("--case", nargs="+", default=[""], help="starts of names: these of the paper's problems alone")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    pin(options.threads)
    quick, table = options.quick, Table(options.json)
    budget = options.training or (5.0 if quick else 600.0)
    warm_up()
    parts: dict[str, Callable[[], None]] = {
        "paper": lambda: bench_paper(table, tuple(options.case), budget),
        "random": lambda: bench_random(table, 3 if quick else 12),
        "scaling": lambda: bench_scaling(table, _sizes(quick)),
        "batch": lambda: [bench_batch(table, case, 64) for case in paper_cases()[: 1 if quick else 7 : 6]],
        "cube": lambda: bench_cube(table, 24 if quick else 64),
    }
    for name, part in parts.items():
        if options.only in ("", name):
            part()


def bench_paper(table: Table, starts: tuple[str, ...], budget: float) -> None:
    for case in (case for case in paper_cases() if case.name.startswith(starts)):
        bench_sm_gp(table, case)
        bench_published(table, case, budget)
        bench_peers(table, case, budget)


def bench_random(table: Table, count: int) -> None:
    for case in random_cases(0, count):
        bench_sm_gp(table, case)
        bench_spectral(table, case)


def bench_cube(table: Table, nodes: int) -> None:
    case = cube_case(nodes)
    bench_sm_gp(table, case)


def _sizes(quick: bool) -> list[tuple[int, int]]:
    if quick:
        return [(50, 10), (100, 10)]
    return [(n, 10) for n in (50, 100, 200, 400, 800, 1600)] + [(400, waves) for waves in (20, 40, 80)]


if __name__ == "__main__":
    main()
