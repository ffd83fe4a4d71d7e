"""Forward operators and posteriors as UM-Bridge models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import umbridge
from torch import Tensor

from sciprob.interop.log_density import LogDensity
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.problems.problem import Problem

Vectors = Sequence[Sequence[float]]
Config = Mapping[str, Any]


def models_of(problem: Problem) -> list[umbridge.Model]:
    """`forward` and, with data and a whitened prior, `posterior`."""
    models: list[umbridge.Model] = [OperatorModel(problem.operator)]
    if problem.data is not None and Capability.WHITENED_PRIOR in problem.prior.capabilities:
        models.append(PosteriorModel(problem))
    return models


class OperatorModel(umbridge.Model):  # type: ignore[misc]
    """y = G(m) on flattened vectors, with the derivative actions that G has.

    Args:
        operator: G.
    """

    def __init__(self, operator: ForwardOperator) -> None:
        super().__init__("forward")
        self.operator = operator

    def get_input_sizes(self, config: Config) -> list[int]:
        """One vector, the flattened m."""
        return [self.operator.domain.size]

    def get_output_sizes(self, config: Config) -> list[int]:
        """One vector, the flattened y."""
        return [self.operator.codomain.size]

    def __call__(self, parameters: Vectors, config: Config) -> list[list[float]]:
        """G(m)."""
        with torch.no_grad():
            return [_listed(self.operator(_tensor(parameters[0], self.operator.domain.shape)))]

    def gradient(self, out_wrt: int, in_wrt: int, parameters: Vectors, sens: Sequence[float], config: Config) -> Any:
        """J(m)^T sens."""
        m, v = self._arguments(parameters, sens, self.operator.codomain.shape)
        return _listed(self.operator.vjp(m, v)[1])

    def apply_jacobian(
        self, out_wrt: int, in_wrt: int, parameters: Vectors, vec: Sequence[float], config: Config
    ) -> Any:
        """J(m) vec."""
        m, dm = self._arguments(parameters, vec, self.operator.domain.shape)
        return _listed(self.operator.jvp(m, dm)[1])

    def supports_evaluate(self) -> bool:
        """Always."""
        return True

    def supports_gradient(self) -> bool:
        """If the operator has an adjoint."""
        return Capability.VJP in self.operator.capabilities

    def supports_apply_jacobian(self) -> bool:
        """If the operator has a tangent."""
        return Capability.JVP in self.operator.capabilities

    def _arguments(self, parameters: Vectors, vector: Sequence[float], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return _tensor(parameters[0], self.operator.domain.shape), _tensor(vector, shape)


class PosteriorModel(umbridge.Model):  # type: ignore[misc]
    """log p(xi | y) of a problem in white coordinates (see `LogDensity`), with its gradient.

    Args:
        problem: A problem with data and a whitened prior.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__("posterior")
        self.density = LogDensity(problem)
        self._smooth = Capability.VJP in problem.operator.capabilities

    def get_input_sizes(self, config: Config) -> list[int]:
        """One vector, xi."""
        return [self.density.dimension]

    def get_output_sizes(self, config: Config) -> list[int]:
        """One number."""
        return [1]

    def __call__(self, parameters: Vectors, config: Config) -> list[list[float]]:
        """The log density."""
        return [[self.density(parameters[0])]]

    def gradient(self, out_wrt: int, in_wrt: int, parameters: Vectors, sens: Sequence[float], config: Config) -> Any:
        """The gradient times `sens`."""
        gradient = self.density.value_and_gradient(parameters[0])[1]
        return (sens[0] * gradient).tolist()

    def apply_jacobian(
        self, out_wrt: int, in_wrt: int, parameters: Vectors, vec: Sequence[float], config: Config
    ) -> Any:
        """Derivative along `vec`."""
        gradient = self.density.value_and_gradient(parameters[0])[1]
        return [float(gradient @ np.asarray(vec))]

    def supports_evaluate(self) -> bool:
        """Always."""
        return True

    def supports_gradient(self) -> bool:
        """If the operator has an adjoint."""
        return self._smooth

    def supports_apply_jacobian(self) -> bool:
        """If the operator has an adjoint."""
        return self._smooth


def _tensor(values: Sequence[float], shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def _listed(x: Tensor) -> list[float]:
    return [float(v) for v in x.detach().flatten()]
