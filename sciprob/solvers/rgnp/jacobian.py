"""Derivatives of pointwise functions of a network in its weights, sample by sample.

For a linear layer y = W h + b of a network that treats every point by itself, the derivative of the
i-th residual is dr_i/dW = sum_a g_i^a (h_i^a)^T, where a runs over the streams (value and derivatives)
of a jet and g^a = d(sum_i r_i)/dy^a. So one ordinary backward pass and one batched product of small
matrices per layer give all rows, without a vmap over weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sciprob.errors import UnsupportedProblemError
from sciprob.pde.jet import Jet

Streams = Mapping[str, Tensor]


def sample_jacobian(network: nn.Module, function: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Values and derivatives of a pointwise function in the weights of a network.

    Args:
        network: A module whose parameters are those of `nn.Linear` layers, each used once per call.
        function: Calls the network on n samples and returns `(n, k)`; row i must depend on sample i only.

    Returns:
        Values `(n, k)` and derivatives `(n, k, P)`, columns in the order of `network.parameters()`,
        detached, in the dtype and on the device of the weights.

    Raises:
        UnsupportedProblemError: If a parameter belongs to no linear layer, or a layer is used twice.
    """
    layers = linear_layers(network)
    with torch.enable_grad(), _recorded(layers) as tape:
        values = function()
        totals = values.sum(0).unbind()
    n, k = values.shape
    used = [(layer, *tape[layer]) for layer in layers if layer in tape]
    outputs = [stream for _, _, streams in used for stream in streams.values()]
    jacobian = values.new_zeros(n, k, sum(p.numel() for p in network.parameters()))
    for column in range(k if outputs and n else 0):
        grads = iter(torch.autograd.grad(totals[column], outputs, retain_graph=column < k - 1, allow_unused=True))
        for layer, inputs, streams in used:
            found = {name: next(grads) for name in streams}
            _write(jacobian[:, column], layers[layer], layer, inputs, found)
    return values.detach(), jacobian


def linear_layers(network: nn.Module) -> dict[nn.Linear, int]:
    """Linear layers in the order of their parameters, with the column of their first weight.

    Raises:
        UnsupportedProblemError: If a parameter belongs to no linear layer.
    """
    layers: dict[nn.Linear, int] = {}
    column = 0
    for module in network.modules():
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if own and not isinstance(module, nn.Linear):
            message = f"per-sample Jacobians need all weights in linear layers, {type(module).__name__} has its own."
            raise UnsupportedProblemError(message)
        if isinstance(module, nn.Linear):
            layers[module] = column
        column += own
    return layers


@contextmanager
def _recorded(layers: dict[nn.Linear, int]) -> Iterator[dict[nn.Linear, tuple[Streams, Streams]]]:
    """Input and output streams of each layer while the block runs."""
    tape: dict[nn.Linear, tuple[Streams, Streams]] = {}

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        assert isinstance(module, nn.Linear)
        if module in tape:
            message = "per-sample Jacobians need every linear layer to be used once; this network reuses one."
            raise UnsupportedProblemError(message)
        tape[module] = (_streams(inputs[0]), _streams(output))

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield tape
    finally:
        for handle in handles:
            handle.remove()


def _streams(x: Tensor | Jet) -> Streams:
    return dict(x.entries) if isinstance(x, Jet) else {"": x}


def _write(rows: Tensor, column: int, layer: nn.Linear, inputs: Streams, grads: Mapping[str, Tensor | None]) -> None:
    """Put sum_a g^a (h^a)^T and the bias' derivative into their columns of `rows (n, P)`."""
    n, size = len(rows), layer.weight.numel()
    present = [name for name, grad in grads.items() if grad is not None and name in inputs]
    if present:
        left = torch.stack([_flat(grads[name], n) for name in present], dim=-1)
        right = torch.stack([_flat(inputs[name], n) for name in present], dim=-2)
        rows[:, column : column + size] = torch.bmm(left, right.detach()).reshape(n, size)
    value = grads.get("")
    if layer.bias is not None and value is not None:
        rows[:, column + size : column + size + layer.out_features] = _flat(value, n)


def _flat(x: Tensor | None, n: int) -> Tensor:
    """One row per sample; streams that do not vary over the samples are repeated."""
    assert x is not None
    return x.reshape(-1, x.shape[-1]).expand(n, x.shape[-1])
