"""The denoiser: all that samplers and posterior ensembles ask of a diffusion prior."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError, ShapeError
from sciprob.spaces import Space


class Denoiser(nn.Module):
    """Denoiser D(z, sigma) = E[x | x + sigma e = z], e standard normal, of a distribution of x on `space`.

    z = x + sigma e is the variance-exploding coordinate: every linear path x_t = alpha x + beta e is
    this one at z = x_t / alpha and sigma = beta / alpha, so a denoiser knows no noise schedule. By
    Tweedie's formula the score of the law of z is (D(z, sigma) - z) / sigma^2.

    Subclasses implement `_denoise` on exactly one leading batch axis.

    Args:
        space: Space of x.

    Sources: Robbins, Proc. Third Berkeley Symposium, 1956; Karras et al., NeurIPS 2022, arXiv 2206.00364, eq. 3.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.calls = 0  # batched evaluations so far
        self.evaluations = 0  # members of all batches

    def _denoise(self, z: Tensor, sigma: Tensor) -> Tensor:
        """D for `z (B, *space.shape)` and `sigma (B, 1, ..., 1)`, as many ones as the space has axes."""
        raise NotImplementedError

    def forward(self, z: Tensor, sigma: Tensor | float) -> Tensor:
        """D(z, sigma), `(*batch, *space.shape)`.

        Args:
            z: Noisy values, `(*batch, *space.shape)`.
            sigma: Noise level, not negative; a number or anything that broadcasts to `(*batch,)`. dtype and
                device of the result are those of `z`.

        Raises:
            ShapeError: If `z` does not end in the space's shape, or `sigma` does not broadcast.
        """
        batch = self.space.batch_shape(z, "z")
        try:
            levels = torch.as_tensor(sigma, dtype=z.dtype, device=z.device).expand(batch)
        except RuntimeError as error:
            given = tuple(torch.as_tensor(sigma).shape)
            message = f"`sigma` should broadcast to the batch {tuple(batch)} of `z`, got {given}."
            raise ShapeError(message) from error
        self.calls += 1
        self.evaluations += batch.numel()
        flat = levels.reshape(-1, *(1 for _ in self.space.shape))
        return self._denoise(z.reshape(-1, *self.space.shape), flat).reshape(z.shape)

    def score(self, z: Tensor, sigma: Tensor | float) -> Tensor:
        """Gradient of the log density of z, (D - z) / sigma^2, `(*batch, *space.shape)`.

        Raises:
            ConfigError: If a noise level is zero, where the law of x need have no density.
        """
        levels = torch.as_tensor(sigma, dtype=z.dtype, device=z.device)
        if bool((levels <= 0).any()):
            message = "the score needs noise levels above zero; ask for `D(z, sigma)` instead."
            raise ConfigError(message)
        denoised = self(z, levels)
        width = levels.reshape(*levels.shape, *(1 for _ in self.space.shape))
        score: Tensor = (denoised - z) / width.square()
        return score


class StandardNormalDenoiser(Denoiser):
    """Denoiser z / (1 + sigma^2), exact for x standard normal: white coordinates of any Gaussian prior."""

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Exact draws of x, `(*shape, *space.shape)`, float64, on the generator's device."""
        return torch.randn(*shape, *self.space.shape, generator=generator, device=generator.device, dtype=torch.float64)

    def _denoise(self, z: Tensor, sigma: Tensor) -> Tensor:
        return z / (1 + sigma.square())
