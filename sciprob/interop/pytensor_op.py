"""A log density as a PyTensor operation; importing this module imports PyTensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from sciprob.interop.log_density import LogDensity


class LogLikelihoodOp(Op):  # type: ignore[misc]
    """xi `(n,)` -> log p(y | W(xi)) and its gradient, as two outputs of one forward and one adjoint solve.

    PyTensor merges equal calls, so that value and gradient of a density cost one call. The gradient itself cannot be
    differentiated.

    Args:
        density: Of the problem.
    """

    def __init__(self, density: LogDensity) -> None:
        self.density = density

    def make_node(self, xi: Any) -> Apply:
        """See `Op`."""
        return Apply(self, [pt.as_tensor_variable(xi)], [pt.dscalar(), pt.dvector()])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Where the density is not finite the value is -inf and the gradient zero, which samplers reject."""
        value, gradient = self.density.likelihood_and_gradient(inputs[0])
        usable = np.isfinite(value) and np.isfinite(gradient).all()
        outputs[0][0] = np.asarray(value if usable else -np.inf)
        outputs[1][0] = gradient if usable else np.zeros_like(gradient)

    def pullback(self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """The gradient times the cotangent of the value."""
        if not isinstance(cotangents[1].type, DisconnectedType):
            return [grad_not_implemented(self, 0, inputs[0], "sciprob gives no second derivatives here")]
        return [cotangents[0] * outputs[1]]

    def infer_shape(self, fgraph: Any, node: Apply, shapes: Sequence[Any]) -> list[Any]:
        """A number, and the shape of xi."""
        return [(), shapes[0]]
