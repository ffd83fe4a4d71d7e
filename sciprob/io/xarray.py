"""Posteriors as `xarray.DataTree` in the ArviZ 1.x schema, and as netCDF files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.io.store import plain
from sciprob.posteriors import Ensemble, Posterior
from sciprob.spaces import Space

if TYPE_CHECKING:
    from xarray import DataTree

_DRAWS = 200
_LARGEST = 1 << 23  # numbers in the draws that are made when none are asked for: 64 MB


def to_datatree(
    posterior: Posterior,
    *,
    problem: Any = None,
    draws: int | None = None,
    generator: torch.Generator | None = None,
) -> DataTree:
    """Posterior draws with names, coordinates and context.

    Groups: `posterior` (variable `space.name` over chain, draw and the axes of the space),
    `summary` (mean, std, q05, q95), and, where known, `sample_stats` (raw log weights),
    `observed_data` and `constant_data` (truth) of the problem. ArviZ has no weighted draws, so a
    weighted ensemble is resampled systematically; the attribute `resampled` says so and `ess`
    keeps the effective sample size.

    Args:
        posterior: Any posterior.
        problem: The `Problem` behind it, for data, truth and configuration.
        draws: Number of draws of posteriors without stored members; default 200, fewer for very
            large fields. Stored members are all written.
        generator: Randomness of draws and resampling; default one with the seed in `posterior.meta`.

    Raises:
        ConfigError: If an axis of the space is called `chain` or `draw`.
    """
    from xarray import DataTree

    if generator is None:
        generator = torch.Generator().manual_seed(int(posterior.meta.get("seed", 0)))
    members, extra = _members(posterior, draws, generator)
    groups = {"posterior": dataset(posterior.space, {posterior.space.name: members}, ("chain", "draw"))}
    moments = {"mean": posterior.mean, "std": posterior.std}
    bands = dict(zip(("q05", "q95"), posterior.interval(0.9), strict=True))
    groups["summary"] = dataset(posterior.space, moments | bands)
    if isinstance(posterior, Ensemble) and posterior.log_weights is not None:
        member = Space((len(posterior),), "log_weight", ("member",))
        groups["sample_stats"] = dataset(member, {"log_weight": posterior.log_weights})
    if problem is not None:
        groups |= _context(problem)
    tree = DataTree.from_dict({name: group.assign_attrs(_library()) for name, group in groups.items()})
    tree.attrs = _attributes(posterior, problem) | extra
    return tree


def write_netcdf(posterior: Posterior, path: str | Path, **options: Any) -> Path:
    """Write `to_datatree(posterior, **options)`; opens with `xarray.open_datatree` and with ArviZ.

    Returns:
        The path.
    """
    path = Path(path)
    to_datatree(posterior, **options).to_netcdf(path, engine="h5netcdf")
    return path


def _members(
    posterior: Posterior, draws: int | None, generator: torch.Generator
) -> tuple[Tensor, dict[str, str | float]]:
    """Draws `(chain, draw, *space.shape)` and what there is to say about them."""
    if isinstance(posterior, Ensemble):
        if posterior.log_weights is None:
            return posterior.by_chain(), {}
        resampled = posterior.resample(draws, generator=generator)
        words = "systematic resampling by the weights in sample_stats; draws repeat"
        return resampled.by_chain(), {"resampled": words, "ess": posterior.ess}
    if draws is None:
        most = min(_DRAWS, max(20, _LARGEST // max(1, posterior.space.size)))
        draws = most if posterior.max_draws is None else posterior.max_draws
    words = f"independent draws of a {type(posterior).__name__}"
    return posterior.sample((1, draws), generator=generator), {"draws": words}


def _context(problem: Any) -> dict[str, Any]:
    """Data and truth of a problem."""
    groups = {}
    codomain = problem.operator.codomain
    if problem.data is not None and isinstance(codomain, Space):
        groups["observed_data"] = dataset(codomain, {codomain.name: problem.data})
    if problem.truth is not None:
        groups["constant_data"] = dataset(problem.parameter, {"truth": problem.truth})
    return groups


def dataset(space: Space, tensors: Mapping[str, Tensor], leading: tuple[str, ...] = ()) -> Any:
    """Variables on one space with its coordinates and unit."""
    from xarray import Dataset

    dims = (*leading, *space.dims)
    if len(set(dims)) < len(dims):
        message = f"the axes of `{space.name}` should have other names than {leading}, got {space.dims}; rename `dims`."
        raise ConfigError(message)
    unit = {"units": space.unit}
    data = {name: (dims, tensor.detach().cpu().numpy(), unit) for name, tensor in tensors.items()}
    first = next(iter(tensors.values()))
    coords: dict[str, Any] = {axis: list(range(first.shape[i])) for i, axis in enumerate(leading)}
    for name, values in space.coords.items():
        axis = name if name in space.dims else space.dims[0]
        if name not in tensors and values.ndim == 1 and (name in space.dims or len(space.dims) == 1):
            coords[name] = ((axis,), values.detach().cpu().numpy())
    if space.labels:
        coords[space.dims[0]] = list(space.labels)
    return Dataset(data, coords)


def _library() -> dict[str, str]:
    from sciprob import __version__

    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    return {"inference_library": "sciprob", "inference_library_version": __version__, "created_at": stamp}


def _attributes(posterior: Posterior, problem: Any) -> dict[str, Any]:
    """Versions, seed, status, figures, configuration and citation as words and numbers."""
    from sciprob.io.citations import bibtex

    meta = posterior.meta
    attributes: dict[str, Any] = _library() | {"torch_version": str(torch.__version__)}
    attributes["class"] = type(posterior).__name__
    attributes |= {key: meta[key] for key in ("problem", "solver", "status", "seed", "seconds") if key in meta}
    attributes["metrics"] = json.dumps(plain(meta))
    keys: tuple[str, ...] = ()
    if problem is not None:
        attributes["config"] = json.dumps(plain(problem.config))
        keys = tuple(problem.info.citations)
    attributes["citation"] = bibtex(keys)
    return attributes
