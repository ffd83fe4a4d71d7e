"""Given velocities on the boundary of a flow, and how they depend on unknown amplitudes of an inflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from sciprob.engines.conditions import Value, evaluate
from sciprob.engines.fenicsx_flow_space import FlowSpace
from sciprob.errors import ConfigError, DataError
from sciprob.spaces.mesh import Floats, Ints

TimeValue = float | Callable[[torch.Tensor, float], object]
"""A number, or a function of points `(n, d)` (float64 tensor) and time that returns `(n,)` values."""


@dataclass(frozen=True)
class Inflow:
    """Velocity on one part of the boundary: ramp(t) sum_k a_k phi_k(x) direction, with amplitudes a_k.

    Args:
        part: Name of the part.
        modes: The profiles phi_k, numbers or functions of points.
        direction: Direction, `(d,)`.
        ramp: Factor of time; a steady problem takes its value at time 0, so leave it out there.
    """

    part: str
    modes: Sequence[Value]
    direction: tuple[float, ...] = (1.0, 0.0)
    ramp: Callable[[float], float] = field(default=lambda _: 1.0)


class FlowBoundary:
    """Velocities on named parts of the boundary, and the vertex where the pressure is zero.

    Args:
        space: The steady flow.
        velocity: One number or function of points and time per component, by part. On nodes of two
            parts the one named last holds; the inflow comes last.
        inflow: A part with amplitudes.
        pressure_point: A vertex of the mesh, or None.

    Attributes:
        fixed: Canonical numbers of what is given, ascending.

    Raises:
        DataError: For an unknown part, or no vertex at `pressure_point`.
        ConfigError: If a velocity has not one entry per component.
    """

    def __init__(
        self,
        space: FlowSpace,
        velocity: Mapping[str, Sequence[TimeValue]],
        inflow: Inflow | None,
        pressure_point: Sequence[float] | None,
    ) -> None:
        self._space, self._velocity, self._inflow = space, dict(velocity), inflow
        self._points = space.velocity.points().numpy()
        d = space.mesh.dim
        given = [*self._velocity.values(), *([inflow.direction] if inflow is not None else [])]
        if any(len(value) != d for value in given):
            message = f"velocities on the boundary need {d} components, got {[len(value) for value in given]}."
            raise ConfigError(message)
        names = [*self._velocity, *([inflow.part] if inflow is not None else [])]
        self._nodes = {name: space.velocity.named_dofs(name) for name in names}
        every = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *self._nodes.values()]))
        self.fixed: Ints = np.concatenate([i * space.velocity.size + every for i in range(d)])
        if pressure_point is not None:
            self.fixed = np.append(self.fixed, d * space.velocity.size + self._vertex(pressure_point))

    def _vertex(self, point: Sequence[float]) -> int:
        points = self._space.mesh.points
        distance = np.linalg.norm(points - np.asarray(point), axis=1)
        vertex = int(distance.argmin())
        if distance[vertex] > 1e-8:
            message = (
                f"the pressure is fixed at a vertex of the mesh, {tuple(point)} is none; the nearest one is "
                f"{tuple(points[vertex].tolist())}."
            )
            raise DataError(message)
        return vertex

    @property
    def modes(self) -> int:
        """Number of amplitudes."""
        return len(self._inflow.modes) if self._inflow is not None else 0

    def values(self, time: float, amplitudes: Floats) -> Floats:
        """What is given at a time, `(n_fixed,)`; zero for the pressure."""
        full, n = np.zeros(self._space.size), self._space.velocity.size
        for part, values in self._velocity.items():
            nodes = self._nodes[part]
            for i, value in enumerate(values):
                now: Value = (lambda x, value=value: value(x, time)) if callable(value) else value
                full[i * n + nodes] = evaluate(now, self._points[nodes], f"velocity on {part!r}")
        if self._inflow is not None:
            for i in range(self._space.mesh.dim):
                full[i * n + self._nodes[self._inflow.part]] = 0.0
        return full[self.fixed] + self.columns(time) @ amplitudes

    def columns(self, time: float) -> Floats:
        """Their derivatives by the amplitudes, `(n_fixed, modes)`."""
        full, n = np.zeros((self._space.size, self.modes)), self._space.velocity.size
        if self._inflow is not None:
            nodes = self._nodes[self._inflow.part]
            for k, mode in enumerate(self._inflow.modes):
                profile = evaluate(mode, self._points[nodes], "profile of the inflow")
                for i, share in enumerate(self._inflow.direction):
                    full[i * n + nodes, k] = share * self._inflow.ramp(time) * profile
        columns: Floats = full[self.fixed]
        return columns
