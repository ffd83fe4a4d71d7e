"""Uncertainty studies: solvers against closed forms, calibration by simulation, comparisons, a killed study.

    python benchmarks/studies.py [--part closed-form calibration compare killed] [--quick] [--json PATH]

`closed-form`: every solver of linear-Gaussian problems against dense conditioning, in Monte-Carlo standard errors.
`calibration`: ranks of truths from the prior for 200 data sets each, and for solvers that believe in twice or half
the noise. `compare`: four comparisons by the command line at a small size. `killed`: a study of 100 runs, killed twice
and gone on with, against an uninterrupted one. Times are CPU seconds of one thread, unless called wall time. `--quick`
takes a small part of each.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from _diffusion_table import Table
from _studies_calibration import bench_calibration
from _studies_closed_form import bench_closed_form
from _studies_compare import bench_comparisons
from _studies_killed import bench_killed

from sciprob.errors import SciprobWarning

PARTS = ("closed-form", "calibration", "compare", "killed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", SciprobWarning)  # of short chains on purpose
    table = Table()
    run = {
        "closed-form": lambda: bench_closed_form(table, arguments.quick),
        "calibration": lambda: bench_calibration(table, *((30, 20) if arguments.quick else (200, 20))),
        "compare": lambda: bench_comparisons(table, quick=arguments.quick),
        "killed": lambda: bench_killed(table, seeds=5 if arguments.quick else 50),
    }
    for part in arguments.part:
        run[part]()
        if arguments.json:
            table.write(arguments.json)


if __name__ == "__main__":
    main()
