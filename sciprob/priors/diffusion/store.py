"""Trained priors on disk: a TOML file that a person can read, and a safetensors file of weights; no pickle."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors.torch import load, save_file
from torch import Tensor

from sciprob import assets
from sciprob.config import did_you_mean
from sciprob.errors import ConfigError, DataError, ShapeError
from sciprob.operators.algebra import Affine
from sciprob.operators.base import ForwardOperator
from sciprob.operators.linear import DiagonalMap
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.preconditioning import GaussianPreconditioning, NetworkDenoiser, Preconditioning
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.priors.diffusion.recipes import Recipe, recipe_from
from sciprob.priors.diffusion.statistics import FieldStatistics
from sciprob.priors.diffusion.unet import UNet, initialise
from sciprob.priors.families import Family

FORMAT = "sciprob-diffusion-prior-1"
_FOLDER = "priors"  # in the folders of problem files


@dataclass(frozen=True)
class PriorFile:
    """A trained prior that was found.

    Args:
        name: Name.
        path: Its TOML file.
        table: What is in it.
    """

    name: str
    path: Path
    table: Mapping[str, Any]

    @property
    def title(self) -> str:
        """One line about it."""
        return str(self.table.get("title", ""))


def new_denoiser(recipe: Recipe, statistics: FieldStatistics, generator: torch.Generator) -> NetworkDenoiser:
    """The denoiser of a recipe before training, with random weights."""
    space = recipe.family.space
    network = initialise(UNet(space.shape, recipe.network), generator)
    if recipe.control_variate:
        gaussian = GaussianDenoiser(space, statistics.mean, statistics.spectrum)
        return NetworkDenoiser(space, network, GaussianPreconditioning(gaussian))
    return NetworkDenoiser(space, network, Preconditioning(statistics.mean, statistics.std))


def assemble(recipe: Recipe, statistics: FieldStatistics, denoiser: NetworkDenoiser) -> DiffusionPrior:
    """The prior of a trained denoiser: m = shift + scale x, then the family's own map if it has one."""
    for parameter in denoiser.network.parameters():
        parameter.requires_grad_(False)
    denoiser.network.eval()
    return DiffusionPrior(
        denoiser,
        _transform(recipe.family),
        surrogate=statistics.prior(recipe.family.space),
        sigma_max=recipe.training.largest,
        sigma_min=recipe.training.smallest,
    )


def _transform(family: Family) -> ForwardOperator:
    one = torch.ones(family.space.shape, dtype=torch.float64)
    return Affine(DiagonalMap(family.scale * one, family.space), family.shift * one)


def save_diffusion_prior(
    path: str | Path,
    recipe: Recipe,
    statistics: FieldStatistics,
    weights: Mapping[str, Tensor],
    record: Mapping[str, Any],
    *,
    half: bool = True,
) -> Path:
    """Write `NAME.toml` and the `NAME.safetensors` that it names with its checksum.

    Args:
        path: The TOML file.
        recipe: Family, network and training.
        statistics: Mean and covariance.
        weights: Weights of the network by name.
        record: What is known of the training: seed, steps, seconds, measured errors; plain values.
        half: Store weights in half precision; they are computed with in single precision.

    Returns:
        `path`.
    """
    from sciprob import __version__

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{name}": weight.half() if half else weight.float() for name, weight in weights.items()}
    tensors |= {name: tensor.float() for name, tensor in statistics.tensors().items()}
    file = path.with_suffix(".safetensors")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)
    file.chmod(0o644)
    words = {
        "format": FORMAT,
        "sciprob": __version__,
        "title": recipe.family.title,
        "shape": list(recipe.family.space.shape),
        "tensors": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        **recipe.table(),
        "record": dict(record),
    }
    path.write_text(tomli_w.dumps(words), encoding="utf-8")
    return path


def load_diffusion_prior(prior: str | Path, *, shape: tuple[int, ...] | None = None) -> DiffusionPrior:
    """A trained prior.

    Args:
        prior: Its name (searched in `./problems/priors`, the checkout, the package), a TOML file, or the folder of
            a training.
        shape: The shape its fields should have, if that matters to the caller.

    Returns:
        The prior of m on the family's grid; the network computes in single precision, results have the dtype of
        their argument. `prior.surrogate` is the Gaussian of the family's mean and covariance.

    Raises:
        ConfigError: If there is no such prior, or it was written by another version.
        DataError: If its tensors are missing or damaged.
        ShapeError: If its fields have another shape than `shape`.
    """
    file = find_prior(prior)
    recipe, tensors = _read(file)
    found = recipe.family.space.shape
    if shape is not None and tuple(shape) != found:
        message = (
            f"the prior `{file.name}` was trained on fields of shape {found}, but {tuple(shape)} is needed; change the "
            "problem's grid, or train one of that size with `sciprob train-prior`."
        )
        raise ShapeError(message)
    statistics = FieldStatistics(**{name: t.double() for name, t in tensors.items() if "." not in name})
    denoiser = new_denoiser(recipe, statistics, torch.Generator())
    weights = {name.removeprefix("network."): t.float() for name, t in tensors.items() if name.startswith("network.")}
    try:
        denoiser.network.load_state_dict(weights)
    except RuntimeError as error:
        message = f"the weights beside `{file.path}` do not fit its [network]; train or copy the prior again."
        raise ConfigError(message) from error
    return assemble(recipe, statistics, denoiser)


def available_priors() -> list[PriorFile]:
    """All trained priors by name; of two with one name the first in the search order."""
    found: dict[str, PriorFile] = {}
    for folder in assets.folders("problems"):
        for path in sorted((folder / _FOLDER).glob("*.toml")):
            if path.stem not in found:
                found[path.stem] = PriorFile(path.stem, path, _table(path))
    return [found[name] for name in sorted(found)]


def find_prior(prior: str | Path) -> PriorFile:
    """The prior of a name, a TOML file or a folder.

    Raises:
        ConfigError: If there is none; names the nearest.
    """
    text = str(prior)
    if isinstance(prior, Path) or text.endswith(".toml") or "/" in text or Path(text).is_dir():
        path = Path(text).expanduser()
        path = path / "prior.toml" if path.is_dir() else path
        if not path.is_file():
            message = f"there is no trained prior at `{text}`; give a TOML file or a folder of `sciprob train-prior`."
            raise ConfigError(message)
        return PriorFile(path.stem, path, _table(path))
    known = {file.name: file for file in available_priors()}
    if text not in known:
        message = f"there is no trained prior `{text}`; {did_you_mean(text, known)}"
        raise ConfigError(message)
    return known[text]


def _table(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"`{path}` is not valid TOML: {error}."
        raise ConfigError(message) from error
    if table.get("format") != FORMAT:
        message = (
            f"`{path}` should have the format {FORMAT}, got {table.get('format')!r}; it is no prior of this version."
        )
        raise ConfigError(message)
    return table


def _read(file: PriorFile) -> tuple[Recipe, dict[str, Tensor]]:
    keys = ("family", "network", "training", "control_variate", "draws", "low_modes")
    recipe = recipe_from({key: file.table[key] for key in keys if key in file.table}, file.path.name)
    path = file.path.parent / Path(str(file.table.get("tensors", ""))).name
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != file.table.get("sha256"):
        message = f"`{path}` is missing or damaged, its sha256 is not the one in `{file.path.name}`; copy it again."
        raise DataError(message)
    return recipe, dict(load(data))
