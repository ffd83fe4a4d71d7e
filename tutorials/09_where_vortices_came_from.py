# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Where did the vortices come from?
#
# A plane flow carries its vorticity along, $\omega_t + u \cdot \nabla \omega = \nu \Delta \omega$, and forgets the
# small scales. A few floats read the vorticity at some later times, with noise. What was the flow like at the
# start, and where does it go after the last reading?

# %%
import os

import torch

import sciprob
from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.navier_stokes_2d import NavierStokes2DSpectral
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators.observe_spectral import SpectralObservation
from sciprob.plot.style import SPREAD_MAP, colour_bar, dress, new_figure
from sciprob.priors import GridMatern
from sciprob.spaces import GridSpace

quick = "SCIPROB_SMOKE" in os.environ  # the tests take a smaller grid and fewer floats
points, floats, read_at = (16, 12, [0.3, 0.6]) if quick else (32, 40, [0.5, 1.0, 1.5, 2.0])
final = 1.5 * read_at[-1]

# %% [markdown]
# ## The flow
# On a periodic square, by Fourier modes; time steps of fourth order, exact for viscosity.


# %%
def flow(n: int, step: float, times: list[float]) -> Evolution:
    """Initial vorticity -> vorticity at some times."""
    side = 2 * torch.pi
    grid = GridSpace((n, n), "vorticity", ("y", "x"), lower=(0.0, 0.0), upper=(side, side), centring="periodic")
    return Evolution(NavierStokes2DSpectral(SpectralBasis(grid), viscosity=0.01), times, step=step)


def prior_on(grid: GridSpace) -> GridMatern:
    """Vorticity at the start, before any reading."""
    return GridMatern(grid, std=1.5, length=1.0, smoothness=2.5, boundary="periodic")


step = 0.15 if quick else 0.04
model, nature = flow(points, step, read_at), flow(2 * points, step / 2, read_at)
grid, fine = model.domain, nature.domain

# %% [markdown]
# Without forcing, viscosity takes enstrophy, and the mean vorticity stays: true of every flow of this kind,
# whatever the start, so the first thing to check.

# %%
truth = prior_on(fine).sample(generator=torch.Generator().manual_seed(3))
states = nature(truth)
enstrophy = torch.cat([truth[None], states]).square().mean((-2, -1))
assert (enstrophy.diff() < 0).all()
assert (states.mean((-2, -1)) - truth.mean()).abs().max() < 1e-12

# %% [markdown]
# ## Readings
# Truth and data come from a grid twice as fine.

# %%
places = 2 * torch.pi * torch.rand(floats, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
operator = SpectralObservation(model.codomain, grid, places) @ model
noise = GaussianNoise(operator.codomain, 0.1)
clean = SpectralObservation(nature.codomain, fine, places)(states)
data = noise.sample(clean, generator=torch.Generator().manual_seed(2))
start = truth[::2, ::2]
problem = sciprob.Problem("vortices", prior_on(grid), Likelihood(operator, noise), data=data, truth=start)

# %% [markdown]
# ## The posterior
# Gauss-Newton to the most probable start, and the Gaussian with its curvature there. Every step sends tangents
# forwards and adjoints backwards through the flow.

# %%
posterior = sciprob.solve(problem, "laplace", progress=False)
error, coverage = posterior.meta["relative_error"], posterior.meta["coverage"]["0.9"]
print(f"relative error {error:.2f}, covered by the 90 % band: {coverage:.2f}, solves {posterior.meta['solves']}")
assert error < 0.8
assert coverage > 0.75
assert posterior.std.mean() < 0.9 * 1.5  # the floats took away a part of the prior's spread

# %% [markdown]
# ## The forecast
# Posterior draws sent through the flow give the states between and after the readings, with their spread. The prior's
# draws, sent the same way, say what was known without any float.

# %%
times = [0.0, read_at[-1], final]
ahead = flow(points, step, times)
generator = torch.Generator().manual_seed(4)
draws = ahead(posterior.sample((48,), generator=generator))
blind = ahead(problem.prior.sample((48,), generator=generator))
came = flow(2 * points, step / 2, times)(truth)[:, ::2, ::2]
for i, time in enumerate(times):
    off = (draws[:, i].mean(0) - came[i]).square().mean().sqrt()
    print(
        f"time {time:.1f}: error {off:.2f}, std {draws[:, i].std(0).mean():.2f}, prior {blind[:, i].std(0).mean():.2f}"
    )
    assert off < 0.8 * (blind[:, i].mean(0) - came[i]).square().mean().sqrt()
low, high = draws[:, -1].quantile(0.05, 0), draws[:, -1].quantile(0.95, 0)
inside = ((low <= came[-1]) & (came[-1] <= high)).double().mean()
print(f"90 % bands of the forecast hold {inside:.2f} of what came")
assert inside > 0.7

# %%
figure = new_figure(9.5, 9.0)
panels = figure.subplots(3, 3)
extent = (0, 2 * torch.pi, 0, 2 * torch.pi)
top = float(came.abs().max())
spread = float(draws.std(0).max())
for column, time in enumerate(times):
    what = {0: "start", 1: "last reading"}.get(column, "forecast")
    rows = {
        f"{what}: truth, time {time:.1f}": came[column],
        "posterior mean": draws[:, column].mean(0),
        "posterior std": draws[:, column].std(0),
    }
    for axes, (title, field) in zip(panels[:, column], rows.items(), strict=True):
        sure = title.endswith("std")
        limits = (
            {"cmap": SPREAD_MAP, "vmin": 0, "vmax": spread} if sure else {"cmap": "RdBu_r", "vmin": -top, "vmax": top}
        )
        shown = axes.imshow(field.numpy(), origin="lower", extent=extent, interpolation="bicubic", **limits)
        dress(axes, title)
        if column < 2:
            axes.scatter(*places.T, s=10, facecolor="white", edgecolor="black", linewidth=0.6)
        if column == 2:
            colour_bar(figure, shown, [axes], "vorticity")
figure.savefig("vortices.png")

# %% [markdown]
# ## What to try next
# - Later readings: `read_at = [2.0, 4.0]`. The flow has mixed more, and the start becomes harder to tell than the end.
# - `viscosity=0.001` on a grid twice as fine; on the same grid the smallest scales are not resolved.
# - The forcing as unknown, `Evolution(..., unknown=("forcing",))`: `sciprob solve navier-stokes-forcing`.
# - A trained prior of flows: `sciprob solve navier-stokes-initial-learned`.
