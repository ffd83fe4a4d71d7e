"""Training of diffusion priors: the counterpart of `fitting.py`, where one run serves every problem with that prior.

Seeds, progress, log, checkpoints, time budget, NaN guard and Ctrl-C are those of `solve`; a training that is killed at
any moment and resumed gives the weights of an uninterrupted one, bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from sciprob import __version__
from sciprob.errors import ConfigError
from sciprob.operators.counting import SolveCounter
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.preconditioning import NetworkDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.priors.diffusion.recipes import Recipe, make_recipe, recipe_from
from sciprob.priors.diffusion.statistics import FieldStatistics, estimate_statistics
from sciprob.priors.diffusion.store import assemble, new_denoiser, save_diffusion_prior
from sciprob.priors.diffusion.training import DenoiserTraining, TrainingState, load_average
from sciprob.priors.families import ScaledFamily
from sciprob.problems.registry import read_toml
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.checkpoint import read_tensors, write_tensors
from sciprob.solvers.loop import Callback, Loop
from sciprob.solvers.runfolder import RunFolder, plain, write_json
from sciprob.solvers.setup import torch_device
from sciprob.solvers.stopping import Interrupts, parse_budget

_LEVELS = (0.05, 0.1, 0.3, 1.0, 3.0, 10.0)
_HELD_OUT = 64  # fresh fields for the errors of the record


@dataclass(frozen=True)
class TrainedPrior:
    """A trained prior with what is known of its training.

    Args:
        prior: For solvers.
        recipe: Family, network and training.
        record: Status, steps, seconds, and errors on fresh fields.
    """

    prior: DiffusionPrior
    recipe: Recipe
    record: Mapping[str, Any]


def train_prior(
    recipe: Recipe | str,
    *,
    seed: int = 0,
    budget: str | float | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    devices: int = 1,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    overwrite: bool = False,
) -> TrainedPrior:
    """Train a diffusion prior on a family of fields.

    Args:
        recipe: Family, network and training, or the name of a recipe.
        seed: Root of all randomness.
        budget: Largest time of training, `60`, `"60s"`, `"20m"`.
        out: Folder to write; it can be resumed after a kill at any moment, and `load_diffusion_prior` reads it.
        device: `cpu`, `cuda`, or `auto`: CUDA if there is one.
        devices: CUDA devices; gradients are averaged over them.
        progress: Show progress on stderr.
        callbacks: Called as `callback(step, state, info)` after every step.
        overwrite: Replace a training that is already in `out`.

    Returns:
        The prior with averaged weights. After Ctrl-C or at the end of the budget it is what was trained so far.

    Raises:
        ConfigError: For an unknown recipe, device or budget, or a folder that is in use.
        NonFiniteError: If a weight becomes NaN; names it.
    """
    built = make_recipe(recipe) if isinstance(recipe, str) else recipe
    chosen, limit, folder = torch_device(device), parse_budget(budget), None
    if out is not None:
        config = {
            "prior": built.table(),
            "run": {"seed": seed, "device": str(chosen), "devices": devices, "sciprob": __version__},
        }
        folder = RunFolder.create(out, overwrite=overwrite)
        folder.begin(config, chosen)
    return _launch(built, seed, chosen, devices, limit, folder, progress, callbacks)


def resume_prior(
    folder: str | Path,
    *,
    budget: str | float | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> TrainedPrior:
    """Continue a training from its folder, whatever stopped it.

    Args:
        folder: A folder written by `train_prior(..., out=...)`.
        budget: Largest time of this part; none by default.
        progress: Show progress on stderr.
        callbacks: As in `train_prior`.

    Raises:
        ConfigError: If the folder is none of a training.
    """
    place = RunFolder.open(folder)
    config = read_toml(place.config)
    if not is_prior_training(config):
        message = f"`{folder}` holds another run and no training of a prior; use `sciprob resume {folder}`."
        raise ConfigError(message)
    recipe = recipe_from(config["prior"], f"[prior] of {place.config.name}")
    run = config.get("run", {})
    device, seed, devices = torch_device(str(run.get("device", "cpu"))), int(run["seed"]), int(run.get("devices", 1))
    return _launch(recipe, seed, device, devices, parse_budget(budget), place, progress, callbacks)


def is_prior_training(config: Mapping[str, Any]) -> bool:
    """Whether a `config.toml` is that of a training."""
    return "prior" in config


def _launch(
    recipe: Recipe,
    seed: int,
    device: torch.device,
    devices: int,
    budget: float | None,
    folder: RunFolder | None,
    show: bool,
    callbacks: Sequence[Callback],
) -> TrainedPrior:
    cuda = device.type == "cuda"
    precision = recipe.training.precision
    half = precision == "bfloat16" or (precision == "auto" and cuda)
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu", devices=devices, precision="bf16-mixed" if half else "32-true"
    )
    fabric.launch()
    first = fabric.is_global_zero  # the other processes only compute
    source = ScaledFamily(recipe.family)
    statistics = _statistics(recipe, source, seed, folder if first else None)
    denoiser = new_denoiser(recipe, statistics, Streams(seed)["weights"])
    method = DenoiserTraining(denoiser, recipe.training, seed, fabric)
    run = PriorRun(
        source,
        method,
        recipe,
        statistics,
        seed,
        fabric.device,
        budget,
        folder if first else None,
        show and first,
        tuple(callbacks),
    )
    return run.execute()


@dataclass(frozen=True)
class PriorRun:
    """Everything that stays fixed while training goes on."""

    problem: ScaledFamily
    solver: DenoiserTraining
    recipe: Recipe
    statistics: FieldStatistics
    seed: int
    device: torch.device
    budget: float | None
    folder: RunFolder | None
    show: bool
    callbacks: Sequence[Callback]
    stats: SolveCounter = field(default_factory=SolveCounter)

    def execute(self) -> TrainedPrior:
        """Make the remaining steps, take the average of the weights and write the folder."""
        loop = Loop(self, Streams(self.seed, self.device))
        with Interrupts() as interrupts:
            status = loop.iterate(interrupts)
        state: TrainingState = loop.state
        denoiser = self.solver.denoiser
        load_average(denoiser.network, state)
        record = {
            "status": status.name.lower(),
            "seed": self.seed,
            "steps": loop.steps,
            "fields": loop.steps * self.recipe.training.batch // self.recipe.training.noisings,
            "seconds": round(loop.clock.seconds, 1),
            "device": str(self.device),
            "parameters": sum(weight.numel() for weight in state.weights.values()),
            "errors": self.errors(denoiser),
        }
        self._write(state.average, record)
        if status in (Status.INTERRUPTED, Status.BUDGET):
            where = (
                "with `--out` it can be resumed" if self.folder is None else f"`--resume {self.folder.path}` goes on"
            )
            loop.progress.note(f"Training stopped after {loop.steps} of {self.solver.max_steps} steps; {where}.")
        return TrainedPrior(assemble(self.recipe, self.statistics, denoiser.cpu()), self.recipe, record)

    def errors(self, denoiser: NetworkDenoiser) -> list[dict[str, float]]:
        """Mean square errors on fresh fields by level: of the denoiser, and of that of the Gaussian beside it."""
        draws = Streams(self.seed, self.device)["held out"]
        clean = self.problem.sample(_HELD_OUT, draws).to(self.device)
        noise = torch.randn(clean.shape, generator=draws, device=draws.device)
        statistics, rows = self.statistics, []
        wiener = GaussianDenoiser(denoiser.space, statistics.mean, statistics.spectrum).to(self.device)
        with torch.no_grad():
            for level in _LEVELS:
                noisy = clean + level * noise
                rows.append(
                    {
                        "sigma": level,
                        "network": _mean_square(denoiser(noisy, level) - clean),
                        "gaussian": _mean_square(wiener(noisy, level) - clean),
                    }
                )
        return rows

    def _write(self, weights: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """The prior and last the figures, so that their presence means that all is there."""
        if self.folder is None:
            return
        scratch = self.folder.scratch("model")
        save_diffusion_prior(scratch / "prior.toml", self.recipe, self.statistics, weights, record)
        self.folder.replace_folder("model", scratch)
        self.folder.clear_scratch()
        write_json(self.folder.path / "metrics.json", plain(record))


def _mean_square(error: Tensor) -> float:
    return float(f"{float(error.square().mean()):.4g}")


def _statistics(recipe: Recipe, source: ScaledFamily, seed: int, folder: RunFolder | None) -> FieldStatistics:
    """Mean and covariance of the family, from the folder if a former part of the training estimated them."""
    path = None if folder is None else folder.path / "checkpoint" / "statistics.safetensors"
    if path is not None and path.is_file():
        tensors, _ = read_tensors(path)
        return FieldStatistics(**tensors)
    draws = Streams(seed)["statistics"]
    statistics = estimate_statistics(
        source.sample, recipe.draws, draws, periodic=recipe.periodic, low_modes=recipe.low_modes
    )
    if path is not None:
        write_tensors(path, {name: tensor.contiguous() for name, tensor in statistics.tensors().items()}, {})
    return statistics
