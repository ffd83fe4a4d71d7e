"""The X-ray transform of pixel images, by Joseph's method."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import scipy.sparse
import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError, UnsupportedProblemError
from sciprob.operators.linear import ExplicitLinearMap
from sciprob.operators.xray.geometry import BeamGeometry, FanBeam, Rays
from sciprob.spaces import GridSpace, Space

_CHUNK = 1 << 18  # crossings worked on at once while the matrix is built: 2 MiB per array, near the cache


class XrayTransform(ExplicitLinearMap):
    """Line integrals of an image, (A m)_vk = integral of m along ray (v, k).

    Joseph's method: a ray visits the pixel rows (or columns, whichever it crosses more steeply),
    the image is interpolated linearly between the two nearest pixel centres of each, and the
    values are summed times the length of the ray per row. The image is zero outside the grid.
    Second order in the pixel size for smooth images, first order across edges.

    The matrix and its transpose are built on first use (about a second for 180 views of 256 x 256
    pixels) and kept per dtype and device as CSR with 32-bit indices: at most 16 n_angles n_bins n
    bytes each for n x n pixels in float32, 24 in float64. The adjoint is therefore the exact
    transpose. A batch shares one pass over the matrix: 16 images cost about as much as four.

    Row 0 of the image is the lowest y. Pictures stored from the top, as in ASTRA, MATLAB or image
    files, are flipped first: `m = picture.flip(-2)`.

    Args:
        domain: Cell-centred grid, `dims=("y", "x")`, at least 2 x 2; pixels need not be square.
        geometry: The rays, in the same length unit and origin as the grid.
        name: Name of the data space, `(n_angles, n_bins)` with dims `("angle", "bin")`.

    Raises:
        ShapeError: If the domain is not a cell-centred (y, x) grid of at least 2 x 2 pixels.
        DataError: If the X-ray source would move inside the circle that holds the image.

    Source: P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images",
    IEEE Trans. Med. Imaging 1 (1982).
    """

    def __init__(self, domain: GridSpace, geometry: BeamGeometry, *, name: str = "sinogram") -> None:
        _check(domain, geometry)
        coords = {"angle": geometry.angles, "bin": geometry.bins}
        super().__init__(domain, Space(geometry.shape, name=name, dims=("angle", "bin"), coords=coords))
        self.geometry = geometry
        self._cache: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def views(self, index: Sequence[int] | Tensor | slice) -> XrayTransform:
        """The transform with some of the views only, in the order given."""
        return XrayTransform(self.domain, self.geometry.views(index), name=self.codomain.name)

    def matrices(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """The matrix `(n_angles * n_bins, n_pixels)` and its transpose, CSR, built once.

        Raises:
            UnsupportedProblemError: If `dtype` is neither float32 nor float64.
        """
        if dtype not in (torch.float32, torch.float64):
            message = f"the X-ray transform works in float32 and float64, got {dtype}; convert the image first."
            raise UnsupportedProblemError(message)
        key = (dtype, torch.device(device))
        if key not in self._cache:
            self._cache[key] = self._build(*key)
        return self._cache[key]

    def _build(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        pointer, index, weight = joseph_matrix(self.geometry.rays(), self.domain, dtype)
        shape = (self.codomain.size, self.domain.size)
        by_row = scipy.sparse.csr_array((weight.numpy(), index.numpy(), pointer.numpy()), shape=shape)
        by_column = by_row.tocsc()  # a linear-time counting sort, which torch does not have
        transpose = tuple(torch.from_numpy(part) for part in (by_column.indptr, by_column.indices, by_column.data))
        return _csr((pointer, index, weight), shape, device), _csr(transpose, shape[::-1], device)

    def _matvec(self, x: Tensor) -> Tensor:
        matrix, _ = self.matrices(x.dtype, x.device)
        self._stats.forward += len(x)
        return _product(matrix, x.flatten(1)).reshape(len(x), *self.codomain.shape)

    def _rmatvec(self, y: Tensor) -> Tensor:
        _, transpose = self.matrices(y.dtype, y.device)
        self._stats.adjoint += len(y)
        return _product(transpose, y.flatten(1)).reshape(len(y), *self.domain.shape)


def joseph_matrix(rays: Rays, grid: GridSpace, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Joseph's matrix in CSR form.

    Args:
        rays: Lines with any leading axes, `(..., 2)`; one matrix row each, in order.
        grid: Cell-centred (y, x) grid of at least 2 x 2 pixels.
        dtype: Type of the weights; positions are worked out in float64.

    Returns:
        Row pointers `(n_rays + 1,)` and column indices `(nnz,)`, int32, and weights `(nnz,)`.

    Raises:
        UnsupportedProblemError: If the matrix has more entries than 32-bit indices can count.
    """
    crossings = _crossings(rays, grid)
    pointer = torch.cat([torch.zeros(1, dtype=torch.long), (2 * crossings.visits).cumsum(0)])
    n_entries = int(pointer[-1])
    if n_entries > torch.iinfo(torch.int32).max:
        message = f"the X-ray matrix would have {n_entries} entries, more than 2^31; use fewer views, bins or pixels."
        raise UnsupportedProblemError(message)
    index = torch.empty(n_entries // 2, 2, dtype=torch.int32)
    weight = torch.empty(n_entries // 2, 2, dtype=dtype)
    for rows in torch.arange(len(crossings.visits)).split(max(_CHUNK // max(grid.shape), 1)):
        chunk = slice(int(rows[0]), int(rows[-1]) + 1)
        filled = slice(int(pointer[chunk.start]) // 2, int(pointer[chunk.stop]) // 2)
        _fill(_Crossings(*(part[chunk] for part in crossings)), index[filled], weight[filled])
    return pointer.int(), index.flatten(), weight.flatten()


class _Crossings(NamedTuple):
    """How each ray crosses the pixel lines that run across it, `(n_rays,)` each, in pixel units.

    Attributes:
        visits: Number of lines (rows for a steep ray, else columns) that meet the image on the ray.
        start: Position along the first of them, pixel centres at the integers.
        slope: Change of the position from one line to the next, at most 1 in size.
        length: Length of the ray from one line to the next, in physical units.
        last: Number of the last pixel of a line.
        base: Flat index of the first pixel of the first line.
        next_line: Step of the flat index from line to line.
        next_pixel: Step of the flat index along a line.
    """

    visits: Tensor
    start: Tensor
    slope: Tensor
    length: Tensor
    last: Tensor
    base: Tensor
    next_line: Tensor
    next_pixel: Tensor


def _crossings(rays: Rays, grid: GridSpace) -> _Crossings:
    """Which lines each ray crosses, from where its position lies in (-1, n)."""
    (ny, nx), (dy, dx) = grid.shape, grid.spacing
    size = torch.tensor([dx, dy], dtype=torch.float64)
    first_pixel = torch.tensor([grid.lower[1], grid.lower[0]], dtype=torch.float64) + size / 2
    point = (rays.point.reshape(-1, 2) - first_pixel) / size
    step = rays.direction.reshape(-1, 2) / size
    steep = step[:, 1].abs() >= step[:, 0].abs()
    along, across = steep.long(), 1 - steep.long()  # the axis counted line by line, and the one interpolated

    def pick(pair: Tensor, axis: Tensor) -> Tensor:
        return pair.gather(1, axis[:, None]).squeeze(1)

    step_along = pick(step, along)
    slope = pick(step, across) / step_along
    start = pick(point, across) - slope * pick(point, along)
    n_lines, n_pixels = torch.where(steep, ny, nx), torch.where(steep, nx, ny)
    divisor = torch.where(slope.abs() < 1e-14, 1e-14, slope)  # a ray along the lines meets all or none
    enter, leave = (-1 - start) / divisor, (n_pixels - start) / divisor
    first = torch.minimum(enter, leave).ceil().clamp_min(0).minimum(n_lines)
    end = torch.maximum(enter, leave).floor().clamp_min(-1).minimum(n_lines - 1) + 1
    next_line, next_pixel = torch.where(steep, nx, 1), torch.where(steep, 1, nx)
    return _Crossings(
        visits=(end - first).clamp_min(0).long(),
        start=start + slope * first,
        slope=slope,
        length=1 / step_along.abs(),
        last=n_pixels - 1,
        base=first.long() * next_line,
        next_line=next_line,
        next_pixel=next_pixel,
    )


def _fill(crossings: _Crossings, index: Tensor, weight: Tensor) -> None:
    """Write the two entries of every crossing, `(n, 2)`.

    Linear interpolation between pixels 0 .. last that falls to zero one pixel outside: the pair is
    kept inside the image, where hat functions give the pixel outside no weight.
    """
    visits, *per_ray = crossings
    start, slope, length, last, base, next_line, next_pixel = (part.repeat_interleave(visits) for part in per_ray)
    row_start = (visits.cumsum(0) - visits).repeat_interleave(visits)
    line = torch.arange(len(row_start)) - row_start
    position = torch.addcmul(start, slope, line)
    left = position.floor().long().clamp_(min=0).minimum(last - 1)
    torch.addcmul(base, line, next_line, out=line).addcmul_(left, next_pixel)
    index[:, 0] = line
    index[:, 1] = line + next_pixel
    position -= left
    weight[:, 0] = (1 - position.abs()).clamp_(min=0) * length
    weight[:, 1] = (1 - (position - 1).abs()).clamp_(min=0) * length


def _csr(parts: tuple[Tensor, ...], shape: tuple[int, int], device: torch.device) -> Tensor:
    pointer, index, weight = (part.to(device) for part in parts)
    with warnings.catch_warnings():  # torch tells once that its CSR support is in beta
        warnings.filterwarnings("ignore", category=UserWarning, message=".*[Ss]parse")
        return torch.sparse_csr_tensor(pointer, index, weight, size=shape, check_invariants=False)


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """`(B, n)` -> `(B, m)`."""
    if len(x) == 0:
        return x.new_zeros(0, matrix.shape[0])
    if len(x) == 1:  # the matrix-vector kernel is faster than a product with one column
        return (matrix @ x[0]).unsqueeze(0)
    return (matrix @ x.T).T.contiguous()


def _check(domain: GridSpace, geometry: BeamGeometry) -> None:
    fits = isinstance(domain, GridSpace) and domain.dims == ("y", "x") and domain.centring == "cell"
    if not fits or min(domain.shape) < 2:
        expected = "a GridSpace of at least 2 x 2 pixels with dims ('y', 'x') and centring 'cell'"
        message = f"the X-ray transform needs {expected}, got {domain}."
        raise ShapeError(message)
    if isinstance(geometry, FanBeam):
        radius = sum(max(abs(a), abs(b)) ** 2 for a, b in zip(domain.lower, domain.upper, strict=True)) ** 0.5
        if geometry.source_origin <= radius:
            message = (
                f"the source, {geometry.source_origin:g} from the rotation axis, should stay outside the image, "
                f"which reaches {radius:g}; check `source_origin` and the bounds of the grid (same length unit)."
            )
            raise DataError(message)
