"""The square root of a stationary covariance on a grid, by FFT."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.fourier import filter_periodic, spectrum_weights
from sciprob.operators.linear import LinearMap
from sciprob.operators.store import storable
from sciprob.spaces import GridSpace, Space

_SMALLEST = 1e-6  # of the largest amplitude: below, float64 does not resolve the spectrum (covariance condition 1e12)


@storable("grid-matern-root")
class GridMaternRoot(LinearMap):
    """L = diag(scale) R F^{-1} diag(amplitude) F E: extend, filter on a torus, crop, scale.

    `boundary` says how the grid lies in the torus:

    - `"stationary"`: xi lives on the whole torus, R keeps one corner; L is not square.
    - `"periodic"`: the grid is the torus.
    - `"neumann"`: E mirrors the grid into a torus of twice its size, about cell faces (`"cell"`
      grids, the filter is then diagonal in the DCT-II) or about the end nodes (`"node"`, DCT-I,
      with sqrt(2) on the end nodes so that L L^T is the covariance).

    Args:
        space: Grid of the field.
        torus: Shape of the torus.
        boundary: One of the three.
        amplitude: Root of the covariance's spectrum on the torus as a half spectrum, real,
            `(*torus[:-1], torus[-1] // 2 + 1)`.
        scale: Factor after all that, a number or `(*space.shape)`, zero where the field is known.
    """

    amplitude: Tensor
    scale: Tensor

    def __init__(
        self, space: GridSpace, torus: tuple[int, ...], boundary: str, amplitude: Tensor, scale: Tensor
    ) -> None:
        white = Space(torus if boundary == "stationary" else space.shape, name="xi")
        super().__init__(white, space)
        self.torus = tuple(torus)
        self.boundary = boundary
        self.register_buffer("amplitude", amplitude)
        self.register_buffer("scale", scale)

    @property
    def invertible(self) -> bool:
        """Whether `solve` and `log_abs_det` exist: square, no zero scale, covariance condition below 1e12."""
        resolved = float(self.amplitude.min()) > _SMALLEST * float(self.amplitude.max())
        return self.boundary != "stationary" and resolved and bool((self.scale > 0).all())

    def _apply_batched(self, m: Any) -> Any:
        return self.scale.to(m.dtype) * self._filter(self._edge(m) * m, self.amplitude)

    def _adjoint_batched(self, y: Any) -> Any:
        y = self.scale.to(y.dtype) * y
        if self.boundary == "stationary":
            pad = [p for n, t in zip(y.shape[:0:-1], self.torus[::-1], strict=True) for p in (0, t - n)]
            return filter_periodic(torch.nn.functional.pad(y, pad), self.amplitude.to(y.dtype), self.torus)
        edge = self._edge(y)  # the filter A between mirrored values has A^T = edge^-2 A edge^2
        return self._filter(edge.square() * y, self.amplitude) / edge

    def solve(self, y: Tensor) -> Tensor:
        """L^{-1} y.

        Raises:
            UnsupportedProblemError: If the map is not `invertible`.
        """
        self._refuse_singular()
        batch = self.codomain.batch_shape(y)
        z = self.codomain.merge(y) / self.scale.to(y.dtype)
        xi: Tensor = self._filter(z, 1 / self.amplitude) / self._edge(y)
        return xi.reshape(*batch, *self.domain.shape)

    def log_abs_det(self) -> Tensor:
        """Sum of the logarithms of amplitudes and scales.

        Raises:
            UnsupportedProblemError: If the map is not `invertible`.
        """
        self._refuse_singular()
        logs = self.amplitude.log()
        if self.boundary == "neumann":  # one cosine mode for each grid point
            modes = logs[tuple(slice(n) for n in self.codomain.shape)].sum()
        else:
            modes = (logs * spectrum_weights(self.torus).to(logs)).sum()
        scales = self.scale.log().expand(self.codomain.shape).sum()
        edges = self._edge(logs).log().expand(self.codomain.shape).sum()
        log_abs_det: Tensor = modes + scales.to(modes) + edges
        return log_abs_det

    def variance(self) -> Tensor:
        """Diagonal of L L^T, `(*space.shape)`, exact: the kernel at 0, or its sum over the point's mirror images."""
        axes = tuple(range(len(self.torus)))
        kernel = torch.fft.irfftn(self.amplitude.square().to(torch.float64), s=self.torus, dim=axes)
        if self.boundary != "neumann":
            total = kernel.reshape(-1)[0].expand(self.codomain.shape)
        else:
            total = torch.zeros(self.codomain.shape, dtype=kernel.dtype, device=kernel.device)
            images = [self._own_images(axis) for axis in axes]
            for choice in itertools.product((0, 1), repeat=len(axes)):
                picked = kernel
                for axis, mirrored in enumerate(choice):
                    picked = picked.index_select(axis, images[axis][mirrored].to(kernel.device))
                total = total + picked
        variance: Tensor = self.scale.to(total.dtype).square() * total
        return variance

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Grid, torus and boundary as plain values; amplitude and scale as tensors."""
        space = self.codomain
        names = ("shape", "name", "dims", "unit", "lower", "upper", "centring")
        grid = {key: list(v) if isinstance(v := getattr(space, key), tuple) else v for key in names}
        settings = {"space": grid, "torus": list(self.torus), "boundary": self.boundary}
        return settings, {"amplitude": self.amplitude, "scale": self.scale}

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build a described map again."""
        grid: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["space"].items()}
        torus = tuple(int(n) for n in settings["torus"])
        return cls(GridSpace(**grid), torus, str(settings["boundary"]), tensors["amplitude"], tensors["scale"])

    def _filter(self, x: Tensor, amplitude: Tensor) -> Tensor:
        """R F^{-1} diag(amplitude) F E on one batch axis."""
        if self.boundary == "neumann":
            x = _mirror(x, self.codomain.centring)
        y = filter_periodic(x, amplitude.to(x.dtype), self.torus)
        return y[(slice(None), *(slice(n) for n in self.codomain.shape))]

    def _edge(self, like: Tensor) -> Tensor:
        """Factor sqrt(2) for each axis along which a node lies on a Neumann boundary, else 1."""
        edge = torch.ones((), dtype=like.dtype, device=like.device)
        if self.boundary != "neumann" or self.codomain.centring == "cell":
            return edge
        shape = self.codomain.shape
        for axis, n in enumerate(shape):
            factor = torch.ones(n, dtype=like.dtype, device=like.device)
            factor[0] = factor[-1] = math.sqrt(2)
            edge = edge * factor.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        return edge

    def _own_images(self, axis: int) -> tuple[Tensor, Tensor]:
        """Offsets on the torus, along one axis, from each point to itself and to its mirror image."""
        index = torch.arange(self.codomain.shape[axis])
        shift = 1 if self.codomain.centring == "cell" else 0
        return torch.zeros_like(index), (2 * index + shift) % self.torus[axis]

    def _refuse_singular(self) -> None:
        if not self.invertible:
            message = (
                f"this root ({self.boundary!r}) has no usable inverse: it takes a 'periodic' or 'neumann' boundary, "
                "positive std everywhere and a length or smoothness small enough for float64."
            )
            raise UnsupportedProblemError(message)


def _mirror(x: Tensor, centring: str) -> Tensor:
    """Even extension of `(B, *shape)` along every axis."""
    for axis in range(1, x.ndim):
        back = x.flip(axis)
        if centring == "node":  # the end nodes are their own images
            back = back.narrow(axis, 1, x.shape[axis] - 2)
        x = torch.cat([x, back], dim=axis)
    return x
