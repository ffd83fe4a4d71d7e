"""Simulation-based calibration of a solver on a problem, with expected coverage (TARP)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.metrics.ranks import RankTest, rank_test, verdict
from sciprob.random import Streams
from sciprob.studies.pool import run_all

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem


@dataclass(frozen=True)
class Calibration:
    """Ranks of the truth among posterior draws over many simulated data sets.

    Attributes:
        problem: Name.
        solver: Name.
        draws: Posterior draws per simulation, L.
        ranks: Number of draws below the truth by quantity, `(simulations,)` each; uniform on 0..L if calibrated.
        tests: What they say, by quantity.
        seconds: Time of the solver per simulation, mean.
        short: Number of simulations whose chains had fewer effective draws than L in some entry.
    """

    problem: str
    solver: str
    draws: int
    ranks: Mapping[str, Tensor]
    tests: Mapping[str, RankTest]
    seconds: float
    short: int = 0

    @property
    def simulations(self) -> int:
        """Number of data sets."""
        return len(next(iter(self.ranks.values())))

    @property
    def verdict(self) -> str:
        """One line: calibrated, over-confident, under-confident, biased or miscalibrated; chains that are too short."""
        words = verdict(self.tests, [name for name in self.tests if name.startswith("entry") or name == "mean"])
        if words.startswith("calibrated") or not self.short:
            return words
        return (
            f"{words}; in {self.short} of {self.simulations} simulations the chains had fewer effective draws than the "
            f"{self.draws} that were ranked, which looks like over-confidence: take longer chains or rank fewer draws"
        )

    def coverage(self, level: float) -> float:
        """Share of the truths of single entries inside the central interval of the draws at a level."""
        entries = [r for name, r in self.ranks.items() if name.startswith("entry")]
        u = (torch.stack(entries).double() + 0.5) / (self.draws + 1)
        beyond = (u - 0.5).abs() - level / 2
        on_end = beyond.abs() < 1e-9  # of few draws whole ranks lie on the ends; half of each is inside
        return float(torch.where(on_end, 0.5, (beyond < 0).double()).mean())

    def figure(self) -> Figure:
        """Empirical distribution of the ranks minus the uniform one, with simultaneous 95 % bands."""
        from sciprob.plot.ranks import ranks_figure

        return ranks_figure(self.ranks, self.draws, f"{self.problem} by {self.solver}: {self.simulations} simulations")

    def table(self) -> dict[str, Any]:
        """Plain numbers for a file."""
        return {
            "problem": self.problem,
            "solver": self.solver,
            "verdict": self.verdict,
            "simulations": self.simulations,
            "draws": self.draws,
            "seconds": self.seconds,
            "simulations_with_short_chains": self.short,
            "tests": {name: vars(test) for name, test in self.tests.items()},
            "ranks": {name: r.tolist() for name, r in self.ranks.items()},
        }


def calibrate(
    problem: Problem,
    solver: Any = None,
    *,
    simulations: int = 200,
    draws: int = 99,
    entries: int = 6,
    seed: int = 0,
    truths: str = "prior",
    workers: int = 1,
    cluster: str | None = None,
    progress: bool = True,
) -> Calibration:
    """Simulation-based calibration: solve for many simulated data sets and rank each truth among its draws.

    If truths come from the prior, data from the likelihood and draws from the exact posterior, every rank is
    uniform. Ranked are single entries of m, its mean, its norm, the log-likelihood of the data (which sees a
    posterior that ignores them) and the distance to a fresh draw of the prior, whose ranks give the expected
    coverage of the joint posterior (TARP).

    Autocorrelated draws make ranks look over-dispersed: a sampler should have more effective draws than `draws`.

    Args:
        problem: A problem; with several workers one that was built from a file.
        solver: Name, class or configured object; default the problem's own.
        simulations: Number of data sets; 200 see intervals that are a third too narrow nearly always.
        draws: Posterior draws per data set; 99 make ranks of whole per cent.
        entries: Single entries of m to rank, spread evenly.
        seed: Root of all randomness; simulation i does not depend on the others.
        truths: `"prior"`: truth and data from the inversion's own model, a test of the solver; `"simulator"`: from
            the problem's finer model where it has one, a test of discretisation and solver together.
        workers: Processes to use.
        cluster: Address of a Dask scheduler to use instead.
        progress: Show progress on stderr.

    Raises:
        ConfigError: For less than 10 simulations or 9 draws, another `truths`, or a problem that workers cannot build.

    Source: Talts et al., arXiv 1804.06788; Modrak et al., Bayesian Analysis 2023; Lemos et al., ICML 2023 (TARP).
    """
    from sciprob.solvers.setup import check_capabilities, chosen_solver, run_config

    if simulations < 10 or draws < 9 or truths not in ("prior", "simulator"):
        message = (
            "calibration needs `simulations` of at least 10, `draws` of at least 9 and `truths` 'prior' or "
            f"'simulator', got {simulations}, {draws} and {truths!r}."
        )
        raise ConfigError(message)
    method = chosen_solver(solver, problem)
    check_capabilities(method, problem)
    settings = {"draws": draws, "entries": entries, "seed": seed, "truths": truths}
    remote = workers > 1 or cluster is not None
    if remote and "kind" not in problem.config:
        message = f"`{problem.name}` was built in Python, so workers cannot build it; use `workers=1`."
        raise ConfigError(message)
    shared: dict[str, Any] = run_config(problem, method, {}) if remote else {"built": (problem, method)}
    items = [{**shared, "settings": settings, "index": i} for i in range(simulations)]
    rows: dict[int, dict[str, float]] = {}
    label = f"{problem.name} {method.name} calibration"
    for index, row in run_all(_one, items, workers=workers, cluster=cluster, label=label, show=progress):
        rows[index] = row
    return _collected(problem.name, method.name, draws, [rows[i] for i in range(simulations)])


def _collected(problem: str, solver: str, draws: int, rows: list[dict[str, float]]) -> Calibration:
    seconds = math.fsum(row.pop("seconds") for row in rows) / len(rows)
    short = sum(row.pop("effective") < draws for row in rows)
    ranks = {name: torch.tensor([int(row[name]) for row in rows]) for name in rows[0]}
    return Calibration(
        problem, solver, draws, ranks, {n: rank_test(r, draws) for n, r in ranks.items()}, seconds, short
    )


def _one(item: Mapping[str, Any]) -> dict[str, float]:
    """Simulate, solve and rank; in a worker the problem is built there, once per process."""
    problem, method = item["built"] if "built" in item else _build(item)
    settings = item["settings"]
    streams = Streams(settings["seed"])
    case = _simulated(problem, settings["truths"], streams[f"truth {item['index']}"])
    from sciprob.solvers.driver import solve

    posterior = solve(case, method, seed=settings["seed"] + item["index"], progress=False)
    generator = streams[f"draws {item['index']}"]
    ranks = _ranks(case, posterior, settings, generator)
    effective = posterior.meta["diagnostics"].get("ess_bulk_min", math.inf)  # only chains have it
    return {**ranks, "seconds": float(posterior.meta["seconds"]), "effective": float(effective)}


_BUILT: dict[str, tuple[Problem, Any]] = {}


def _build(item: Mapping[str, Any]) -> tuple[Problem, Any]:
    from sciprob.solvers.setup import configured_problem, configured_solver

    key = repr((item["problem"], item["solver"]))
    if key not in _BUILT:
        where = Path("config.toml")
        _BUILT.clear()
        _BUILT[key] = (configured_problem(item, where), configured_solver(item, where))
    return _BUILT[key]


def _simulated(problem: Problem, truths: str, generator: torch.Generator) -> Problem:
    if truths == "simulator":
        return problem.simulate(generator)
    return replace(problem, simulator=None).simulate(generator)


def _ranks(
    case: Problem, posterior: Posterior, settings: Mapping[str, Any], generator: torch.Generator
) -> dict[str, int]:
    """Number of draws whose quantity lies below that of the truth; ties are broken at random."""
    assert case.truth is not None
    sample = posterior.ensemble(settings["draws"], generator=generator).samples
    both = torch.cat([case.truth[None].to(sample), sample])
    with torch.no_grad():
        values = _quantities(case, both, settings["entries"], generator)
    ranks = {}
    for name, value in values.items():
        below, equal = int((value[1:] < value[0]).sum()), int((value[1:] == value[0]).sum())
        ranks[name] = below + int(torch.randint(equal + 1, (), generator=generator, device=generator.device))
    return ranks


def _quantities(case: Problem, m: Tensor, entries: int, generator: torch.Generator) -> dict[str, Tensor]:
    flat = m.flatten(1)
    count = flat.shape[1]
    chosen = torch.linspace(0, count - 1, min(entries, count) + 2)[1:-1] if count > entries else torch.arange(count)
    values = {f"entry {int(i)}": flat[:, int(i)] for i in chosen.round()}
    if count > 1:
        values |= {"mean": flat.mean(1), "norm": torch.linalg.vector_norm(flat, dim=1)}
    values["log-likelihood"] = case.likelihood.log_prob(m, case.observed)
    reference = case.prior.sample(generator=generator).to(m).flatten()
    values["distance to a random point"] = torch.linalg.vector_norm(flat - reference, dim=1)
    return values
