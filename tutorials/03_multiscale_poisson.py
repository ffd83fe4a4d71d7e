# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Two scales at once
#
# $-u'' = f$ on $(0, 1)$ with $u = 0$ at both ends, and a solution with a slow and a fast wave,
# $u = \sin 2\pi x + \tfrac{1}{10} \sin 50\pi x$. In the source the fast wave is 62 times as strong as the slow one. A
# physics-informed network loses both; a Gaussian process whose kernel knows the frequencies has seven digits
# of both in a second, with a band. Then the source is unknown, and sensors with noise take its place.

# %%
import torch
from torch import nn

import sciprob
from sciprob.pde import HardCondition, columns, network_jets
from sciprob.pde.collocation import Collocation
from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.pde.poisson import Poisson
from sciprob.pde.side_conditions import SideCondition
from sciprob.priors.kernels.spectrum import initial_mixture, spectral_peaks
from sciprob.problems.collocation_problem import collocation_problem
from sciprob.solvers.kronecker_gp import condition

PI = torch.pi


def solution(x):
    return torch.sin(2 * PI * x) + 0.1 * torch.sin(50 * PI * x)


def source(x):
    return (2 * PI) ** 2 * torch.sin(2 * PI * x) + 0.1 * (50 * PI) ** 2 * torch.sin(50 * PI * x)


equation = Poisson("x")
fine = torch.linspace(0, 1, 1001, dtype=torch.float64)


def relative_error(u):
    return ((u - solution(fine)).norm() / solution(fine).norm()).item()


# %% [markdown]
# ## A network
# `network_jets` carries derivatives through the layers; the boundary values are built in, and the residual is
# scaled to one. In some hundred steps of Adam the residual does not fall: what it is made of, the fast wave, is
# what such networks learn last.

# %%
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)).double()
ends = HardCondition(lift=lambda *_: {}, distance=lambda x, _: {"u": x["x"] * (1 - x["x"])})


def field(points):
    return ends(columns(points, "x"), network_jets(network, points, "x", equation.fields))


nodes = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
f = source(nodes[:, 0])
optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
for _ in range(400):
    residual = equation(columns(nodes, "x"), field(nodes), {"forcing": f})["poisson"] / f.std()
    optimiser.zero_grad()
    residual.square().mean().backward()
    optimiser.step()

by_network = field(fine[:, None])["u"].value.detach()
left = residual.square().mean().sqrt().item()
print(f"network: residual {left:.2f} of the source, relative error {relative_error(by_network):.2f}")
assert relative_error(by_network) > 0.3

# %% [markdown]
# ## A Gaussian process that reads the spectrum
# For $-u''$ the spectrum of the solution is that of the source divided by $(2\pi s)^2$, so the frequencies are known
# before anything is solved. With them in the kernel, the equation at 201 points and two boundary values are
# linear data, and conditioning on them is linear algebra. `sm-gp` does all of this from the problem alone. What
# the equation says between those points is not used, so it can judge the result.

# %%
walls = tuple(SideCondition.dirichlet(side) for side in ("x_lower", "x_upper"))
rod = Collocation(equation, (0.0,), (1.0,), (201,), {"forcing": lambda x: source(x["x"])}, walls)
problem = collocation_problem("two-scales", rod)
posterior = sciprob.solve(problem, "sm-gp", progress=False)
inside = posterior.at(fine[:, None])
seconds = posterior.meta["seconds"]
print(f"sm-gp: relative error {relative_error(inside.mean):.1e} in {seconds:.2f} s; largest std {inside.std.max():.1e}")
assert relative_error(inside.mean) < 1e-6

# %% [markdown]
# ## Sensors instead of the source
# Now nobody knows $f$. A hundred sensors read $u$ with errors of 0.02, and the question is what the source looks
# like: a second derivative of noisy data. The peak of their spectrum gives the fast wave. How fast its
# amplitude and the slow part may vary is the width of the kernel's envelopes, and the evidence chooses it.

