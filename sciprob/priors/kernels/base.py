"""One-dimensional stationary kernels with all the derivatives they have, as GPyTorch kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gpytorch.kernels import Kernel
from torch import Tensor, nn

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError

SMOOTH = 64  # orders a kernel with all derivatives offers; the recurrences stay finite far beyond any PDE's need


class StationaryKernel(Kernel):  # type: ignore[misc]
    r"""A covariance k(tau) along one coordinate, tau = x - x', and its derivatives k^(n)(tau).

    A process with this covariance has cov(d^p u(x), d^q u(x')) = (-1)^q k^(p+q)(x - x'), which is
    `sciprob.priors.kernels.covariance`. The kernel is also a complete GPyTorch kernel on inputs
    with one column (`ExactGP`, `ScaleKernel`, `ProductKernel` of factors with `active_dims`).

    Parameters have shape `(*batch, components)` and enter through their logarithms where they are
    positive. They are differentiable to any order. In the inputs of the GPyTorch kernel the first
    gradient is exact everywhere; for higher ones use `derivatives`, because automatic
    differentiation of abs(tau) is wrong at zero.

    dtype and device: results have the dtype of the lags; parameters are converted, and must be on the same device.
    """

    max_order: int = SMOOTH
    """Largest n for which k^(n)(0) exists."""

    def __init__(self, batch_shape: torch.Size, **gpytorch_settings: Any) -> None:
        super().__init__(batch_shape=batch_shape, **gpytorch_settings)

    def derivatives(self, lags: Tensor, order: int) -> Tensor:
        """k, k', ..., k^(order) at any lags.

        Args:
            lags: tau, any shape, in the unit of the coordinate.
            order: Highest derivative, from 0 to `max_order`.

        Returns:
            `(order + 1, *batch, *lags.shape)`; unit of the n-th is variance / coordinate^n.

        Raises:
            UnsupportedProblemError: If the kernel has no derivative of this order at zero.
        """
        return self.evaluate(lags, range(order + 1))

    def evaluate(self, lags: Tensor, orders: Sequence[int], event: int | None = None) -> Tensor:
        """The derivatives of the given orders, stacked: `(len(orders), *batch, *lags.shape)`.

        The last `event` axes of `lags` (all of them by default) are the points; axes before them
        broadcast with the kernel's batch axes.

        Raises:
            UnsupportedProblemError: If the kernel has no derivative of one of the orders at zero.
        """
        self._check_orders(orders)
        event = lags.ndim if event is None else event
        terms = self._terms(lags.unsqueeze(-1 - event), orders, event)
        return torch.stack([term.sum(-1 - event) for term in terms])

    def _terms(self, lags: Tensor, orders: Sequence[int], event: int) -> list[Tensor]:
        """Per order the derivatives of all components, `(*batch, components, *event)`; `lags` has 1 component."""
        raise NotImplementedError

    def forward(
        self, x1: Tensor, x2: Tensor, diag: bool = False, last_dim_is_batch: bool = False, **settings: Any
    ) -> Tensor:
        """k(x1 - x2) `(*batch, n, m)`, or its diagonal `(*batch, n)`.

        With `last_dim_is_batch`, as `GridKernel` and `GridInterpolationKernel` call it, the kernel of every
        column, `(*batch, columns, n, m)`.

        Raises:
            ShapeError: If the inputs have more than one column otherwise.
        """
        if x1.shape[-1] != 1 and not last_dim_is_batch:
            message = (
                f"a one-dimensional kernel needs inputs with one column, got {x1.shape[-1]}; "
                "choose one by `active_dims` and multiply kernels of several columns with `ProductKernel`."
            )
            raise ShapeError(message)
        first, second = x1.mT, x2.mT  # (*batch, columns, n)
        lags = first - second if diag else first[..., :, None] - second[..., None, :]
        values = self.evaluate(lags, (0,), event=2 if diag else 3)[0]
        return values if last_dim_is_batch else values.squeeze(-2 if diag else -3)

    @property
    def is_stationary(self) -> bool:
        """Always."""
        return True

    def _check_orders(self, orders: Sequence[int]) -> None:
        wrong = [n for n in orders if not 0 <= n <= self.max_order]
        if wrong:
            message = (
                f"{type(self).__name__} has derivatives of orders 0 to {self.max_order} at zero lag, "
                f"got {wrong[-1]}; take a smoother kernel for this operator."
            )
            raise UnsupportedProblemError(message)


def column(parameter: Tensor, lags: Tensor, event: int) -> Tensor:
    """A parameter `(*batch, components)` as `(*batch, components, 1, ..., 1)`, to meet lags with `event` last axes."""
    return parameter.to(lags.dtype)[(..., *[None] * event)]


def components(**values: Any) -> tuple[Tensor, ...]:
    """Numbers, lists or tensors as floating tensors `(*batch, components)` of one shape; float64 for plain numbers.

    Raises:
        ConfigError: If the shapes do not agree or a value is not finite.
    """
    given = [value.dtype for value in values.values() if isinstance(value, Tensor)]
    dtype = next((dtype for dtype in given if dtype.is_floating_point), torch.float64)
    tensors = [torch.atleast_1d(torch.as_tensor(value, dtype=dtype).detach()) for value in values.values()]
    try:
        tensors = list(torch.broadcast_tensors(*tensors))
    except RuntimeError as error:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in zip(values, tensors, strict=True))
        message = f"kernel parameters should agree in shape (*batch, components), got {shapes}."
        raise ConfigError(message) from error
    for name, tensor in zip(values, tensors, strict=True):
        if not bool(torch.isfinite(tensor).all()):
            message = f"`{name}` of a kernel should be finite, got {tensor.flatten().tolist()[:6]}."
            raise ConfigError(message)
    return tuple(tensors)


def logarithm(name: str, values: Tensor) -> nn.Parameter:
    """The logarithm of positive values as a parameter.

    Raises:
        ConfigError: If a value is not positive.
    """
    if not bool((values > 0).all()):
        message = f"`{name}` of a kernel should be positive, got {float(values.min()):g}; leave the component out."
        raise ConfigError(message)
    return nn.Parameter(values.log())
