r"""Paths of the variational posterior and their density against the prior.

Prior:      z' = Phi z + pull (b(t, x) + theta x) e_x + L e,  e ~ N(0, I), the drift corrected at the end of the step.
Posterior:  the same map of e with e = offset - feedback zbar + push v(t, z) + R^{-T} xi, xi ~ N(0, I).
Both share the map, so log p / q is that of the noises: no drift outside the range of the rank-one noise arises, and
the Kullback-Leibler divergence is the discrete form of Girsanov's, exact for this chain.
Source: Daems, Opper, Crevecoeur and Birdal, ICLR 2024, for the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.random import randn
from sciprob.sde.diffusions import flow
from sciprob.solvers.fbm_vi.guide import Guide
from sciprob.solvers.fbm_vi.reference import Reference

Drift = Callable[[Tensor, Tensor], Tensor]
Diffusion = Callable[[Tensor], Tensor]


class Control(Protocol):
    """A control v of the common noise."""

    def along(self, times: Tensor) -> Sequence[Callable[[Tensor], Tensor]]:
        """For each time a function of states `(D, P, s)` -> `(D, P)`; what depends on time alone is done once."""
        ...

    def at_states(self, times: Tensor, states: Tensor) -> Tensor:
        """All times at once: `(N,)` and `(N, D, P, s)` -> `(N, D, P)`."""
        ...


@dataclass(frozen=True)
class Noise:
    """Standard normal numbers for P paths: `start (D, P, r0)` and `steps (N, D, P, r)`."""

    start: Tensor
    steps: Tensor


@dataclass(frozen=True)
class Paths:
    """P paths on the N + 1 nodes.

    Attributes:
        states: z `(N + 1, D, P, s)`.
        noises: e `(N, D, P, r)`.
        log_ratio: log p(z) / q(z), `(P,)`.
    """

    states: Tensor
    noises: Tensor
    log_ratio: Tensor

    @property
    def x(self) -> Tensor:
        """The observable part, `(P, N + 1, D)`."""
        return self.states[..., 0].permute(2, 0, 1)


def draw_noise(reference: Reference, paths: int, generator: torch.Generator) -> Noise:
    """Fresh numbers; the second half of the paths has the first half's with the opposite sign (antithetic)."""
    count, dimension, _, rank = reference.root.shape
    half = (paths + 1) // 2
    start = randn((dimension, half, reference.initial_root.shape[-1]), reference.initial_mean.detach(), generator)
    steps = randn((count, dimension, half, rank), reference.initial_mean.detach(), generator)
    return Noise(*(torch.cat([part, -part], dim=-2)[..., :paths, :] for part in (start, steps)))


def simulate(
    reference: Reference,
    guide: Guide,
    noise: Noise,
    *,
    drift: Drift | None = None,
    control: Control | None = None,
    shift: Tensor | None = None,
    diffusion: Diffusion | None = None,
) -> Paths:
    """Draw paths of the posterior; reparameterised, so differentiable in all parameters.

    Args:
        reference: Affine reference process.
        guide: Its posterior, or prior where it has no sites.
        noise: Standard normal numbers.
        drift: b(t, x) of a number t and `x (P, D)` -> `(P, D)`; default the reference's own, c - theta x.
        control: Added to the guide.
        shift: Of the mean of the white initial state, `(D, r0)`.
        diffusion: s(x), `(P, D)` -> `(P, D)`, each entry of its own dimension; dx = b dt + s(x) o sigma dBhat in
            Stratonovich's sense, the limit of smooth noises. (Ito's form has no limit for H < 1/2 as rates are added.)
            The noise acts through the flow of s over each increment (its own method `flow` where s has one). The
            guide takes s as 1.

    Raises:
        ConfigError: For a diffusion with a reference that has a reversion of its own.
    """
    if diffusion is not None and bool((reference.reversion != 0).any()):
        message = "a state-dependent diffusion needs a reference without reversion; leave `reversion` out."
        raise ConfigError(message)
    start = guide.start if shift is None else guide.start + shift
    white = start[:, None, :] + noise.start @ guide.start_spread
    z = reference.initial_mean[:, None, :] + white @ reference.initial_root.mT
    free = guide.offset[:, :, None, :] + noise.steps @ guide.spread
    states, inputs = _march(reference, guide, free, z, drift, control, diffusion)
    e = _noises(reference, guide, free, states, inputs)
    log_ratio = (noise.steps.square() - e.square()).sum((0, 1, 3)) - white.square().sum((0, 2))
    log_ratio = (log_ratio + noise.start.square().sum((0, 2))) / 2 - guide.log_det
    landing = _landing(reference, guide, noise, states, control, shift)
    return Paths(states, e, log_ratio + landing)


