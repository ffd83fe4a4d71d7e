"""Pyro's no-U-turn kernel on one chain, without its global state."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError, require

Potential = Callable[[Tensor], Tensor]
_SITE = "xi"


@dataclass(frozen=True)
class ChainRun:
    """What a stretch of one chain gave.

    Attributes:
        positions: `(draws, *event)`.
        step_size: Leapfrog step size at the end.
        inverse_mass: Diagonal of the inverse mass matrix at the end, `(event.numel(),)`.
        acceptance: Mean acceptance statistic.
        divergences: Transitions that ended in a divergence, warm-up not counted.
        gradients: Gradient evaluations.
        deepest: Depth of the deepest tree.
    """

    positions: Tensor
    step_size: float
    inverse_mass: Tensor
    acceptance: float
    divergences: int
    gradients: int
    deepest: int


class WarmedChains(Protocol):
    """State of several chains: per chain the position, step size and diagonal inverse mass matrix."""

    positions: Tensor
    step_sizes: Tensor
    inverse_mass: Tensor
    warmed: int
    gradients: int


def adapted(state: WarmedChains, run: ChainRun) -> dict[str, Any]:
    """The fields that change when the next chain, number `state.warmed`, has been warmed up."""
    chain = state.warmed
    positions, sizes, mass = state.positions.clone(), state.step_sizes.clone(), state.inverse_mass.clone()
    positions[chain], sizes[chain], mass[chain] = run.positions[-1], run.step_size, run.inverse_mass
    return {
        "positions": positions,
        "step_sizes": sizes,
        "inverse_mass": mass,
        "warmed": chain + 1,
        "gradients": state.gradients + run.gradients,
    }


class _Counted:
    """A potential on Pyro's dictionaries that counts its calls; infinite where the forward solver fails."""

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        self.calls = 0

    def __call__(self, z: dict[str, Tensor]) -> Tensor:
        self.calls += 1
        try:
            return self.potential(z[_SITE])
        except ConvergenceError:
            return 0 * z[_SITE].sum() + math.inf  # Pyro takes it for a divergence


def warm_up(potential: Potential, start: Tensor, seed: int, *, steps: int, target: float, depth: int) -> ChainRun:
    """Adapt step size and diagonal mass matrix from `start`; the last position is the only one returned."""
    counted = _Counted(potential)
    kernel = _kernel(counted, depth, target_accept_prob=target)
    return _run(kernel, counted, start, seed, steps, warm_up=True)


def transitions(
    potential: Potential,
    start: Tensor,
    seed: int,
    *,
    count: int,
    step_size: float,
    inverse_mass: Tensor,
    depth: int,
) -> ChainRun:
    """`count` transitions with fixed step size and mass matrix: a Markov chain that depends on nothing else."""
    counted = _Counted(potential)
    kernel = _kernel(counted, depth, step_size=step_size, adapt_step_size=False, adapt_mass_matrix=False)
    return _run(kernel, counted, start, seed, count, inverse_mass=inverse_mass)


def _kernel(potential: _Counted, depth: int, **settings: Any) -> Any:
    mcmc = require("pyro.infer.mcmc", extra="dev", purpose="the solver `nuts`")
    return mcmc.NUTS(potential_fn=potential, max_tree_depth=depth, **settings)


def _run(
    kernel: Any,
    counted: _Counted,
    start: Tensor,
    seed: int,
    steps: int,
    *,
    warm_up: bool = False,
    inverse_mass: Tensor | None = None,
) -> ChainRun:
    """Drive the kernel by hand: Pyro's own loop owns a progress bar and processes, we need neither."""
    devices = [start.device] if start.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():  # Pyro draws from the global generator
        torch.manual_seed(seed)
        kernel.initial_params = {_SITE: start.clone()}
        kernel.setup(steps if warm_up else 0)
        if inverse_mass is not None:
            kernel.mass_matrix_adapter.inverse_mass_matrix = {(_SITE,): inverse_mass}
        params, positions, deepest = {_SITE: start.clone()}, [], 0
        for _ in range(steps):
            before = counted.calls
            params = kernel.sample(params)
            deepest = max(deepest, math.ceil(math.log2(counted.calls - before + 1)))
            positions.append(params[_SITE].detach())
    return ChainRun(
        positions=torch.stack(positions[-1:] if warm_up else positions),
        step_size=float(kernel.step_size),
        inverse_mass=kernel.inverse_mass_matrix[(_SITE,)].detach().clone(),
        acceptance=float(kernel._mean_accept_prob),  # public only as text
        divergences=len(kernel.diagnostics()["divergences"]) if not warm_up else 0,
        gradients=counted.calls,
        deepest=deepest,
    )
