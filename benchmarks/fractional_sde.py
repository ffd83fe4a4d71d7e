"""Paths driven by fractional noise: bridges against exact, simulation-free against simulated, torchsde at H = 1/2.

    python benchmarks/fractional_sde.py [--quick] [--json PATH]

Times are processor seconds of one thread. `exact` is the dense Gaussian process with fractional noise that is not
approximated. torchsde is shown as absent where it is not installed; with diffrax, which needs JAX, nothing is compared.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import math
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _fractional_brownian import Trained, ours, theirs
from torch import Tensor

from sciprob import load_problem
from sciprob.sde import AffineSDE, DensePathPosterior, PathData, rates_for_times
from sciprob.sde.drifts import AffineDrift
from sciprob.sde.path_model import PathModel
from sciprob.solvers.fbm_vi.adam import Climb
from sciprob.solvers.fbm_vi.control import NetworkShape
from sciprob.solvers.fbm_vi.guide import make_guide
from sciprob.solvers.fbm_vi.linearise import observable_moments
from sciprob.solvers.fbm_vi.matched import Matched
from sciprob.solvers.fbm_vi.simulate import draw_noise, simulate
from sciprob.solvers.fbm_vi.sites import Sites
from sciprob.solvers.fbm_vi.solver import FractionalVI
from sciprob.solvers.fbm_vi.target import PathTarget
from sciprob.solvers.fbm_vi.volterra import PseudoData, site_moments

HORIZON, STD = 2.0, 0.1


class Table:
    """Rows for the JSON file, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        peer = "torchsde"
        present = importlib.util.find_spec(peer) is not None
        self.versions = {"python": platform.python_version(), "torch": torch.__version__}
        self.versions[peer] = importlib.metadata.version(peer) if present else "absent"
        print(f"torch {torch.__version__} with {torch.get_num_threads()} threads")
        print(f"{'case':34} {'method':30} {'metric':28} {'value':>11} unit")

    def add(self, case: str, method: str, metric: str, value: float | None, unit: str = "1") -> None:
        """One figure; None where the peer is absent."""
        seconds = value if unit == "s" else None
        row = {"case": case, "method": method, "metric": metric, "value": value, "unit": unit, "seconds": seconds}
        self.rows.append(row | {"device": "cpu", "threads": torch.get_num_threads(), "versions": self.versions})
        shown = "absent" if value is None else f"{value:.4g}"
        print(f"{case:34} {method:30} {metric:28} {shown:>11} {unit}", flush=True)


def bridge(hurst: float) -> tuple[PathTarget, DensePathPosterior]:
    """The bridge from 0 to 0 +- 0.1, dx = dB_H, and its exact posterior."""
    one = torch.ones(1, dtype=torch.float64)
    model = PathModel(horizon=HORIZON, hurst=hurst, normalisation="gamma", drift=AffineDrift(), drift_on="noise")
    rates = rates_for_times(horizon=HORIZON, resolution=0.02, kind="I")
    grid = torch.linspace(0, HORIZON, 101, dtype=torch.float64)
    target = PathTarget(model, HORIZON * one, 0 * one, STD * one, grid, rates)
    exact = DensePathPosterior(AffineSDE(hurst, normalisation="gamma"), PathData(target.times, target.values, STD))
    return target, exact


def report(
    table: Table, case: str, method: str, bound: float, exact: DensePathPosterior, std: Tensor, s: float
) -> None:
    """Gap to the exact evidence, largest relative error of the deviations after time 0, time."""
    grid = torch.linspace(0, HORIZON, 101, dtype=torch.float64)
    true = exact.at(grid)[1]
    table.add(case, method, "exact evidence - bound", float(exact.log_evidence) - bound, "nats")
    table.add(case, method, "largest error of std", float((std / true - 1)[1:].abs().max()))
    table.add(case, method, "time", s, "s")


