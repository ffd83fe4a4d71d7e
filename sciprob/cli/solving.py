"""`sciprob solve` and `sciprob resume`."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob.cli.settings import parse_pairs, split_settings
from sciprob.cli.tables import flat, number, paragraph, seconds, table, write
from sciprob.problems.registry import (
    ProblemFile,
    build_problem,
    find,
    kind_class,
    read_toml,
    refuse_family,
    solver_settings,
)

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem

_STANDARD = (
    *("problem", "solver", "status", "advice", "seed", "steps", "seconds", "solves", "network_calls"),
    *("relative_error", "coverage", "crps", "diagnostics"),
)
_SHOWN_DIAGNOSTICS = 12


@dataclass(frozen=True)
class Request:
    """What was asked for: a problem, configured solvers, and how to run them."""

    problem: Problem
    solvers: dict[str, Any]
    seed: int
    budget: str | float | None
    device: str


def prepare(args: argparse.Namespace, names: list[str] | None) -> Request:
    """Read the problem's file, sort the settings and build everything.

    Args:
        args: Parsed arguments of `solve` or `compare`.
        names: Solvers by name; None for the one of the configuration, else the problem's default.
    """
    from sciprob.solvers.setup import make_solver, solver_class

    file = find(args.problem)
    refuse_family(file.name, file.table)
    config = _run_config(file)
    of_config = dict(config.get("solver", solver_settings(file.name, file.table)))
    config_name = str(of_config.pop("name", "") if config else "") or file.table.get("default_solver")
    if config_name is None and (names is None or of_config):
        config_name = _default_solver(file)
    names = names or [str(config_name)]
    classes = {name: solver_class(name) for name in names}
    kind = kind_class(str(file.table.get("kind", "")))
    overrides, settings = split_settings(parse_pairs(args.settings), kind, classes)
    solvers = {}
    for name, cls in classes.items():
        before = of_config if name == config_name else {}
        solvers[name] = make_solver(cls, merged(before, settings[name]), f"solver `{name}`")
    problem = build_problem(file.table, name=file.name, where=file.path, overrides=overrides, data=args.data)
    run = config.get("run", {})
    return Request(
        problem,
        solvers,
        seed=int(run.get("seed", 0)) if args.seed is None else args.seed,
        budget=run.get("budget") if args.budget is None else args.budget,
        device=str(run.get("device", "auto")) if args.device is None else args.device,
    )


def run_solve(args: argparse.Namespace) -> int:
    """Solve, write the run folder and print the closing table."""
    from sciprob.solvers.driver import solve

    request = prepare(args, [args.solver] if args.solver else None)
    (solver,) = request.solvers.values()
    posterior = solve(
        request.problem,
        solver,
        seed=request.seed,
        budget=request.budget,
        out=args.out,
        device=request.device,
        progress=not args.quiet,
        overwrite=args.overwrite,
    )
    return close(posterior, args.out)


def run_resume(args: argparse.Namespace) -> int:
    """Continue a run, training on a family, or training of a prior, and print the closing table."""
    from sciprob.cli.fitting import close_fit
    from sciprob.solvers.driver import resume
    from sciprob.solvers.fitting import is_fit, resume_fit
    from sciprob.solvers.runfolder import RunFolder

    config = read_toml(RunFolder.open(args.folder).config)
    if is_fit(config):
        return close_fit(resume_fit(args.folder, budget=args.budget, progress=not args.quiet), args.folder)
    if "prior" in config:
        from sciprob.cli.priors import close_training
        from sciprob.solvers.prior_training import resume_prior

        return close_training(resume_prior(args.folder, budget=args.budget, progress=not args.quiet), args.folder)
    return close(resume(args.folder, budget=args.budget, progress=not args.quiet), args.folder)


def close(posterior: Posterior, folder: Path | None) -> int:
    """Print what came out; the exit code is 130 after Ctrl-C."""
    meta = posterior.meta
    write(f"{meta['problem']} by {meta['solver']}: {meta['status']}")
    write(table(closing_rows(meta, folder)))
    write(paragraph(str(meta["advice"])))
    return 128 + signal.SIGINT if meta["status"] == "interrupted" else 0


def closing_rows(meta: Mapping[str, Any], folder: Path | None) -> list[tuple[str, str]]:
    """Rows of the closing table."""
    rows = []
    if "relative_error" in meta:
        shares = [f"{100 * float(level):g} %: {share:.3f}" for level, share in meta["coverage"].items()]
        rows += [
            ("relative error of the mean", number(meta["relative_error"])),
            ("coverage of credible intervals", "   ".join(shares)),
            ("CRPS", number(meta["crps"])),
        ]
    own = flat({key: value for key, value in meta.items() if key not in _STANDARD})
    rows += [(key.replace("_", " "), number(value)) for key, value in own.items()]
    solves = "   ".join(f"{name}: {count:,}" for name, count in meta["solves"].items() if count)
    rows += [("time", seconds(meta["seconds"])), ("solves", solves or "none")]
    if meta["network_calls"]:
        rows.append(("network calls", f"{meta['network_calls']:,}"))
    figures = list(flat(meta["diagnostics"]).items())[:_SHOWN_DIAGNOSTICS]
    if figures:
        rows.append(("diagnostics", "   ".join(f"{key}: {number(value)}" for key, value in figures)))
    images = len(list((folder / "figures").glob("*.png"))) if folder is not None else 0
    where = f"{folder} (posterior.nc, metrics.json, {images} figures)" if folder else "nothing written; add `--out DIR`"
    return [*rows, ("folder", where)]


def _run_config(file: ProblemFile) -> dict[str, Any]:
    """The whole `config.toml` if the problem came from one."""
    table = read_toml(file.path)
    return table if "kind" not in table else {}


def _default_solver(file: ProblemFile) -> str:
    """The problem's own choice, which only the built problem knows where the file does not say it."""
    return build_problem(file.table, name=file.name, where=file.path).info.default_solver


def merged(before: Mapping[str, Any], typed: Mapping[str, str]) -> dict[str, Any]:
    """Settings of a table with those typed on the command line, which may be inside nested tables."""
    from sciprob.config import override

    table = dict(before)
    for key, value in typed.items():
        table = override(table, key, value)
    return table
