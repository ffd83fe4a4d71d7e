"""Throughput of the spectral engine beside exponax and a plain torch loop, and memory of long gradients.

    python benchmarks/pde_throughput.py [--quick] [--threads N] [--json PATH]

All methods take the same steps of the same scheme in float32 from the same states, on the same
N processor cores (default 1), to which the process is pinned. A time is the best of several runs
that alternate between the methods. "FFT share" is the time of the transforms a step cannot do
without, alone, over the time of the step. The difference between methods after the run is a row of
its own: they solve one problem, or the comparison is void.
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
from pathlib import Path
from typing import Any

import torch
from _pde_peers import Case, Exponax, TorchLoop, exponax, jax, transforms
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.burgers import BurgersSpectral
from sciprob.engines.spectral.equations.kuramoto_sivashinsky import KuramotoSivashinskySpectral
from sciprob.engines.spectral.equations.navier_stokes_2d import NavierStokes2DSpectral
from sciprob.spaces import GridSpace

CASES = [
    Case("burgers", 1024, 2 * math.pi, 1e-4, 4, viscosity=0.02),
    Case("kuramoto-sivashinsky", 1024, 200.0, 1e-2, 4),
    Case("navier-stokes", 64, 2 * math.pi, 1e-3, 2, viscosity=1e-2),
    Case("navier-stokes", 128, 2 * math.pi, 1e-3, 2, viscosity=1e-3),
    Case("navier-stokes", 128, 2 * math.pi, 1e-3, 4, viscosity=1e-3),
]


class Table:
    """Rows for the JSON file, printed as they come."""

    def __init__(self, device: str = "cpu") -> None:
        self.rows: list[dict[str, Any]] = []
        self.device = device
        self.versions = {"python": platform.python_version(), "torch": torch.__version__}
        self.versions |= {"exponax": exponax.__version__, "jax": jax.__version__} if exponax else {"exponax": "absent"}
        print(", ".join(f"{name} {version}" for name, version in self.versions.items()), f"on {device}")
        print(f"{'case':44} {'method':12} {'metric':26} {'value':>11} unit")

    def add(
        self, case: str, method: str, metric: str, value: float | None, unit: str, seconds: float | None = None
    ) -> None:
        """One figure; None where the peer is absent."""
        row = {"case": case, "method": method, "metric": metric, "value": value, "unit": unit, "seconds": seconds}
        self.rows.append(row | {"device": self.device, "threads": torch.get_num_threads(), "versions": self.versions})
        shown = "absent" if value is None else f"{value:.4g}"
        print(f"{case:44} {method:12} {metric:26} {shown:>11} {unit}")


def evolution(case: Case, steps: int) -> Evolution:
    """The case in this package."""
    dims = ("x", "y")[: len(case.shape)]
    bounds = (0.0,) * len(dims), (case.length,) * len(dims)
    grid = GridSpace(case.shape, name="u", dims=dims, lower=bounds[0], upper=bounds[1], centring="periodic")
    basis = SpectralBasis(grid)
    if case.equation == "burgers":
        equation = BurgersSpectral(basis, viscosity=case.viscosity)
    elif case.equation == "kuramoto-sivashinsky":
        equation = KuramotoSivashinskySpectral(basis)
    else:
        equation = NavierStokes2DSpectral(basis, viscosity=case.viscosity)
    return Evolution(equation, (steps * case.step,), step=case.step, scheme=f"etdrk{case.order}")


def best_times(actions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Shortest time of each action, the runs interleaved so that all meet the same machine."""
    best = dict.fromkeys(actions, math.inf)
    for round_ in range(repeats + 1):  # the first round warms up
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if round_:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def bench_case(table: Table, case: Case, batches: list[int], steps: int, repeats: int) -> None:
    """Ensemble steps per second of all methods, and how much of a step is transforms."""
    plain, peer, most = TorchLoop(case), Exponax(case) if exponax else None, steps
    for batch in batches:
        steps = most if batch <= 16 else most // 5
        u, ours = case.initial(batch), evolution(case, steps)
        actions: dict[str, Callable[[], Any]] = {
            "sciprob": lambda u=u, ours=ours: ours(u),
            "torch loop": lambda u=u, steps=steps: plain(u, steps),
            "fft": transforms(case, batch),
        }
        if peer:
            actions["exponax"] = lambda u=u, steps=steps: peer(u.numpy(), steps)
        with torch.no_grad():
            best = best_times(actions, repeats)
            reference = ours(u)[:, 0]
            differences = {"torch loop": relative(plain(u, steps), reference)}
        if peer:
            differences["exponax"] = relative(torch.from_numpy(peer(u.numpy(), steps).copy()), reference)
        name = f"{case.name}, batch {batch}"
        for method in ("sciprob", "torch loop", "exponax"):
            seconds = best[method] / steps if method in best else None
            table.add(name, method, "ensemble steps per second", seconds and batch / seconds, "1/s", seconds)
            if method != "sciprob":
                ratio = seconds and seconds / (best["sciprob"] / steps)
                table.add(name, "sciprob", f"times as fast as {method}", ratio, "1")
                table.add(name, method, "difference from sciprob", differences.get(method), "relative")
        share = best["fft"] / (best["sciprob"] / steps)
        table.add(name, "sciprob", "FFT share of a step", share, "1", best["fft"])


