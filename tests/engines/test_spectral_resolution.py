"""Warnings about grids that do not resolve the solution."""

from __future__ import annotations

import math
import re
import warnings

import pytest
import torch
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.burgers import BurgersSpectral
from sciprob.engines.spectral.resolution import tail_energy
from sciprob.errors import SciprobWarning
from sciprob.spaces import GridSpace


def line(n: int, boundary: str = "periodic") -> SpectralBasis:
    centring = "periodic" if boundary == "periodic" else "cell"
    return SpectralBasis(
        GridSpace((n,), name="u", dims=("x",), lower=(0.0,), upper=(1.0,), centring=centring), boundary
    )


def build(n: int, boundary: str) -> Tensor:
    basis = line(n, boundary)
    u0 = torch.sin(2 * math.pi * basis.grid.axis(0))
    return Evolution(BurgersSpectral(basis, viscosity=0.003), [0.3], tolerance=1e-4, initial=u0)(u0)


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet"])
def test_following_the_advice_resolves_the_shock(boundary: str) -> None:
    """Each warning names a larger grid; within three rounds none comes, on a grid that is not much too fine."""
    n, sizes = 64, []
    for _ in range(4):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            build(n, boundary)
        if not caught:
            break
        assert caught[0].category is SciprobWarning
        (advised,) = re.findall(r"at least \((\d+),\) points", str(caught[0].message))
        assert int(advised) > n
        n = int(advised)
        sizes.append(n)
    assert 1 <= len(sizes) <= 3
    with pytest.warns(SciprobWarning):  # a grid of two thirds of the size would not do
        build(2 * n // 3, boundary)


def test_shares_of_single_modes() -> None:
    basis = line(32)  # dealiased modes up to 10
    x = basis.grid.axis(0)
    for k, middle, tail in [
        (3, 0.0, 0.0),
        (4, 0.0, 0.0),
        (5, 1.0, 0.0),
        (6, 1.0, 0.0),
        (8, 0.0, 0.0),
        (9, 0.0, 1.0),
        (10, 0.0, 1.0),
    ]:
        found = tail_energy(basis, 3.0 + torch.cos(2 * math.pi * k * x)[None])
        torch.testing.assert_close(torch.cat(found), torch.tensor([middle, tail]).double(), rtol=0, atol=1e-12)
    assert [float(x) for x in tail_energy(basis, torch.ones(32).double())] == [0.0, 0.0]
