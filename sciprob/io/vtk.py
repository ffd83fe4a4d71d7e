"""Posteriors of fields as `.vtu` files for ParaView and pyvista."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.posteriors import Posterior
from sciprob.spaces import GridSpace, Space
from sciprob.spaces.fe import FESpace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# VTK orders the edges of a quadratic simplex (01) (12) (20) (03) (13) (23); ours are lexicographic.
_QUADRATIC = {2: [0, 1, 2, 3, 5, 4], 3: [0, 1, 2, 3, 4, 7, 5, 6, 8, 9]}
_CELLS = {(2, 1): "triangle", (2, 2): "triangle6", (3, 1): "tetra", (3, 2): "tetra10"}


def write_vtu(
    posterior: Posterior,
    path: str | Path,
    *,
    problem: Any = None,
    truth: Tensor | None = None,
    samples: int = 4,
    generator: torch.Generator | None = None,
) -> Path:
    """Mean, std, q05, q95, truth and a few samples as point data.

    Finite-element fields keep their degree (quadratic cells for degree 2); grids in 2 and 3
    dimensions are written as quadrilaterals and hexahedra between the grid points.

    Args:
        posterior: Posterior on a `FESpace`, or on a `GridSpace` in 2 or 3 dimensions.
        path: File name ending in `.vtu`.
        problem: The `Problem`, for its truth.
        truth: `(*space.shape)`, instead of the problem's.
        samples: Number of draws to write.
        generator: Their randomness; default one with the seed in `posterior.meta`.

    Returns:
        The path.

    Raises:
        UnsupportedProblemError: If the space has no cells.
    """
    import meshio

    path = Path(path)
    points, kind, cells = _geometry(posterior.space)
    if truth is None and problem is not None:
        truth = problem.truth
    if generator is None:
        generator = torch.Generator().manual_seed(int(posterior.meta.get("seed", 0)))
    low, high = posterior.interval(0.9)
    fields = {"mean": posterior.mean, "std": posterior.std, "q05": low, "q95": high}
    if truth is not None:
        posterior.space.batch_shape(truth, "truth")
        fields["truth"] = truth
    if samples:
        count = samples if posterior.max_draws is None else min(samples, posterior.max_draws)
        draws = posterior.ensemble(count, generator=generator).samples
        fields |= {f"sample_{i}": draw for i, draw in enumerate(draws)}
    data = {name: field.detach().cpu().double().numpy().reshape(-1) for name, field in fields.items()}
    meshio.write(path, meshio.Mesh(points, [(kind, cells)], point_data=data))
    return path


def _geometry(space: Space) -> tuple[Floats, str, Ints]:
    """Points in 3-D, kind of cell, and cells of a space."""
    if isinstance(space, FESpace):
        kind = _CELLS[space.mesh.dim, space.degree]
        cells = space.cell_dofs if space.degree == 1 else space.cell_dofs[:, _QUADRATIC[space.mesh.dim]]
        return _in_space(space.points()), kind, cells
    if isinstance(space, GridSpace) and len(space.shape) in (2, 3) and min(space.shape) > 1:
        return _in_space(space.points()), *_grid_cells(space.shape)
    message = (
        f"a .vtu file needs a field on a mesh or a 2-D or 3-D grid, `{space.name}` {space.shape} is neither; "
        "write .nc instead."
    )
    raise UnsupportedProblemError(message)


def _grid_cells(shape: tuple[int, ...]) -> tuple[str, Ints]:
    """Cells between neighbouring grid points, corners in VTK's circular order."""
    number = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    d = len(shape)
    ring = [(0, 0), (0, 1), (1, 1), (1, 0)]
    corners = ring if d == 2 else [(k, *c) for k in (0, 1) for c in ring]
    pieces = [number[tuple(slice(c, n - 1 + c) for c, n in zip(corner, shape, strict=True))] for corner in corners]
    return ("quad" if d == 2 else "hexahedron"), np.stack([p.reshape(-1) for p in pieces], axis=-1)


def _in_space(points: Tensor) -> Floats:
    """Points padded with zeros to three coordinates, as VTK wants them."""
    array: Floats = points.detach().cpu().double().numpy()
    return np.pad(array, ((0, 0), (0, 3 - array.shape[1])))
