"""The posterior density of the kernels' parameters given the data, and coordinates in which it is about standard."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError
from sciprob.pde.functionals import Functionals
from sciprob.priors.kernels import StationaryKernel
from sciprob.priors.kernels.hyperpriors import KernelPrior
from sciprob.solvers.kronecker_gp.columns import Columns
from sciprob.solvers.kronecker_gp.conditioning import LARGEST_RANK, axis_factors, condition_factored
from sciprob.solvers.kronecker_gp.factored import FactoredConditional
from sciprob.solvers.kronecker_gp.hyperparameters import CUT, evidence_of_data
from sciprob.solvers.kronecker_gp.newton import LinearAlgebra

_STEP = 1e-3  # of finite differences of gradients, in units of a parameter
_FLATTEST = 0.25  # least curvature: a standard deviation of two units, about that of the priors


@dataclass(frozen=True, eq=False)
class KernelDensity:
    r"""log p(theta | y) = log p(y | theta) + log p(theta) + constant, theta the kernels' raw parameters, `(d,)`.

    For an equation without a source the evidence is that of the data given all rows that are zero (`evidence_of_data`):
    p(theta) is then what is believed of fields that obey the equation. Parameters with `requires_grad=False` keep their
    values.

    Args:
        algebra: How is conditioned.
        kernels: One per coordinate; they are not changed.
        functionals: All rows, without batch axes, with fixed standard deviations.
        priors: One per coordinate.
    """

    algebra: LinearAlgebra
    kernels: tuple[StationaryKernel, ...]
    functionals: Sequence[Functionals]
    priors: tuple[KernelPrior, ...]

    @property
    def origin(self) -> Tensor:
        """The free parameters of the kernels, in the order of axes and names, `(d,)`."""
        return torch.cat([p.detach().flatten() for _, p in _free(self.kernels)])

    @property
    def units(self) -> Tensor:
        """Natural steps of the parameters, `(d,)`: one for logarithms, the prior's std for frequencies."""
        return torch.cat([_units(prior, k) for prior, k in zip(self.priors, self.kernels, strict=True)])

    def at(self, theta: Tensor) -> tuple[StationaryKernel, ...]:
        """Kernels with these parameters."""
        kernels = copy.deepcopy(self.kernels)
        free = _free(kernels)
        with torch.no_grad():
            for (_, p), values in zip(free, theta.split([p.numel() for _, p in free]), strict=True):
                p.copy_(values.reshape(p.shape))
        return kernels

    def value_and_slope(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Log density, up to a constant, and its gradient `(d,)`.

        Raises:
            ConvergenceError: Where the kernels are too close to singular, or their rank is above `LARGEST_RANK`:
                lengths far below the interval, where a trajectory with too long a step ends.
        """
        kernels = self.at(theta)
        parameters = [p for _, p in _free(kernels)]
        try:
            if self._rank(kernels) > LARGEST_RANK:
                raise ConvergenceError(_TOO_LARGE)
            with torch.enable_grad():
                value = evidence_of_data(self.algebra, kernels, self.functionals)
                for prior, kernel in zip(self.priors, kernels, strict=True):
                    value = value + prior.log_prior(kernel)
                slopes = torch.autograd.grad(value, parameters)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise ConvergenceError(_SINGULAR) from error
        slope = torch.cat([s.flatten() for s in slopes])
        if not bool(torch.isfinite(value) & torch.isfinite(slope).all()):
            raise ConvergenceError(_SINGULAR)
        return value.detach(), slope

    def _rank(self, kernels: Sequence[StationaryKernel]) -> int:
        a = self.algebra
        with torch.no_grad():
            factors = axis_factors(kernels, self.functionals, max(a.cut, CUT), a.null_space)
        return Columns.of(factors, max(a.cut, CUT), a.null_std).count

    def potential(self, theta: Tensor) -> Tensor:
        """Minus the log density, differentiable once."""
        value, slope = self.value_and_slope(theta.detach())
        potential: Tensor = -value - (slope * (theta - theta.detach())).sum()
        return potential

    def whitening(self) -> Tensor:
        r"""A root `(d, d)` such that theta = origin + root z has about a standard normal z.

        With H minus the second derivatives at the origin in natural units, by central differences (2 d gradients), it
        is U |H|^{-1/2}: magnitudes of eigenvalues, because the origin need not be the mode.
        """
        units, origin = self.units, self.origin
        rows = []
        for i, unit in enumerate(units):
            move = torch.zeros_like(origin)
            move[i] = _STEP * unit
            change = self.value_and_slope(origin + move)[1] - self.value_and_slope(origin - move)[1]
            rows.append(-change * units / (2 * _STEP))
        hessian = torch.stack(rows)
        curvature, directions = torch.linalg.eigh((hessian + hessian.mT) / 2)
        root: Tensor = units[:, None] * directions / curvature.abs().clamp_min(_FLATTEST).sqrt()
        return root

    def process(self, theta: Tensor) -> FactoredConditional:
        """The Gaussian process p(u | y, theta)."""
        a = self.algebra
        return condition_factored(self.at(theta), self.functionals, "auto", a.cut, a.null_space, a.null_std)


_TOO_LARGE = "the rank of the kernels at these parameters is too large to factorise."
_SINGULAR = "the evidence is not finite at these parameters of the kernels; they are too close to singular."


def _free(kernels: Sequence[StationaryKernel]) -> list[tuple[str, Tensor]]:
    return [(name, p) for kernel in kernels for name, p in kernel.named_parameters() if p.requires_grad]


def _units(prior: KernelPrior, kernel: StationaryKernel) -> Tensor:
    parts = [
        p.new_full((p.numel(),), prior.frequency_std if name == "frequencies" else 1.0) for name, p in _free([kernel])
    ]
    return torch.cat([p.detach() for p in parts]) if parts else torch.zeros(0, dtype=torch.float64)
