"""The root of a conditioned process' covariance at points, as a linear map that can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from sciprob.operators.linear import LinearMap
from sciprob.operators.store import storable
from sciprob.pde.functionals import AnyPoints, ScatteredPoints, TensorPoints
from sciprob.solvers.kronecker_gp.factored import FactoredConditional
from sciprob.solvers.kronecker_gp.storing import describe_conditional, restore_conditional
from sciprob.spaces import Space


@storable("kronecker-gp-root")
class ProcessRoot(LinearMap):
    r"""xi -> scale times the deviation of a conditioned process at points: what its factors hold of the covariance.

    Args:
        process: The conditioned process.
        points: Where.
        derivative: Of which derivative.
        scale: Factor of all standard deviations.
        codomain: Space whose shape is that of the points.
    """

    def __init__(
        self, process: FactoredConditional, points: AnyPoints, derivative: str, scale: float, codomain: Space
    ) -> None:
        super().__init__(Space(process.white_shape, name="xi"), codomain)
        self.process = process
        self.points = points
        self.derivative = derivative
        self.scale = scale

    def _apply_batched(self, m: Any) -> Any:
        return self.scale * self.process.deviation(m, self.points, self.derivative)

    def _adjoint_batched(self, y: Any) -> Any:
        return self.scale * self.process.deviation_transpose(y, self.points, self.derivative)

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The process, points, derivative and scale."""
        settings, tensors = describe_conditional(self.process)
        named = {f"process.{name}": tensor for name, tensor in tensors.items()}
        tensor_grid = isinstance(self.points, TensorPoints)
        points = self.points.lines if isinstance(self.points, TensorPoints) else (self.points.points,)
        named |= {f"points.{i}": line for i, line in enumerate(points)}
        space = {"shape": list(self.codomain.shape), "name": self.codomain.name, "dims": list(self.codomain.dims)}
        own = {"process": settings, "derivative": self.derivative, "scale": self.scale, "codomain": space}
        return own | {"tensor_grid": tensor_grid}, named

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the map again, on a plain space of the same shape."""
        inner = {name.removeprefix("process."): t for name, t in tensors.items() if name.startswith("process.")}
        count = sum(name.startswith("points.") for name in tensors)
        lines = tuple(tensors[f"points.{i}"] for i in range(count))
        points = TensorPoints(lines) if settings["tensor_grid"] else ScatteredPoints(lines[0])
        space = settings["codomain"]
        codomain = Space(tuple(space["shape"]), space["name"], tuple(space["dims"]))
        process = restore_conditional(settings["process"], inner)
        return cls(process, points, str(settings["derivative"]), float(settings["scale"]), codomain)
