"""Any torch or Pyro distribution as a prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, biject_to
from torch.distributions.transforms import Transform

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.priors.base import Prior
from sciprob.priors.quantiles import WhiteningFunction, whitening_function
from sciprob.spaces import Space


class DistributionPrior(Prior):
    """A prior given by a continuous torch or Pyro distribution over whole elements of the space.

    Independent entries are a distribution with `batch_shape`, e.g.
    `DistributionPrior(space, Gamma(2.0, 1.0).expand(space.shape))`; batch and event axes together
    are the space's. Where a map from standard normal variables is known (see
    `sciprob.priors.quantiles`) the prior is whitened, accurately in both tails.

    Args:
        space: Space of the unknown.
        distribution: Has `log_prob`; `batch_shape + event_shape == space.shape`.

    Raises:
        ShapeError: If the shapes differ.
        UnsupportedProblemError: If the distribution is discrete.
    """

    def __init__(self, space: Space, distribution: Distribution) -> None:
        super().__init__(space)
        shape = tuple(distribution.batch_shape + distribution.event_shape)
        if shape != space.shape:
            message = (
                f"the distribution should have the shape {space.shape} of `{space.name}`, got {shape}; "
                "independent entries are `distribution.expand(shape)`."
            )
            raise ShapeError(message)
        if cast(Any, distribution.support).is_discrete:
            message = f"{type(distribution).__name__} is discrete; priors here are densities, sum it out by hand."
            raise UnsupportedProblemError(message)
        self.distribution = _convert(distribution, lambda tensor: tensor)
        self._white = whitening_function(self.distribution)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """A density, and whitening where it is known."""
        whitened = {Capability.WHITENED_PRIOR} if self._white is not None else set()
        return frozenset({Capability.PRIOR_LOG_PROB} | whitened)

    @property
    def bijection(self) -> Transform:
        """Map from unconstrained variables onto the support, for samplers such as NUTS."""
        return cast(Transform, biject_to(cast(Any, self.distribution.support)))

    @property
    def whitening(self) -> ForwardOperator:
        """Xi -> m with standard normal xi.

        Raises:
            UnsupportedProblemError: If no such map is known for this distribution.
        """
        if self._white is None:
            message = (
                f"{type(self.distribution).__name__} has no quantile function here; use `nuts`, or a related "
                "distribution that has one (LogNormal for Gamma, Bounded normal for Beta)."
            )
            raise UnsupportedProblemError(message)
        return Whitening(self.space, self._white)

    def log_prob(self, m: Tensor) -> Tensor:
        """Log density `(*batch,)`; -infinity outside the support."""
        batch = self.space.batch_shape(m)
        entries = len(self.distribution.batch_shape)
        support: Any = self.distribution.support
        inside = support.check(m).reshape(*batch, -1 if m.numel() else 0).all(-1)
        density = self.distribution.log_prob(m)
        density = density.sum(tuple(range(-entries, 0))) if entries else density
        return torch.where(inside, density, -torch.inf).to(m.dtype)

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *space.shape)`.

        Through the whitening where it is known. Otherwise by the distribution's own sampler,
        seeded from `generator`, with the global random state put back afterwards; do not do that
        in several threads at once.
        """
        parameter = _parameter(self.distribution)
        if self._white is not None:
            xi_shape = (*shape, *self._white.shape)
            xi = torch.randn(xi_shape, generator=generator, device=generator.device, dtype=parameter.dtype)
            return cast(Tensor, self.whitening(xi.to(parameter.device)))
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        devices = [parameter.device] if parameter.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            draws: Tensor = self.distribution.sample(torch.Size(shape))
        return draws

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move the distribution's tensors with the module (`prior.to(device)`)."""
        super()._apply(fn, recurse)
        self.distribution = _convert(self.distribution, fn)
        self._white = whitening_function(self.distribution)
        return self


class Whitening(ForwardOperator):
    """Xi -> m for a distribution.

    Args:
        space: Space of m.
        function: The map and its white shape.
    """

    def __init__(self, space: Space, function: WhiteningFunction) -> None:
        white = space if function.shape == space.shape else Space(function.shape, name="xi")
        super().__init__(white, space)
        self.function = function

    def _apply_batched(self, m: Any) -> Any:
        return self.function.map(m).to(m.dtype)


def _convert(value: Any, fn: Callable[[Tensor], Tensor], done: dict[int, Any] | None = None) -> Any:
    """A copy of a distribution with `fn` applied to all its tensors and without argument checks.

    `done` maps the ids of parts to their copies, because a transform and its inverse refer to each other.
    """
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, nn.Module):  # a trainable transform, moved in place as modules are
        return value._apply(fn)
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor | Distribution | Transform) for v in value):
        return type(value)(_convert(v, fn, done) for v in value)
    if not isinstance(value, Distribution | Transform):
        return value
    copy: Any = object.__new__(type(value))
    done[id(value)] = copy
    copy.__dict__.update({key: _convert(v, fn, done) for key, v in value.__dict__.items()})
    if isinstance(value, Distribution):
        copy._validate_args = False  # outside the support the density is zero, which is no error
    return copy


def _parameter(distribution: Distribution) -> Tensor:
    """Some parameter of the distribution, for dtype and device."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            found.append(tensor)
        return tensor

    _convert(distribution, note)
    return found[0] if found else torch.zeros((), dtype=torch.float64)
