"""`sciprob study`: problems x settings x solvers x data sets."""

from __future__ import annotations

import argparse
from typing import Any

from sciprob.cli.tables import number, paragraph, seconds, table, write


def run_study(args: argparse.Namespace) -> int:
    """Run or go on with a study and print the means of its scores."""
    from sciprob.studies.study import run_study as run

    study = run(args.file, args.out, workers=args.workers, cluster=args.cluster, progress=not args.quiet)
    means = study.summary()
    header = [str(name).replace("_", " ").replace("solves.", "") for name in means.columns]
    write(f"{study.title}: {len(study.table)} runs")
    write(table([[_cell(name, row[name]) for name in means.columns] for _, row in means.iterrows()], header))
    failed = study.table[study.table["status"] == "failed"]
    for reason in failed["reason"].drop_duplicates() if len(failed) else ():
        write(paragraph(f"failed: {reason}"))
    write(f"written: {study.folder}/results.csv, results.nc and one run folder per row under runs/")
    return 0


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return seconds(float(value)) if name == "seconds" else number(float(value))
