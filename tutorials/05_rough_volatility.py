# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # How rough is volatility, and where will it be next month?
#
# The logarithm of a stock index' volatility moves like fractional Brownian motion with a Hurst index near 0.1, much
# rougher than Brownian motion (Gatheral, Jaisson and Rosenbaum, 2018). Here the index is estimated from daily prices
# by the exact likelihood, with its uncertainty, and turned into forecasts whose bands are then checked on days they
# have not seen.
#
# The prices come from the package `arch` (`pip install arch`). Without it, the tutorial goes on with a simulated
# series.

# %%
import os

import torch

import sciprob
from sciprob.errors import MissingExtraError
from sciprob.io.package_series import package_series
from sciprob.plot.style import DATA, MUTED, POSTERIOR, TRUTH, dress, legend, new_figure
from sciprob.problems.registry import build_problem
from sciprob.sde import AffineSDE, DensePathPosterior, PathData, sample_fbm

quick = "SCIPROB_SMOKE" in os.environ  # the tests use fewer days

try:
    volatility, source = package_series("sp500"), "S&P 500"
except MissingExtraError as error:
    print(f"{error} Meanwhile: a simulated series.")
    generator = torch.Generator().manual_seed(0)
    volatility = 0.5 * sample_fbm(5030, 0.07, generator=generator, normalisation="unit") - 5.0
    source = "simulated"
volatility = volatility[-4500:]
print(f"{source}: log volatility of {len(volatility)} days")

# %% [markdown]
# ## The Hurst index
# A `fractional-series` problem takes any series in a CSV file with the columns `time,value`. The values are levels
# of the noise and not its increments: a river's flow would be the latter, and confusing the two shifts H by 1. Only
# the first 2000 days are used, so that the rest can test the forecasts. The bar is the standard error from the
# curvature of the likelihood.

# %%
days = 400 if quick else 2000
past = volatility[2000 - days : 2000]
with open("log_volatility.csv", "w") as file:
    file.write("time,value\n" + "\n".join(f"{t},{v}" for t, v in enumerate(past.tolist())))

table = {"kind": "fractional-series", "observed": "levels", "forecast": 20}
problem = build_problem(table, name="volatility", data="log_volatility.csv")
posterior = sciprob.solve(problem, "kalman", progress=False, device="cpu")
found = posterior.meta["diagnostics"]
print(f"H = {found['hurst']:.3f} +- {found['hurst_std_error']:.3f}, scale {found['scale']:.3f} per day")
assert found["hurst"] + 3 * found["hurst_std_error"] < 0.25

# %% [markdown]
# Volatility is itself an estimate from four prices a day, with an error of about 0.26. Errors look like roughness,
# so the index is estimated once more with errors of unknown size. On the S&P 500's first 2000 days they explain much
# of the roughness: H is then near 0.26. Forecasts tell the two apart only a little, as the table below shows.

# %%
noisy = build_problem(table | {"std": {"start": 0.1}}, name="noisy", data="log_volatility.csv")
both = sciprob.solve(noisy, "kalman", progress=False, device="cpu").meta["diagnostics"]
print(f"with errors: H = {both['hurst']:.3f} +- {both.get('hurst_std_error', 0):.3f}, errors {both['noise_std']:.3f}")

# %% [markdown]
# ## A forecast
# The posterior is known at all times, those after the last value included. Its bands are given the estimates of H
# and scale; how much do these matter? Independent draws of both around their estimates (in logit and logarithm) give
# a mixture of forecasts: one call for the whole batch.

# %%
window, ahead = 250, 20
recent, times = past[-window:], torch.arange(window, dtype=torch.float64)
future = torch.arange(window, window + ahead, dtype=torch.float64)


def forecast(hurst, scale, values, error=1e-3):
    """Mean and std of the next days' values, `(*batch, ahead)`; the level before the window is unknown."""
    level = values.mean(-1, keepdim=True)
    sde = AffineSDE(hurst, scale=scale, initial_std=10.0)
    mean, std = DensePathPosterior(sde, PathData(times, values - level, error)).at(future)
    return mean + level, (std.square() + error**2).sqrt()


def real(name):
    return torch.tensor(found[name], dtype=torch.float64)


generator = torch.Generator().manual_seed(1)
white = torch.randn(2, 20, dtype=torch.float64, generator=generator)
slope = 1 / (real("hurst") * (1 - real("hurst")))
hurst = torch.sigmoid(torch.logit(real("hurst")) + slope * real("hurst_std_error") * white[0])
scale = real("scale") * torch.exp(real("scale_std_error") / real("scale") * white[1])
means, stds = forecast(hurst, scale, recent)
mixture_std = (stds.square().mean(0) + means.var(0)).sqrt()
mean, std = forecast(real("hurst"), real("scale"), recent)
print(f"std in {ahead} days: {std[-1]:.3f} with the estimates, {mixture_std[-1]:.3f} with their uncertainty")
assert abs(float(mixture_std[-1] / std[-1]) - 1) < 0.2

