"""Posteriors with diffusion priors: closed forms, sampler orders, tomography, real scans, flows, speed.

    python benchmarks/diffusion_posteriors.py [--part mixtures orders tomography htc2022 navier-stokes speed spectrum]
                                              [--quick] [--json PATH]
    python benchmarks/diffusion_posteriors.py --part htc2022 --levels 1 4 7 --scans ta tb tc --fine

`mixtures`: nine Gaussian mixtures with known posteriors, 1024 particles and 200 network calls, sliced Wasserstein-2
distance. `tomography`: phantoms of ellipses from 8, 16, 32 views and from 90, 60, 30 degrees. `htc2022`: the five
published scans of the Helsinki Tomography Challenge at its seven levels (where the files are at hand). The others are
named by what they measure. Times are CPU seconds of one thread. `--quick` takes a small part of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _diffusion_flow import bench_flows
from _diffusion_htc import FEWER_VIEWS, FINE_GAUSSIAN, GAUSSIAN, SCANS, bench_level, scans_folder
from _diffusion_mixture_table import bench_mixtures
from _diffusion_orders import bench_orders
from _diffusion_spectrum import bench_spectrum
from _diffusion_speed import bench_speed
from _diffusion_table import Table
from _diffusion_tomography import LIMITED, SPARSE, bench_case

from sciprob.solvers.baselines.laplace import Laplace
from sciprob.solvers.diffusion.dps import DPS
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble
from sciprob.solvers.diffusion.pigdm import PiGDM
from sciprob.solvers.diffusion.red_diff import RedDiff
from sciprob.solvers.diffusion.split_gibbs import SplitGibbs

PARTS = ("mixtures", "orders", "tomography", "htc2022", "navier-stokes", "speed", "spectrum")


def part_mixtures(table: Table, quick: bool) -> None:
    bench_mixtures(table, particles=256 if quick else 1024, steps=50 if quick else 200)


def part_orders(table: Table, _quick: bool) -> None:
    bench_orders(table)


def part_tomography(table: Table, quick: bool) -> None:
    """Every method gets about the same number of network evaluations: members times steps."""
    members, steps = (8, 30) if quick else (16, 45)
    methods: dict[str, Callable[[], Any]] = {
        "diffusion-ensemble, 1 corrector": lambda: DiffusionEnsemble(
            particles=members, steps=steps // 2, twist="inflation", correctors=1, sigma_max=20.0, weights="equal"
        ),
        "pigdm": lambda: PiGDM(samples=members, steps=steps),
        "dps": lambda: DPS(samples=members, steps=steps),
        "red-diff": lambda: RedDiff(samples=members, steps=steps),
        "split-gibbs": lambda: SplitGibbs(
            chains=members, samples=2, burn_in=13, prior_calls=max(steps // 15, 2), rho_max=3.0, decay=0.8
        ),
    }
    cases = {**SPARSE, **LIMITED}
    for case, (name, settings) in list(cases.items())[:: 3 if quick else 1]:
        bench_case(table, case, name, settings, methods, phantoms=1 if quick else 3)


def part_htc2022(table: Table, quick: bool) -> None:
    bench_scans(table, (7,) if quick else tuple(range(1, 8)), SCANS[:1] if quick else SCANS)


def continued(run: Path) -> DiffusionEnsemble:
    """From the draws of a run; few particles would not find thousands of precise readings from noise."""
    return DiffusionEnsemble(particles=12, steps=12, correctors=1, products=40, start=str(run))


def bench_scans(
    table: Table, levels: tuple[int, ...], scans: tuple[str, ...], learned: str = "", fine: bool = False
) -> None:
    """The scans at some levels by both priors; `learned` is a file of weights in the place of the package's."""
    if not (scans_folder() / "htc2022_ta_full.mat").is_file():
        print("  the scans are not at hand; set SCIPROB_DATA to their folder")
        return
    weights = {"prior.weights": learned} if learned else {}
    gaussian, name = "laplace, Gaussian latent field", "tomography-htc2022-learned"
    methods: dict[str, tuple[str, dict[str, Any], Callable[[Path], Any]]] = {
        gaussian: ("tomography-htc2022", FINE_GAUSSIAN if fine else GAUSSIAN, lambda _: Laplace()),
        "learned prior, from that": (name, {"largest_views": 60} | weights, lambda runs: continued(runs / gaussian)),
    }
    if not fine:  # it does not depend on the Gaussian field
        methods["learned prior, pigdm"] = (name, FEWER_VIEWS | weights, lambda _: PiGDM(samples=12, steps=70))
    for level in levels:
        bench_level(table, level, scans, methods)


def part_navier_stokes(table: Table, quick: bool) -> None:
    """The first method sets the number of solver calls that pCN gets. The flow is computed on 32 points if quick."""
    methods: dict[str, Callable[[], Any]] = {
        "diffusion-ensemble": lambda: DiffusionEnsemble(
            particles=16, steps=20, sigma_max=10.0, sigma_min=0.2, correctors=4, products=5
        ),
        "diffusion-ensemble, a third": lambda: DiffusionEnsemble(
            particles=16, steps=12, sigma_max=10.0, sigma_min=0.2, correctors=2, products=4
        ),
        "dps": lambda: DPS(samples=16, steps=60),
        "dps, as many calls": lambda: DPS(samples=16, steps=940),
    }
    bench_flows(table, 1 if quick else 4, methods, points=32 if quick else 64)


def part_speed(table: Table, quick: bool) -> None:
    bench_speed(table, quick)


def part_spectrum(table: Table, quick: bool) -> None:
    bench_spectrum(table, quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    only = parser.add_argument_group("of htc2022")
    only.add_argument("--levels", nargs="+", type=int, choices=range(1, 8), default=list(range(1, 8)))
    only.add_argument("--scans", nargs="+", choices=SCANS, default=list(SCANS))
    only.add_argument("--weights", default="", help="file of a trained prior, in the package's place")
    only.add_argument("--fine", action="store_true", help="Gaussian field on 256 pixels, a quarter of an hour a level")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table()
    for part in arguments.part:
        if part == "htc2022" and not arguments.quick:
            bench_scans(table, tuple(arguments.levels), tuple(arguments.scans), arguments.weights, arguments.fine)
        else:
            globals()[f"part_{part.replace('-', '_')}"](table, arguments.quick)
        if arguments.json:
            table.write(arguments.json)


if __name__ == "__main__":
    main()
