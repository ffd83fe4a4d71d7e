"""What is known of a denoiser before training, so that a network learns the rest at unit scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError
from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.spaces import Space

_SMALLEST = 1e-3  # noise level below which networks are told this one: they are not trained below


class Preconditioning(nn.Module):
    r"""D(z, sigma) = D_0(z, sigma) + c_out(sigma) F(c_in(sigma) (z - m), log sigma), with F a network.

    D_0 is the denoiser of white noise of the data's mean and spread,
    D_0 = m + s^2 / (s^2 + sigma^2) (z - m), and c_out^2 = s^2 sigma^2 / (s^2 + sigma^2) is its mean square error, so
    that what F has to learn, (x - D_0) / c_out, has mean square one at every level; c_in^2 = 1 / (s^2 + sigma^2)
    does the same for its input. The loss |F - (x - D_0) / c_out|^2 is |D - x|^2 / c_out^2.

    Args:
        mean: m, a number or a field.
        std: s, root mean square of x - m.

    Raises:
        ConfigError: If `std` is not positive.

    Sources: Karras et al., NeurIPS 2022, arXiv 2206.00364, table 1 and appendix B.6.
    """

    mean: Tensor

    def __init__(self, mean: Tensor | float, std: float) -> None:
        super().__init__()
        if not 0 < std < float("inf"):
            message = f"the standard deviation of the data should be positive, got {std}."
            raise ConfigError(message)
        self.std = float(std)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))

    def baseline(self, z: Tensor, sigma: Tensor) -> Tensor:
        """D_0, `(B, *shape)`, for `z (B, *shape)` and `sigma (B, 1, ..., 1)`."""
        mean = self.mean.to(z.dtype)
        return mean + self.std**2 / (self.std**2 + sigma.square()) * (z - mean)

    def output_scale(self, sigma: Tensor) -> Tensor:
        """c_out, of the shape of `sigma`."""
        return self.std * sigma / (self.std**2 + sigma.square()).sqrt()

    def network_input(self, z: Tensor, sigma: Tensor) -> Tensor:
        """c_in (z - m), `(B, *shape)`."""
        return (z - self.mean.to(z.dtype)) / (self.std**2 + sigma.square()).sqrt()

    def target(self, x: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
        """What F should be for the clean `x`: (x - D_0) / c_out, `(B, *shape)`."""
        return (x - self.baseline(z, sigma)) / self.output_scale(sigma)


class GaussianPreconditioning(Preconditioning):
    """The same with D_0 the exact denoiser of a Gaussian N(m, C), a control variate for the network.

    c_out^2 is the mean of its error covariance's diagonal, tr C sigma^2 (C + sigma^2 I)^{-1} / n. For a Gaussian law
    with that mean and covariance the best F is zero, so D is exact before training.

    Args:
        gaussian: Denoiser of N(m, C).

    Sources: The idea of a linear control variate for scores: Wang and Vastola, TMLR 2024, arXiv 2412.09726.
    """

    def __init__(self, gaussian: GaussianDenoiser) -> None:
        spectrum = gaussian.spectrum
        total = float((spectrum.multiplicity * spectrum.eigenvalues).sum())
        super().__init__(gaussian.mean, (total / gaussian.space.size) ** 0.5)
        self.gaussian = gaussian

    def baseline(self, z: Tensor, sigma: Tensor) -> Tensor:
        """C (C + sigma^2 I)^{-1} (z - m) + m."""
        return self.gaussian._denoise(z, sigma)

    def output_scale(self, sigma: Tensor) -> Tensor:
        """Root of the mean square error of the baseline."""
        spectrum = self.gaussian.spectrum
        c = spectrum.eigenvalues.reshape(-1)
        v = sigma.reshape(-1, 1).to(c.dtype).square()
        error = (spectrum.multiplicity.reshape(-1) * c * v / (c + v).clamp_min(1e-300)).sum(
            1
        ) / self.gaussian.space.size
        return error.sqrt().reshape(sigma.shape).to(sigma.dtype)


class NetworkDenoiser(Denoiser):
    """The denoiser of a trained network: single precision inside the network, that of `z` around it.

    Args:
        space: Space of x.
        network: F(x, log sigma) on `(B, *space.shape)` and `(B,)`.
        preconditioning: What surrounds it.
    """

    def __init__(self, space: Space, network: nn.Module, preconditioning: Preconditioning) -> None:
        super().__init__(space)
        self.network = network
        self.preconditioning = preconditioning

    def _denoise(self, z: Tensor, sigma: Tensor) -> Tensor:
        pre = self.preconditioning
        learnt = self.raw(pre.network_input(z, sigma), sigma)
        return pre.baseline(z, sigma) + pre.output_scale(sigma) * learnt.to(z.dtype)

    def raw(self, scaled: Tensor, sigma: Tensor) -> Tensor:
        """F of the scaled input, single precision."""
        learnt: Tensor = self.network(scaled.float(), sigma.float().flatten().clamp_min(_SMALLEST).log())
        return learnt