def relative(x: Tensor, reference: Tensor) -> float:
    """Relative L2 difference."""
    return float((x - reference).norm() / reference.norm())


GRADIENT = """
import sys, time, torch
sys.modules["exponax"] = None  # its memory is not ours
sys.path.insert(0, {folder!r})
torch.set_num_threads({threads})
from _pde_peers import Case
from pde_throughput import evolution
import math
def peak_kib():  # getrusage would count the parent's memory before exec
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
case = Case("navier-stokes", {n}, 2 * math.pi, 1e-3, 2, viscosity=1e-3)
evolution(case, 2)(case.initial(1).requires_grad_()).sum().backward()  # loads what autograd loads late
operator, m = evolution(case, {steps}), case.initial(4)
start_kib = peak_kib()
start = time.perf_counter()
operator(m)
forward = time.perf_counter() - start
m.requires_grad_()
start = time.perf_counter()
operator(m).square().sum().backward()
assert torch.isfinite(m.grad).all()
print(start_kib, peak_kib(), forward, time.perf_counter() - start)
"""


def bench_gradient(table: Table, n: int, steps: int) -> None:
    """Peak memory and time of a gradient through many steps, in a process of its own."""
    case = f"navier-stokes {n}^2, {steps} steps, batch 4"
    if not Path("/proc/self/status").exists():  # only Linux tells the peak of one process
        table.add(case, "sciprob", "peak memory of a gradient", None, "GiB")
        return
    script = GRADIENT.format(folder=str(Path(__file__).parent), threads=torch.get_num_threads(), n=n, steps=steps)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, peak, forward, seconds = map(float, done.stdout.split())
    table.add(case, "sciprob", "peak memory of a gradient", peak / 2**20, "GiB", seconds)
    table.add(case, "sciprob", "memory above start", (peak - before) / 2**20, "GiB", seconds)
    table.add(case, "sciprob", "gradient over forward time", seconds / forward, "1", seconds)


def pin(threads: int) -> None:
    """Keep the process, and with it every peer's thread pool, on as many cores as torch has threads."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps and repeats, small batches")
    parser.add_argument("--threads", type=int, default=1, help="processor cores for every method")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    pin(options.threads)
    batches, steps, repeats = ([1, 16], 20, 2) if options.quick else ([1, 16, 128], 50, 5)
    table = Table()
    for case in CASES:
        bench_case(table, case, batches, steps, repeats)
    bench_gradient(table, *((64, 100) if options.quick else (256, 1000)))
    if options.json:
        options.json.write_text(json.dumps(table.rows, indent=1))


if __name__ == "__main__":
    main()
