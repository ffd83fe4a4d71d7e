"""`sciprob calibrate`: is a solver calibrated on a problem?"""

from __future__ import annotations

import argparse

from sciprob.cli.solving import prepare
from sciprob.cli.tables import number, paragraph, table, write
from sciprob.errors import ConfigError


def run_calibrate(args: argparse.Namespace) -> int:
    """Simulate, solve, rank, and say in one line what came out."""
    from sciprob.plot.style import save
    from sciprob.solvers.runfolder import write_json
    from sciprob.studies.calibration import calibrate

    if args.out is not None and args.out.exists() and not args.overwrite:
        message = f"`{args.out}` exists; choose a new folder or use `--overwrite`."
        raise ConfigError(message)
    request = prepare(args, [args.solver] if args.solver else None)
    (solver,) = request.solvers.values()
    result = calibrate(
        request.problem,
        solver,
        simulations=args.simulations,
        draws=args.draws,
        seed=request.seed,
        truths=args.truths,
        workers=args.workers,
        cluster=args.cluster,
        progress=not args.quiet,
    )
    rows = [
        (name, f"p = {number(test.p_value)}   dispersion {test.dispersion:.2f}   bias {test.bias_z:+.1f} s.e.")
        for name, test in result.tests.items()
    ]
    write(f"{result.problem} by {result.solver}: {result.simulations} simulations, {result.draws} draws each")
    write(table([*rows, ("90 % intervals hold", f"{100 * result.coverage(0.9):.1f} %")]))
    write(paragraph(result.verdict))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        write_json(args.out / "calibration.json", result.table())
        save(result.figure(), args.out / "ranks.png")
        write(f"written: {args.out}/calibration.json, ranks.png")
    return 0
