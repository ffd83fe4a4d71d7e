"""Random-grid neural processes: errors, error bars and inverse problems, beside other trainings at equal time.

    python benchmarks/rgnp.py [--case NAME ...] [--part PART ...] [--models FOLDER]
        [--longest SECONDS] [--quick] [--threads N] [--json PATH]

Every method trains on the same family for the same processor seconds, with the same hard conditions and
residual weights, and is scored on the same members against reference solutions that no trained method has
seen: Chebyshev collocation (Poisson), Cole-Hopf quadrature (Burgers), a coupled spectral solver (cavity), a
closed form (disk). Errors are NSE, the squared relative L2 error over the points of a grid; the mean over members
is dominated by few hard corners, so median and maximum stand beside it.

Methods: "sciprob" is the default trainer; "published" the paper's own training (Adam on the evidence lower
bound, with its inverse map); "deepxde" a physics-informed DeepONet. Reference posteriors use the true operator:
chains for Poisson, a grid for Burgers. The cavity's z is scored like that of the published run, 6.1e-3, which saw
noise-free fields at 112,896 points. "--quick" trains for a tenth of the time on a fifth of the tests.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from _rgnp_cases import CASES, Case, calibration_scores, errors, outside, summary
from _rgnp_deepxde import VERSION as DEEPXDE
from _rgnp_inverse import COMPARED, DESIGNS, FLOWS, REFERENCES, design_scores, posterior_scores
from _rgnp_methods import train_ours, train_peer, train_published
from _rgnp_surrogate import surrogate_scores

from sciprob.solvers.rgnp.amortised import Amortised, OutsideBoxWarning

PARTS = ["errors", "calibration", "inverse"]


class Table:
    """Rows for the JSON file, printed as they come and kept safe after each."""

    def __init__(self, path: Path | None, device: str = "cpu") -> None:
        self.rows: list[dict[str, Any]] = []
        self.path, self.device = path, device
        self.versions = {"python": platform.python_version(), "torch": torch.__version__, "deepxde": DEEPXDE}
        print(", ".join(f"{name} {version}" for name, version in self.versions.items()), f"on {device}")
        print(f"{'case':18} {'method':12} {'metric':44} {'value':>11} unit")

    def add(
        self, case: str, method: str, metric: str, value: float | None, unit: str = "1", seconds: float | None = None
    ) -> None:
        """One figure; None where the peer is absent."""
        row = {"case": case, "method": method, "metric": metric, "value": value, "unit": unit, "seconds": seconds}
        self.rows.append(row | {"device": self.device, "threads": torch.get_num_threads(), "versions": self.versions})
        shown = "absent" if value is None else f"{value:.4g}"
        print(f"{case:18} {method:12} {metric:44} {shown:>11} {unit}", flush=True)
        if self.path:
            self.path.write_text(json.dumps(self.rows, indent=1))


def bench_errors(table: Table, name: str, case: Case) -> Amortised:
    """Errors of all trainings at equal times; the longest of ours is handed back."""
    z, w = case.parameters
    fields = [case.family.fields.index(field) for field in case.scored]
    for seconds in case.budgets:
        trainings = {
            "sciprob": train_ours(name, case, seconds),
            "published": train_published(name, case, seconds),
            "deepxde": train_peer(name, case, seconds),
        }
        label, means = f"{name} {seconds:g} s", {}
        for method, trained in trainings.items():
            if trained is None:
                table.add(label, method, "NSE mean", None)
                continue
            table.add(label, method, "training", trained.seconds, "CPU s", trained.seconds)
            table.add(label, method, "steps", trained.steps, "1", trained.seconds)
            found = errors(trained.predict(z, w, case.points), case.truth)
            for field in fields:
                for statistic, value in summary(found[:, field]):
                    metric = f"NSE of {case.family.fields[field]}, {statistic}"
                    table.add(label, method, metric, value, "1", trained.seconds)
                    means[method, metric] = value
        for (method, metric), value in means.items():
            if method != "sciprob" and not metric.endswith("max"):
                table.add(label, "sciprob", f"times less than {method}, {metric}", value / means["sciprob", metric])
    ours = trainings["sciprob"]
    assert ours is not None
    return ours.model


def bench_calibration(table: Table, name: str, case: Case, trained: Amortised) -> Amortised:
    """Error bars in and out of the box, fitted to few solves that are not those of the tests."""
    generator = torch.Generator().manual_seed(11)
    z, w = case.calibration
    x = case.family.domain.sample(64, generator)
    truth = case.family.solve(z, w, x)
    model = trained.calibrate(z, w, x, truth)
    fields = [case.family.fields.index(field) for field in case.scored]
    spread = float((model.mean(z, w, x) - truth)[..., fields].square().mean().sqrt())
    tests = min(60, case.tests)
    chosen = torch.randperm(len(case.points), generator=generator)[:200]
    zs, ws = (part[:tests] for part in case.parameters)
    x = case.points[chosen]
    std = torch.stack([model.std(a, b, x) for a, b in zip(zs, ws, strict=True)])[..., fields]
    error = (model.mean(zs, ws, x) - case.truth[:tests, chosen])[..., fields]
    table.add(name, "sciprob", "factor of the sd", model.scale.factors[0])
    for metric, value in calibration_scores(error, std, spread).items():
        table.add(name, "sciprob", metric, value, "nat" if "NLL" in metric else "1")
    start = time.process_time()
    laws = [model.predict(a, b, x, refined=True) for a, b in zip(zs, ws, strict=True)]
    table.add(name, "refined", "CPU s of a prediction", (time.process_time() - start) / tests, "CPU s")
    refined = torch.stack([law.mean for law in laws])[..., fields] - case.truth[:tests, chosen][..., fields]
    own = float(refined.square().mean().sqrt())  # the rival knows the size of the tests' errors
    table.add(name, "refined", "rms error", own)
    table.add(name, "refined", "rms error before", float(error.square().mean().sqrt()))
    for metric, value in calibration_scores(refined, torch.stack([law.std for law in laws])[..., fields], own).items():
        table.add(name, "refined", metric, value, "nat" if "NLL" in metric else "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideBoxWarning)
        for factor in (1.25, 1.5):
            far = outside(case.family, factor, 20, generator)
            stds = torch.stack([model.std(a, b, x) for a, b in zip(far, ws[:20].repeat(20, 1)[:20], strict=True)])
            metric = f"rms sd at {factor:g} x the box, over rms sd inside"
            table.add(
                name, "sciprob", metric, float(stds[..., fields].square().mean().sqrt() / std.square().mean().sqrt())
            )
    return model


def bench_inverse(table: Table, name: str, case: Case, model: Any, sets: int) -> None:
    """Posteriors of z from noisy values: beside reference posteriors, for other designs, by other solvers."""
    label = f"{name} inverse"
    for design in COMPARED if name in REFERENCES else ():
        for metric, value in posterior_scores(name, case, model, sets, design).items():
            table.add(label, "sciprob", f"{design}: {metric}", value)
    for design in DESIGNS if name in REFERENCES else FLOWS:
        some = math.ceil(sets / 3) if design == "5000 points" else sets
        for metric, value in design_scores(case, model, design, some).items():
            table.add(label, "sciprob", f"{design}: {metric}", value, "CPU s" if metric.startswith("CPU") else "1")
    if name == "burgers":  # its reference solution can be differentiated
        for metric, value in surrogate_scores(case, model).items():
            table.add(label, "sciprob", f"on the trained map, {metric}", value)


def pin(threads: int) -> None:
    """Keep the process, and with it every peer's thread pool, on as many cores as torch has threads."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=["poisson", "burgers", "cavity"])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="these parts only")
    parser.add_argument("--models", type=Path, help="where our trained maps are kept, and taken from")
    parser.add_argument("--longest", type=float, default=math.inf, help="trainings of at most so many seconds")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, a fifth of the tests")
    parser.add_argument("--threads", type=int, default=1, help="processor cores for every method")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    if "errors" not in options.part and not options.models:
        parser.error("without `--part errors` there have to be trained maps: name their folder by `--models`.")
    pin(options.threads)
    table = Table(options.json)
    for name in options.case:
        case = CASES[name]
        case = dataclasses.replace(case, budgets=tuple(s for s in case.budgets if s <= options.longest))
        if options.quick:
            budgets = tuple(seconds / 10 for seconds in case.budgets[:1])
            case = dataclasses.replace(case, budgets=budgets, tests=math.ceil(case.tests / 5))
        if "errors" in options.part:
            model = bench_errors(table, name, case)
            if options.models:
                model.save(options.models / name)
        else:
            model = Amortised.load(options.models / name)
        if "calibration" in options.part:
            model = bench_calibration(table, name, case, model)
        if "inverse" in options.part:
            bench_inverse(table, name, case, model, 4 if options.quick else 20)


if __name__ == "__main__":
    main()
