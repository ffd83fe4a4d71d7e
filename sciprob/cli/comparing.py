"""`sciprob compare`: several solvers on the same data."""

from __future__ import annotations

import argparse
import csv
import io
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob.cli.solving import Request, prepare
from sciprob.cli.tables import number, seconds, table, write
from sciprob.errors import ConfigError

if TYPE_CHECKING:
    from sciprob.studies.comparison import Comparison

_COLUMNS = (
    "solver", "status", "relative_error", "coverage_0.5", "coverage_0.9", "crps", "mean_difference", "std_ratio",
    "sliced_wasserstein", "forward", "adjoint", "tangent", "network_calls", "seconds",
)  # fmt: skip


def run_compare(args: argparse.Namespace) -> int:
    """Run each solver, print one row per solver, and write a report."""
    from sciprob.studies.comparison import compare

    names = [name.strip() for name in args.solvers.split(",") if name.strip()]
    if len(set(names)) != len(names) or not names:
        message = f"`--solvers` takes different names, separated by commas, got `{args.solvers}`."
        raise ConfigError(message)
    if args.referee and args.referee not in names:
        names.append(args.referee)
    request = prepare(args, names)
    comparison = compare(
        request.problem,
        request.solvers,
        referee=args.referee,
        seed=request.seed,
        budget=request.budget,
        out=args.out,
        device=request.device,
        progress=not args.quiet,
        overwrite=args.overwrite,
    )
    _report(comparison, request, args.out)
    return 128 + signal.SIGINT if comparison.interrupted else 0


def _report(comparison: Comparison, request: Request, out: Path | None) -> None:
    rows = comparison.rows
    cells = [[_cell(row, column) for column in _COLUMNS] for row in rows]
    kept = [i for i in range(len(_COLUMNS)) if any(line[i] not in ("-", "0") for line in cells)]
    header = [_COLUMNS[i].replace("_", " ") for i in kept]
    write(table([[line[i] for i in kept] for line in cells], header))
    name = comparison.referee
    write(f"\nmean difference, std ratio, sliced Wasserstein: to the posterior of {name}, in its standard deviations.")
    for row in rows:
        if "reason" in row:
            write(f"{row['solver']}: {row['reason']}")
    if out is None:
        return
    from sciprob.solvers.runfolder import write_json, write_text
    from sciprob.studies.report import write_report

    config = {"problem": dict(request.problem.config), "seed": request.seed, "referee": name, "rows": rows}
    write_json(out / "compare.json", config)
    text = io.StringIO()
    writer = csv.DictWriter(text, sorted({key for row in rows for key in row}, key=_order), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "compare.csv", text.getvalue())
    write_report(comparison, out / "report.html")
    write(f"written: {out}/report.html, compare.json, compare.csv and one run per solver")


def _cell(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    return seconds(value) if column == "seconds" and value is not None else number(value)


def _order(key: str) -> tuple[int, str]:
    return (_COLUMNS.index(key) if key in _COLUMNS else len(_COLUMNS), key)