def bench_bridges(table: Table, steps: int, network_steps: int) -> None:
    for hurst in (0.3, 0.5, 0.7, 0.9):
        case, (target, exact) = f"bridge, H = {hurst}", bridge(hurst)
        numbers = target.numbers(target.model.start())
        start = time.process_time()
        reference = target.reference(numbers, target.stored, None)
        sites = target.sites(numbers, torch.tensor([len(target.stored) - 1]))
        guide = make_guide(reference, sites)
        with torch.no_grad():
            drawn = simulate(reference, guide, draw_noise(reference, 16, generator(0)))
            bound = float((drawn.log_ratio + sites.log_density(drawn.x)).mean())
            std = observable_moments(reference, guide)[1][:, 0].sqrt()
        report(table, case, "closed-form control", bound, exact, std, time.process_time() - start)
        trained_sites(table, case, target, exact, steps)
        if hurst in (0.3, 0.7) and network_steps:
            network_alone(table, case, target, exact, network_steps)


def trained_sites(table: Table, case: str, target: PathTarget, exact: DensePathPosterior, steps: int) -> None:
    """Sites that start far away, trained by stochastic gradients of the simulation-free bound."""
    matched, start = Matched(target, 3, 2, 0.02), time.process_time()
    climb = Climb.at(torch.cat([torch.ones(4), torch.zeros(4)]).double())  # values 1, precisions 1
    source = generator(1)
    for _ in range(steps):
        vector = climb.position.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(matched.bound(vector, source), vector)
        climb = climb.ascend(gradient, torch.full_like(vector, 0.2), steps)
    numbers = target.numbers(target.model.start())
    with torch.no_grad():
        bound = float(matched.bound(climb.average, None))
        sites = PseudoData(matched.times, climb.average[:4, None], climb.average[4:, None])
        std = site_moments(matched._prior(numbers), sites, target.stored).variance[:, 0].sqrt()
    report(table, case, f"sites, {steps} steps", bound, exact, std, time.process_time() - start)


def network_alone(table: Table, case: str, target: PathTarget, exact: DensePathPosterior, steps: int) -> None:
    """A control network without the guide, as published, but with exact transitions and the start inferred."""
    numbers, start = target.numbers(target.model.start()), time.process_time()
    reference = target.reference(numbers, target.stored, None)
    sites = target.sites(numbers, torch.tensor([len(target.stored) - 1]))
    none = Sites(sites.index[:0], sites.values[:0], sites.precision[:0])
    with torch.no_grad():
        guide = make_guide(reference, none)
    one = torch.ones(1, dtype=torch.float64)
    shape = NetworkShape(len(target.rates) + 1, 64, HORIZON, 0 * one, one)
    source, rank = generator(2), reference.initial_root.shape[-1]
    climb = Climb.at(torch.cat([torch.zeros(rank).double(), shape.start(source)]))

    def draw(vector: Tensor, paths: int) -> tuple[Tensor, Tensor]:
        control, noise = shape.at(vector[rank:]), draw_noise(reference, paths, source)
        drawn = simulate(reference, guide, noise, control=control, shift=vector[:rank].expand(1, -1))
        return drawn.log_ratio + sites.log_density(drawn.x), drawn.x[..., 0]

    for _ in range(steps):
        vector = climb.position.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(draw(vector, 32)[0].mean(), vector)
        climb = climb.ascend(gradient, torch.full_like(vector, 3e-3), steps)
    with torch.no_grad():
        bounds, x = draw(climb.average, 4000)
    seconds = time.process_time() - start
    report(table, case, f"network alone, {steps} steps", float(bounds.mean()), exact, x.std(0), seconds)


