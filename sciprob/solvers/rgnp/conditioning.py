"""Conditioning a Gaussian that is given by a root, in the coordinates of the root."""

from __future__ import annotations

import torch
from torch import Tensor


def condition_root(data_root: Tensor, root: Tensor, misfit: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""The law of u = m + F xi given y = m_y + A xi + noise, xi ~ N(0, I).

    With W = I + A^T R^-1 A = L L^T, R = diag(noise^2):  shift = F W^-1 A^T R^-1 (y - m_y), root = F L^-T. No
    difference of covariances is formed, so that small variances keep their digits.

    Args:
        data_root: A `(m, q)`.
        root: F `(n, q)`.
        misfit: y - m_y `(m,)`.
        noise: Standard deviations `(m,)`, > 0.

    Returns:
        The shift of the mean `(n,)`, and the new root `(n, q)`.
    """
    scaled = data_root / noise.unsqueeze(-1)
    precision = scaled.mT @ scaled
    precision.diagonal().add_(1.0)
    factor = torch.linalg.cholesky(precision)
    conditioned = torch.linalg.solve_triangular(factor, root.mT, upper=False).mT
    pulled = torch.linalg.solve_triangular(factor, (scaled.mT @ (misfit / noise)).unsqueeze(-1), upper=False)
    return (conditioned @ pulled).squeeze(-1), conditioned
