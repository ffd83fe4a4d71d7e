"""Spectral bases: closed forms of derivatives for every boundary, even and odd lengths, one to three axes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sciprob.engines.spectral import SpectralBasis
from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.spaces import GridSpace

LOWER, UPPER = (0.5, -1.0, 2.0), (2.0, 3.0, 2.5)


def make_grid(shape: tuple[int, ...], boundary: tuple[str, ...]) -> GridSpace:
    centring = "periodic" if set(boundary) == {"periodic"} else "cell"
    d = len(shape)
    return GridSpace(shape, dims=tuple("zyx"[3 - d :]), lower=LOWER[:d], upper=UPPER[:d], centring=centring)


def factor(s: Tensor, boundary: str, order: int, length: float) -> Tensor:
    """A mode that satisfies the condition on (0, length), or its derivative of order 0, 1 or 2."""
    k = 2 * math.pi * 2 / length if boundary == "periodic" else math.pi * 3 / length
    shift = {"periodic": 0.4, "dirichlet": -math.pi / 2, "neumann": 0.0}[boundary]
    return k**order * torch.cos(k * s + shift + order * math.pi / 2)


def field(grid: GridSpace, boundary: tuple[str, ...], derivative: str = "") -> Tensor:
    """Product of one mode per axis, differentiated."""
    value = torch.ones(grid.shape, dtype=torch.float64)
    for i, dim in enumerate(grid.dims):
        length = grid.upper[i] - grid.lower[i]
        along = factor(grid.axis(i) - grid.lower[i], boundary[i], derivative.count(dim), length)
        value = value * along.reshape([-1 if j == i else 1 for j in range(len(grid.shape))])
    return value


CASES = [
    (shape, boundary)
    for shape in [(12,), (13,), (12, 9), (9, 14, 11)]
    for boundary in itertools.product(("periodic", "dirichlet", "neumann"), repeat=len(shape))
]


@pytest.mark.parametrize(("shape", "boundary"), CASES)
def test_derivatives_of_modes_are_exact(shape: tuple[int, ...], boundary: tuple[str, ...]) -> None:
    grid = make_grid(shape, boundary)
    basis = SpectralBasis(grid, boundary)
    u = field(grid, boundary)
    u_hat = basis.to_spectral(u)
    assert u_hat.shape == basis.spectral_shape
    torch.testing.assert_close(basis.to_grid(u_hat), u, rtol=0, atol=1e-13)
    dims = grid.dims
    for derivative in [*dims, *(2 * dim for dim in dims), dims[0] + dims[-1]]:
        expected = field(grid, boundary, derivative)
        found = basis.values_of_derivative(u_hat, derivative)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()) + 1e-12)
    laplacian = sum(field(grid, boundary, 2 * dim) for dim in dims)
    found = basis.to_grid(u_hat * basis.laplacian())
    torch.testing.assert_close(found, laplacian, rtol=0, atol=1e-10)


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet", "neumann"])
@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (6,), (4, 5), (5, 4), (3, 4, 2)])
def test_transforms_are_inverse_with_any_batch(shape: tuple[int, ...], boundary: str) -> None:
    basis = SpectralBasis(make_grid(shape, (boundary,) * len(shape)), boundary)
    u = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(basis.to_grid(basis.to_spectral(u)), u, rtol=0, atol=1e-14)
    assert bool((basis.laplacian() <= 0).all())


@pytest.mark.parametrize("n", [8, 9])
def test_higher_orders_and_the_nyquist_mode(n: int) -> None:
    grid = GridSpace((n,), dims=("x",), lower=(0.0,), upper=(2 * math.pi,), centring="periodic")
    basis, x = SpectralBasis(grid), grid.axis(0)
    u_hat = basis.to_spectral(torch.sin(3 * x))
    for order, expected in [(3, -27 * torch.cos(3 * x)), (4, 81 * torch.sin(3 * x)), (5, 243 * torch.cos(3 * x))]:
        found = basis.to_grid(basis.derivative(u_hat, "x", order))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    if n == 8:  # the alternating mode: cos(4 x) on the grid, of slope 0 and curvature -16
        alternating = basis.to_spectral(torch.cos(4 * x))
        assert float(basis.values_of_derivative(alternating, "x").abs().max()) < 1e-13
        torch.testing.assert_close(basis.values_of_derivative(alternating, "xx"), -16 * torch.cos(4 * x))


@pytest.mark.parametrize("n", [15, 16, 17, 18])
def test_products_within_the_mask_are_free_of_aliases(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    fine_n = 4 * n
    coarse, fine = (
        SpectralBasis(GridSpace((m,), dims=("x",), lower=(0.0,), upper=(1.0,), centring="periodic"))
        for m in (n, fine_n)
    )
    u, v = (coarse.to_spectral(torch.randn(n, generator=generator, dtype=torch.float64)) for _ in range(2))
    mask = coarse.dealias()
    u, v = u * mask, v * mask
    product = coarse.to_spectral(coarse.to_grid(u) * coarse.to_grid(v)) * mask

    def refined(c: Tensor) -> Tensor:
        return torch.nn.functional.pad(c * (fine_n / n), (0, fine_n // 2 + 1 - len(c)))

    exact = fine.to_spectral(fine.to_grid(refined(u)) * fine.to_grid(refined(v)))[: n // 2 + 1] * (n / fine_n) * mask
    torch.testing.assert_close(product, exact, rtol=0, atol=1e-12)
    assert int(mask.sum()) == (n - 1) // 3 + 1  # and no smaller mask than the rule allows


def test_a_flipped_parity_belongs_to_squares_of_odd_fields() -> None:
    grid = make_grid((16,), ("dirichlet",))
    basis = SpectralBasis(grid, "dirichlet")
    s, length = grid.axis(0) - grid.lower[0], grid.upper[0] - grid.lower[0]
    k = math.pi * 3 / length
    square = basis.to_spectral(torch.sin(k * s) ** 2, flipped=("x",))
    expected = k * torch.sin(2 * k * s)
    torch.testing.assert_close(basis.values_of_derivative(square, "x"), expected, rtol=0, atol=1e-12)


def test_precision_follows_the_argument() -> None:
    basis = SpectralBasis(make_grid((8, 9), ("periodic", "periodic")))
    u_hat = basis.to_spectral(torch.ones(8, 9))
    assert u_hat.dtype == torch.complex64
    for multiplier in (basis.wavenumber("x", u_hat), basis.laplacian(u_hat), basis.dealias(u_hat)):
        assert multiplier.dtype == torch.float32
    assert basis.values_of_derivative(u_hat, "xxy").dtype == torch.float32


def test_refusals() -> None:
    with pytest.raises(UnsupportedProblemError, match="centring 'cell'"):
        SpectralBasis(make_grid((4,), ("periodic",)), "neumann")
    node = GridSpace((4,), dims=("x",), lower=(0.0,), upper=(1.0,))
    with pytest.raises(UnsupportedProblemError, match="centring 'periodic'"):
        SpectralBasis(node)
    with pytest.raises(ShapeError, match="'robin'"):
        SpectralBasis(make_grid((4,), ("periodic",)), "robin")
    with pytest.raises(ShapeError, match="no axis 'y'"):
        SpectralBasis(make_grid((4,), ("periodic",))).wavenumber("y")


def test_the_nyquist_mode_of_the_first_axis_has_no_slope() -> None:
    """The transform of the last axis drops the imaginary part of such a mode; those of the others do not."""
    basis = SpectralBasis(make_grid((6, 9), ("periodic", "periodic")))
    y, x = torch.arange(6)[:, None], torch.arange(9)[None, :]
    u_hat = basis.to_spectral((-1.0) ** y * torch.cos(2 * math.pi * x / 9).double())
    assert float(basis.values_of_derivative(u_hat, "y").abs().max()) < 1e-12