# %%
generator = torch.Generator().manual_seed(0)
places = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
readings = solution(places) + 0.02 * torch.randn(100, dtype=torch.float64, generator=generator)
peaks = spectral_peaks(readings, (places[1] - places[0]).item())
print("frequencies in the readings:", [f"{s:.2f}" for s in peaks.frequencies.tolist()])

one, std = torch.ones(1, dtype=torch.float64), torch.tensor(0.02, dtype=torch.float64)
sensors = Functionals("sensors", ("x",), ScatteredPoints(places[:, None]), {"": one}, readings, std)
rows = [*rod.conditions_at(), sensors]


def given(scale):
    kernel = initial_mixture(peaks.frequencies, peaks.amplitudes, 1.0, scale=scale, variance=1.0)
    return condition([kernel], rows, null_space=2)


candidates = {scale: given(scale) for scale in (1.0, 2.0, 3.0, 4.0, 6.0)}
for scale, candidate in candidates.items():
    print(f"envelopes per length {scale:.0f}: log evidence {candidate.log_evidence.item():.1f}")
best = max(candidates.values(), key=lambda candidate: candidate.log_evidence.item())

# %% [markdown]
# The source is a derivative of the field, so it comes with a band of its own.

# %%
line = TensorPoints((fine,))
u, u_std = best.mean(line), best.std(line)
f_mean, f_std = -best.mean(line, "xx"), best.std(line, "xx")


def covered(mean, std, truth):
    return ((mean - truth).abs() <= 1.96 * std).double().mean().item()


print(
    f"field: relative error {relative_error(u):.3f}, covered by the 95 % band: {covered(u, u_std, solution(fine)):.2f}"
)
f_error = ((f_mean - source(fine)).norm() / source(fine).norm()).item()
print(f"source: relative error {f_error:.2f}, covered by the 95 % band: {covered(f_mean, f_std, source(fine)):.2f}")
assert f_error < 0.2
assert 0.85 < covered(f_mean, f_std, source(fine)) <= 1.0

# %%
from sciprob.plot.style import DATA, MUTED, POSTERIOR, TRUTH, dress, legend, new_figure  # noqa: E402

figure = new_figure(9.0, 5.6)
panels = figure.subplots(2, 2)
panels[0, 0].plot(fine, by_network, color=MUTED, lw=1, label="network")
panels[0, 0].plot(fine, inside.mean, color=POSTERIOR, lw=1, label="sm-gp")
panels[0, 0].plot(fine, solution(fine), color=TRUTH, lw=1, ls=":", label="truth")
dress(panels[0, 0], "The source known", "x", "u")
panels[0, 1].fill_between(fine, -1.96 * inside.std, 1.96 * inside.std, color=POSTERIOR, alpha=0.25, label="95 % band")
panels[0, 1].plot(fine, inside.mean - solution(fine), color=TRUTH, lw=0.8, label="error of sm-gp")
dress(panels[0, 1], "Its error", "x", "u - truth")
shown = fine <= 0.3
panels[1, 0].fill_between(fine, u - 1.96 * u_std, u + 1.96 * u_std, where=shown, color=POSTERIOR, alpha=0.25)
panels[1, 0].plot(fine[shown], u[shown], color=POSTERIOR, lw=1, label="posterior")
panels[1, 0].plot(fine[shown], solution(fine)[shown], color=TRUTH, lw=1, ls=":", label="truth")
panels[1, 0].plot(places[places <= 0.3], readings[places <= 0.3], ".", color=DATA, ms=4, label="sensors")
dress(panels[1, 0], "The source unknown: field", "x", "u")
panels[1, 1].fill_between(fine, f_mean - 1.96 * f_std, f_mean + 1.96 * f_std, where=shown, color=POSTERIOR, alpha=0.25)
panels[1, 1].plot(fine[shown], f_mean[shown], color=POSTERIOR, lw=1, label="posterior")
panels[1, 1].plot(fine[shown], source(fine)[shown], color=TRUTH, lw=1, ls=":", label="truth")
dress(panels[1, 1], "The source unknown: source", "x", "f")
panels[1, 1].set_ylim(-3200, 4500)
for panel, place in zip(panels.flat, ("upper right", "upper right", "lower right", "upper right"), strict=True):
    legend(panel, loc=place)
