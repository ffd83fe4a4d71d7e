"""Jets of finite-element functions at points."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciprob.engines import simplex
from sciprob.errors import DataError, ShapeError, UnsupportedProblemError
from sciprob.pde.derivative_names import canonical
from sciprob.pde.jet import Jet
from sciprob.spaces import FESpace
from sciprob.spaces.mesh import local_edges

Floats = NDArray[np.float64]


def fe_jet(space: FESpace, u: Tensor, points: Tensor, derivatives: Iterable[str]) -> Jet:
    """Values, first and second derivatives of P1 or P2 functions, taken inside the cell of each point.

    First derivatives jump across facets and second ones of P1 functions are zero in every cell: the
    strong residual of a P1 solution does not get small. On a facet one of its cells is taken. Exact
    for functions of the space; linear and differentiable in `u`.

    Args:
        space: Where u lives.
        u: Degrees of freedom `(*batch, n_dofs)`.
        points: `(n, d)`, inside the mesh; located in float64.
        derivatives: Names in x, y, z of order up to 2.

    Returns:
        A jet with entries `(*batch, n)`, dtype and device of `u`.

    Raises:
        ShapeError: If `u` or `points` have the wrong shape.
        DataError: If a point lies outside the mesh.
        UnsupportedProblemError: For derivatives of order 3 or more.
    """
    space.batch_shape(u)
    dim = space.mesh.dim
    if points.ndim != 2 or points.shape[1] != dim:
        message = f"`points` should be (n, {dim}), got {tuple(points.shape)}."
        raise ShapeError(message)
    tolerance = 1e-9 if points.dtype == torch.float64 else 1e-5
    cells, barycentric = space.mesh.locator.locate(points.detach().cpu().double().numpy(), tolerance)
    if (cells < 0).any():
        space.interpolation(points)  # raises, and names the first point outside
    gradients = simplex.gradients(space.mesh.points, space.mesh.cells[cells])
    dofs = torch.tensor(space.cell_dofs[cells], device=u.device)
    local = u[..., dofs]
    entries = {}
    for name in dict.fromkeys(("", *map(canonical, derivatives))):
        if not set(name) <= set("xyz"[:dim]):
            message = f"a function on a {dim}-D mesh has no derivative `{name}`; its axes are {'xyz'[:dim]!r}."
            raise DataError(message)
        axes = ["xyz".index(letter) for letter in name]
        weights = _basis_derivative(space.degree, barycentric, gradients, axes)
        entries[name] = (local * torch.as_tensor(weights).to(u)).sum(-1)
    return Jet(entries)


def _basis_derivative(degree: int, b: Floats, g: Floats, axes: list[int]) -> Floats:
    """A derivative of the local basis, `(n, k)`, from barycentric coordinates b `(n, d+1)` and gradients g."""
    if len(axes) > 2:
        message = "finite-element jets have derivatives up to order 2; use at most two letters, such as `xy`."
        raise UnsupportedProblemError(message)
    slopes = [g[:, :, axis] for axis in axes]
    if degree == 1:
        return (b, slopes[0] if slopes else b, np.zeros_like(b))[len(axes)]
    i, j = np.array(local_edges(b.shape[1] - 1)).T
    if not slopes:
        return np.concatenate([b * (2 * b - 1), 4 * b[:, i] * b[:, j]], axis=1)
    first = slopes[0]
    if len(slopes) == 1:
        return np.concatenate([(4 * b - 1) * first, 4 * (b[:, i] * first[:, j] + b[:, j] * first[:, i])], axis=1)
    second = slopes[1]
    return np.concatenate([4 * first * second, 4 * (first[:, i] * second[:, j] + first[:, j] * second[:, i])], axis=1)
