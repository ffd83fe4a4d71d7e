"""Evolution equations u_t = L u + N(u, t) on a spectral basis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.errors import ConfigError, ShapeError
from sciprob.spaces import Space


class SpectralEquation(nn.Module):
    """u_t = L u + N(u, t), with L diagonal in the basis.

    Subclasses implement `symbol` and, unless N = 0, `nonlinear`; both must be functions that torch
    can differentiate, of `p` too. `p` maps each name in `parameters` to a tensor with one leading
    batch axis, of the batch size or 1: the unknown ones as given, the others from `defaults`.

    Args:
        basis: Basis of one component of the state.
        state: Space of u: the grid of `basis`, or `(components, *grid.shape)`.
        parameters: Space of everything but the state that can be made unknown, by name.
        defaults: Value of each parameter, `(*space.shape)`; kept in float64 (buffers `default_<name>`).

    Attributes:
        affine: Names (with `"initial"`) in which the solution is jointly affine.

        optional: Parameters that are left out of `p` where they are known to be zero.

    Raises:
        ShapeError: If the state does not end in the grid's shape or a default does not fit its space.
        ConfigError: If parameters and defaults have different names.
    """

    affine: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        basis: SpectralBasis,
        *,
        state: Space | None = None,
        parameters: Mapping[str, Space] | None = None,
        defaults: Mapping[str, Tensor | float] | None = None,
    ) -> None:
        super().__init__()
        self.basis = basis
        self.state = basis.grid if state is None else state
        self.parameter_spaces = dict(parameters or {})
        shape = basis.grid.shape
        if self.state.shape[-len(shape) :] != shape or len(self.state.shape) - len(shape) > 1:
            message = f"the state should have the shape {shape} or (components, *{shape}), got {self.state.shape}."
            raise ShapeError(message)
        values = dict(defaults or {})
        if set(values) != set(self.parameter_spaces):
            expected = sorted(self.parameter_spaces)
            message = f"`defaults` should have a value for each of the parameters {expected}, got {sorted(values)}."
            raise ConfigError(message)
        for name, value in values.items():
            tensor = torch.as_tensor(value, dtype=torch.float64)
            if tuple(tensor.shape) != self.parameter_spaces[name].shape:
                message = (
                    f"`{name}` should have the shape {self.parameter_spaces[name].shape}, got {tuple(tensor.shape)}."
                )
                raise ShapeError(message)
            self.register_buffer(f"default_{name}", tensor)

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """L: real or complex, `(B or 1, [components or 1], *spectral_shape)`; `p` comes in float64."""
        raise NotImplementedError

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What `nonlinear` needs, computed once per solve from the parameters (a forcing in coefficients, say)."""
        return dict(p)

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor | None:
        """N(u, t) in coefficients, dealiased, `(B, [components], *spectral_shape)`; None (the default) is zero.

        `p` is what `prepare` returned, in the precision of `u_hat`.
        """
        return None

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse parameters that make no sense, with an error naming the sample."""

    @property
    def defaults(self) -> dict[str, Tensor]:
        """Known values of the parameters, float64."""
        return {name: self.get_buffer(f"default_{name}") for name in self.parameter_spaces}

    def broadcast(self, value: Tensor) -> Tensor:
        """A scalar per sample `(B or 1,)` shaped to multiply the state's coefficients, `(B or 1, 1, ..., 1)`."""
        return value.reshape(-1, *(1,) * len(self.state.shape))
