"""What `pde_throughput.py` compares with: a plain torch loop, exponax, and the Fourier transforms alone.

Every method is a function of a batch of initial states `(B, *grid)` on the grid, which takes a
stated number of steps of the same exponential scheme in the same dtype, and returns the last state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

try:
    import exponax
    import jax
except ImportError:
    exponax = jax = None


@dataclass(frozen=True)
class Case:
    """One equation on one periodic grid with one scheme; the same numbers for every method."""

    equation: str  # burgers, kuramoto-sivashinsky, navier-stokes
    n: int
    length: float
    step: float
    order: int  # of the exponential Runge-Kutta scheme, 2 or 4
    viscosity: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid points along each axis."""
        return (self.n, self.n) if self.equation == "navier-stokes" else (self.n,)

    @property
    def name(self) -> str:
        """As printed."""
        size = f"{self.n}^2" if len(self.shape) == 2 else str(self.n)
        return f"{self.equation} {size}, etdrk{self.order}"

    def initial(self, batch: int) -> Tensor:
        """Random smooth states `(batch, *shape)` of unit amplitude, float32, with zero mean."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(batch, *self.shape, generator=generator, dtype=torch.float64)
        axes = tuple(range(1, noise.ndim))
        waves = [torch.fft.fftfreq(self.n) * self.n] * (len(self.shape) - 1) + [torch.fft.rfftfreq(self.n) * self.n]
        square = sum(k.square() for k in torch.meshgrid(*waves, indexing="ij"))
        shaped = torch.fft.rfftn(noise, dim=axes) * ((square > 0) * torch.exp(-square / 32))
        field = torch.fft.irfftn(shaped, s=self.shape, dim=axes)
        return (field / field.square().mean(axes, keepdim=True).sqrt()).float()


class TorchLoop:
    """The scheme as one writes it down first: every formula one line, nothing fused, nothing kept."""

    def __init__(self, case: Case) -> None:
        self.case, self.axes = case, tuple(range(-len(case.shape), 0))
        scale = 2 * math.pi * case.n / case.length
        last = torch.fft.rfftfreq(case.n, dtype=torch.float64) * scale
        if len(case.shape) == 1:
            self.waves = [last]
        else:
            first = torch.fft.fftfreq(case.n, dtype=torch.float64) * scale
            self.waves = list(torch.meshgrid(first, last, indexing="ij"))
        self.square = sum(k.square() for k in self.waves)
        self.mask = torch.stack([k.abs() < scale / 3 for k in self.waves]).all(0)
        linear = -case.viscosity * self.square
        if case.equation == "kuramoto-sivashinsky":
            linear = self.square - self.square.square()
        self.coefficients = {name: value.float() for name, value in _coefficients(linear, case.step).items()}
        self.waves = [1j * k.float() for k in self.waves]
        self.inverse = torch.where(self.square > 0, 1 / self.square.clamp_min(1e-30), 0.0).float()

    def nonlinear(self, u_hat: Tensor) -> Tensor:
        """Convection, dealiased by the 2/3 rule."""
        inverse = lambda v: torch.fft.irfftn(v * self.mask, s=self.case.shape, dim=self.axes)  # noqa: E731
        if self.case.equation != "navier-stokes":
            squared = torch.fft.rfftn(inverse(u_hat).square(), dim=self.axes)
            return -0.5 * self.waves[0] * squared * self.mask
        kx, ky = self.waves
        stream = u_hat * self.inverse
        convection = inverse(ky * stream) * inverse(kx * u_hat) - inverse(kx * stream) * inverse(ky * u_hat)
        return -torch.fft.rfftn(convection, dim=self.axes) * self.mask

    def step(self, u: Tensor) -> Tensor:
        """One step of Cox and Matthews' scheme in spectral space."""
        c, n = self.coefficients, self.nonlinear
        n0 = n(u)
        if self.case.order == 2:
            a = c["exp"] * u + c["phi1"] * n0
            return a + c["phi2"] * (n(a) - n0)
        a = c["half"] * u + c["phi1_half"] * n0
        na = n(a)
        b = c["half"] * u + c["phi1_half"] * na
        nb = n(b)
        nc = n(c["half"] * a + c["phi1_half"] * (2 * nb - n0))
        return c["exp"] * u + c["f1"] * n0 + 2 * c["f2"] * (na + nb) + c["f3"] * nc

    def __call__(self, u: Tensor, steps: int) -> Tensor:
        """`steps` steps from `u`."""
        u_hat = torch.fft.rfftn(u, dim=self.axes)
        for _ in range(steps):
            u_hat = self.step(u_hat)
        return torch.fft.irfftn(u_hat, s=self.case.shape, dim=self.axes)