# %% [markdown]
# ## Are the bands right?
# A rolling origin: from every tenth later day the next 20 days are forecast from the 250 before, with H and scale as
# estimated from the first 2000 days. Brownian motion with the daily std of the same days does the same. Both in one
# batch: the covariance of the data is factorised once for all origins.

# %%
origins = range(2000, len(volatility) - ahead, 50 if quick else 10)
before = torch.stack([volatility[o - window : o] for o in origins])
after = torch.stack([volatility[o : o + ahead] for o in origins])
mean, std = forecast(real("hurst"), real("scale"), before)
noisy_hurst, noisy_scale = (torch.tensor(both[name], dtype=torch.float64) for name in ("hurst", "scale"))
noisy_mean, noisy_std = forecast(noisy_hurst, noisy_scale, before, both["noise_std"])
brownian_mean, brownian_std = forecast(torch.tensor(0.5, dtype=torch.float64), past.diff().std(), before)


def covered(level, mean, std):
    z = torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64))
    return float(((after - mean).abs() <= z * std).double().mean())


def crps(mean, std):
    """Mean continuous ranked probability score of Gaussian forecasts, smaller is better."""
    z = (after - mean) / std
    density = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5
    return float((std * (z * (2 * torch.special.ndtr(z) - 1) + 2 * density - torch.pi**-0.5)).mean())


levels = (0.5, 0.8, 0.9, 0.95)
rough = [covered(level, mean, std) for level in levels]
noisy_too = [covered(level, noisy_mean, noisy_std) for level in levels]
brownian = [covered(level, brownian_mean, brownian_std) for level in levels]
print(f"{len(before)} origins, days out of sample")
print("nominal  ", *(f"{level:6.2f}" for level in levels), "   CRPS")
print("rough    ", *(f"{c:6.2f}" for c in rough), f"{crps(mean, std):7.3f}")
print("+ errors ", *(f"{c:6.2f}" for c in noisy_too), f"{crps(noisy_mean, noisy_std):7.3f}")
print("Brownian ", *(f"{c:6.2f}" for c in brownian), f"{crps(brownian_mean, brownian_std):7.3f}")

# %% [markdown]
# The rough bands hold close to what they promise; those of Brownian motion are far too wide, since they do not know
# that volatility comes back. That the rough ones hold a little less than promised is honest too: days after crashes
# are not Gaussian.

# %%
figure = new_figure(9.0, 6.4, f"Rough volatility, {source}")
panels = figure.subplots(2, 2)
h, gain = torch.tensor(found["hurst_profile"]).unbind(1)
panels[0, 0].plot(h, gain.exp(), color=POSTERIOR)
dress(panels[0, 0], f"H = {found['hurst']:.3f} ± {found['hurst_std_error']:.3f}", "H", "relative likelihood")
shown = len(before) // 2
t = torch.arange(-60, ahead)
panels[0, 1].plot(t[:60], before[shown, -60:], color=DATA, lw=0.8, label="past")
panels[0, 1].plot(t[60:], after[shown], color=TRUTH, lw=0.8, label="what came")
for centre, spread, colour, name in ((mean, std, POSTERIOR, "rough"), (brownian_mean, brownian_std, MUTED, "Brownian")):
    low, high = (centre + sign * 1.645 * spread for sign in (-1, 1))
    panels[0, 1].fill_between(t[60:], low[shown], high[shown], color=colour, alpha=0.3, lw=0, label=f"{name}, 90 %")
dress(panels[0, 1], "One forecast", "days", "log volatility")
legend(panels[0, 1], loc="upper left")
by_day = ((after - mean).abs() <= 1.645 * std).double().mean(0)
by_day_brownian = ((after - brownian_mean).abs() <= 1.645 * brownian_std).double().mean(0)
panels[1, 0].plot(range(1, ahead + 1), by_day, "o-", ms=3, color=POSTERIOR, label="rough")
panels[1, 0].plot(range(1, ahead + 1), by_day_brownian, "o-", ms=3, color=MUTED, label="Brownian")
panels[1, 0].axhline(0.9, color=TRUTH, lw=0.8)
dress(panels[1, 0], "Coverage of 90 % bands", "days ahead", "fraction inside")
legend(panels[1, 0])
pit = torch.special.ndtr((after - mean) / std).flatten()
panels[1, 1].hist(pit, bins=20, range=(0, 1), density=True, color=POSTERIOR, alpha=0.6)
panels[1, 1].axhline(1.0, color=TRUTH, lw=0.8)
dress(panels[1, 1], "Where the days fell in the forecast", "probability integral transform", "density")
figure.savefig("rough_volatility.png")

# %%
assert abs(rough[2] - 0.9) < 0.07
assert brownian[2] > rough[2]
assert crps(mean, std) < 0.8 * crps(brownian_mean, brownian_std)