def bench_simulation_free(table: Table, steps: int, simulated_steps: int, repeats: int) -> None:
    """The same sites and bound, by quadrature at random times and by simulated paths; then training by each."""
    case = "double well in the noise, H = 0.35"
    problem = load_problem(
        "double-well-volterra", overrides={"final_time": "4.0", "observations.times": "[0.5,1.5,2.5,3.5]"}
    )
    solver = FractionalVI()
    target = solver._target(problem)
    matched = Matched(target, solver.sites, solver.nodes, 0.01)
    source, paths = generator(3), 64
    first = matched.start(target.model.start())

    def simulated(vector: Tensor) -> Tensor:
        return matched.draw(vector, paths, source).log_weights.mean()

    def free(vector: Tensor) -> Tensor:
        return matched.bound(vector, source)

    found = {}
    for name, bound, count in (("simulation-free", free, steps), ("simulated, 64 paths", simulated, simulated_steps)):
        climb, start = Climb.at(first), time.process_time()
        for _ in range(count):
            vector = climb.position.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(bound(vector), vector)
            climb = climb.ascend(gradient, matched.rates(vector.detach(), 5e-3), count)
        seconds = time.process_time() - start
        found[name] = climb.average
        with torch.no_grad():
            table.add(case, name, f"bound after {count} steps", float(matched.bound(climb.average, None)), "nats")
        table.add(case, name, "time of training", seconds, "s")
    vector = found["simulation-free"]
    costs = {}
    for name, bound, count in (("simulation-free", free, 4 * repeats), ("simulated, 64 paths", simulated, repeats)):
        values, start = [], time.process_time()
        for _ in range(count):
            position = vector.clone().requires_grad_()
            value = bound(position)
            torch.autograd.grad(value, position)
            values.append(float(value.detach()))
        seconds, drawn = (time.process_time() - start) / count, torch.tensor(values, dtype=torch.float64)
        costs[name] = seconds * float(drawn.var())
        table.add(case, name, "bound", float(drawn.mean()), "nats")
        table.add(case, name, "error of the bound", float(drawn.std()) / count**0.5, "nats")
        table.add(case, name, "sd of one estimate", float(drawn.std()), "nats")
        table.add(case, name, "time of value and gradient", seconds, "s")
    with torch.no_grad():
        table.add(case, "quadrature", "bound", float(matched.bound(vector, None)), "nats")
    ratio = costs["simulated, 64 paths"] / costs["simulation-free"]
    table.add(case, "simulation-free", "times faster at one variance", ratio)
    step_error(table, case, matched, vector, 100 * repeats)


def step_error(table: Table, case: str, matched: Matched, vector: Tensor, paths: int) -> None:
    """What time steps take off the mean log weight of paths, against quadrature, and the order in the step."""
    steps, errors = (0.2, 0.1, 0.05, 0.025), []
    with torch.no_grad():
        bound = float(matched.bound(vector, None))
        for step in steps:
            method, own = f"paths, step {step}", replace(matched, step=step)
            blocks = [own.draw(vector, 500, generator(4 + i)).log_weights for i in range(-(-paths // 500))]
            weights = torch.cat(blocks)
            errors.append(bound - float(weights.mean()))
            table.add(case, method, "error of the mean log weight", errors[-1], "nats")
            table.add(case, method, "its own error", float(weights.std()) / len(weights) ** 0.5, "nats")
            table.add(case, method, "log evidence", float(weights.logsumexp(0)) - math.log(len(weights)), "nats")
            table.add(case, method, "ess", float(1 / weights.softmax(0).square().sum()))
    if min(errors) > 0:
        x, y = (torch.tensor(v, dtype=torch.float64).log() for v in (steps, errors))
        slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
        table.add(case, "paths", "order in the step", float(slope))


def bench_brownian(table: Table, step: float, steps: int) -> None:
    case = f"Brownian double well, {steps} steps"
    runs: dict[str, Trained | None] = {
        "sciprob, guide + network": ours(step, steps, guided=True),
        "sciprob, network alone": ours(step, steps, guided=False),
        "torchsde, network": None,
    }
    if importlib.util.find_spec("torchsde") is not None:
        runs["torchsde, network"] = theirs(importlib.import_module("torchsde"), step, steps)
    for name, trained in runs.items():
        table.add(case, name, "path steps per second", trained and trained.rate, "1/s")
        table.add(case, name, "bound", trained and trained.bound, "nats")
        table.add(case, name, "error of the bound", trained and trained.error, "nats")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps, no network without a guide")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    table, quick = Table(), options.quick
    bench_bridges(table, 30 if quick else 500, 0 if quick else 300)
    bench_simulation_free(table, 10 if quick else 150, 3 if quick else 40, 4 if quick else 40)
    bench_brownian(table, 0.05, 10 if quick else 200)
    if options.json:
        options.json.write_text(json.dumps(table.rows, indent=1))


if __name__ == "__main__":
    main()
