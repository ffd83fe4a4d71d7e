"""What a network may predict, turned into each other, and a denoiser from any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.priors.diffusion.path import Path
from sciprob.spaces import Space

Prediction = Literal["data", "noise", "score", "velocity"]
PREDICTIONS = ("data", "noise", "score", "velocity")


def convert(value: Tensor, x: Tensor, t: Tensor, path: Path, source: Prediction, target: Prediction) -> Tensor:
    r"""One conditional mean given x_t = alpha x + beta e as another.

    - data E[x | x_t], noise E[e | x_t] with alpha data + beta noise = x_t,
    - score of x_t = -noise / beta,
    - velocity E[dx_t/dt | x_t] = (log alpha)' x_t - beta lambda' noise = (log beta)' x_t + alpha lambda' data.

    Each is exact, but noise and score say little about the data at large noise (errors grow by beta / alpha), and
    data little about the noise at small noise (alpha / beta).

    Args:
        value: The prediction `(*batch, *shape)`.
        x: x_t, same shape.
        t: Times, broadcasting to `value` from the left: `(*batch, 1, ..., 1)` or a number as tensor.
        path: Schedule.
        source: What `value` is.
        target: What is wanted.

    Raises:
        ConfigError: If source or target is none of data, noise, score, velocity.
    """
    for kind in (source, target):
        if kind not in PREDICTIONS:
            message = f"a prediction should be one of {', '.join(PREDICTIONS)}, got {kind!r}."
            raise ConfigError(message)
    if source == target:
        return value
    alpha, beta = path.alpha(t), path.beta(t)
    if source == "data":
        return _from_data(value, x, t, path, target)
    if source == "velocity":
        if target == "data":
            return (value - path.log_beta_rate(t) * x) / (alpha * path.log_snr_rate(t))
        noise = (path.log_alpha_rate(t) * x - value) / (beta * path.log_snr_rate(t))
    else:
        noise = value if source == "noise" else -beta * value
    if target == "noise":
        return noise
    if target == "score":
        return -noise / beta
    if target == "velocity":
        return path.log_alpha_rate(t) * x - beta * path.log_snr_rate(t) * noise
    return (x - beta * noise) / alpha


def _from_data(data: Tensor, x: Tensor, t: Tensor, path: Path, target: Prediction) -> Tensor:
    alpha, beta = path.alpha(t), path.beta(t)
    if target == "velocity":
        return path.log_beta_rate(t) * x + alpha * path.log_snr_rate(t) * data
    noise = (x - alpha * data) / beta
    return noise if target == "noise" else -noise / beta


class PathDenoiser(Denoiser):
    """The denoiser of a network trained along a path: x_t = alpha z goes in, D comes out.

    Args:
        space: Space of x.
        network: `(x_t (B, *shape), t (B,))` -> prediction `(B, *shape)`.
        path: The schedule it was trained on; its time is that of `Path`, 0 at the data.
        prediction: What the network predicts.

    Raises:
        ConfigError: If `prediction` is unknown.
    """

    def __init__(
        self, space: Space, network: Callable[[Tensor, Tensor], Tensor], path: Path, prediction: Prediction
    ) -> None:
        super().__init__(space)
        if prediction not in PREDICTIONS:
            message = f"`prediction` should be one of {', '.join(PREDICTIONS)}, got {prediction!r}."
            raise ConfigError(message)
        self.network, self.path = network, path
        self.prediction: Prediction = prediction

    def _denoise(self, z: Tensor, sigma: Tensor) -> Tensor:
        t = self.path.time_of_level(sigma.to(torch.float64))
        x = self.path.alpha(t).to(z.dtype) * z
        predicted = self.network(x, t.reshape(-1).to(z.dtype)).to(torch.float64)
        denoised = convert(predicted, x.to(torch.float64), t, self.path, self.prediction, "data")
        return denoised.to(z.dtype)
