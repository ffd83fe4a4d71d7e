r"""The affine reference process on a time grid, in white coordinates.

dx = (c(t) - theta x) dt + sigma dBhat with a `MarkovNoise`, in each of D latent dimensions. The state is z = (x,
sqrt(2 gamma_k) y_k), s = K + 1 numbers. Over a step z' = Phi z + pull c e_x + L e, e ~ N(0, I): exact for the Markov
noise, whatever the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sciprob.sde.markov import MarkovNoise
from sciprob.sde.parameters import variance_at_one
from sciprob.sde.special import exponential_moments
from sciprob.sde.transition import noise_root, transition


@dataclass(frozen=True)
class Reference:
    """Transitions of the reference process; everything float64.

    Attributes:
        times: Nodes `(N + 1,)`, from 0.
        reversion: theta `(D,)`.
        intercept: c(t), constant in each step, `(N, D)`.
        matrix: Phi `(N, D, s, s)`.
        root: L `(N, D, s, r)`.
        pull: int_0^h e^{-theta tau} dtau, the effect on x of a unit drift, `(N, D)`.
        correction: The same weighted by the time since the start over h, `(N, D)`.
        push: `(N, D, r)`: adding `push` v to e adds the control v(t) = v e^{-gamma_1 (t_{n+1} - t)} to the
            common noise, which is v for the slowest rate gamma_1, with energy push^T push v^2.
        initial_mean: Of z(0), `(D, s)`.
        initial_root: `(D, s, r0)`: a known start has none of x, noise without a past none of y.
        reach: Largest increment of x by the drift in one step, `(D,)`: deviation of the noise at the horizon.
    """

    times: Tensor
    reversion: Tensor
    intercept: Tensor
    matrix: Tensor
    root: Tensor
    pull: Tensor
    correction: Tensor
    push: Tensor
    initial_mean: Tensor
    initial_root: Tensor
    reach: Tensor

    def rest(self, drift: Callable[[Tensor, Tensor], Tensor], node: int, z: Tensor) -> Tensor:
        """What the drift b(t, x) is beyond -theta x, `(D, P)`, at states `z (D, P, s)`."""
        x = z[..., 0]
        return drift(self.times[node], x.T).T + self.reversion[:, None] * x

    def repeated(self, count: int) -> Reference:
        """`count` independent copies side by side, `(count D)` dimensions: paths that have sites of their own."""
        first = ("reversion", "initial_mean", "initial_root", "reach")
        parts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "times"}
        for name, part in parts.items():
            axis = 0 if name in first else 1
            parts[name] = torch.cat([part] * count, dim=axis)
        return Reference(times=self.times, **parts)

    def forced(self, node: int, rest: Tensor | None, like: Tensor) -> Tensor:
        """Increment of x by c and by what is left of `rest`, `(D, P)`."""
        own = (self.pull[node] * self.intercept[node])[:, None]
        if rest is None:
            return own.expand_as(like)
        return own + self.tame(self.pull[node][:, None] * rest - own)

    def tame(self, amount: Tensor) -> Tensor:
        """Increments of x by the drift, `(D, P)`, bounded by `reach`; changes them by O(h^3).

        Without a bound explicit steps of a drift such as -x^3 explode for a few paths.
        Source: Hutzenthaler, Jentzen and Kloeden, Ann. Appl. Probab. 22 (2012).
        """
        reach = self.reach[:, None]
        return reach * torch.tanh(amount / reach)


def make_reference(
    noise: MarkovNoise,
    times: Tensor,
    *,
    scale: Tensor,
    initial_mean: Tensor,
    initial_std: Tensor,
    reversion: Tensor | None = None,
    intercept: Tensor | None = None,
) -> Reference:
    """The reference for noise with weights `(K,)` or `(D, K)` and numbers of shape `(D,)`.

    Differentiable in the weights (so in H), in the scale and in the initial law; not in reversion and intercept, which
    are no part of the model: its drift is added as the difference from theirs.

    Args:
        noise: Its rates are those of the states.
        times: `(N + 1,)`, increasing from 0.
        scale: sigma.
        initial_mean: Of x(0).
        initial_std: Of x(0); 0 for a known start.
        reversion: theta; default 0.
        intercept: c in each step, `(N, D)`; default 0.
    """
    steps = times.diff()
    theta = torch.zeros_like(scale) if reversion is None else reversion.detach()
    # equal steps up to rounding share a transition
    keys = (steps / (16 * torch.finfo(torch.float64).eps * times[-1])).round()
    _, which = keys.unique(return_inverse=True)
    chosen = steps.new_zeros(int(which.max()) + 1 if len(which) else 0).scatter(0, which, steps)
    moves = transition(chosen, noise.rates, noise.weights, theta, scale)
    roots = noise_root(chosen, noise.rates, noise.weights, theta, scale)
    first, second = (exponential_moments(n, theta[:, None], chosen) for n in (0, 1))
    size = len(noise.rates) + 1
    mean = torch.cat([initial_mean[:, None], initial_mean.new_zeros(len(initial_mean), size - 1)], dim=-1)
    root = roots.movedim(-3, 0)[which]
    return Reference(
        times=times,
        reversion=theta,
        intercept=steps.new_zeros(len(steps), len(theta)) if intercept is None else intercept.detach(),
        matrix=moves.matrix.movedim(-3, 0)[which],
        root=root,
        pull=first.T[which],
        correction=(first - second / chosen).T[which],
        push=root[..., 1, :] / (2 * noise.rates[0]).sqrt(),
        initial_mean=mean,
        initial_root=_initial_root(noise, initial_std),
        reach=_reach(noise, scale),
    )


def _initial_root(noise: MarkovNoise, initial_std: Tensor) -> Tensor:
    """A root of the covariance of z(0): stationary y for type I, none for type II; columns of zeros are left out."""
    g, dimension = noise.rates, len(initial_std)
    columns = []
    if noise.kind == "I":
        values, vectors = torch.linalg.eigh(2 * (g[:, None] * g).sqrt() / (g[:, None] + g))
        kept = values > 1e-15 * values[-1]
        past = vectors[:, kept] * values[kept].sqrt()
        columns.append(torch.nn.functional.pad(past, (0, 0, 1, 0)).expand(dimension, -1, -1))
    if bool((initial_std != 0).any()) or initial_std.requires_grad:
        columns.append(torch.nn.functional.pad(initial_std[:, None, None], (0, 0, 0, len(g))))
    if not columns:
        return g.new_zeros(dimension, len(g) + 1, 0)
    return torch.cat(columns, dim=-1)


def _reach(noise: MarkovNoise, scale: Tensor) -> Tensor:
    """Deviation of the noise at the horizon, `(D,)`."""
    variance = variance_at_one(noise.hurst, kind=noise.kind, normalisation=noise.normalisation)
    return (scale * variance.sqrt() * noise.horizon**noise.hurst).expand(scale.shape)
