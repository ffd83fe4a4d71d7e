"""The log posterior density as a function of numpy arrays, for samplers of other packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.problems.problem import Problem

Floats = NDArray[np.float64]


class LogDensity:
    """log p(xi | y) up to a constant, and its gradient, in float64 numpy.

    xi are the white coordinates of the prior, m = W(xi) with xi standard normal, so

        log p(xi | y) = log p(y | W(xi)) - |xi|^2 / 2 + const,

    unconstrained, of unit prior scale, and well-conditioned whatever the mesh. Rows are flattened xi; many
    rows are one batch of solves. Fit for `emcee.EnsembleSampler(..., vectorize=True)` and for
    any sampler or optimiser that takes values and gradients in numpy.

    Args:
        problem: A problem with data whose prior is whitened.

    Raises:
        UnsupportedProblemError: If the prior has no whitening.
        DataError: If the problem has no data.
    """

    def __init__(self, problem: Problem) -> None:
        if Capability.WHITENED_PRIOR not in problem.prior.capabilities:
            message = f"a log density in white coordinates needs a whitened prior, got {type(problem.prior).__name__}."
            raise UnsupportedProblemError(message)
        self.problem = problem
        self.whitening = problem.prior.whitening
        self._data = problem.observed

    @property
    def dimension(self) -> int:
        """Number of entries of xi."""
        return int(self.whitening.domain.size)

    def __call__(self, xi: Any) -> Any:
        """Log density: a number for `xi (n,)`, `(k,)` for `xi (k, n)`.

        Where the solver or the density is not finite, it is -inf, which samplers reject.
        """
        with torch.no_grad():
            values = self._log_density(self._tensor(xi)).cpu().numpy()
        values = np.where(np.isfinite(values), values, -np.inf)
        return float(values) if values.ndim == 0 else values

    def value_and_gradient(self, xi: Any) -> tuple[Any, Floats]:
        """Log density and its gradient, shaped as `xi`; one forward and one adjoint solve per row."""
        return self._differentiated(self._log_density, xi)

    def likelihood_and_gradient(self, xi: Any) -> tuple[Any, Floats]:
        """The same of the log likelihood alone, for packages that bring the prior N(0, I) of xi themselves."""
        return self._differentiated(self._log_likelihood, xi)

    def start(self, count: int, generator: torch.Generator) -> Floats:
        """Draws of the prior `(count, n)` to start chains from."""
        draws: Floats = torch.randn(count, self.dimension, dtype=torch.float64, generator=generator).numpy()
        return draws

    def unknown(self, xi: Any) -> Tensor:
        """The unknown m at `xi (*batch, n)`, `(*batch, *space.shape)`."""
        with torch.no_grad():
            m: Tensor = self.whitening(self._shaped(self._tensor(xi)))
        return m

    def _log_density(self, x: Tensor) -> Tensor:
        return self._log_likelihood(x) - x.square().sum(-1) / 2

    def _log_likelihood(self, x: Tensor) -> Tensor:
        return self.problem.likelihood.log_prob(self.whitening(self._shaped(x)), self._data)

    def _differentiated(self, function: Callable[[Tensor], Tensor], xi: Any) -> tuple[Any, Floats]:
        with torch.enable_grad():
            x = self._tensor(xi).requires_grad_()
            values = function(x)
            (gradient,) = torch.autograd.grad(values.sum(), x)
        array = values.detach().cpu().numpy()
        return (float(array) if array.ndim == 0 else array), gradient.cpu().numpy()

    def _tensor(self, xi: Any) -> Tensor:
        x = torch.as_tensor(np.array(xi, dtype=np.float64), device=self._data.device)
        if x.ndim == 0 or x.shape[-1] != self.dimension:
            message = f"`xi` should end in {self.dimension} white coordinates, got {tuple(x.shape)}."
            raise ShapeError(message)
        return x

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], *self.whitening.domain.shape)
