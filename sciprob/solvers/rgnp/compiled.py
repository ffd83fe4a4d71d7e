"""Residuals and their per-sample derivatives as one compiled graph of static shapes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.jacobian import sample_jacobian
from sciprob.solvers.rgnp.network import PointNetwork
from sciprob.solvers.rgnp.residuals import weighted_residuals
from sciprob.solvers.rgnp.sampling import Collocation

_KEPT = 4  # compiled functions
_cache: OrderedDict[tuple[Any, ...], tuple[ProblemFamily, CompiledJacobian]] = OrderedDict()


class CompiledJacobian:
    """`sample_jacobian` of a family's weighted residuals for a fixed number of samples.

    Forward pass, jets and backward pass are traced into one graph of tensor operations, of which nothing depends on
    weights or samples; so hooks, jets and autograd cost no Python any more. On a GPU the graph is compiled with CUDA
    graphs. Weights and samples are inputs. dtype, device and shapes are those of the first network and batch.

    Args:
        family: Equation and boxes.
        network: Any network of the shape.
        batch: Any samples, as many as there will be.
        backend: Of `torch.compile`.

    Needs a compiler for C++ on the CPU, Triton on a GPU; without, the first call raises an error of `torch.compile`.
    """

    def __init__(
        self, family: ProblemFamily, network: PointNetwork, batch: Collocation, backend: str = "inductor"
    ) -> None:
        inputs = (_weights(network), batch.points, batch.z, batch.w)
        derived = make_fx(_function(family, network))(*inputs)  # autograd runs while this is traced, and is gone then
        traced = make_fx(functionalize(derived))(*inputs)
        fold_constants(traced)
        mode = "reduce-overhead" if batch.points.is_cuda and backend == "inductor" else None
        self.on_gpu = batch.points.is_cuda
        self.graph = traced
        self.compiled = torch.compile(traced, backend=backend, mode=mode, dynamic=False, fullgraph=True)

    def __call__(self, network: PointNetwork, batch: Collocation) -> tuple[Tensor, Tensor]:
        """Values `(n, equations)` and derivatives `(n, equations, P)`, as of `sample_jacobian`."""
        if self.on_gpu:
            torch.compiler.cudagraph_mark_step_begin()  # what the last call returned is not used any more
        with torch.no_grad():
            values, jacobian = self.compiled(_weights(network), batch.points, batch.z, batch.w)
        return values, jacobian


def compiled_jacobian(family: ProblemFamily, network: PointNetwork, batch: Collocation) -> CompiledJacobian:
    """The compiled function of a family, a shape of the network and a number of samples: made once, then kept."""
    shapes = tuple(tuple(parameter.shape) for parameter in network.parameters())
    key = (id(family), shapes, type(network.activation), len(batch), batch.points.dtype, batch.points.device)
    if key in _cache and _cache[key][0] is family:
        _cache.move_to_end(key)
        return _cache[key][1]
    made = CompiledJacobian(family, network, batch)
    _cache[key] = family, made
    while len(_cache) > _KEPT:
        _cache.popitem(last=False)
    return made


def fold_constants(module: fx.GraphModule) -> None:
    """Compute once what depends on no input, in place: ends of boxes and such, which else are copied to the device.

    The graph must be free of mutations.
    """
    values: dict[fx.Node, Any] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            values[node] = getattr(module, str(node.target))
        elif node.op == "call_function" and all(source in values for source in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
    for node in [n for n, value in values.items() if n.op == "call_function" and isinstance(value, Tensor)]:
        if any(user not in values for user in node.users):
            name = f"constant_{node.name}"
            module.register_buffer(name, values[node], persistent=False)
            with module.graph.inserting_before(node):
                node.replace_all_uses_with(module.graph.get_attr(name), delete_user_cb=lambda user: user not in values)
    module.graph.eliminate_dead_code()
    module.recompile()


class _Rows(nn.Module):
    """`sample_jacobian` as a module, so that its weights can be given."""

    def __init__(self, family: ProblemFamily, network: PointNetwork) -> None:
        super().__init__()
        self.family, self.network = family, network

    def forward(self, batch: Collocation) -> tuple[Tensor, Tensor]:
        return sample_jacobian(self.network, lambda: weighted_residuals(self.family, self.network, batch))


def _function(family: ProblemFamily, network: PointNetwork) -> Callable[..., tuple[Tensor, Tensor]]:
    rows = _Rows(family, network)
    names = [name for name, _ in rows.named_parameters()]

    def function(weights: Sequence[Tensor], points: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        given = {name: weight.detach().requires_grad_() for name, weight in zip(names, weights, strict=True)}
        found: tuple[Tensor, Tensor] = functional_call(rows, given, (Collocation(points, z, w),))
        return found

    return function


def _weights(network: PointNetwork) -> list[Tensor]:
    return [parameter.detach() for parameter in network.parameters()]
