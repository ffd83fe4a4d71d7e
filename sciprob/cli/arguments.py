"""All sub-commands and their options, without importing what they need."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from sciprob import __version__
from sciprob.config import did_you_mean


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        wrong = re.match(r"argument (?:COMMAND|ACTION): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            choices = re.findall(r"[\w-]+", wrong[2])
            message = f"unknown command `{wrong[1]}`; {did_you_mean(wrong[1], choices)}"
        else:
            message = f"{message}; see `{self.prog} --help`."
        sys.stderr.write(f"sciprob: {message}\n")
        sys.exit(2)


def build_parser() -> argparse.ArgumentParser:
    """The parser; each sub-command names its function as `module:function` in `run`."""
    parser = _Parser(
        prog="sciprob",
        description="Posteriors for PDEs, Gaussian processes and tomography: prior x operator x likelihood.",
        epilog="Start with:  sciprob list   and   sciprob solve darcy-sensors --out run",
    )
    parser.add_argument("--version", action="version", version=f"sciprob {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True, parser_class=_Parser)
    for add in (
        _list,
        _show,
        _copy,
        _doctor,
        _solve,
        _fit,
        _train_prior,
        _resume,
        _compare,
        _calibrate,
        _study,
        _design,
        _simulate,
        _serve,
        _plot,
        _mesh,
        _cite,
    ):
        add(commands)
    return parser


def _command(commands: Any, name: str, run: str, text: str, example: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    command.set_defaults(run=f"sciprob.cli.{run}")
    return command


def _list(commands: Any) -> None:
    _command(commands, "list", "catalogue:run_list", "list problems and solvers", "sciprob list")


def _show(commands: Any) -> None:
    text = "show a problem or a solver with all its settings"
    command = _command(commands, "show", "catalogue:run_show", text, "sciprob show darcy-sensors\n  sciprob show pcn")
    command.add_argument("name", metavar="NAME", help="problem, problem file (.toml) or solver")


def _copy(commands: Any) -> None:
    text = "copy a problem's file, to change its numbers"
    command = _command(commands, "copy", "catalogue:run_copy", text, "sciprob copy darcy-sensors my-aquifer.toml")
    command.add_argument("name", metavar="NAME", help="problem or problem file (.toml)")
    command.add_argument("file", metavar="FILE", type=Path, nargs="?", help="file to write (default: ./NAME.toml)")


def _doctor(commands: Any) -> None:
    text = "check the installation: versions, engines, MPI, GPU"
    _command(commands, "doctor", "doctor:run_doctor", text, "sciprob doctor")


def _solve(commands: Any) -> None:
    example = "sciprob solve darcy-sensors --solver laplace --set prior.length=0.2 --data sensors.csv --out run"
    command = _command(commands, "solve", "solving:run_solve", "compute the posterior of a problem", example)
    _problem(command)
    command.add_argument("--solver", metavar="NAME", help="method (default: the problem's own choice)")
    command.add_argument("--out", metavar="DIR", type=Path, help="folder for results, figures and checkpoints")
    command.add_argument("--overwrite", action="store_true", help="replace a run that is already in DIR")
    _running(command)


def _fit(commands: Any) -> None:
    example = "sciprob fit poisson-family --set gauss_newton.steps=300 --out poisson-map"
    command = _command(commands, "fit", "fitting:run_fit", "train on a family of problems, once for all", example)
    _problem(command, data=False)
    command.add_argument("--solver", metavar="NAME", help="method (default: the family's own choice)")
    command.add_argument("--out", metavar="DIR", type=Path, help="folder for the trained map and checkpoints")
    command.add_argument("--overwrite", action="store_true", help="replace a run that is already in DIR")
    _running(command)


def _train_prior(commands: Any) -> None:
    text = "train a diffusion prior on a family of fields, for all problems with such a prior"
    example = (
        "sciprob train-prior ellipses --budget 20m --out ellipses-prior\n  sciprob train-prior --resume ellipses-prior"
    )
    command = _command(commands, "train-prior", "priors:run_train_prior", text, example)
    command.add_argument("name", metavar="NAME", nargs="?", help="family and recipe (see `sciprob list`)")
    command.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="change a setting, such as family.pixels, network.width or training.steps; may be repeated",
    )
    command.add_argument(
        "--out", metavar="DIR", type=Path, help="folder for prior and checkpoints (default: NAME-prior)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a training that is already in DIR")
    command.add_argument("--resume", metavar="DIR", type=Path, help="go on with a training that was stopped or killed")
    command.add_argument("--devices", metavar="N", type=int, default=1, help="CUDA devices to train on (default: 1)")
    _running(command)


def _resume(commands: Any) -> None:
    text = "continue a run that was stopped, killed or out of budget"
    command = _command(commands, "resume", "solving:run_resume", text, "sciprob resume run")
    command.add_argument(
        "folder", metavar="DIR", type=Path, help="folder of `sciprob solve --out` or `sciprob fit --out`"
    )
    command.add_argument("--budget", metavar="TIME", help="largest time of this part, e.g. 60s, 5m, 2h (default: none)")
    _quiet(command)


def _compare(commands: Any) -> None:
    example = "sciprob compare poisson-source --solvers gaussian,laplace --referee pcn --out comparison"
    text = "run several solvers on the same data and compare their posteriors"
    command = _command(commands, "compare", "comparing:run_compare", text, example)
    _problem(command)
    command.add_argument("--solvers", metavar="A,B", required=True, help="methods")
    command.add_argument("--referee", metavar="NAME", help="method whose posterior the others are compared to (first)")
    command.add_argument("--out", metavar="DIR", type=Path, help="folder for report.html, compare.csv and the runs")
    command.add_argument("--overwrite", action="store_true", help="replace runs that are already in DIR")
    _running(command)


def _calibrate(commands: Any) -> None:
    text = "check a solver's calibration by simulation: ranks of many truths among their posterior draws"
    example = "sciprob calibrate poisson-source --solver gaussian --simulations 200 --workers 2 --out calibration"
    command = _command(commands, "calibrate", "calibrating:run_calibrate", text, example)
    _problem(command, data=False)
    command.set_defaults(data=None)
    command.add_argument("--solver", metavar="NAME", help="method (default: the problem's own choice)")
    command.add_argument("--simulations", metavar="N", type=int, default=200, help="data sets (default: 200)")
    command.add_argument("--draws", metavar="N", type=int, default=99, help="draws per posterior (default: 99)")
    command.add_argument(
        "--truths",
        choices=["prior", "simulator"],
        default="prior",
        help="prior: truths and data of the inversion's own model (default); simulator: of the problem's finer model",
    )
    command.add_argument("--out", metavar="DIR", type=Path, help="folder for calibration.json and ranks.png")
    command.add_argument("--overwrite", action="store_true", help="write into a folder that exists")
    _workers(command)
    _running(command)


def _study(commands: Any) -> None:
    text = "run problems x settings x solvers x data sets from a file; the same command goes on after a kill"
    command = _command(
        commands, "study", "studying:run_study", text, "sciprob study sensors.toml --workers 2 --out study"
    )
    command.add_argument("file", metavar="FILE", type=Path, help="study file (see docs/studies.md)")
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the table and all runs")
    _workers(command)
    _quiet(command)


def _design(commands: Any) -> None:
    text = "choose the places where further sensors would tell most"
    example = "sciprob design darcy-sensors --sensors 3 --out design"
    command = _command(commands, "design", "designing:run_design", text, example)
    _problem(command)
    command.add_argument("--solver", metavar="NAME", help="method (default: the problem's own choice)")
    command.add_argument("--sensors", metavar="N", type=int, default=1, help="how many to choose (default: 1)")
    command.add_argument(
        "--candidates",
        metavar="FILE|N",
        default="400",
        help="CSV file with the columns x,y of possible places, or how many points of the mesh to try (default: 400)",
    )
    command.add_argument(
        "--criterion",
        choices=["information", "variance"],
        default="information",
        help="expected information gain, or drop of the summed variances (default: information)",
    )
    command.add_argument("--noise", metavar="STD", type=float, help="error of a new reading (default: as the present)")
    command.add_argument("--out", metavar="DIR", type=Path, help="folder for design.csv, candidates.csv and design.png")
    command.add_argument("--overwrite", action="store_true", help="write into a folder that exists")
    _running(command)


def _simulate(commands: Any) -> None:
    text = "draw a new truth and data from a problem, and write them to files"
    example = "sciprob simulate darcy-sensors --seed 5 --out simulated"
    command = _command(commands, "simulate", "simulating:run_simulate", text, example)
    _problem(command, data=False)
    command.add_argument("--seed", type=int, default=0, help="root of all randomness (default: 0)")
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the files")
    command.add_argument("--overwrite", action="store_true", help="replace files that are already in DIR")


def _serve(commands: Any) -> None:
    text = "serve a problem's operator and posterior to other programs (UM-Bridge)"
    command = _command(commands, "serve", "serving:run_serve", text, "sciprob serve darcy-sensors --port 4242")
    _problem(command)
    command.add_argument("--port", type=int, default=4242, help="port to listen on (default: 4242)")


def _plot(commands: Any) -> None:
    text = "draw the figures of a finished run again"
    command = _command(commands, "plot", "files:run_plot", text, "sciprob plot run")
    command.add_argument("folder", metavar="DIR", type=Path, help="folder of `sciprob solve --out`")
    command.add_argument("--out", metavar="DIR", type=Path, help="folder for the PNG files (default: DIR/figures)")


def _mesh(commands: Any) -> None:
    example = "sciprob mesh build square_with_hole --size 0.05 --out fine.msh"
    command = _command(commands, "mesh", "files:run_mesh", "build a mesh from its .geo source", example)
    command.add_argument("action", metavar="ACTION", choices=["build"], help="build")
    command.add_argument("name", metavar="NAME", help="name of a source in meshes/, or path of a .geo file")
    command.add_argument("--size", type=float, help="length of an edge (default: the source's)")
    command.add_argument("--out", metavar="FILE", type=Path, help="file to write (default: meshes/NAME.msh)")


def _cite(commands: Any) -> None:
    text = "print the BibTeX entries of the methods and data behind a run"
    command = _command(commands, "cite", "files:run_cite", text, "sciprob cite run > references.bib")
    command.add_argument("folder", metavar="DIR", type=Path, help="folder of `sciprob solve --out`")


def _problem(command: argparse.ArgumentParser, *, data: bool = True) -> None:
    command.add_argument(
        "problem", metavar="PROBLEM", help="name (see `sciprob list`), .toml file or a run's config.toml"
    )
    command.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="change a setting of problem or solver (see `sciprob show`); may be repeated",
    )
    if data:
        command.add_argument("--data", metavar="FILE", type=Path, help="your own measurements")


def _workers(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", metavar="N", type=int, default=1, help="processes on this machine (default: 1)")
    command.add_argument("--cluster", metavar="ADDRESS", help="Dask scheduler to use instead, tcp://host:8786")


def _running(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, help="root of all randomness (default: 0)")
    command.add_argument("--budget", metavar="TIME", help="largest time, e.g. 60s, 5m, 2h (default: none)")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], help="where to compute (default: auto)")
    _quiet(command)


def _quiet(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quiet", action="store_true", help="no progress")
