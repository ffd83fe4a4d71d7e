# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # One training, many answers
#
# A wave between two walls obeys $u_t + a u u_x = \nu u_{xx}$, $u(x, 0) = \sin(2 \pi w x) \sin(\pi x)$. How viscous is
# the fluid, if thirty noisy values of the wave are known? And how viscous is the next one? A random-grid neural
# process is trained once, on the equation alone, and then answers for all viscosities $\nu$, advections $a$ and
# initial waves $w$ of a box.

# %%
import os

import torch
from torch.distributions import Uniform

import sciprob
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import ForwardOperator
from sciprob.plot.style import DATA, FIELD_MAP, MUTED, POSTERIOR, TRUTH, colour_bar, dress, legend, new_figure
from sciprob.priors import DistributionPrior
from sciprob.solvers.rgnp import GaussNewton, NetworkShape, RandomGridNeuralProcess
from sciprob.spaces import Space

quick = "SCIPROB_SMOKE" in os.environ  # the tests train a small network for seconds

# %% [markdown]
# ## The family and the training
# A family says everything about the problem: the equation, its domain, the boxes of parameters, and the
# conditions, which hold exactly whatever the network does.

# %%
family = sciprob.load_family("burgers-family")
print("unknown", family.unknown.names, "known", family.known.names, "domain", family.domain.coordinates)

size = NetworkShape(20, 3) if quick else NetworkShape(44, 4)
steps = GaussNewton(points=300, steps=60) if quick else GaussNewton(points=1500, steps=250)
solver = RandomGridNeuralProcess(network=size, gauss_newton=steps)
amortised = sciprob.fit(family, solver, seed=0, progress=not quick, device="cpu")

# %% [markdown]
# ## Forward
# A solution for parameters that were never trained on, with a standard deviation, beside the exact one. Points are
# arbitrary.

# %%
x = family.domain.sample(200, torch.Generator().manual_seed(1))  # columns x and t
z, w = torch.tensor([0.03, 0.8], dtype=torch.float64), torch.tensor([1.2], dtype=torch.float64)
solution = amortised.predict(z, w, x)
exact = family.solve(z, w, x)
error = (solution.mean - exact).norm() / exact.norm()
covered = ((solution.mean - exact).abs() <= 2 * solution.std).double().mean()
print(f"relative error {error:.4f}, within two standard deviations: {covered:.2f}")
assert error < (0.3 if quick else 0.05)

# %% [markdown]
# ## Inverse
# Thirty values with noise of 0.01, anywhere in space and time, made with the exact solution. The posterior of
# viscosity and advection counts the network's own doubt as noise. It takes a second, and for another data set a
# second again.

# %%
noise = 0.01
places = family.domain.sample(30, torch.Generator().manual_seed(2))
data = family.solve(z, w, places) + noise * torch.randn(30, 1, generator=torch.Generator().manual_seed(3)).double()
posterior = amortised.infer(places, data, noise, w, generator=torch.Generator().manual_seed(4))
print("viscosity", f"{posterior.mean[0]:.4f} +- {posterior.std[0]:.4f}", "truth", float(z[0]))
assert abs(posterior.mean[0] - z[0]) < 4 * posterior.std[0]

# %% [markdown]
# ## The same by Monte Carlo on the true operator
# Without any network: the exact solution as a forward operator, a uniform prior, `pcn`. The thousands of solves
# that this takes are cheap here only because the equation has a closed form.


# %%
class Wave(ForwardOperator):
    """(viscosity, advection) to the exact wave at the places of the data."""

    def __init__(self) -> None:
        super().__init__(family.unknown.space, Space((len(places), 1), "u"))

    def _apply_batched(self, m):
        return family.solve(m, w, places)


lower, upper = family.unknown.ends(z)
prior = DistributionPrior(family.unknown.space, Uniform(lower, upper))


def problem(operator):
    """The inverse problem with either operator."""
    return sciprob.Problem("viscosity", prior, Likelihood(operator, GaussianNoise(operator.codomain, noise)), data=data)


pcn = sciprob.solvers.PCN(samples=50 if quick else 500, thin=2, burn_in=50 if quick else 200)
exact_posterior = sciprob.solve(problem(Wave()), pcn, seed=0, progress=False)
print("viscosity", f"{exact_posterior.mean[0]:.4f} +- {exact_posterior.std[0]:.4f}", "by pcn on the true operator")
shift = (posterior.mean - exact_posterior.mean).abs() / exact_posterior.std
print("means apart, in standard deviations:", [f"{s:.2f}" for s in shift.tolist()])
print("standard deviations, ratio:", [f"{s:.2f}" for s in (posterior.std / exact_posterior.std).tolist()])
assert quick or shift.max() < 0.5

