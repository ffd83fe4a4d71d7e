"""An amortised map on disk: JSON and safetensors, no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load
from torch import Tensor

from sciprob.config import from_mapping, to_mapping
from sciprob.errors import ConfigError, DataError
from sciprob.problems.family import ProblemFamily
from sciprob.problems.registry import build_kind
from sciprob.solvers.checkpoint import write_tensors
from sciprob.solvers.rgnp.calibration import ErrorScale
from sciprob.solvers.rgnp.laplace import LaplaceCovariance
from sciprob.solvers.rgnp.network import NetworkShape, PointNetwork
from sciprob.solvers.rgnp.observation_store import pack_observation_map, unpack_observation_map
from sciprob.solvers.rgnp.refined_scale import RefinedScale
from sciprob.solvers.runfolder import write_json

if TYPE_CHECKING:
    from sciprob.solvers.rgnp.amortised import Amortised

FORMAT, VERSION = "sciprob-amortised", 3
_MODEL = "model.json"


def save_amortised(amortised: Amortised, folder: Path) -> Path:
    """Write `model.json` and the tensor file that it names; the JSON is replaced last, so a folder is always whole."""
    from sciprob import __version__

    tensors = {f"network.{name}": tensor for name, tensor in amortised.network.state_dict().items()}
    tensors |= {"vectors": amortised.covariance.vectors, "eigenvalues": amortised.covariance.eigenvalues}
    inverse: dict[str, Any] = {}
    if amortised.inverse is not None:
        more, inverse = pack_observation_map(amortised.inverse)
        tensors |= more
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    scratch = folder / "tensors.safetensors"
    write_tensors(scratch, tensors, {})
    digest = hashlib.sha256(scratch.read_bytes()).hexdigest()
    path = scratch.replace(folder / f"tensors-{digest[:12]}.safetensors")
    words = {
        "format": FORMAT,
        "version": VERSION,
        "sciprob": __version__,
        "tensors": path.name,
        "sha256": digest,
        "family": dict(amortised.family.config) or {"name": amortised.family.name},
        "network": to_mapping(amortised.shape),
        "inverse": inverse,
        "precision": amortised.covariance.precision,
        "scale": to_mapping(amortised.scale),
        "refined_scale": to_mapping(amortised.refined_scale),
        "bands": {repr(confidence): factor for confidence, factor in amortised.bands.items()},
        "meta": dict(amortised.meta),
    }
    write_json(folder / _MODEL, words)
    for old in folder.glob("tensors-*.safetensors"):
        if old.name != path.name:
            old.unlink()
    return folder


def load_amortised(folder: str | Path, family: ProblemFamily | None = None) -> Amortised:
    """Read what `save_amortised` wrote, onto the CPU; see `Amortised.load`."""
    from sciprob.solvers.rgnp.amortised import Amortised

    folder = Path(folder)
    if not (folder / _MODEL).is_file() and (folder / "model" / _MODEL).is_file():
        folder = folder / "model"
    words = _words(folder)
    tensors = _tensors(folder, words)
    built = _family(folder, words["family"]) if family is None else family
    shape = from_mapping(NetworkShape, words["network"], f"[network] of {_MODEL}")
    network = new_network(built, shape, torch.Generator())
    own = {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        message = f"the network in `{folder}` does not fit the family `{built.name}`; load it with its own family."
        raise ConfigError(message) from error
    covariance = LaplaceCovariance(tensors["vectors"], tensors["eigenvalues"], words["precision"])
    scale = from_mapping(ErrorScale, words["scale"], f"[scale] of {_MODEL}")
    refined = from_mapping(RefinedScale, words["refined_scale"], f"[refined_scale] of {_MODEL}")
    bands = {float(confidence): factor for confidence, factor in words["bands"].items()}
    where = f"[inverse] of {_MODEL}"
    inverse = unpack_observation_map(tensors, found, built, where) if (found := words.get("inverse")) else None
    return Amortised(built, shape, network, covariance, scale, refined, bands, words["meta"], inverse)


def new_network(family: ProblemFamily, shape: NetworkShape, generator: torch.Generator) -> PointNetwork:
    """The network of a family's mean, float64, with random weights, on the generator's device."""
    parameters = family.unknown.size + family.known.size
    lower, upper = family.domain.lower, family.domain.upper
    return PointNetwork(lower, upper, parameters, family.n_fields, shape, generator)


def _words(folder: Path) -> dict[str, Any]:
    path = folder / _MODEL
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"there is no readable {_MODEL} in `{folder}`; give a folder of `save` or `sciprob fit --out`."
        raise DataError(message) from error
    if not isinstance(words, dict) or words.get("format") != FORMAT or words.get("version") != VERSION:
        message = f"`{path}` should have the format {FORMAT} {VERSION}; it was written by another version or program."
        raise DataError(message)
    return words


def _tensors(folder: Path, words: Mapping[str, Any]) -> dict[str, Tensor]:
    path = folder / Path(str(words["tensors"])).name
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != words["sha256"]:
        message = f"`{path}` is missing or damaged, its sha256 is not the one in {_MODEL}; copy or save it again."
        raise DataError(message)
    return {name: tensor.clone() for name, tensor in load(data).items()}  # to aligned memory: sums round the same


def _family(folder: Path, table: Mapping[str, Any]) -> ProblemFamily:
    if "kind" not in table:
        message = f"the family of `{folder}` was built in Python; use `Amortised.load(folder, family=family)`."
        raise ConfigError(message)
    built: Any = build_kind(table, name=str(table.get("name", "family")), where=folder / _MODEL)
    assert isinstance(built, ProblemFamily)
    return built
