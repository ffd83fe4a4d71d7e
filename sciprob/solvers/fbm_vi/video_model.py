r"""Latent equations for videos: dx = b(x) dt + sigma dB_H in D dimensions, frame i is N(decoder(x(t_i)), std^2).

The encoder turns the frames of a video into Gaussian sites of x at their times, and into a context. The posterior is
the Brownian motion of each latent dimension guided by the sites, in closed form (which infers x(0) and the past of the
noise as well), plus a network of state and context on the same noise. Beyond the last frame seen it is the prior.

Differences from the published model: sites, where that has the network alone; the states at time 0 are inferred; the
divergence is the sum over latent dimensions; the diffusion is a constant, since s(x) of its own dimension alone is a
change of the coordinate x (Lamperti), which decoder and drift absorb; there is no content vector, which would be a
function of the data without a divergence, so that no bound of the evidence would be left.
Source: Daems, Opper, Crevecoeur and Birdal, ICLR 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.sde.markov import MarkovNoise, markov_noise
from sciprob.solvers.fbm_vi.guide import make_guide
from sciprob.solvers.fbm_vi.reference import Reference, make_reference
from sciprob.solvers.fbm_vi.simulate import Drift, draw_noise, simulate
from sciprob.solvers.fbm_vi.sites import Sites
from sciprob.solvers.fbm_vi.video_networks import Networks, layers


@dataclass(frozen=True)
class VideoPaths:
    """Draws for a batch of videos.

    Attributes:
        x: Latent points at the frames, `(P, B, n, D)`, float64.
        log_ratio: log p / q of the paths of all videos together, `(P,)`, float64.
    """

    x: Tensor
    log_ratio: Tensor


@dataclass(frozen=True)
class VideoModel:
    """The model; the vector of what is trained holds its numbers, then the weights of the networks, float32.

    Args:
        networks: Their sizes.
        rates: Of the Markov noise, `(K,)`; a single rate near 0 is Brownian motion.
        times: Of the frames `(n,)`, from 0, float64.
        substeps: Time steps between two frames.
        std: Of the errors of a pixel.
        learn_hurst: Whether H is a number of the model; else it is 1/2.
    """

    networks: Networks
    rates: Tensor
    times: Tensor
    substeps: int
    std: float
    learn_hurst: bool

    @property
    def size(self) -> int:
        """Number of plain numbers: H, and of each dimension the scale, mean and deviation of x(0)."""
        return self.learn_hurst + 3 * self.networks.shape.latents

    def start(self, generator: torch.Generator) -> Tensor:
        """H = 1/2, Brownian paths that spread by 1, random networks with neither drift nor control."""
        numbers = torch.zeros(self.size, device=self.rates.device)
        numbers[self.learn_hurst : self.learn_hurst + self.networks.shape.latents] = -math.log(self.times[-1]) / 2
        return torch.cat([numbers, self.networks.start(numbers, generator)])

    def hurst(self, vector: Tensor) -> Tensor:
        """H, a float64 number."""
        return torch.sigmoid(vector[0].double()) if self.learn_hurst else self.rates.new_tensor(0.5)

    def numbers(self, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scale, mean and deviation of x(0), `(D,)` each, float64."""
        scale, mean, std = vector[self.learn_hurst : self.size].double().chunk(3)
        return scale.exp(), mean, std.exp()

    def noise(self, vector: Tensor) -> MarkovNoise:
        """Type I noise in unit normalisation."""
        horizon = float(self.times[-1])
        return markov_noise(self.hurst(vector), self.rates, horizon=horizon, kind="I", normalisation="unit")

    def reference(self, vector: Tensor) -> Reference:
        """The process without a drift."""
        scale, mean, std = self.numbers(vector)
        return make_reference(self.noise(vector), self._grid(), scale=scale, initial_mean=mean, initial_std=std)

    def drift(self, vector: Tensor) -> Drift:
        """b(x) for `x (P, B D)`."""
        parts = self.networks.drift(vector[self.size :])
        latents = self.networks.shape.latents
        return lambda _, x: layers(parts, x.unflatten(-1, (-1, latents))).flatten(-2)

    def draw(self, vector: Tensor, videos: Tensor, paths: int, generator: torch.Generator) -> VideoPaths:
        """Paths of the posterior given the first frames of videos, `(B, k, p, p)`; differentiable in the vector."""
        batch, seen = videos.shape[:2]
        weights = vector[self.size :]
        context, values, log_precision = (part.double() for part in self.networks.encode(weights, videos))
        index = self.substeps * torch.arange(seen, device=videos.device)
        by_frame = (part.transpose(0, 1).flatten(1) for part in (values, log_precision.exp()))
        reference = self.reference(vector).repeated(batch)
        guide = make_guide(reference, Sites(index, *by_frame))
        control = VideoControl(self.networks.control(weights), self._along(context), self.substeps * (seen - 1))
        drawn = simulate(
            reference,
            guide,
            draw_noise(reference, paths, generator),
            drift=self.drift(vector),
            control=control,
        )
        x = drawn.x[:, :: self.substeps].unflatten(-1, (batch, -1)).transpose(1, 2)
        return VideoPaths(x, drawn.log_ratio)

    def frames(self, vector: Tensor, x: Tensor) -> Tensor:
        """Decoded frames `(*, p, p)` of points `x (*, D)`."""
        flat = self.networks.decode(vector[self.size :], x.flatten(0, -2).to(vector.dtype))
        frames: Tensor = flat.unflatten(0, x.shape[:-1])
        return frames

    def log_likelihood(self, vector: Tensor, videos: Tensor, x: Tensor) -> Tensor:
        """Log p(first frames | x), `(P, B)`, float64."""
        seen = videos.shape[1]
        square = (videos - self.frames(vector, x[:, :, :seen])).square().double().sum((-3, -2, -1)) / self.std**2
        return -(square + videos[0].numel() * math.log(2 * math.pi * self.std**2)) / 2

    def bound(self, vector: Tensor, videos: Tensor, paths: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Estimates of the evidence lower bound and of its divergence, per video, means over the batch."""
        drawn = self.draw(vector, videos, paths, generator)
        ratio = drawn.log_ratio.mean() / len(videos)
        return self.log_likelihood(vector, videos, drawn.x).mean() + ratio, -ratio.detach()

    def _grid(self) -> Tensor:
        shares = torch.arange(self.substeps, dtype=self.times.dtype, device=self.times.device) / self.substeps
        inner = self.times[:-1, None] + self.times.diff()[:, None] * shares
        return torch.cat([inner.flatten(), self.times[-1:]])

    def _along(self, context: Tensor) -> Tensor:
        """Context `(B, k, F)` at the starts of the steps before the last frame seen, linear in between, `(N, B, F)`."""
        first, last = context[:, :-1, None], context[:, 1:, None]
        shares = torch.arange(self.substeps, dtype=context.dtype, device=context.device) / self.substeps
        return torch.lerp(first, last, shares[:, None]).flatten(1, 2).transpose(0, 1)


@dataclass(frozen=True)
class VideoControl:
    """A network of state and context in all dimensions of one video; implements `simulate.Control`.

    Args:
        parts: Layers, as `Networks.control` has them.
        context: `(N', B, F)` for the first N' steps.
        steps: N'; later the control is zero.
    """

    parts: Sequence[Tensor]
    context: Tensor
    steps: int

    def along(self, times: Tensor) -> Sequence[Callable[[Tensor], Tensor]]:
        """One function for each time."""
        known = [lambda z, shift=shift: self._at(z, shift) for shift in self._shifts().unbind()]
        return known + [lambda z: torch.zeros_like(z[..., 0])] * (len(times) - self.steps)

    def at_states(self, times: Tensor, states: Tensor) -> Tensor:
        """All times at once."""
        known = self._at(states[: self.steps], self._shifts()[:, None])
        return torch.nn.functional.pad(known, (0, 0, 0, 0, 0, len(times) - self.steps))

    def _shifts(self) -> Tensor:
        """Bias of the first layer, `(N', B, width)`."""
        _, by_context, bias = self.parts[:3]
        return self.context @ by_context + bias

    def _at(self, z: Tensor, shift: Tensor) -> Tensor:
        """States `(*, B D, P, s)` -> `(*, B D, P)`."""
        by_state, _, _, *rest = self.parts
        batch = shift.shape[-2]
        by_video = z.unflatten(-3, (batch, -1)).movedim(-2, -4).flatten(-2)  # (*, P, B, D s)
        value = layers(rest, torch.tanh(by_video @ by_state + shift))
        return value.movedim(-3, -1).flatten(-3, -2)
