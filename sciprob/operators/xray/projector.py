"""The X-ray transform of pixel images, by Joseph's method."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import scipy.sparse
import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError, UnsupportedProblemError
from sciprob.operators.linear import ExplicitLinearMap
from sciprob.operators.xray.geometry import BeamGeometry, FanBeam, Rays
from sciprob.spaces import GridSpace, Space

_CHUNK = 1 << 21  # ray-pixel pairs worked on at once while the matrix is built: 16 MiB per float64 array


class XrayTransform(ExplicitLinearMap):
    """Line integrals of an image, (A m)_vk = integral of m along ray (v, k).

    Joseph's method: a ray visits the pixel rows (or columns, whichever it crosses more steeply),
    the image is interpolated linearly between the two nearest pixel centres of each, and the
    values are summed times the length of the ray per row. The image is zero outside the grid.
    Second order in the pixel size for smooth images, first order across edges.

    The matrix and its transpose are built on first use (seconds) and kept per dtype and device as
    CSR with 32-bit indices: about 4 * n_angles * n_bins * n bytes each for n x n pixels in
    float32, twice. The adjoint is therefore the exact transpose. A batch shares one pass over
    the matrix, so a batch of 16 costs about as much as four single images.

    Args:
        domain: Cell-centred grid, `dims=("y", "x")`, both ascending; pixels need not be square.
        geometry: The rays, in the same length unit and origin as the grid.
        name: Name of the data space, `(n_angles, n_bins)` with dims `("angle", "bin")`.

    Raises:
        ShapeError: If the domain is not a two-dimensional cell-centred (y, x) grid.
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
        return _product(matrix, x.flatten(1)).reshape(len(x), *self.codomain.shape)

    def _rmatvec(self, y: Tensor) -> Tensor:
        _, transpose = self.matrices(y.dtype, y.device)
        return _product(transpose, y.flatten(1)).reshape(len(y), *self.domain.shape)


def joseph_matrix(rays: Rays, grid: GridSpace, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Joseph's matrix in CSR form.

    Args:
        rays: Lines with any leading axes, `(..., 2)`; one matrix row each, in order.
        grid: Cell-centred (y, x) grid.
        dtype: Type of the weights; positions are worked out in float64.

    Returns:
        Row pointers `(n_rays + 1,)` and column indices `(nnz,)`, int32, and weights `(nnz,)`.

    Raises:
        UnsupportedProblemError: If the matrix has more entries than 32-bit indices can count.
    """
    counts, indices, weights = [], [], []
    for part in _ray_chunks(rays, _CHUNK // max(grid.shape)):
        count, index, weight = _joseph_rows(part, grid, dtype)
        counts.append(count)
        indices.append(index)
        weights.append(weight)
    pointer = torch.cat([torch.zeros(1, dtype=torch.long), torch.cat(counts).cumsum(0)])
    if int(pointer[-1]) > torch.iinfo(torch.int32).max:
        message = f"the X-ray matrix would have {int(pointer[-1])} entries, more than 2^31; use fewer views or pixels."
        raise UnsupportedProblemError(message)
    return pointer.int(), torch.cat(indices), torch.cat(weights)


def _joseph_rows(rays: Rays, grid: GridSpace, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Entries per row, column indices and weights of a few rays."""
    (ny, nx), (dy, dx) = grid.shape, grid.spacing
    first = torch.tensor([grid.lower[1] + dx / 2, grid.lower[0] + dy / 2], dtype=torch.float64)
    size = torch.tensor([dx, dy], dtype=torch.float64)
    point, step = (rays.point - first) / size, rays.direction / size  # in pixels, the first pixel's centre at 0
    steep = step[:, 1].abs() >= step[:, 0].abs()  # one step per image row, else per column

    # Along the main axis one step per pixel; the cross axis is interpolated.
    main, cross = torch.where(steep, 1, 0)[:, None], torch.where(steep, 0, 1)[:, None]
    step_main, point_main = step.gather(1, main), point.gather(1, main)
    slope = step.gather(1, cross) / step_main
    at_zero = point.gather(1, cross) - slope * point_main
    line = torch.arange(max(ny, nx), dtype=torch.float64)
    position = torch.addcmul(at_zero, slope, line)
    left = position.floor()
    share = position.sub_(left) / step_main.abs()  # a ray covers 1 / |step| of length per line
    share = torch.stack([1 / step_main.abs() - share, share], dim=-1).to(dtype)

    left = left.int()
    n_main, n_cross = torch.where(steep, ny, nx).int()[:, None], torch.where(steep, nx, ny).int()[:, None]
    stride_main, stride_cross = torch.where(steep, nx, 1).int()[:, None], torch.where(steep, 1, nx).int()[:, None]
    index = left * stride_cross + line.int() * stride_main
    index = torch.stack([index, index + stride_cross], dim=-1)
    inside = line.int() < n_main
    keep = torch.stack([inside & (left >= 0) & (left < n_cross), inside & (left >= -1) & (left < n_cross - 1)], dim=-1)
    keep &= share != 0
    return keep.flatten(1).sum(1), index[keep], share[keep]


def _ray_chunks(rays: Rays, size: int) -> Iterator[Rays]:
    """The rays as `(n, 2)`, at most `size` at a time."""
    points, directions = (part.reshape(-1, 2) for part in rays)
    for start in range(0, len(points), size):
        yield Rays(points[start : start + size], directions[start : start + size])


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
    if not isinstance(domain, GridSpace) or domain.dims != ("y", "x") or domain.centring != "cell":
        message = f"the X-ray transform needs a GridSpace with dims ('y', 'x') and centring 'cell', got {domain}."
        raise ShapeError(message)
    if isinstance(geometry, FanBeam):
        radius = sum(max(abs(a), abs(b)) ** 2 for a, b in zip(domain.lower, domain.upper, strict=True)) ** 0.5
        if geometry.source_origin <= radius:
            message = (
                f"the source, {geometry.source_origin:g} from the rotation axis, should stay outside the image, "
                f"which reaches {radius:g}; check `source_origin` and the bounds of the grid (same length unit)."
            )
            raise DataError(message)
