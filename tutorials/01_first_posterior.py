# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A first posterior
#
# Where does the heat come from? A thin rod has a temperature that solves $-u'' = f$, with $u = 0$ at both
# ends. Twelve noisy thermometers give $u$; the source $f$ is sought, with error bands.
#
# Everything in `sciprob` is prior x forward operator x likelihood -> posterior.

# %%
import torch

import sciprob
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import DenseMap, PointObservation
from sciprob.priors import GridMatern
from sciprob.spaces import GridSpace

rod = GridSpace((101,), name="source", dims=("x",), lower=(0.0,), upper=(1.0,))
x = rod.axis(0)

# %% [markdown]
# ## The forward operator
# The Green's function of the rod is $g(x, s) = \min(x, s)\,(1 - \max(x, s))$; the trapezoidal rule makes it
# a matrix.

# %%
weights = torch.full((101,), rod.spacing[0], dtype=torch.float64)
weights[[0, -1]] /= 2
green = torch.minimum(x[:, None], x) * (1 - torch.maximum(x[:, None], x)) * weights
temperature = DenseMap(green, domain=rod, codomain=GridSpace((101,), "u", ("x",), "K", lower=(0.0,), upper=(1.0,)))

thermometers = torch.linspace(0.05, 0.95, 12, dtype=torch.float64)[:, None]
operator = PointObservation(temperature.codomain, thermometers) @ temperature

# %% [markdown]
# ## Prior, noise, data

# %%
prior = GridMatern(rod, std=1.0, length=0.2, smoothness=1.5)
problem = sciprob.Problem("rod", prior, Likelihood(operator, GaussianNoise(operator.codomain, 1e-3)))
problem = problem.simulate(torch.Generator().manual_seed(3))

# %% [markdown]
# ## Two solvers, one answer
# The problem is linear and Gaussian, so `gaussian` is exact; `pcn` samples the same posterior without using
# that.

# %%
exact = sciprob.solve(problem, "gaussian", progress=False)
sampled = sciprob.solve(problem, "pcn", seed=1, progress=False)

difference = ((sampled.mean - exact.mean) / exact.std).abs().mean().item()
print(f"pcn against the exact mean: {difference:.3f} posterior standard deviations on average")
assert difference < 0.2

# %% [markdown]
# The 90 % band should hold about 90 % of the truth, and the data should narrow the prior.

# %%
low, high = exact.interval(0.9)
covered = ((low <= problem.truth) & (problem.truth <= high)).double().mean().item()
print(f"covered by the 90 % band: {covered:.2f}; std falls from 1 to {exact.std.mean().item():.2f}")
assert covered > 0.75
assert exact.std.mean() < 0.6

# %%
figure = exact.plot(truth=problem.truth)
