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
from sciprob.errors import ConfigError, UnsupportedProblemError

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior

_COLUMNS = (
    "solver", "status", "relative_error", "coverage_0.5", "coverage_0.9", "crps", "mean_difference", "std_ratio",
    "forward", "adjoint", "tangent", "seconds",
)  # fmt: skip


def run_compare(args: argparse.Namespace) -> int:
    """Run each solver and print one row per solver."""
    names = [name.strip() for name in args.solvers.split(",") if name.strip()]
    if len(set(names)) != len(names) or not names:
        message = f"`--solvers` takes different names, separated by commas, got `{args.solvers}`."
        raise ConfigError(message)
    request = prepare(args, names)
    rows: list[dict[str, Any]] = []
    first: Posterior | None = None
    for name in names:
        out = args.out / name if args.out else None
        try:
            posterior = _run(request, name, out, args)
        except UnsupportedProblemError as error:
            rows.append({"solver": name, "status": "not supported", "reason": str(error)})
            continue
        first = first or posterior
        rows.append(_row(posterior, first))
        if posterior.meta["status"] == "interrupted":
            break
    _report(rows, request, args.out)
    return 128 + signal.SIGINT if rows[-1]["status"] == "interrupted" else 0


def _run(request: Request, name: str, out: Path | None, args: argparse.Namespace) -> Posterior:
    from sciprob.solvers.driver import solve

    return solve(
        request.problem,
        request.solvers[name],
        seed=request.seed,
        budget=request.budget,
        out=out,
        device=request.device,
        progress=not args.quiet,
        overwrite=args.overwrite,
    )


def _row(posterior: Posterior, first: Posterior) -> dict[str, Any]:
    """Figures of one solver; differences are in standard deviations of the first one's posterior."""
    meta = posterior.meta
    mean, std = first.mean, first.std
    difference = ((posterior.mean.to(mean) - mean).abs() / std).mean()
    row = {
        "solver": meta["solver"],
        "status": meta["status"],
        "mean_difference": float(difference),
        "std_ratio": float((posterior.std.to(std) / std).mean()),
        "seconds": meta["seconds"],
        **{name: meta["solves"].get(name, 0) for name in ("forward", "adjoint", "tangent")},
    }
    if "relative_error" in meta:
        row |= {key: meta[key] for key in ("relative_error", "crps")}
        row |= {f"coverage_{level}": share for level, share in meta["coverage"].items()}
    return row


def _report(rows: list[dict[str, Any]], request: Request, out: Path | None) -> None:
    cells = [[_cell(row, column) for column in _COLUMNS] for row in rows]
    kept = [i for i in range(len(_COLUMNS)) if any(line[i] != "-" for line in cells)]
    header = [_COLUMNS[i].replace("_", " ") for i in kept]
    write(table([[line[i] for i in kept] for line in cells], header))
    write(f"\nmean difference: mean of |mean - mean of {rows[0]['solver']}| / std of {rows[0]['solver']}.")
    for row in rows:
        if "reason" in row:
            write(f"{row['solver']}: {row['reason']}")
    if out is not None:
        from sciprob.solvers.runfolder import write_json, write_text

        config = {"problem": dict(request.problem.config), "seed": request.seed, "rows": rows}
        write_json(out / "compare.json", config)
        text = io.StringIO()
        writer = csv.DictWriter(text, sorted({key for row in rows for key in row}, key=_order), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(out / "compare.csv", text.getvalue())
        write(f"written: {out}/compare.json, compare.csv and one run per solver")


def _cell(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    return seconds(value) if column == "seconds" and value is not None else number(value)


def _order(key: str) -> tuple[int, str]:
    return (_COLUMNS.index(key) if key in _COLUMNS else len(_COLUMNS), key)
