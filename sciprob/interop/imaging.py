"""Linear maps as `deepinv` physics, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.errors import MissingExtraError, ShapeError
from sciprob.operators.linear import FunctionMap, LinearMap
from sciprob.spaces import Space

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics


def to_deepinv(linear_map: LinearMap, noise_std: float | None = None) -> LinearPhysics:
    """A linear map on one-channel images as `deepinv.physics.LinearPhysics`.

    Images are `(B, 1, *domain.shape)`, measurements `(B, 1, *codomain.shape)`; the adjoint is the map's own.

    Args:
        linear_map: The map.
        noise_std: Standard deviation of the Gaussian noise that the physics adds; none if not given.

    Raises:
        MissingExtraError: If deepinv is not installed.
    """
    physics = _deepinv()
    adjoint = linear_map.adjoint
    return physics.LinearPhysics(
        A=lambda x, **_: _by_channel(linear_map, x),
        A_adjoint=lambda y, **_: _by_channel(adjoint, y),
        noise_model=None if noise_std is None else physics.GaussianNoise(sigma=noise_std),
        img_size=(1, *linear_map.domain.shape),
    )


def from_deepinv(physics: Any, image: Space) -> LinearMap:
    """The noise-free part of a `deepinv` linear physics on one-channel images as a linear map.

    Call `physics.to(torch.float64)` before, if it holds tensors and double precision is wanted. Results have the
    number type of the input.

    Args:
        physics: A `deepinv.physics.LinearPhysics` with one tensor of measurements per image. Its `A_adjoint` is
            the map's adjoint, so it should be the exact transpose: `Tomography(adjoint_via_backprop=False)` has
            filters of another kind there, and fails the adjoint test of `sciprob.testing`.
        image: Space of the images, without batch and channel axes.

    Raises:
        ShapeError: If `physics` gives no single tensor `(1, ...)` for one image.
    """

    def act(function: Any, x: Tensor) -> Tensor:
        y: Tensor = function(x)
        return y.to(x.dtype)

    like = next((x for x in (*physics.parameters(), *physics.buffers()) if x.is_floating_point()), torch.zeros(()))
    with torch.no_grad():
        measured = physics.A(like.new_zeros((1, 1, *image.shape)))
    if not isinstance(measured, Tensor) or len(measured) != 1:
        message = f"`physics.A` should give one tensor with one row per image, got {type(measured).__name__}."
        raise ShapeError(message)
    codomain = Space(tuple(measured.shape[1:]), name="y")
    return FunctionMap(
        image,
        codomain,
        lambda m: act(physics.A, m.unsqueeze(1)),
        lambda y: act(physics.A_adjoint, y).squeeze(1),
    )


def _by_channel(action: LinearMap, x: Tensor) -> Tensor:
    y: Tensor = action(x)  # the channel is one more batch axis
    return y


def _deepinv() -> Any:
    try:
        import deepinv
    except ImportError as error:
        message = "`to_deepinv` needs deepinv; install it with `pip install deepinv`."
        raise MissingExtraError(message) from error
    return deepinv.physics
