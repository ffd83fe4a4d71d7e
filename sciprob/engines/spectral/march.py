"""Marching an equation through time: value, tangent and adjoint of the whole discrete solve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.schemes import Exponential, Nonlinear, Scheme, in_place
from sciprob.errors import ConvergenceError


@dataclass(frozen=True)
class Segment:
    """Equal steps without an output between them; `output` is the index of the output time at the end, if any."""

    start: float
    step: float
    count: int
    output: int | None


def segments(times: Sequence[float], step: float, *, store_all: bool = False) -> list[Segment]:
    """Steps of at most `step` that meet all `times`, in pieces of about sqrt(n)/2 steps.

    The state at the start of each piece is stored; the pieces are short, because the record of a
    step for reverse mode is larger than a state.
    """
    pieces: list[Segment] = []
    starts = [0.0, *times[:-1]]
    counts = [math.ceil((b - a) / step * (1 - 1e-9)) for a, b in zip(starts, times, strict=True)]
    length = 1 if store_all else max(1, math.isqrt(sum(counts)) // 2)
    for j, (a, b, n) in enumerate(zip(starts, times, counts, strict=True)):
        if n == 0:  # the initial state itself
            continue
        h = (b - a) / n
        for first in range(0, n, length):
            last = min(first + length, n)
            pieces.append(Segment(a + first * h, h, last - first, j if last == n else None))
    return pieces


def joined(pieces: Sequence[Segment]) -> list[Segment]:
    """The same steps in one piece per output time, for solves that store nothing in between."""
    whole: list[Segment] = []
    for piece in pieces:
        if whole and whole[-1].output is None:
            first = whole.pop()
            whole.append(Segment(first.start, first.step, first.count + piece.count, piece.output))
        else:
            whole.append(piece)
    return whole


_BLOCK_BYTES = 2**19  # of one state; a step touches about ten arrays of that size
Constants = dict[str, Tensor]  # "step h index" -> coefficient of the scheme, "p name" -> prepared parameter


class March:
    """The discrete solve as a function of its unknowns, on one leading batch axis, outside autograd.

    Args:
        equation: What to solve.
        scheme: How.
        pieces: When.
        unknown: Names of the inputs, in order.
        initial: The initial state, where it is not among the unknowns.
        n_times: Number of output times; the first is 0 if no piece ends there.
    """

    def __init__(
        self,
        equation: SpectralEquation,
        scheme: Scheme,
        pieces: Sequence[Segment],
        unknown: tuple[str, ...],
        initial: Tensor | None,
        n_times: int,
    ) -> None:
        self.equation, self.scheme, self.pieces, self.unknown = equation, scheme, list(pieces), unknown
        self.initial, self.n_times = initial, n_times
        self._whole = joined(self.pieces)
        self._outputs_initial = all(piece.output != 0 for piece in pieces)  # the first output time is 0
        self._known: dict[tuple[Any, ...], Constants] = {}

    def run(self, inputs: Sequence[Tensor], *, store: bool) -> tuple[Tensor, Tensor]:
        """Values at the output times `(B, n_times, *state)` and, if asked, states at the pieces' starts `(B, S, ...)`.

        Raises:
            ConvergenceError: If the solution does not stay finite; names time and sample.
        """
        self._check(inputs)
        u, constants = self.start(inputs)
        batch = len(inputs[0])
        values = inputs[0].new_empty(batch, self.n_times, *self.equation.state.shape)
        stored = u.new_empty(batch, len(self.pieces) if store else 0, *u.shape[1:])
        for part in _blocks(u):
            own = {name: c if len(c) == 1 else c[part] for name, c in constants.items()}
            self._run_block(u[part], own, values[part], stored[part] if store else None)
        self._refuse_non_finite(values)
        return values, stored

    def _run_block(self, u: Tensor, constants: Constants, values: Tensor, stored: Tensor | None) -> None:
        """Fill `values` and `stored` from the initial coefficients `u`, which are overwritten."""
        if self._outputs_initial:
            values[:, 0] = self.equation.basis.to_grid(u)
        pieces = self._whole if stored is None else self.pieces
        for s, piece in enumerate(pieces):
            if stored is not None:
                stored[:, s] = u
            self.advance_(u, piece, constants)
            if piece.output is not None:
                values[:, piece.output] = self.equation.basis.to_grid(u)

    def tangent(self, inputs: Sequence[Tensor], tangents: Sequence[Tensor]) -> Tensor:
        """Derivative of the values along `tangents`, piece by piece.

        Reverse mode twice (see `_push`): torch's forward mode forms the zero tangent of every constant
        in Python, which takes ten times longer.
        """
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in inputs]
            u, constants = self.start(leaves)
        live = [name for name, c in constants.items() if c.requires_grad]
        du, *rest = _push([u, *(constants[name] for name in live)], leaves, tangents)
        out = {0: self.equation.basis.to_grid(du)}
        for piece in self.pieces:
            with torch.enable_grad():
                start = u.detach().requires_grad_()
                own = {name: c.detach().requires_grad_(c.requires_grad) for name, c in constants.items()}
                u = self.advance(start, piece, own)
            (du,) = _push([u], [start, *(own[name] for name in live)], [du, *rest])
            if piece.output is not None:
                out[piece.output] = self.equation.basis.to_grid(du)
        return torch.stack([out[j] for j in range(self.n_times)], dim=1)

    def adjoint(self, inputs: Sequence[Tensor], stored: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the unknowns, block by block of the batch, so that few records are held at a time."""
        parts = [
            self._adjoint_block([x[part] for x in inputs], stored[part], cotangent[part])
            for part in _blocks(stored[:, 0])
        ]
        return tuple(torch.cat(gradients) for gradients in zip(*parts, strict=True))

    def _adjoint_block(self, inputs: Sequence[Tensor], stored: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
        """Each piece is recomputed from its stored start and differentiated, last first."""
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in inputs]
            u0, constants = self.start(leaves)
            first = [self.equation.basis.to_grid(u0)] if self._outputs_initial else []
        live = [name for name, c in constants.items() if c.requires_grad]
        sums = {name: torch.zeros_like(constants[name]) for name in live}
        costate = torch.zeros_like(u0)
        for s, piece in reversed(list(enumerate(self.pieces))):
            with torch.enable_grad():
                u = stored[:, s].detach().requires_grad_()
                own = {name: c.detach().requires_grad_(c.requires_grad) for name, c in constants.items()}
                end = self.advance(u, piece, own)
                outputs, seeds = [end], [costate]
                if piece.output is not None:
                    outputs.append(self.equation.basis.to_grid(end))
                    seeds.append(cotangent[:, piece.output])
            costate, *parts = _gradients(outputs, [u, *(own[name] for name in live)], seeds)
            for name, part in zip(live, parts, strict=True):
                sums[name] += part
        outputs = [u0, *(constants[name] for name in live), *first]
        seeds = [costate, *sums.values(), *(cotangent[:, 0] for _ in first)]
        needed = [(y, v) for y, v in zip(outputs, seeds, strict=True) if y.requires_grad]
        return tuple(_gradients([y for y, _ in needed], leaves, [v for _, v in needed]))

    def start(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Constants]:
        """Initial coefficients and everything that stays constant in time, differentiable in the inputs."""
        given = dict(zip(self.unknown, inputs, strict=True))
        like, batch = inputs[0], len(inputs[0])
        initial = given.pop("initial", None)
        if initial is None:
            assert self.initial is not None
            initial = self.initial.to(like).expand(batch, *self.initial.shape)
        u = self.equation.basis.to_spectral(initial)
        if given:
            return u, self._constants(given, like)
        # changed in place, as by `load_state_dict`, defaults have another version
        key = (like.dtype, like.device, *(default._version for default in self.equation.defaults.values()))
        if key not in self._known:
            with torch.inference_mode(False), torch.no_grad():
                self._known[key] = self._constants(given, like)
        return u, self._known[key]

    def advance(self, u: Tensor, piece: Segment, constants: Constants) -> Tensor:
        """The state at the end of a piece, by operations that autograd records."""
        nonlinear, c = self._parts(piece.step, constants)
        for i in range(piece.count):
            u = self._scheme.step(u, piece.start + i * piece.step, piece.step, nonlinear, c)
        return u

    def advance_(self, u: Tensor, piece: Segment, constants: Constants) -> None:
        """Replace the state by that at the end of a piece; no derivatives."""
        view, nonlinear, c = in_place(*self._parts(piece.step, constants))
        state = view(u)
        for i in range(piece.count):
            self._scheme.step_(state, piece.start + i * piece.step, piece.step, nonlinear, c)

    def _parts(self, h: float, constants: Constants) -> tuple[Nonlinear, list[Tensor]]:
        """The nonlinear term as a function of state and time, and the scheme's coefficients."""
        p = {name.removeprefix("p "): x for name, x in constants.items() if name.startswith("p ")}

        def nonlinear(u_hat: Tensor, t: float) -> Tensor:
            value = self.equation.nonlinear(u_hat, t, p)
            assert value is not None
            return value

        return nonlinear, [x for name, x in constants.items() if name.startswith(f"step {h!r} ")]

    @property
    def _scheme(self) -> Scheme:
        linear = type(self.equation).nonlinear is SpectralEquation.nonlinear
        return Exponential() if linear else self.scheme

    def parameters(self, given: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
        """All parameters with a leading batch axis, in float64, on the device of `like`."""
        known = {name: value for name, value in self.equation.defaults.items() if name not in given}
        present = [name for name in known if name not in self.equation.optional or bool(known[name].any())]
        p = {name: known[name][None].to(like.device) for name in present}
        return p | {name: value.double() for name, value in given.items()}

    def _constants(self, given: Mapping[str, Tensor], like: Tensor) -> Constants:
        p = self.parameters(given, like)
        symbol = self.equation.symbol(p)
        constants: Constants = {}
        for h in dict.fromkeys(piece.step for piece in self.pieces):
            for i, c in enumerate(self._scheme.coefficients(symbol, h)):
                constants[f"step {h!r} {i}"] = _cast(c, like)
        prepared = self.equation.prepare({name: _cast(value, like) for name, value in p.items()})
        return constants | {f"p {name}": value for name, value in prepared.items()}

    def _check(self, inputs: Sequence[Tensor]) -> None:
        given = {name: x for name, x in zip(self.unknown, inputs, strict=True) if name != "initial"}
        step = max((piece.step for piece in self.pieces), default=0.0)
        self.equation.check(self.parameters(given, inputs[0]), step)

    def _refuse_non_finite(self, values: Tensor) -> None:
        if bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all()):
            return
        bad = ~torch.isfinite(values.flatten(2)).all(dim=2)
        sample, j = (int(i) for i in bad.nonzero()[0])
        ends = {piece.output: piece.start + piece.count * piece.step for piece in self.pieces}
        h = max((piece.step for piece in self.pieces), default=0.0)
        message = (
            f"the solution of sample {sample} is not finite at time {ends.get(j, 0.0):g}, with steps of {h:g}; "
            "use a smaller `step`, and check the initial state and the parameters."
        )
        raise ConvergenceError(message, sample=sample)