def _march(
    reference: Reference,
    guide: Guide,
    free: Tensor,
    z: Tensor,
    drift: Drift | None,
    control: Control | None,
    diffusion: Diffusion | None,
) -> tuple[Tensor, Tensor]:
    """States `(N + 1, D, P, s)` and inputs (drift increment, control) of each step, `(N, D, P, 2)`.

    z' = (I - L F) (Phi z + d e_x) + L (free + push v): the products are formed for all steps at once, since the loop
    pays for every small operation.
    """
    root, feedback = reference.root, guide.feedback
    closed = torch.eye(root.shape[-2], dtype=root.dtype, device=root.device) - root @ feedback
    forward = (closed @ reference.matrix).mT.unbind()
    entries = torch.stack([closed[..., 0], (root @ reference.push[..., None]).squeeze(-1)], dim=-2).unbind()
    driven = (free @ root.mT).unbind()
    nothing = torch.zeros_like(z[..., 0])
    controls = None if control is None else control.along(reference.times[:-1])
    states, inputs = [z], []
    for n in range(len(forward)):
        v = nothing if controls is None else controls[n](z)
        rest = None if drift is None else reference.rest(drift, n, z)
        moved = reference.forced(n, rest, nothing)
        given = torch.stack([moved, v], dim=-1)
        before = z[..., 0]
        z = torch.baddbmm(torch.baddbmm(driven[n], z, forward[n]), given, entries[n])
        if diffusion is not None:
            noise = z[..., 0] - before - moved
            z = _add_to_x(z, flow(diffusion, before.T, noise.T).T - before - noise)
        if drift is not None and rest is not None:
            change = reference.rest(drift, n + 1, z) - rest
            change = reference.tame(reference.correction[n][:, None] * change)
            z = _add_to_x(z, change)
        states.append(z)
        inputs.append(given)
    return torch.stack(states), torch.stack(inputs) if inputs else z.new_zeros(0, *nothing.shape, 2)


def _add_to_x(z: Tensor, amount: Tensor) -> Tensor:
    return z + torch.nn.functional.pad(amount[..., None], (0, z.shape[-1] - 1))


def _noises(reference: Reference, guide: Guide, free: Tensor, states: Tensor, inputs: Tensor) -> Tensor:
    """The e of each step from its start: free - F (Phi z + d e_x) + push v."""
    by_state = (guide.feedback @ reference.matrix).mT
    given = torch.stack([-guide.feedback[..., 0], reference.push], dim=-2)
    return free - states[:-1] @ by_state + inputs @ given


def _landing(
    reference: Reference, guide: Guide, noise: Noise, states: Tensor, control: Control | None, shift: Tensor | None
) -> Tensor:
    """Zero, with the gradient that removes the score of q ("sticking the landing").

    The gradient of the bound in control and shift then has no variance where q is the posterior.
    Source: Roeder, Wu and Duvenaud, NeurIPS 2017.
    """
    total = noise.steps.new_zeros(noise.steps.shape[-2])
    if not torch.is_grad_enabled():
        return total
    if shift is not None:
        moved = _times_factor(guide.start_spread.detach(), shift)
        total = total + (noise.start * (moved - moved.detach())[:, None, :]).sum((0, 2))
    if control is not None and len(reference.root):
        v = control.at_states(reference.times[:-1], states[:-1].detach())
        unit = _times_factor(guide.spread, reference.push).detach()
        along = (noise.steps * unit[:, :, None, :]).sum(-1)
        total = total + (along * (v - v.detach())).sum((0, 1))
    return total


def _times_factor(spread: Tensor, vector: Tensor) -> Tensor:
    """R^T vector, given R^{-1}."""
    solved: Tensor = torch.linalg.solve_triangular(spread.mT, vector[..., None], upper=True)
    return solved.squeeze(-1)