def _coefficients(linear: Tensor, step: float) -> dict[str, Tensor]:
    """Kassam and Trefethen's contour means for a real symbol."""
    z = linear * step
    points = torch.exp(1j * math.pi * (torch.arange(32, dtype=torch.float64) + 0.5) / 32)
    r = z[..., None] + points
    e = torch.exp(r)
    mean = lambda value: step * value.mean(-1).real  # noqa: E731
    return {
        "exp": torch.exp(z),
        "half": torch.exp(z / 2),
        "phi1": mean((e - 1) / r),
        "phi2": mean((e - 1 - r) / r**2),
        "phi1_half": mean((torch.exp(r / 2) - 1) / r),
        "f1": mean((-4 - r + e * (4 - 3 * r + r**2)) / r**3),
        "f2": mean((2 + r + e * (-2 + r)) / r**3),
        "f3": mean((-4 - 3 * r - r**2 + e * (4 - r)) / r**3),
    }


class Exponax:
    """exponax' stepper in spectral space, in one compiled loop over steps, mapped over the batch."""

    def __init__(self, case: Case) -> None:
        stepper = self._stepper(case)
        dims = len(case.shape)
        sign = -1 if case.equation == "navier-stokes" else 1  # its vorticity turns the other way round

        def roll(u: Any, steps: int) -> Any:
            u_hat = exponax.fft(sign * u[None], num_spatial_dims=dims)
            u_hat = jax.lax.fori_loop(0, steps, lambda _, v: stepper.step_fourier(v), u_hat)
            return sign * exponax.ifft(u_hat, num_spatial_dims=dims, num_points=case.n)[0]

        self.roll = jax.jit(jax.vmap(roll, in_axes=(0, None)))

    @staticmethod
    def _stepper(case: Case) -> Any:
        numbers = (case.length, case.n, case.step)
        if case.equation == "burgers":
            settings = {"diffusivity": case.viscosity, "single_channel": True, "conservative": True}
            return exponax.stepper.Burgers(1, *numbers, order=case.order, **settings)
        if case.equation == "kuramoto-sivashinsky":
            return exponax.stepper.KuramotoSivashinskyConservative(
                1, *numbers, order=case.order, single_channel=True, conservative=True
            )
        return exponax.stepper.NavierStokesVorticity(2, *numbers, order=case.order, diffusivity=case.viscosity)

    def __call__(self, u: np.ndarray, steps: int) -> np.ndarray:
        """`steps` steps from `u`."""
        return np.asarray(self.roll(u, steps).block_until_ready())


def transforms(case: Case, batch: int) -> Callable[[], None]:
    """The real FFTs that one step cannot do without, and nothing else.

    One each way per evaluation of u^2/2, two each way per evaluation of the plane vorticity equation.
    """
    evaluations, pairs = case.order, 2 if case.equation == "navier-stokes" else 1
    axes = tuple(range(-len(case.shape), 0))
    rows = max(1, 2**19 // (4 * math.prod(case.shape)))  # as many samples at a time as fit the cache
    blocks = torch.randn(batch, pairs, *case.shape).split(rows)
    spectra = [torch.fft.rfftn(block, dim=axes) for block in blocks]

    def run() -> None:
        for field, spectrum in zip(blocks, spectra, strict=True):
            for _ in range(evaluations):
                torch.fft.irfftn(spectrum, s=case.shape, dim=axes)
                torch.fft.rfftn(field, dim=axes)

    return run
