"""The two engines of elliptic problems: FEniCSx (direct, sample by sample) and torch (iterative, all at once).

    python benchmarks/elliptic_engines.py [--quick] [--json PATH]

-div(exp(m) grad u) = 1 with u = 0 on one side, m a rough random field of standard deviation 1, another one in
every run, so that no factorisation is met twice. Times are the best of several runs that alternate between
the engines: of all states of a batch, and of states with one gradient each. FEniCSx works on the CPU; torch
in float64 on the CPU (with OMP_NUM_THREADS threads) and on CUDA where there is a device.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciprob.engines import torch_fe
from sciprob.engines.fenicsx_mesh import fenics
from sciprob.operators import ForwardOperator
from sciprob.spaces import FESpace, box_mesh

WITH_FENICSX = importlib.util.find_spec("dolfinx") is not None
Engines = dict[str, tuple[ForwardOperator, torch.device]]


class Table:
    """Rows for the JSON file, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.versions = {"python": platform.python_version(), "torch": torch.__version__}
        self.versions["dolfinx"] = fenics().dolfinx.__version__ if WITH_FENICSX else "absent"
        print(f"torch {torch.__version__} with {torch.get_num_threads()} threads, ", end="")
        print(f"dolfinx {self.versions['dolfinx']} with one process")
        print(f"{'case':44} {'method':12} {'metric':28} {'value':>10} unit")

    def add(self, case: str, method: str, metric: str, value: float | None, unit: str) -> None:
        """One figure; None where the engine is absent."""
        seconds = value if unit == "s" else None
        device = torch.cuda.get_device_name() if method == "torch cuda" else "cpu"
        row = {"case": case, "method": method, "metric": metric, "value": value, "unit": unit, "seconds": seconds}
        self.rows.append(row | {"device": device, "threads": torch.get_num_threads(), "versions": self.versions})
        shown = "absent" if value is None else f"{value:.4g}"
        print(f"{case:44} {method:12} {metric:28} {shown:>10} {unit}", flush=True)


def rough_field(space: FESpace, batch: int, generator: torch.Generator) -> Tensor:
    """Sums of 60 random waves, about 4 to a side: standard deviation 1, `(batch, P)`."""
    x = space.points()
    waves = 25 / math.sqrt(x.shape[1]) * torch.randn(batch, 60, x.shape[1], generator=generator, dtype=torch.float64)
    phases = 2 * math.pi * torch.rand(batch, 60, 1, generator=generator, dtype=torch.float64)
    return (waves @ x.T + phases).cos().sum(1) * math.sqrt(2 / 60)


def best_times(engines: Engines, action: Callable[[ForwardOperator, Tensor], Any], m: list[Tensor]) -> dict[str, float]:
    """Shortest time of each engine, the runs interleaved so that all meet the same machine."""
    best = dict.fromkeys(engines, math.inf)
    for run, fields in enumerate(m):  # the first round warms up
        for name, (operator, device) in engines.items():
            there = fields.to(device)
            start = time.perf_counter()
            action(operator, there)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if run:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def bench_case(table: Table, divisions: tuple[int, ...], degree: int, batches: list[int], repeats: int) -> None:
    """One mesh and degree."""
    settings: dict[str, Any] = {"source": 1.0, "dirichlet": {"left": 0.0}}
    mesh, engines = box_mesh(divisions), {}
    cpu = torch.device("cpu")
    if WITH_FENICSX:
        from sciprob.engines import fenicsx

        engines["fenicsx"] = (fenicsx.elliptic_operator(mesh, degree, **settings), cpu)
    start = time.perf_counter()
    engines["torch cpu"] = (torch_fe.elliptic_operator(mesh, degree, **settings), cpu)
    seconds = time.perf_counter() - start
    space, states = engines["torch cpu"][0].domain, engines["torch cpu"][0].codomain.size
    case = f"{mesh.dim}-D, degree {degree}, {states} unknowns"
    table.add(case, "torch", "build", seconds, "s")
    if torch.cuda.is_available():
        engines["torch cuda"] = (torch_fe.elliptic_operator(mesh, degree, **settings), torch.device("cuda"))
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        actions: dict[str, Callable[[ForwardOperator, Tensor], Any]] = {
            "states": lambda operator, x: operator(x),
            "states and gradients": lambda operator, x: operator.vjp(x, torch.ones(len(x), states).to(x)),
        }
        for what, action in actions.items():
            m = [rough_field(space, batch, generator) for _ in range(repeats + 1)]
            best = best_times(engines, action, m)
            where = f"{case}, batch {batch}"
            for method in ("fenicsx", "torch cpu", "torch cuda"):
                if method in best or method == "fenicsx":
                    table.add(where, method, what, best.get(method), "s")
                if method in best and method != "fenicsx" and WITH_FENICSX:
                    table.add(where, method, f"{what}, times fenicsx", best["fenicsx"] / best[method], "1")
        if WITH_FENICSX:
            theirs, ours = (engines[name][0](m[-1]) for name in ("fenicsx", "torch cpu"))
            table.add(
                f"{case}, batch {batch}",
                "torch cpu",
                "distance from fenicsx",
                float((ours - theirs).norm() / theirs.norm()),
                "relative",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small meshes and batches, few repeats")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    table = Table()
    cases: list[tuple[tuple[int, ...], int]] = [
        ((50, 50), 1),
        ((100, 100), 1),
        ((50, 50), 2),
        ((15, 15, 15), 1),
        ((8, 8, 8), 2),
    ]
    if options.quick:
        cases = [((20, 20), 1), ((10, 10), 2), ((5, 5, 5), 1)]
    for divisions, degree in cases:
        bench_case(table, divisions, degree, [1, 4] if options.quick else [1, 16, 64], 2 if options.quick else 3)
    if options.json:
        options.json.write_text(json.dumps(table.rows, indent=1))


if __name__ == "__main__":
    main()
