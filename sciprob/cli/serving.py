"""`sciprob serve`: a problem as UM-Bridge models."""

from __future__ import annotations

import argparse

from sciprob.cli.settings import parse_pairs, split_settings
from sciprob.cli.tables import write
from sciprob.problems.registry import build_problem, find, kind_class


def run_serve(args: argparse.Namespace) -> int:
    """Serve until stopped by Ctrl-C."""
    from sciprob.interop.remote import serve

    file = find(args.problem)
    overrides, _ = split_settings(parse_pairs(args.settings), kind_class(str(file.table.get("kind", ""))), {})
    problem = build_problem(file.table, name=file.name, where=file.path, overrides=overrides, data=args.data)
    write(f"{problem.name}: models `forward` and, where there are data and a Gaussian prior, `posterior`")
    write(f"on http://localhost:{args.port}, stop with Ctrl-C")
    serve(problem, args.port)
    return 0
