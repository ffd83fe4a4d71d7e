"""Evolution of a field in time as a forward operator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.evolution_autograd import differentiable_march
from sciprob.engines.spectral.march import March, segments
from sciprob.engines.spectral.resolution import warn_if_coarse
from sciprob.engines.spectral.schemes import scheme_named
from sciprob.engines.spectral.step_size import choose_step
from sciprob.errors import ConfigError
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.spaces import ProductSpace, Space


class Evolution(ForwardOperator):
    """Unknowns of an evolution equation -> states at given times, `(*batch, n_times, *state.shape)`.

    All samples of a batch march together with the same fixed steps; dtype and device follow the
    input, coefficients of the scheme are formed in float64. Derivatives are those of the discrete
    solve, exact to round-off: reverse mode stores about 2 sqrt(n) of n states and recomputes the
    rest. First derivatives only. Without a nonlinear term the exact exponential is used.

    Args:
        equation: The equation, with defaults for what is known.
        times: Output times, increasing, from 0 (the initial state) on.
        unknown: Names from `"initial"` and `equation.parameter_spaces`. One name: the domain is its space;
            several: a `ProductSpace`.
        step: Largest time step; None chooses it by step doubling so that the relative error of a run
            with the defaults from `initial` is below `tolerance`.
        tolerance: See `step`.
        scheme: `"etdrk4"`, `"etdrk2"` or `"imex"`.
        initial: Initial state `(*state.shape)`, needed unless it is unknown and `step` is given.
        checkpoint: Store states for reverse mode at about 2 sqrt(n) times; False stores all of them.

    Warns:
        SciprobWarning: If the step is chosen and the grid does not resolve that run; says a size that would do.

    Raises:
        ConfigError: If times, step, names or `initial` are not as said above.
        ConvergenceError: On use, if a solution does not stay finite; names time and sample.
    """

    initial: Tensor | None

    def __init__(
        self,
        equation: SpectralEquation,
        times: Sequence[float] | Tensor,
        *,
        unknown: tuple[str, ...] = ("initial",),
        step: float | None = None,
        tolerance: float = 1e-6,
        scheme: str = "etdrk4",
        initial: Tensor | None = None,
        checkpoint: bool = True,
    ) -> None:
        times = _checked_times(times)
        super().__init__(_domain(equation, unknown), _trajectory_space(equation.state, times))
        if initial is None and (step is None or "initial" not in unknown):
            message = "`initial` is needed where it is not unknown, and to choose the step; give it, or `step`."
            raise ConfigError(message)
        if step is not None and not step > 0:
            message = f"`step` should be positive, got {step}; give a smaller number of output times or None."
            raise ConfigError(message)
        self.equation = equation
        self.times = times
        self.register_buffer("initial", initial if initial is None else equation_state(equation, initial))
        method = scheme_named(scheme)
        if step is None:
            step, trajectory = choose_step(equation, method, times, self.initial, tolerance)
            warn_if_coarse(equation.basis, trajectory)
        self.step = float(step)
        pieces = segments(times, self.step, store_all=not checkpoint)
        self._march = March(equation, method, pieces, tuple(unknown), self.initial, len(times))

    def _apply_batched(self, m: Any) -> Any:
        inputs = tuple(m[name] for name in self._march.unknown) if isinstance(self.domain, ProductSpace) else (m,)
        return differentiable_march(self._march, self._stats, inputs)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Both derivative actions; `LINEAR` where the solution is affine in all unknowns."""
        affine = set(self._march.unknown) <= self.equation.affine
        return super().capabilities | ({Capability.LINEAR} if affine else set())

    @property
    def n_steps(self) -> int:
        """Time steps of one solve."""
        return sum(piece.count for piece in self._march.pieces)


def equation_state(equation: SpectralEquation, initial: Tensor) -> Tensor:
    """`initial` in float64, checked against the state's space."""
    equation.state.batch_shape(initial, "initial")
    return initial.detach().double().reshape(equation.state.shape)


def _checked_times(times: Sequence[float] | Tensor) -> tuple[float, ...]:
    values = tuple(float(t) for t in times)
    if not values or not values[0] >= 0 or any(not b > a for a, b in pairwise(values)):
        message = f"`times` should be one or more increasing numbers from 0 on, got {list(values)[:8]}."
        raise ConfigError(message)
    return values


def _domain(equation: SpectralEquation, unknown: tuple[str, ...]) -> Space | ProductSpace:
    known = {"initial": equation.state} | equation.parameter_spaces
    if not unknown or any(name not in known for name in unknown):
        message = f"`unknown` should be a tuple of names from {sorted(known)}, got {unknown!r}."
        raise ConfigError(message)
    if len(unknown) == 1:
        return known[unknown[0]]
    return ProductSpace({name: known[name] for name in unknown})


def _trajectory_space(state: Space, times: tuple[float, ...]) -> Space:
    coords = {"time": torch.tensor(times, dtype=torch.float64)} | dict(state.coords)
    return Space(
        (len(times), *state.shape), name=state.name, dims=("time", *state.dims), unit=state.unit, coords=coords
    )
