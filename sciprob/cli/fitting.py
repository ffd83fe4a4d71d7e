"""`sciprob fit`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from sciprob.cli.settings import parse_pairs, split_settings
from sciprob.cli.solving import merged
from sciprob.cli.tables import number, paragraph, seconds, table, write
from sciprob.errors import ConfigError
from sciprob.problems.registry import find, is_family, kind_class

if TYPE_CHECKING:
    from sciprob.solvers.rgnp.amortised import Amortised


def run_fit(args: argparse.Namespace) -> int:
    """Train, write the folder and print the closing table."""
    from sciprob.problems.family_settings import load_family
    from sciprob.solvers.fitting import fit
    from sciprob.solvers.setup import make_solver, solver_class

    file = find(args.problem)
    if not is_family(file.table):
        message = f"`{file.name}` is one problem and no family; use `sciprob solve {file.name}`."
        raise ConfigError(message)
    cls = solver_class(name := args.solver or str(file.table.get("default_solver", "rgnp")))
    overrides, settings = split_settings(parse_pairs(args.settings), kind_class(str(file.table["kind"])), {name: cls})
    amortised = fit(
        load_family(args.problem, overrides),
        make_solver(cls, merged({}, settings[name]), f"solver `{name}`"),
        seed=args.seed or 0,
        budget=args.budget,
        out=args.out,
        device=args.device or "auto",
        progress=not args.quiet,
        overwrite=args.overwrite,
    )
    return close_fit(amortised, args.out)


def close_fit(amortised: Amortised, folder: Path | None) -> int:
    """Print what came out; the exit code is 130 after Ctrl-C."""
    meta = amortised.meta
    write(f"{meta['family']} by {meta['solver']}: {meta['status']}")
    cases = meta.get("calibration_cases", 0)
    calibrated = f"on {cases} reference solutions" if cases else "not calibrated: sizes expected from residuals"
    where = f"{folder} (model, metrics.json)" if folder else "nothing written; add `--out DIR`"
    rows = [
        ("steps", number(meta["steps"])),
        ("residual, root mean square", number(meta.get("residual", float("nan")))),
        ("uncertainty", calibrated),
        ("time", seconds(meta["seconds"])),
        ("folder", where),
    ]
    write(table(rows))
    write(paragraph(str(meta["advice"])))
    if folder is not None:
        write(f"In Python:  sciprob.load_amortised({str(folder)!r}).predict(z, w, x)")
    return 128 + signal.SIGINT if meta["status"] == "interrupted" else 0