# %% [markdown]
# The trained mean is a forward operator too, so that every solver runs on it.

# %%
surrogate = sciprob.solve(problem(amortised.operator(places, w)), "laplace", seed=0, progress=False)
print("viscosity", f"{surrogate.mean[0]:.4f} +- {surrogate.std[0]:.4f}", "by laplace on the trained map")

# %% [markdown]
# ## Where not to trust it
# Outside the box that was trained it warns, and its standard deviation rises. The residual needs no reference: it
# tells how well the equation holds.

# %%
import warnings  # noqa: E402

viscosities = torch.logspace(-2.5, -0.5, 5 if quick else 25, dtype=torch.float64)
others, same = torch.stack([viscosities, z[1].expand_as(viscosities)], 1), w.expand(len(viscosities), 1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    stds = torch.stack([amortised.std(other, w, x).square().mean().sqrt() for other in others])
    errors = (amortised.mean(others, same, x) - family.solve(others, same, x)).square().mean((1, 2)).sqrt()
inside = (viscosities >= lower[0]) & (viscosities <= upper[0])
print(f"standard deviation {stds[inside].mean():.1e} inside, {stds[~inside].mean():.1e} outside")
print(f"error              {errors[inside].mean():.1e} inside, {errors[~inside].mean():.1e} outside")
print("residual, root mean square:", float(amortised.residual(z, w, x)["momentum"].square().mean().sqrt()))
assert stds[~inside].mean() > 2 * stds[inside].mean()

# %% [markdown]
# ## All in one picture
# The wave steepens and decays; crosses are the thirty places. The map's errors are below a hundredth of
# the wave, and its bands say so. The two posteriors, with and without the equation being solved, lie on each other. Far
# outside of the box the errors are a hundred times larger, and the standard deviation is nearly as large.

# %%
along, times = torch.linspace(0, 1, 101, dtype=torch.float64), torch.linspace(0, 1, 81, dtype=torch.float64)
wave = amortised.mean(z, w, torch.cartesian_prod(along, times)).reshape(101, 81)
figure = new_figure(9.6, 7.0, "One training, many answers")
panels = figure.subplots(2, 2)
image = panels[0, 0].pcolormesh(along, times, wave.T, cmap=FIELD_MAP, shading="gouraud")
panels[0, 0].plot(places[:, 0], places[:, 1], "+", color="white", ms=6)
dress(panels[0, 0], "Predicted wave, and where it is measured", "x", "t")
colour_bar(figure, image, [panels[0, 0]], "u")

for t, colour in ((0.25, POSTERIOR), (0.75, TRUTH)):
    line = torch.stack([along, torch.full_like(along, t)], 1)
    law, true = amortised.predict(z, w, line), family.solve(z, w, line)
    panels[0, 1].fill_between(along, -2 * law.std[:, 0], 2 * law.std[:, 0], color=colour, alpha=0.2, lw=0)
    panels[0, 1].plot(along, (law.mean - true)[:, 0], color=colour, lw=1, label=f"t = {t}")
dress(panels[0, 1], "Error of the prediction, band of 2 std", "x", "error of u")
legend(panels[0, 1])

members = posterior.sample((800,), generator=torch.Generator().manual_seed(5))
chain = exact_posterior.samples[::2]
panels[1, 0].plot(*chain.T, "o", color=MUTED, ms=3, alpha=0.5, mew=0.2, label="pcn, true operator")
panels[1, 0].plot(*members.T, "o", color=POSTERIOR, ms=3, alpha=0.5, mew=0.2, label="infer, trained map")
panels[1, 0].plot(*z[:, None], "+", color=TRUTH, ms=12, mew=2, label="truth")
panels[1, 0].locator_params(nbins=5)
dress(panels[1, 0], "Posterior from thirty noisy values", "viscosity", "advection")
legend(panels[1, 0], loc="lower right", markerscale=1.5)

panels[1, 1].loglog(viscosities, stds, color=POSTERIOR, label="standard deviation")
panels[1, 1].loglog(viscosities, errors, color=DATA, ls=":", label="true error")
panels[1, 1].axvspan(float(lower[0]), float(upper[0]), color=MUTED, alpha=0.15, lw=0, label="trained")
dress(panels[1, 1], "Inside and outside of the box", "viscosity", "root mean square")
legend(panels[1, 1])
figure.savefig("one_training.png")
