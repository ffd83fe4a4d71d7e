"""Periodic convolutions: circulant matrices by FFT."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.linalg
import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.operators.fourier import Convolution
from sciprob.spaces import Space
from sciprob.testing import OperatorConformance


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_is_circulant(n: int) -> None:
    kernel = numbers(n)
    expected = torch.as_tensor(scipy.linalg.circulant(kernel.numpy()))
    torch.testing.assert_close(Convolution(Space((n,)), kernel).to_dense(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(7,), (8,), (4, 5), (5, 4), (3, 2, 4)])
def test_inverse_and_determinant(shape: tuple[int, ...]) -> None:
    operator = Convolution(Space(shape), numbers(*shape))
    dense, y = operator.to_dense(), numbers(2, *shape, seed=1)
    torch.testing.assert_close(operator.log_abs_det(), torch.linalg.slogdet(dense)[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(operator(operator.solve(y)), y, rtol=0, atol=1e-11)
    torch.testing.assert_close(operator.T(operator.T.solve(y)), y, rtol=0, atol=1e-11)


def test_square_root_of_a_covariance() -> None:
    distance = torch.minimum(torch.arange(8), 8 - torch.arange(8)).double()
    column = 0.5**distance
    root = Convolution.square_root(Space((8,)), column)
    expected = torch.as_tensor(scipy.linalg.circulant(column.numpy()))
    torch.testing.assert_close((root @ root.T).to_dense(), expected, rtol=0, atol=1e-14)
    with pytest.raises(ConfigError, match="nugget"):
        Convolution.square_root(Space((8,)), (distance <= 2).double())
    with pytest.raises(ConfigError, match="even"):
        Convolution.square_root(Space((8,)), torch.eye(8, dtype=torch.float64)[0] + 0.1 * numbers(8))


def test_singular_and_misfit() -> None:
    average = Convolution(Space((4,)), torch.full((4,), 0.25, dtype=torch.float64))
    with pytest.raises(UnsupportedProblemError, match="frequencies"):
        average.solve(torch.ones(4))
    with pytest.raises(UnsupportedProblemError):
        average.log_abs_det()
    with pytest.raises(ShapeError, match="pad"):
        Convolution(Space((4,)), torch.ones(3))


class TestConvolution(OperatorConformance):
    def make(self) -> Any:
        return Convolution(Space((4, 5)), numbers(4, 5)), numbers(4, 5, seed=1)
