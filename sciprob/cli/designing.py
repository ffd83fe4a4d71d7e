"""`sciprob design`: where should the next sensors stand?"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob.cli.solving import prepare
from sciprob.cli.tables import number, paragraph, table, write
from sciprob.errors import ConfigError, UnsupportedProblemError

if TYPE_CHECKING:
    from torch import Tensor

    from sciprob.operators.base import ForwardOperator
    from sciprob.problems.problem import Problem
    from sciprob.studies.design import Design

_UNITS = {"information": "information in nats", "variance": "variance taken away"}


@dataclass(frozen=True)
class _Candidates:
    """Readings to choose from: the operator, and the columns that tell which reading an entry is."""

    readings: ForwardOperator
    names: tuple[str, ...]
    columns: Tensor  # (readings, names)


def run_design(args: argparse.Namespace) -> int:
    """Solve, choose the readings that would tell most, print them and write table and map."""
    import torch

    from sciprob.solvers.driver import solve
    from sciprob.studies.design import next_sensors

    if args.out is not None and args.out.exists() and not args.overwrite:
        message = f"`{args.out}` exists; choose a new folder or use `--overwrite`."
        raise ConfigError(message)
    request = prepare(args, [args.solver] if args.solver else None)
    problem, (solver,) = request.problem, request.solvers.values()
    candidates = _candidates(problem, args.candidates)
    noise = _noise_std(problem, args.noise)
    if not 1 <= args.sensors <= len(candidates.columns):
        message = f"`--sensors` should be 1 to {len(candidates.columns)}, the candidates, got {args.sensors}."
        raise ConfigError(message)
    posterior = solve(
        problem, solver, seed=request.seed, budget=request.budget, device=request.device, progress=not args.quiet
    )
    readings = candidates.readings.to(posterior.mean.device)
    generator = torch.Generator(posterior.mean.device).manual_seed(request.seed)
    design = next_sensors(posterior, readings, noise, count=args.sensors, criterion=args.criterion, generator=generator)
    _report(problem, solver.name, design, candidates)
    if args.out is not None:
        _write(problem, design, candidates, args.out)
        write(f"written: {args.out}/design.csv, candidates.csv, design.png")
    return 0


def _candidates(problem: Problem, wish: str) -> _Candidates:
    """Places from a file, or so many of the state's mesh; with every time at which the problem's sensors read."""
    import torch

    from sciprob.studies.design import places, readings_at

    try:
        points = places(problem.operator, int(wish) if wish.isdigit() else 1)
        dimension = points.shape[1]
        if not wish.isdigit():
            points = _read(Path(wish), "xyz"[:dimension])
        readings = readings_at(problem.operator, points)
    except UnsupportedProblemError as error:
        message = f"the data of `{problem.name}` are not values at points; design needs a problem with point sensors."
        raise UnsupportedProblemError(message) from error
    space = readings.codomain
    names = tuple("xyz"[:dimension])
    columns = points.double()
    for axis, dim in reversed(list(enumerate(space.dims[:-1]))):  # times before places
        along = space.coords.get(dim, torch.arange(space.shape[axis]))
        columns = torch.cat([columns.repeat(len(along), 1), _repeated(along.double(), len(columns))], dim=1)
        names = (*names, dim)
    return _Candidates(readings, names, columns)


def _repeated(values: Tensor, times: int) -> Tensor:
    return values.repeat_interleave(times)[:, None]


def _read(path: Path, axes: str) -> Tensor:
    """Columns x, y, z of a CSV file; others are ignored."""
    import torch

    from sciprob.errors import DataError
    from sciprob.io.csv_rows import numbers_of, rows_of

    if not path.is_file():
        message = f"`--candidates` should be a number of points or a CSV file of places, and `{path}` is no file."
        raise ConfigError(message)
    rows = list(rows_of(path))
    header = [name.lower() for name in rows[0][1]] if rows else []
    if not rows[1:] or not set(axes) <= set(header):
        message = f"`{path.name}` should have a header with the columns {','.join(axes)} and one row per candidate."
        raise DataError(message)
    order = [header.index(axis) for axis in axes]
    kept = [(line, [cells[i] for i in order if i < len(cells)]) for line, cells in rows[1:]]
    numbers = [numbers_of(path.name, line, cells, list(range(len(axes))), axes) for line, cells in kept]
    return torch.tensor(numbers, dtype=torch.float64)


def _noise_std(problem: Problem, wish: float | None) -> float:
    """That of every present reading, unless it is said."""
    if wish is not None:
        if not wish > 0:
            message = f"`--noise` should be positive, got {wish:g}."
            raise ConfigError(message)
        return wish
    std: Any = getattr(problem.likelihood.noise, "std", None)
    if std is None or float(std.min()) != float(std.max()):
        message = (
            f"the readings of `{problem.name}` have no common standard deviation; say that of a new one by `--noise`."
        )
        raise ConfigError(message)
    return float(std.flatten()[0])


def _report(problem: Problem, solver: str, design: Design, candidates: _Candidates) -> None:
    write(f"{problem.name} by {solver}: the next readings, best first, of {len(candidates.columns)} candidates")
    rows = [[number(cell) for cell in row] for row in _rows(design, candidates)]
    write(table(rows, ["number", *candidates.names, _UNITS[design.criterion]]))
    before, after = design.variance_before, design.variance_after
    write(
        f"summed variances of {problem.parameter.name}: {number(before)} now, {number(after)} expected with all of them"
    )
    if not candidates.readings.linear:
        words = (
            "The operator is not linear: values are those of its derivative at the posterior mean, or of the members."
        )
        write(paragraph(words))


def _rows(design: Design, candidates: _Candidates) -> list[list[Any]]:
    chosen = candidates.columns[design.chosen].tolist()
    return [[i, *row, gain] for i, (row, gain) in enumerate(zip(chosen, design.gains.tolist(), strict=True), start=1)]


def _write(problem: Problem, design: Design, candidates: _Candidates, out: Path) -> None:
    import torch

    from sciprob.plot.design import design_figure
    from sciprob.plot.style import save

    out.mkdir(parents=True, exist_ok=True)
    names = candidates.names
    _write_csv(out / "design.csv", ["number", *names, design.criterion], _rows(design, candidates))
    values = design.first.cpu().double()
    everything = torch.cat([candidates.columns, values[:, None]], dim=1)
    _write_csv(out / "candidates.csv", [*names, design.criterion], everything.tolist())
    coords, dimension = problem.operator.codomain.coords, sum(name in "xyz" for name in names)
    present = torch.stack([coords[axis].double() for axis in names[:dimension]], dim=1)
    places = len(values) // max(1, len(values) // candidates.readings.codomain.shape[-1])
    best = values.reshape(-1, places).amax(0)  # the best time of each place
    chosen = candidates.columns[design.chosen][:, :dimension]
    label = _UNITS[design.criterion] + (", best time" if places < len(values) else "")
    title = f"What one more reading of {problem.name} tells"
    points = candidates.columns[:places, :dimension]
    save(design_figure(points, best, chosen, label, present=present, title=title), out / "design.png")


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from sciprob.solvers.runfolder import write_text

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
