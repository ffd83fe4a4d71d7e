"""Operators with constant coefficients in the modes of all axes, where they are diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from sciprob.pde.functionals import Functionals
from sciprob.solvers.kronecker_gp.axis_modes import AxisModes
from sciprob.solvers.kronecker_gp.columns import contract, outer


@dataclass(frozen=True, eq=False)
class ModalOperator:
    """sum_a c_a D^a with averaged coefficients, and the Gaussian that its modes have given noisy data.

    Attributes:
        modes: Modes of the axes.
        symbol: d, what each mode is multiplied with, complex, `(m_1, ..., m_d)`.
        prior: Prior variances of the modes.
        noise: Variances of the data in the modes.
        damping: Noise over prior variance in the orthonormal functions.
    """

    modes: tuple[AxisModes, ...]
    symbol: Tensor
    prior: Tensor
    noise: Tensor
    damping: Tensor

    @classmethod
    def of(cls, equation: Functionals, modes: tuple[AxisModes, ...]) -> ModalOperator:
        """The operator of an equation; of its derivatives u, u_xx, u_yy, ... count."""
        square = equation.std.square().mean()
        prior, noise = (_products([getattr(m, name) for m in modes]) for name in ("mode_prior", "mode_noise"))
        damping = square / _products([m.prior for m in modes])
        return cls(modes, _symbol(equation, modes), prior, square * noise, damping)

    @property
    def total(self) -> Tensor:
        """Prior variances of the data in the modes."""
        return self.prior * self.symbol.abs().square() + self.noise

    @property
    def gain(self) -> Tensor:
        """Posterior mean of a mode per unit of data, complex."""
        return self.prior * self.symbol.conj() / self.total

    @property
    def spread(self) -> Tensor:
        """Posterior standard deviations of the modes."""
        return (self.prior * self.noise / self.total).sqrt()

    def to_modes(self, b: Tensor) -> Tensor:
        """Coefficients of the orthonormal functions `(B, m_1, ..., m_d)` as modes, complex."""
        return contract(b.to(self.symbol), [m.inverse for m in self.modes])

    def from_modes(self, y: Tensor) -> Tensor:
        """The reverse, real."""
        return contract(y, [m.vectors for m in self.modes]).real

    def precondition(self, z: Tensor) -> Tensor:
        """X (|d|^2 + noise / prior)^{-1/2} X^{-1} z."""
        return self.from_modes(self._gauge * self.to_modes(z))

    def precondition_transpose(self, z: Tensor) -> Tensor:
        """The transpose of `precondition`."""
        inner = self._gauge * contract(z.to(self.symbol), [m.vectors.mT for m in self.modes])
        return contract(inner, [m.inverse.mT for m in self.modes]).real

    @property
    def _gauge(self) -> Tensor:
        return (self.symbol.abs().square() + self.noise / self.prior).rsqrt()


def _symbol(equation: Functionals, modes: Sequence[AxisModes]) -> Tensor:
    axes = outer([m.eigenvalues for m in modes])
    symbol = axes[0].new_zeros(())
    for name, coefficient in equation.terms.items():
        if name == "":
            symbol = symbol + coefficient.mean()
        elif len(name) == 2 and name[0] == name[1]:
            symbol = symbol + coefficient.mean() * axes[equation.coordinates.index(name[0])]
    return symbol.expand(*(len(m.eigenvalues) for m in modes))


def _products(vectors: list[Tensor]) -> Tensor:
    return reduce(torch.multiply, outer(vectors))
