"""Which directions of the unknown decide a quantity of interest: Sobol indices under prior or posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.posteriors import GaussianPosterior, Posterior, TransformedPosterior
from sciprob.priors.base import GaussianPrior, Prior

_RESAMPLES = 200  # of the bootstrap
_DENSE = 4000  # white coordinates up to which principal directions are computed


@dataclass(frozen=True)
class SobolIndices:
    """Shares of the variance of a quantity.

    Attributes:
        labels: Names of the groups of inputs, the last one `rest` where there are more directions than asked for.
        first: First-order indices by group, `(groups,)`: the share that a group explains alone.
        total: Total indices, `(groups,)`: with all its interactions.
        first_interval: 90 % bootstrap intervals, `(groups, 2)`.
        total_interval: The same of the total indices.
        mean: Mean of the quantity.
        std: Its standard deviation.
        modes: The field that each direction moves by one standard deviation, `(groups without rest, *space.shape)`,
            where the distribution is Gaussian (before its transform); else None.
    """

    labels: tuple[str, ...]
    first: Tensor
    total: Tensor
    first_interval: Tensor
    total_interval: Tensor
    mean: float
    std: float
    modes: Tensor | None


def sobol_indices(
    distribution: Prior | Posterior,
    quantity: Callable[[Tensor], Tensor],
    *,
    directions: int = 8,
    samples: int = 1024,
    generator: torch.Generator,
) -> SobolIndices:
    """Sobol indices of a quantity with respect to independent directions of the unknown.

    Entries of a field are correlated, and Sobol indices need independent inputs. A Gaussian field has them: the
    amplitudes of its principal directions (Karhunen-Loeve modes), m = mean + sum_k s_k u_k xi_k. The leading
    `directions` are inputs of their own, all others together are one more, so that nothing is left out. Where the
    unknown is another function of standard normal variables, m = W(xi), the inputs are the entries of xi.

    Indices under the prior tell what a quantity depends on; under the posterior, which of what is still unknown
    makes it uncertain: the direction to measure next.

    Args:
        distribution: A prior that is a map of standard normal variables, or a Gaussian posterior with a root, or a
            monotone transform of one.
        quantity: `(n, *space.shape)` -> `(n,)`, for example a functional of a solve.
        directions: Number of single inputs.
        samples: Size of each of the two base samples, a power of 2; there are samples * (groups + 2) evaluations.
        generator: Randomness.

    Raises:
        ConfigError: If a number is not positive, or `samples` no power of 2.
        ShapeError: If `quantity` does not give one number per sample.
        UnsupportedProblemError: For another distribution.

    Source: Saltelli et al., Computer Physics Communications 181 (2010); estimators and bootstrap of SciPy.
    """
    if directions < 1 or samples < 16 or samples & (samples - 1):
        message = f"`directions` should be positive and `samples` a power of 2 from 16, got {directions}, {samples}."
        raise ConfigError(message)
    unknown, basis, modes = _independent(distribution, directions)
    size = len(basis)
    a, b = (torch.randn(samples, size, generator=generator, dtype=torch.float64) for _ in range(2))
    single = min(directions, size)
    groups = [slice(k, k + 1) for k in range(single)] + ([slice(single, size)] if size > single else [])

    def evaluate(amplitudes: Tensor) -> Tensor:
        with torch.no_grad():
            values = quantity(unknown(amplitudes @ basis.to(amplitudes)))
        if tuple(values.shape) != (samples,):
            message = f"`quantity` should give one number per sample, ({samples},), got {tuple(values.shape)}."
            raise ShapeError(message)
        return values.double().cpu()

    f_a, f_b, mixed = evaluate(a), evaluate(b), []
    for group in groups:
        exchanged = a.clone()
        exchanged[:, group] = b[:, group]
        mixed.append(evaluate(exchanged))
    everything = torch.cat([f_a, f_b])
    labels = tuple(f"direction {k + 1}" for k in range(single)) + (("rest",) if size > single else ())
    first, total, first_interval, total_interval = _indices(f_a, f_b, torch.stack(mixed), generator)
    mean, std = float(everything.mean()), float(everything.std())
    return SobolIndices(labels, first, total, first_interval, total_interval, mean, std, modes)


def _indices(
    f_a: Tensor, f_b: Tensor, mixed: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    outputs = {"f_A": f_a.numpy()[None], "f_B": f_b.numpy()[None], "f_AB": mixed.numpy()[:, None]}
    result = stats.sobol_indices(func=outputs, n=len(f_a), rng=np.random.default_rng(seed))
    bootstrap = result.bootstrap(confidence_level=0.9, n_resamples=_RESAMPLES)
    parts = []
    for name in ("first_order", "total_order"):
        interval = getattr(bootstrap, name).confidence_interval
        parts.append((getattr(result, name), np.stack([interval.low, interval.high], -1)))
    (first, first_interval), (total, total_interval) = (
        (torch.as_tensor(value).flatten(), torch.as_tensor(ends).reshape(-1, 2)) for value, ends in parts
    )
    return first, total, first_interval, total_interval


def _independent(
    distribution: Prior | Posterior, directions: int
) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor | None]:
    """Map of flat white variables to m, orthonormal rows of white directions (leading first), and their fields."""
    gaussian = distribution.base if isinstance(distribution, TransformedPosterior) else distribution
    if isinstance(gaussian, GaussianPosterior | GaussianPrior) and gaussian.root is not None:
        root, mean = gaussian.root, gaussian.mean
        basis, modes = _principal(root, directions)

        def field(xi: Tensor) -> Tensor:
            z: Tensor = mean + root(xi.to(mean).reshape(len(xi), *root.domain.shape))
            m: Tensor = distribution.transform(z) if isinstance(distribution, TransformedPosterior) else z
            return m

        return field, basis, modes
    if isinstance(distribution, Prior) and Capability.WHITENED_PRIOR in distribution.capabilities:
        whitening = distribution.whitening
        size = whitening.domain.size
        identity = torch.eye(size, dtype=torch.float64)
        return (lambda xi: whitening(xi.reshape(len(xi), *whitening.domain.shape))), identity, None
    message = (
        "Sobol indices need independent inputs: a prior that is a map of standard normal variables, or a Gaussian "
        f"posterior with a root; got {type(distribution).__name__}."
    )
    raise UnsupportedProblemError(message)


def _principal(root: Any, directions: int) -> tuple[Tensor, Tensor]:
    """Right singular vectors of the root as rows, completed to an orthonormal basis, and the leading fields."""
    size = root.domain.size
    if size > _DENSE:
        message = f"principal directions are computed for at most {_DENSE} white coordinates, got {size}; coarsen m."
        raise UnsupportedProblemError(message)
    matrix = root.to_dense()
    _, _, v = torch.linalg.svd(matrix, full_matrices=True)
    leading = v[: min(directions, size)]
    # the sign is free: let the largest entry of each field be positive
    fields = leading @ matrix.T
    sign = torch.gather(fields, 1, fields.abs().argmax(1, keepdim=True)).sign()
    v = torch.cat([leading * sign, v[len(leading) :]])
    return v, (fields * sign).reshape(-1, *root.codomain.shape)
