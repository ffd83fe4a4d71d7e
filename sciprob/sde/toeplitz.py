r"""Quadratic forms and determinants of Toeplitz covariances in O(n^2) operations and O(n) memory.

Forward by the Durbin-Levinson recursion; derivatives in the autocovariance from the formula of
Gohberg and Semencul, K^{-1} = (L(u) L(u)^T - L(v) L(v)^T) / u_0 with u the first column of K^{-1} and
v = (0, u_{n-1} .. u_1), in a few FFTs. Source: Golub and Van Loan, Matrix Computations, section 4.7.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sciprob.errors import ConvergenceError
from sciprob.spaces.shapes import broadcast_shapes


def toeplitz_gram(r: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """X K^{-1} X^T and log det K for the Toeplitz matrix K_ij = r_|i-j|.

    Args:
        r: Autocovariance `(*batch, n)`.
        x: Rows `(*batch, m, n)`; the batch axes broadcast.

    Returns:
        `(*batch, m, m)` and `(*batch,)`, both differentiable once in `r` and `x`.

    Raises:
        ConvergenceError: If a K is not positive definite.
    """
    gram, log_det = _ToeplitzGram.apply(r, x)
    return gram, log_det


class _ToeplitzGram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, r: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        errors, variances, phi = _durbin_levinson(r, x)
        ctx.save_for_backward(phi, variances[..., -1], x)
        ctx.shape = r.shape
        gram = (errors / variances.unsqueeze(-2)) @ errors.mT
        batch = gram.shape[:-2]
        return gram, variances.log().sum(-1).expand(batch).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_gram: Tensor, grad_log_det: Tensor) -> tuple[Tensor, Tensor]:
        phi, variance, x = ctx.saved_tensors
        u = torch.cat([torch.ones_like(variance)[..., None], -phi], dim=-1) / variance[..., None]
        alpha = _inverse_product(u, x)
        symmetric = (grad_gram + grad_gram.mT) / 2
        beta = symmetric @ alpha
        by_gram = -_correlate(alpha, beta).sum(-2)
        by_det = grad_log_det[..., None] * _diagonal_sums(u)
        grad_r = 2 * (by_gram + by_det)
        grad_r[..., 0] /= 2
        return grad_r.sum_to_size(ctx.shape), (2 * beta).sum_to_size(x.shape)


def _durbin_levinson(r: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One-step prediction errors `(*batch, m, n)`, their variances `(*, n)`, the predictor of order n - 1."""
    n = r.shape[-1]
    v = r[..., 0]
    phi = r[..., :0]
    variances = [v]
    errors = [x[..., 0].expand(broadcast_shapes(x.shape[:-1], (*r.shape[:-1], 1)))]
    for k in range(1, n):
        backward = phi.flip(-1)
        reflection = (r[..., k] - (backward * r[..., 1:k]).sum(-1)) / v
        phi = torch.cat([phi - reflection[..., None] * backward, reflection[..., None]], dim=-1)
        v = v * (1 - reflection) * (1 + reflection)
        prediction = x[..., :k] @ phi.flip(-1)[..., None]
        errors.append(x[..., k] - prediction.squeeze(-1))
        variances.append(v)
    stacked = torch.stack(variances, dim=-1)
    wrong = ~(stacked > 0).all(-1)
    if bool(wrong.any()):
        sample = int(wrong.flatten().nonzero()[0])
        message = f"a Toeplitz covariance should be positive definite, got one that is not (number {sample})."
        raise ConvergenceError(message, sample=sample)
    return torch.stack(errors, dim=-1), stacked, phi


def _correlate(a: Tensor, b: Tensor) -> Tensor:
    """sum_t a_t b_{t+k} for k = 0 .. n - 1 along the last axis."""
    n = a.shape[-1]
    if a.numel() == 0 or b.numel() == 0:  # torch has no FFT of empty batches
        return a * b
    size = 2 * n
    spectrum = torch.fft.rfft(a, n=size).conj() * torch.fft.rfft(b, n=size)
    result: Tensor = torch.fft.irfft(spectrum, n=size)[..., :n]
    return result


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    """sum_{t <= k} a_t b_{k-t} for k = 0 .. n - 1 along the last axis."""
    n = a.shape[-1]
    if a.numel() == 0 or b.numel() == 0:
        return a * b
    size = 2 * n
    result: Tensor = torch.fft.irfft(torch.fft.rfft(a, n=size) * torch.fft.rfft(b, n=size), n=size)[..., :n]
    return result


def _reversed(u: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(u[..., :1]), u[..., 1:].flip(-1)], dim=-1)


def _inverse_product(u: Tensor, x: Tensor) -> Tensor:
    """K^{-1} x for rows `x (*batch, m, n)`."""
    u = u.unsqueeze(-2)
    v = _reversed(u)
    first = _convolve(u, _correlate(u, x))  # L(u)^T x correlates, L(u) convolves
    return (first - _convolve(v, _correlate(v, x))) / u[..., :1]


def _diagonal_sums(u: Tensor) -> Tensor:
    """sum_i (K^{-1})_{i, i+k} for k = 0 .. n - 1."""
    n = u.shape[-1]
    left = torch.arange(n, 0, -1, dtype=u.dtype, device=u.device)
    v = _reversed(u)
    return (_correlate(u, left * u) - _correlate(v, left * v)) / u[..., :1]
