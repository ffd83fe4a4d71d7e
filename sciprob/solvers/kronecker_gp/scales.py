"""Prior standard deviations of functionals, the scales that noise levels are relative to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciprob.pde.functionals import Functionals
from sciprob.priors.kernels import StationaryKernel


def prior_std(kernels: Sequence[StationaryKernel], functionals: Functionals) -> Tensor:
    r"""Standard deviation of sum_a c_a D^a u under GP(0, prod_j k_j), broadcasts to `points.shape`.

    var = sum_ab c_a c_b prod_j (-1)^(b_j) k_j^(a_j + b_j)(0), in which odd derivatives vanish. A row's
    noise level should be a fraction of it (1e-9 for noise-free data): u, u_x and u_xx differ by powers of
    the frequency.

    Raises:
        UnsupportedProblemError: If a kernel is not smooth enough for the operator.
    """
    total = functionals.values.new_zeros(())
    for a, c in functionals.terms.items():
        for b, e in functionals.terms.items():
            pairs = list(zip(functionals.orders(a), functionals.orders(b), strict=True))
            if all((p + q) % 2 == 0 for p, q in pairs):
                factors = [_at_zero(kernel, p, q, total) for kernel, (p, q) in zip(kernels, pairs, strict=True)]
                total = total + c * e * math.prod(factors)
    return total.sqrt()


def _at_zero(kernel: StationaryKernel, p: int, q: int, like: Tensor) -> float:
    with torch.no_grad():
        top = float(kernel.evaluate(like.new_zeros(1), (p + q,)).reshape(()))
    return -top if q % 2 else top
