"""States of flows: velocity and pressure of Taylor-Hood elements in one vector, and their values at points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.operators.linear import LinearMap
from sciprob.spaces import FESpace, Mesh, Space


@dataclass(frozen=True)
class FlowSpace(Space):
    """Velocity of degree 2 and pressure of degree 1, steady or at given times.

    One state is `(d n_2 + n_1,)`: the velocity component by component, then the pressure, each in
    the canonical order of its `FESpace`; trajectories are `(n_times, d n_2 + n_1)`.

    Args:
        mesh: Triangles or tetrahedra.
        times: Times of a trajectory; None for a steady state.
        name: What is stored here.
    """

    shape: tuple[int, ...] = field(init=False)
    name: str = field(default="flow", kw_only=True)
    dims: tuple[str, ...] = field(init=False)
    unit: str = field(default="1", kw_only=True)
    coords: Mapping[str, Tensor] = field(init=False, compare=False, repr=False)
    mesh: Mesh = field(repr=False)
    times: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        size = self.mesh.dim * self.velocity.size + self.pressure.size
        lead = () if self.times is None else (len(self.times),)
        coords = {} if self.times is None else {"time": torch.tensor(self.times, dtype=torch.float64)}
        object.__setattr__(self, "shape", (*lead, size))
        object.__setattr__(self, "dims", ("time", "node")[-len(self.shape) :])
        object.__setattr__(self, "coords", coords)
        super().__post_init__()

    @cached_property
    def velocity(self) -> FESpace:
        """Space of one component of the velocity."""
        return FESpace(self.mesh, 2, name="velocity")

    @cached_property
    def pressure(self) -> FESpace:
        """Space of the pressure."""
        return FESpace(self.mesh, 1, name="pressure")

    def fields(self, state: Tensor) -> dict[str, Tensor]:
        """`velocity (*lead, d, n_2)` and `pressure (*lead, n_1)` of `state (*lead, size)`; times count as lead."""
        d, n = self.mesh.dim, self.velocity.size
        return {"velocity": state[..., : d * n].unflatten(-1, (d, n)), "pressure": state[..., d * n :]}

    def compatible(self, other: object) -> bool:
        """Equal meshes and shapes."""
        if isinstance(other, FlowSpace):
            return self.shape == other.shape and self.mesh == other.mesh
        return super().compatible(other)


class FlowObservation(LinearMap):
    """Velocity and pressure at points and at all times of a flow, exactly (no interpolation in time).

    `(*shape,)` -> `([n_times,] n_points, n_components)`, the components in the order (u, v, [w,] p).

    Args:
        domain: The flow.
        points: `(n_points, d)`.
        fields: What is measured.

    Raises:
        DataError: If a point lies outside the mesh.
        ConfigError: If nothing is measured.
    """

    index: Tensor
    weights: Tensor

    def __init__(
        self,
        domain: FlowSpace,
        points: Tensor,
        fields: tuple[Literal["velocity", "pressure"], ...] = ("velocity",),
    ) -> None:
        if not fields or not set(fields) <= {"velocity", "pressure"}:
            message = f"`fields` should name velocity, pressure or both, got {fields}."
            raise ConfigError(message)
        d, n = domain.mesh.dim, domain.velocity.size
        parts = [(domain.velocity, i * n) for i in range(d)] if "velocity" in fields else []
        parts += [(domain.pressure, d * n)] if "pressure" in fields else []
        width = domain.velocity.cell_dofs.shape[1]
        index = torch.zeros(len(points), len(parts), width, dtype=torch.int64)
        weights = torch.zeros(len(points), len(parts), width, dtype=torch.float64)
        for i, (space, offset) in enumerate(parts):
            nodes, values = space.interpolation(points.detach().cpu().double())
            index[:, i, : nodes.shape[1]], weights[:, i, : nodes.shape[1]] = offset + nodes, values
        lead = domain.shape[:-1]
        dims = (*domain.dims[:-1], "sensor", "component")
        codomain = Space((*lead, len(points), len(parts)), name="y", dims=dims, coords=dict(domain.coords))
        super().__init__(domain, codomain)
        self.points = points
        self.register_buffer("index", index)
        self.register_buffer("weights", weights)

    def _apply_batched(self, m: Any) -> Any:
        return (m[..., self.index] * self.weights.to(m.dtype)).sum(-1)

    def _adjoint_batched(self, y: Any) -> Any:
        lead = y.shape[:-2]
        terms = (y.unsqueeze(-1) * self.weights.to(y.dtype)).reshape(*lead, self.index.numel())
        state = y.new_zeros(*lead, self.domain.shape[-1])
        return state.index_add(-1, self.index.flatten(), terms)
