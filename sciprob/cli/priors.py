"""`sciprob train-prior`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from sciprob.cli.settings import parse_pairs
from sciprob.cli.tables import number, seconds, table, write
from sciprob.errors import ConfigError

if TYPE_CHECKING:
    from sciprob.solvers.prior_training import TrainedPrior


def run_train_prior(args: argparse.Namespace) -> int:
    """Train or go on, write the folder and print the closing table."""
    from sciprob.priors.diffusion.recipes import make_recipe
    from sciprob.solvers.prior_training import resume_prior, train_prior

    if args.resume is not None:
        if args.name or args.settings or args.out:
            message = "`--resume DIR` goes on with the settings in DIR; leave out the name, `--set` and `--out`."
            raise ConfigError(message)
        trained = resume_prior(args.resume, budget=args.budget, progress=not args.quiet)
        return close_training(trained, args.resume)
    if not args.name:
        message = "give the name of a prior to train (see `sciprob list`), or `--resume DIR`."
        raise ConfigError(message)
    folder = args.out or Path(f"{args.name}-prior")
    trained = train_prior(
        make_recipe(args.name, parse_pairs(args.settings)),
        seed=args.seed or 0,
        budget=args.budget,
        out=folder,
        device=args.device or "auto",
        devices=args.devices,
        progress=not args.quiet,
        overwrite=args.overwrite,
    )
    return close_training(trained, folder)


def close_training(trained: TrainedPrior, folder: Path) -> int:
    """Print what came out; the exit code is 130 after Ctrl-C."""
    record = trained.record
    write(f"{trained.recipe.family.name}: {record['status']}")
    rows = [
        ("steps", f"{number(record['steps'])} of {number(trained.recipe.training.steps)}"),
        ("weights", number(record["parameters"])),
        ("time", seconds(record["seconds"])),
        ("folder", f"{folder} (model, metrics.json)"),
    ]
    write(table(rows))
    errors = [(number(row["sigma"]), number(row["network"]), number(row["gaussian"])) for row in record["errors"]]
    write("\nmean square error on fresh fields")
    write(table(errors, header=("noise level", "network", "best linear")))
    write(f"\nIn problem files:  weights = {str(folder / 'model' / 'prior.toml')!r}")
    write(f"In Python:  sciprob.priors.diffusion.store.load_diffusion_prior({str(folder / 'model')!r})")
    return 128 + signal.SIGINT if record["status"] == "interrupted" else 0
