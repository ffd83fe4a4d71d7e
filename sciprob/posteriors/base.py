"""The posterior: what every solver returns."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.spaces import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import DataTree

    from sciprob.posteriors.ensemble import Ensemble

_ORIGIN = ("problem", "solver", "seed", "status")


class Posterior(abc.ABC):
    """A distribution over the unknown, given the data.

    Everything here works on any of the four classes; tensors keep dtype and device of what the
    solver put in.

    Args:
        space: Space of the unknown.
        meta: Plain numbers and words: problem, solver, seed, status, diagnostics, solves, seconds.
    """

    def __init__(self, space: Space, meta: Mapping[str, Any] | None = None) -> None:
        self.space = space
        self.meta: dict[str, Any] = dict(meta or {})

    @property
    @abc.abstractmethod
    def mean(self) -> Tensor:
        """Posterior mean `(*space.shape)`."""

    @property
    @abc.abstractmethod
    def std(self) -> Tensor:
        """Marginal posterior standard deviations `(*space.shape)`."""

    @abc.abstractmethod
    def quantile(self, q: float | Tensor) -> Tensor:
        """Marginal quantiles.

        Args:
            q: A level in (0, 1), or a vector `(k,)` of levels.

        Returns:
            `(*space.shape)`, or `(k, *space.shape)` for a vector of levels.

        Raises:
            ConfigError: If a level is not inside (0, 1).
        """

    @abc.abstractmethod
    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *space.shape)`."""

    @abc.abstractmethod
    def push(self, operator: Any, *, n: int = 200, generator: torch.Generator | None = None) -> Posterior:
        """Distribution of `operator(m)`, for example the predictive of clean data.

        A linear operator keeps a Gaussian Gaussian; otherwise the operator is applied to the
        members of an ensemble, in one batched call.

        Args:
            operator: A forward operator on `space` whose codomain is one `Space`.
            n: Number of draws where draws are needed and none are stored.
            generator: Randomness of those draws.
        """

    @property
    def max_draws(self) -> int | None:
        """Number of stored members or exact draws, where fresh ones cannot be made; else None."""
        return None

    def log_prob(self, m: Tensor) -> Tensor:
        """Normalised log density `(*batch,)` of `m (*batch, *space.shape)`, where it is known.

        Raises:
            UnsupportedProblemError: If it is not known in closed form.
        """
        message = f"this {type(self).__name__} has no density in closed form; compare samples instead."
        raise UnsupportedProblemError(message)

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Ends of the central credible interval of each entry, `(*space.shape)` each.

        Raises:
            ConfigError: If `level` is not inside (0, 1).
        """
        check_levels(level)
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def at(self, points: Tensor) -> Posterior:
        """The field at points `(n, d)` anywhere in the domain, columns in the order x, y, z.

        The result lives on a space with the axis `points`; it is exact for the field that the
        space represents, by its own interpolation.

        Raises:
            DataError: If a point lies outside the domain.
            UnsupportedProblemError: If the space has no geometry.
        """
        return self.push(_point_values(self.space, points))

    def ensemble(self, n: int, *, generator: torch.Generator) -> Ensemble:
        """`n` equally weighted draws as an `Ensemble`."""
        from sciprob.posteriors.ensemble import Ensemble

        return Ensemble(self.space, self.sample((n,), generator=generator), meta=self.meta)

    def diagnostics(self) -> dict[str, float]:
        """All numbers of `meta`, flattened: `{"seconds": 1.2, "solves.forward": 30.0, "coverage.0.9": 0.91}`."""
        return dict(_numbers(self.meta))

    def to_xarray(self, **options: Any) -> DataTree:
        """`xarray.DataTree` in the ArviZ 1.x schema; options as in `sciprob.io.xarray.to_datatree`."""
        from sciprob.io.xarray import to_datatree

        return to_datatree(self, **options)

    def write(self, path: str | Path, **options: Any) -> Path:
        """Write for other programs, by suffix: `.nc` (ArviZ netCDF) or `.vtu` (ParaView).

        Raises:
            ConfigError: If the suffix is neither; `save` is what `load_posterior` reads.
        """
        path = Path(path)
        if path.suffix == ".nc":
            from sciprob.io.xarray import write_netcdf

            return write_netcdf(self, path, **options)
        if path.suffix == ".vtu":
            from sciprob.io.vtk import write_vtu

            return write_vtu(self, path, **options)
        message = f"`write` expects a file name ending in .nc or .vtu, got {path.name!r}; `save` writes for reloading."
        raise ConfigError(message)

    def save(self, folder: str | Path) -> Path:
        """Write a folder from which `sciprob.load_posterior` restores this posterior exactly."""
        from sciprob.io.store import save_posterior

        return save_posterior(self, folder)

    def plot(self, truth: Tensor | None = None, **options: Any) -> Figure:
        """Figure with mean and std (and truth and error where the truth is given)."""
        from sciprob.plot import field_figure

        return field_figure(self, truth=truth, **options)

    def _origin(self) -> dict[str, Any]:
        """The part of `meta` that stays true for quantities derived from this posterior."""
        return {key: self.meta[key] for key in _ORIGIN if key in self.meta}

    def __repr__(self) -> str:
        origin = "".join(f", {key}={value!r}" for key, value in self._origin().items())
        return f"{type(self).__name__}({self.space.name} {self.space.shape}{origin})"


def check_levels(q: float | Tensor) -> None:
    """Check that quantile levels lie in (0, 1).

    Raises:
        ConfigError: If one does not, or if the levels are not a number or a vector.
    """
    levels = torch.as_tensor(q, dtype=torch.float64)
    if levels.ndim > 1 or not bool(((levels > 0) & (levels < 1)).all()):
        message = f"levels should be a number or a vector of numbers between 0 and 1, got {levels.tolist()}."
        raise ConfigError(message)


def single_codomain(operator: Any) -> Space:
    """Codomain of an operator, if it is one space.

    Raises:
        ShapeError: If the operator returns a dictionary of tensors.
    """
    if isinstance(operator.codomain, Space):
        return operator.codomain
    message = f"`push` needs an operator with one output, got {operator.codomain.name}; push each part by itself."
    raise ShapeError(message)


def needs_generator(generator: torch.Generator | None, purpose: str) -> torch.Generator:
    """The generator, if there is one.

    Raises:
        ConfigError: If there is none.
    """
    if generator is None:
        message = f"{purpose} draws samples; give `generator=torch.Generator().manual_seed(...)`."
        raise ConfigError(message)
    return generator


def _point_values(space: Space, points: Tensor) -> Any:
    """Evaluation at points as a linear map."""
    from sciprob.operators.observe import PointObservation

    evaluation = PointObservation(space, points)
    coords = evaluation.codomain.coords
    evaluation.codomain = Space((len(points),), space.name, ("points",), space.unit, coords)
    return evaluation


def _numbers(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, int, float)):
            yield f"{prefix}{key}", float(value)