def _blocks(u: Tensor) -> list[slice]:
    """Blocks of the batch that fit the caches of a CPU core, where they run up to a third faster; one on others."""
    batch = len(u)
    per_sample = u[0].numel() * u.element_size() if batch else 1
    size = max(1, _BLOCK_BYTES // per_sample) if u.device.type == "cpu" else batch
    return [slice(first, first + size) for first in range(0, batch, size)] or [slice(0, 0)]


def _cast(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype.to_complex() if x.is_complex() else like.dtype)


def _gradients(outputs: list[Tensor], inputs: list[Tensor], seeds: list[Tensor]) -> list[Tensor]:
    if not outputs:
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(outputs, inputs, seeds, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def _push(outputs: list[Tensor], inputs: list[Tensor], tangents: Sequence[Tensor]) -> list[Tensor]:
    """J w of every output, as the derivative of <J^T v, w>, linear in v, with respect to v."""
    with torch.enable_grad():
        depend = [y for y in outputs if y.requires_grad]
        seeds = [torch.zeros_like(y, requires_grad=True) for y in depend]
        pulled = torch.autograd.grad(depend, inputs, seeds, create_graph=True, allow_unused=True) if depend else []
    pairs = [(g, w) for g, w in zip(pulled, tangents, strict=False) if g is not None and g.requires_grad]
    if not pairs:
        return [torch.zeros_like(y) for y in outputs]
    pushed = torch.autograd.grad([g for g, _ in pairs], seeds, [w for _, w in pairs], allow_unused=True)
    found = dict(zip(map(id, depend), pushed, strict=True))
    return [torch.zeros_like(y) if found.get(id(y)) is None else found[id(y)].detach() for y in outputs]
