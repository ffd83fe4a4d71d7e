"""`sciprob plot`, `sciprob mesh` and `sciprob cite`."""

from __future__ import annotations

import argparse
from pathlib import Path

from sciprob.cli.tables import nearby, write
from sciprob.errors import ConfigError
from sciprob.problems.registry import read_toml


def run_plot(args: argparse.Namespace) -> int:
    """Draw the figures of a run from its saved posterior and its problem."""
    from sciprob.io.store import load_posterior
    from sciprob.plot import plot_run
    from sciprob.solvers.driver import rebuild_problem
    from sciprob.solvers.runfolder import RunFolder

    folder = RunFolder.open(args.folder)
    if not (folder.path / "posterior").is_dir():
        message = f"`{args.folder}` has no posterior yet; finish the run with `sciprob resume {args.folder}`."
        raise ConfigError(message)
    problem = rebuild_problem(folder, read_toml(folder.config))
    posterior = load_posterior(folder.path)
    out: Path = args.out or folder.path / "figures"
    out.mkdir(parents=True, exist_ok=True)
    plot_run(problem, posterior, out)
    if problem.report is not None:
        problem.report(problem, posterior, out)
    for path in sorted(out.glob("*.png")):
        write(nearby(path))
    return 0


def run_mesh(args: argparse.Namespace) -> int:
    """Build a mesh."""
    from sciprob.io.mesh import build_mesh

    write(f"written: {nearby(build_mesh(args.name, size=args.size, out=args.out))}")
    return 0


def run_cite(args: argparse.Namespace) -> int:
    """Print `cite.bib` of a run."""
    path = args.folder / "cite.bib"
    if not path.is_file():
        message = f"`{args.folder}` has no cite.bib; give the folder of a finished `sciprob solve --out`."
        raise ConfigError(message)
    write(path.read_text(encoding="utf-8").rstrip())
    return 0
