"""Real limited-angle scans, levels 1 to 7: Matthews correlation and calibrated probabilities of pixels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _diffusion_table import Table, cpu_time, mean
from torch import Tensor

import sciprob
from sciprob.io.htc import read_segmentation
from sciprob.metrics.probabilities import brier_score, reliability
from sciprob.problems.registry import load_problem
from sciprob.problems.tomography_report import material_probability

SCANS = ("ta", "tb", "tc", "td", "solid_disc")
FBP_SUMS = {1: 1.96, 2: 2.06, 3: 1.90, 4: 1.84, 5: 1.56, 6: 1.18, 7: 0.85}  # of three test phantoms, published
FEWER_VIEWS = {"largest_views": 20}  # 2800 readings, whose decomposition is three times as fast as that of 4060
GAUSSIAN = {"pixels": 128, "bin_by": 4, "largest_views": 60}
FINE_GAUSSIAN = {"largest_views": 90}  # 256 pixels, bins of two, as the problem has them


def scans_folder() -> Path:
    """Where the real scans are, by the variable SCIPROB_DATA or beside the checkout."""
    return Path(os.environ.get("SCIPROB_DATA") or Path(__file__).parents[2] / "shared" / "data" / "htc2022")


def bench_level(
    table: Table,
    level: int,
    scans: tuple[str, ...],
    methods: dict[str, tuple[str, dict[str, Any], Callable[[Path], Any]]],
) -> None:
    """All methods on the scans of one level; every method is (problem, settings, solver).

    Solvers are made from the folder with the runs of this scan by the methods before, named by method.
    """
    case = f"level {level}, {100 - 10 * level} degrees"
    with TemporaryDirectory() as kept:
        for method, (problem_name, settings, make) in methods.items():
            correlations, classical, seconds, pooled = [], [], [], []
            for scan in scans:
                path, runs = scans_folder() / f"htc2022_{scan}_full.mat", Path(kept) / scan
                problem = load_problem(problem_name, settings | {"span_degrees": 100.0 - 10 * level}, data=path)
                with cpu_time() as watch:
                    posterior = sciprob.solve(problem, make(runs), progress=False, device="cpu")
                posterior.save(runs / method)
                table.add(f"{case}, {scan}", method, "MCC", posterior.meta["mcc"])
                correlations.append(posterior.meta["mcc"])
                classical.append(posterior.meta["mcc_fbp"])
                seconds.append(watch.seconds)
                pooled.append(inside_disc(path, posterior))
            add_scores(table, case, method, scans, correlations, pooled)
            table.add(case, method, "cpu", mean(seconds), "s")
    table.add(case, "FBP and Otsu", "MCC mean", mean(classical))
    table.add(case, "FBP, three published test phantoms", "MCC sum", FBP_SUMS[level])


def add_scores(
    table: Table,
    case: str,
    method: str,
    scans: tuple[str, ...],
    correlations: list[float],
    pooled: list[tuple[Tensor, Tensor]],
) -> None:
    """Correlations over the scans, and calibration of all their pixels."""
    probability, material = (torch.cat(parts) for parts in zip(*pooled, strict=True))
    table.add(case, method, "MCC mean", mean(correlations))
    table.add(case, method, "MCC smallest", min(correlations))
    table.add(case, method, "calibration error", reliability(probability, material).calibration_error)
    table.add(case, method, "Brier score", brier_score(probability, material))
    test_like = [value for scan, value in zip(scans, correlations, strict=True) if scan in ("ta", "tb", "tc")]
    if len(test_like) == 3:
        table.add(case, method, "MCC sum of ta, tb, tc", sum(test_like))


def inside_disc(path: Path, posterior: Any) -> tuple[Tensor, Tensor]:
    """Probabilities and what is there, of the reference's pixels at least 1.5 mm inside the disc."""
    reference = read_segmentation(path)
    assert reference is not None
    probability = material_probability(posterior, reference)
    rows, columns = reference.nonzero().double().T
    centre = [(part.min() + part.max()) / 2 for part in (rows, columns)]
    grid = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in reference.shape), indexing="ij")
    radius = torch.hypot(grid[0] - centre[0], grid[1] - centre[1])
    inside = radius < (columns.max() - columns.min()) / 2 - 1.5 / 0.14832
    return probability[inside], reference[inside]
