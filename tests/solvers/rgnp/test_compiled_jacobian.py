"""The compiled graph: the numbers of eager mode for other weights and samples, constants folded, static, cached."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from rgnp_cases import seeded, small_solver

import sciprob
from sciprob.problems.family import ProblemFamily
from sciprob.random import Streams
from sciprob.solvers.rgnp import NetworkShape
from sciprob.solvers.rgnp import compiled as module
from sciprob.solvers.rgnp.compiled import CompiledJacobian, compiled_jacobian
from sciprob.solvers.rgnp.jacobian import sample_jacobian
from sciprob.solvers.rgnp.network import PointNetwork
from sciprob.solvers.rgnp.residuals import weighted_residuals
from sciprob.solvers.rgnp.sampling import Collocation, sobol_collocation
from sciprob.solvers.rgnp.store import new_network

COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler for C++")


def case(family: ProblemFamily, seed: int, n: int = 6) -> tuple[PointNetwork, Collocation]:
    network = new_network(family, NetworkShape(4, 1, 1), seeded(seed))
    return network, sobol_collocation(family, n, seeded(seed + 100), torch.float64)


def eager(family: ProblemFamily, network: PointNetwork, batch: Collocation) -> tuple[torch.Tensor, torch.Tensor]:
    return sample_jacobian(network, lambda: weighted_residuals(family, network, batch))


@pytest.mark.parametrize("name", ["poisson-family", "cavity-family"])
def test_the_graph_depends_on_weights_and_samples_alone(name: str) -> None:
    """Traced once; right for weights and samples that it has not seen, so that nothing was baked in."""
    family = sciprob.load_family(name)
    compiled = CompiledJacobian(family, *case(family, 0), backend="eager")
    for seed in (1, 2):
        network, batch = case(family, seed)
        for found, expected in zip(compiled(network, batch), eager(family, network, batch), strict=True):
            assert found.shape == expected.shape
            assert not found.requires_grad
            assert torch.allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_constants_are_folded_and_nothing_mutates() -> None:
    family = sciprob.load_family("poisson-family")
    graph = CompiledJacobian(family, *case(family, 0), backend="eager").graph.graph
    calls = [node for node in graph.nodes if node.op == "call_function"]
    assert all(
        any(source.op != "get_attr" for source in node.all_input_nodes) for node in calls if node.all_input_nodes
    )
    schemas = [schema for node in calls if (schema := getattr(node.target, "_schema", None)) is not None]
    assert len(schemas) > 50
    assert not any(schema.is_mutable for schema in schemas)


def test_folding_keeps_what_a_graph_computes() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        ends = torch.tensor([1.0, 3.0]).double()
        return (x * (ends[1] - ends[0]).exp() + ends.sum()) * ends[0]

    traced = module.make_fx(torch.func.functionalize(function))(torch.zeros(2).double())
    before = len(traced.graph.nodes)
    module.fold_constants(traced)
    x = torch.tensor([0.3, -2.0], dtype=torch.float64)
    assert torch.allclose(traced(x), function(x), rtol=1e-15)
    assert len(traced.graph.nodes) < before


@COMPILER
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised on importing the compiler
def test_compiled_steps_are_those_of_eager_mode() -> None:
    """With the compiler that is there: a training in double precision, over the start of resampling."""
    family, streams, weights = sciprob.load_family("poisson-family"), [Streams(0), Streams(0)], []
    for wish, stream in zip(("never", "always"), streams, strict=True):
        solver = small_solver(steps=4, cases=0)
        solver = replace(
            solver,
            network=NetworkShape(6, 2, 1),
            gauss_newton=replace(solver.gauss_newton, points=24),
            precision="double",
            compiled=wish,
        )
        state = solver.init(family, stream)
        for _ in range(4):
            state, info = solver.step(family, state, stream)
        weights.append(state.weights)
        assert info["residual"] > 0
    assert torch.allclose(*weights, rtol=1e-9, atol=1e-11)
    assert len(module._cache) == 1  # compiled once, for all steps


def test_one_graph_per_family_shape_and_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(module, "CompiledJacobian", lambda *inputs: made.append(inputs) or object())
    monkeypatch.setattr(module, "_cache", module.OrderedDict())
    family = sciprob.load_family("poisson-family")
    again = sciprob.load_family("poisson-family")
    first = compiled_jacobian(family, *case(family, 0))
    assert compiled_jacobian(family, *case(family, 1)) is first
    assert compiled_jacobian(family, *case(family, 1, n=7)) is not first
    assert compiled_jacobian(again, *case(again, 1)) is not first
    assert len(made) == 3
    for n in range(8, 14):
        compiled_jacobian(family, *case(family, 1, n=n))
    assert len(module._cache) == module._KEPT


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_graphs_give_the_numbers_of_eager_mode() -> None:
    family = sciprob.load_family("burgers-family")
    network, batch = case(family, 0, n=32)
    network, batch = network.cuda(), Collocation(batch.points.cuda(), batch.z.cuda(), batch.w.cuda())
    compiled = CompiledJacobian(family, network, batch)
    for _ in range(3):
        for found, expected in zip(compiled(network, batch), eager(family, network, batch), strict=True):
            assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
