# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A breaking wave
#
# A wave that steepens obeys Burgers' equation $u_t + u u_x = \nu u_{xx}$. Eight sensors, read at four later
# times, see it with noise. What did it look like at the start, and what will it do next?

# %%
import torch

import sciprob
from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.burgers import BurgersSpectral
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators.observe_spectral import SpectralObservation
from sciprob.priors import GridMatern
from sciprob.spaces import GridSpace

# %% [markdown]
# ## The forward operator
# `Evolution` maps the unknown, here the initial state, to the states at chosen times. The equation lives on a
# spectral basis; the time stepping treats its stiff part exactly. Everything is differentiable and takes batches.


# %%
def forward(points: int, step: float) -> Evolution:
    """Initial state -> states at four times, on a periodic grid."""
    grid = GridSpace((points,), "u", ("x",), lower=(0.0,), upper=(1.0,), centring="periodic")
    equation = BurgersSpectral(SpectralBasis(grid), viscosity=0.02)
    return Evolution(equation, [0.1, 0.2, 0.3, 0.4], step=step)


wave = forward(64, 0.02)
grid = wave.domain
bump = torch.sin(2 * torch.pi * grid.axis(0))
states = wave(torch.stack([bump, 0.5 * bump]))  # two waves at once
print("trajectories:", tuple(states.shape), wave.codomain.dims)
assert states.shape == (2, 4, 64)

# %% [markdown]
# The mean of $u$ is conserved, and viscosity takes its energy.

# %%
assert states.mean(-1).abs().max() < 1e-12
energy = states.square().mean(-1)
assert (energy.diff(dim=-1) < 0).all()

# %% [markdown]
# ## Sensors in space and time
# A sensor between two grid points reads the trigonometric interpolant, which is exact for resolved fields.

# %%
places = torch.rand(8, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
operator = SpectralObservation(wave.codomain, grid, places) @ wave
noise = GaussianNoise(operator.codomain, 0.02)

# %% [markdown]
# ## Prior, data, posterior
# Before the data the initial state is a periodic random field. The truth is one draw, evolved on a finer grid with
# a smaller step, so that the inversion does not profit from sharing its own errors.

# %%
prior = GridMatern(grid, std=0.5, length=0.2, smoothness=2.5, boundary="periodic")
fine = forward(256, 0.005)
truth = GridMatern(fine.domain, std=0.5, length=0.2, smoothness=2.5, boundary="periodic").sample(
    generator=torch.Generator().manual_seed(5)
)
clean = SpectralObservation(fine.codomain, fine.domain, places)(fine(truth))
data = noise.sample(clean, generator=torch.Generator().manual_seed(6))

problem = sciprob.Problem("wave", prior, Likelihood(operator, noise), data=data, truth=truth[::4])
posterior = sciprob.solve(problem, "laplace", progress=False)
error, coverage = posterior.meta["relative_error"], posterior.meta["coverage"]["0.9"]
print(f"relative error {error:.2f}, covered by the 90 % band: {coverage:.2f}")
assert error < 0.3
assert coverage > 0.7

# %% [markdown]
# ## The forecast
# Posterior draws, sent through the equation, give bands for every time. Fronts carry the spread along; viscosity
# forgets most of it.

# %%
forecast = posterior.push(wave, generator=torch.Generator().manual_seed(7))
spread = forecast.std.mean(-1)
print("mean std at the four times:", [f"{s:.3f}" for s in spread.tolist()])
assert spread[-1] < posterior.std.mean()

# %%
from sciprob.plot.trajectory import trajectory_figure  # noqa: E402

figure = trajectory_figure(forecast, truth=fine(truth)[:, ::4], title="A breaking wave")
