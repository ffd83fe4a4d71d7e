"""Training on families: the counterpart of `driver.py`, where one run serves every member.

Seeds, progress, log, checkpoints, time budget, NaN guard and Ctrl-C are those of `solve`; a run that is killed at any
moment and resumed gives the numbers of an uninterrupted one, bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sciprob import __version__
from sciprob.config import to_mapping
from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.io.citations import bibtex
from sciprob.operators.base import Capability
from sciprob.operators.counting import SolveCounter
from sciprob.problems.family_settings import load_family
from sciprob.problems.registry import build_kind, read_toml
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.loop import Callback, Loop, how_to_go_on
from sciprob.solvers.runfolder import RunFolder, plain, write_json, write_text
from sciprob.solvers.setup import configured_solver, make_solver, torch_device
from sciprob.solvers.stopping import Interrupts, parse_budget

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from sciprob.problems.family import ProblemFamily
    from sciprob.solvers.rgnp.amortised import Amortised


def fit(
    family: ProblemFamily | str,
    solver: Any = None,
    *,
    seed: int = 0,
    budget: str | float | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    overwrite: bool = False,
    fabric: Fabric | None = None,
) -> Amortised:
    """Train on a family of problems, once for all its members.

    Several processes or GPUs share each step's samples when all of them call this with their launched Fabric:

        fabric = Fabric(accelerator="cuda", devices=4)
        fabric.launch()
        amortised = sciprob.fit("burgers-family", fabric=fabric, out="burgers-map")

    The numbers are those of one process up to rounding; each gets the whole map, the first one writes `out`.

    Args:
        family: The family, or its name as in `load_family`.
        solver: Name, class or configured object; by default the family's `info.default_solver`.
        seed: Root of all randomness.
        budget: Largest time of training, `60`, `"60s"`, `"5m"`; calibration comes on top.
        out: Folder to write; it can be resumed after a kill at any moment, and `Amortised.load` reads it.
        device: `cpu`, `cuda`, or `auto`: CUDA if there is one.
        progress: Show progress on stderr.
        callbacks: Called as `callback(step, state, info)` after every step.
        overwrite: Replace a run that is already in `out`.
        fabric: A launched Lightning Fabric; its devices replace `device`. Such a run has steps, not a `budget`, and
            `resume_fit` continues it in one process.

    Returns:
        The amortised map; `meta` holds what `metrics.json` holds. After Ctrl-C it is what was trained so
        far, with status `interrupted`.

    Raises:
        UnsupportedProblemError: If the solver does not train on families.
        ConfigError: For an unknown family, solver, device or budget, or a folder that is in use.
        NonFiniteError: If the state becomes NaN; names the entry.
    """
    built = load_family(family) if isinstance(family, str) else family
    method = _trainer(solver if solver is not None else built.info.default_solver)
    chosen, limit, folder = torch_device(device), parse_budget(budget), None
    first = fabric is None or fabric.global_rank == 0
    if fabric is not None:
        chosen = fabric.device
        if limit is not None:
            message = "processes would end at different steps with a `budget`; give the solver a number of steps."
            raise ConfigError(message)
        if not hasattr(method, "shared"):
            message = f"solver `{method.name}` trains in one process; leave `fabric` out."
            raise ConfigError(message)
    if out is not None and first:
        config = {
            "family": dict(built.config) or {"name": built.name},
            "solver": {"name": method.name, **to_mapping(method)},
            "run": {"seed": seed, "device": str(chosen), "sciprob": __version__} | ({"budget": limit} if limit else {}),
        }
        folder = RunFolder.create(out, overwrite=overwrite)
        folder.begin(config, chosen)
    if fabric is not None:
        method = method.shared(fabric)
    return Fit(built, method, seed, chosen, limit, folder, progress and first, tuple(callbacks)).execute()


def resume_fit(
    folder: str | Path,
    *,
    family: ProblemFamily | None = None,
    solver: Any = None,
    budget: str | float | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Amortised:
    """Continue training from its folder, whatever stopped it.

    Args:
        folder: A folder written by `fit(..., out=...)`.
        family: The family, if it was built in Python and not from a problem file.
        solver: The configured solver, if it is not one of the package's.
        budget: Largest time of this part; none by default.
        progress: Show progress on stderr.
        callbacks: As in `fit`.

    Returns:
        The same map as an uninterrupted run.

    Raises:
        ConfigError: If the folder is none of a fit, or its family or solver cannot be built from `config.toml`.
    """
    place = RunFolder.open(folder)
    config = read_toml(place.config)
    if not is_fit(config):
        message = f"`{folder}` holds a run on one problem and no fit; use `sciprob.resume`."
        raise ConfigError(message)
    method = configured_solver(config, place.config) if solver is None else solver
    built = _configured_family(config, place) if family is None else family
    settings = config.get("run", {})
    device, seed = torch_device(str(settings.get("device", "cpu"))), int(settings.get("seed", 0))
    return Fit(built, method, seed, device, parse_budget(budget), place, progress, tuple(callbacks)).execute()


def is_fit(config: Mapping[str, Any]) -> bool:
    """Whether a `config.toml` is that of a fit."""
    return "family" in config


@dataclass(frozen=True)
class Fit:
    """Everything that stays fixed while training goes on."""

    problem: ProblemFamily
    solver: Any
    seed: int
    device: torch.device
    budget: float | None
    folder: RunFolder | None
    show: bool
    callbacks: Sequence[Callback]
    stats: SolveCounter = field(default_factory=SolveCounter)

    def execute(self) -> Amortised:
        """Make the remaining steps, build the map and write the folder."""
        loop = Loop(self, Streams(self.seed, self.device))
        with Interrupts() as interrupts:
            status = loop.iterate(interrupts)
            loop.progress.note(f"{self.problem.name} {self.solver.name}: uncertainty after {loop.steps} steps")
            amortised: Amortised = self.solver.result(self.problem, loop.state)
        amortised = amortised.with_meta(self._figures(loop, status))
        self._write(amortised)
        if status in (Status.INTERRUPTED, Status.BUDGET):
            loop.progress.note(how_to_go_on(self.folder, status, loop.steps))
        return amortised

    def _figures(self, loop: Loop, status: Status) -> dict[str, Any]:
        return {
            "family": self.problem.name,
            "solver": self.solver.name,
            "status": status.name.lower(),
            "advice": status.value,
            "seed": self.seed,
            "steps": loop.steps,
            "seconds": loop.clock.seconds,
            **loop.info,
        }

    def _write(self, amortised: Amortised) -> None:
        """Model, citations and last the figures, so that their presence means that all is there."""
        if self.folder is None:
            return
        scratch = self.folder.scratch("model")
        amortised.save(scratch)
        self.folder.replace_folder("model", scratch)
        self.folder.clear_scratch()
        citations = dict.fromkeys((*self.solver.citations, *self.problem.info.citations))
        write_text(self.folder.path / "cite.bib", bibtex(tuple(citations)))
        write_json(self.folder.path / "metrics.json", plain({**amortised.meta, "scale": to_mapping(amortised.scale)}))


def _trainer(solver: Any) -> Any:
    method = make_solver(solver)
    if Capability.FAMILY not in method.needs:
        message = f"solver `{method.name}` solves one problem at a time; `sciprob.fit` needs one for families: `rgnp`."
        raise UnsupportedProblemError(message)
    return method


def _configured_family(config: Mapping[str, Any], place: RunFolder) -> ProblemFamily:
    table = config["family"]
    if "kind" not in table:
        message = f"the family of `{place.path}` was built in Python; use `sciprob.resume_fit(folder, family=family)`."
        raise ConfigError(message)
    family: ProblemFamily = build_kind(table, name=str(table.get("name", "family")), where=place.config)
    return family
