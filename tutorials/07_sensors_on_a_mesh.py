# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Sensors on a mesh
#
# Ground water flows from left to right around an impermeable pile. Twelve wells measure its level $u$, which solves
# $-\nabla \cdot (e^m \nabla u) = f$. How permeable is the ground between them, and where should the next wells be?

# %%
import torch

import sciprob
from sciprob.engines.choice import elliptic_engine
from sciprob.io.mesh import load_mesh
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import PointObservation
from sciprob.plot.panels import draw_field
from sciprob.plot.style import FIELD_MAP, SPREAD_MAP, colour_bar, dress, new_figure
from sciprob.priors import FEMatern
from sciprob.studies.design import next_sensors, places, readings_at

# %% [markdown]
# ## The equation on two meshes
# One mesh for the inversion, and one with five times as many nodes that plays nature: truth and data are made
# there, so that the result does not profit from sharing its errors. Parts of the boundary have names; those without
# a value let nothing through.

# %%
engine = elliptic_engine("auto")  # FEniCSx, or torch on a GPU and where FEniCSx is missing


def ground_on(name: str):
    """Log-conductivity -> water level, both piecewise linear on a mesh."""
    mesh = load_mesh(name)
    print(f"{name}: {len(mesh.points)} nodes, parts of the boundary: {', '.join(mesh.names)}")
    return engine.elliptic_operator(mesh, 1, source=2.0, dirichlet={"left": 1.0, "right": 0.0})


def prior_on(ground) -> FEMatern:
    """Log-conductivity before any well: a Gaussian field, the same law on every mesh."""
    return FEMatern(ground.domain, std=1.0, length=0.3, smoothness=1.0)


ground, nature = ground_on("square_with_hole"), ground_on("square_with_hole_fine")
true_field = prior_on(nature).sample(generator=torch.Generator().manual_seed(4))
true_level = nature(true_field)
truth = PointObservation(nature.domain, ground.domain.points())(true_field)

# %% [markdown]
# ## Twelve wells
# A well may stand anywhere in the domain. It reads the level with an error of 0.01, one per cent of its range.

# %%
candidates = places(PointObservation(ground.codomain, ground.domain.points()[:1]) @ ground, 160)
inside = ((candidates > 0.05) & (candidates < 0.95)).all(1)
candidates = candidates[inside]
shuffled = candidates[torch.randperm(len(candidates), generator=torch.Generator().manual_seed(1))]


def wells_at(points: torch.Tensor, seed: int = 2) -> sciprob.Problem:
    """The problem with wells at some points, and data from the finer mesh."""
    operator = PointObservation(ground.codomain, points) @ ground
    noise = GaussianNoise(operator.codomain, 0.01)
    clean = PointObservation(nature.codomain, points)(true_level)
    data = noise.sample(clean, generator=torch.Generator().manual_seed(seed))
    return sciprob.Problem("wells", prior_on(ground), Likelihood(operator, noise), data=data, truth=truth)


first = shuffled[:12]
posterior = sciprob.solve(wells_at(first), "laplace", progress=False)
coverage = posterior.meta["coverage"]["0.9"]
print(f"relative error {posterior.meta['relative_error']:.2f}, covered by the 90 % band: {coverage:.2f}")
assert coverage > 0.75
assert posterior.std.max() < 1.3  # nowhere much less sure than before

# %% [markdown]
# ## Where do the next wells tell most?
# For each candidate the posterior says by how much its reading would lower the summed variances of the field. The
# best is chosen, then the next given that one, and so on. Six wells elsewhere, at random, are there to compare.

# %%
design = next_sensors(posterior, readings_at(wells_at(first).operator, candidates), 0.01, count=6, criterion="variance")
chosen, random = candidates[design.chosen], shuffled[12:18]
better = sciprob.solve(wells_at(torch.cat([first, chosen])), "laplace", progress=False)
other = sciprob.solve(wells_at(torch.cat([first, random])), "laplace", progress=False)
left, left_random = (p.std.square().mean() / posterior.std.square().mean() for p in (better, other))
expected = design.variance_after / design.variance_before
print(f"mean variance left: chosen {left:.2f} (expected {expected:.2f}), random {left_random:.2f}")
assert left < left_random
assert left < 0.95

# %%
figure = new_figure(11.0, 6.6)
panels = figure.subplots(2, 3)
fields = {
    "truth": truth,
    "posterior mean, 12 wells": posterior.mean,
    "posterior mean, 6 more": better.mean,
}
low, high = float(truth.min()), float(truth.max())
for axes, (title, field) in zip(panels[0], fields.items(), strict=True):
    shown = draw_field(axes, ground.domain, field, title, cmap=FIELD_MAP, vmin=low, vmax=high)
colour_bar(figure, shown, list(panels[0]), "log-conductivity")
value = panels[1, 0].scatter(*candidates.T, c=design.first, cmap=SPREAD_MAP, s=26)
panels[1, 0].set_aspect("equal")
dress(panels[1, 0], "variance that one well takes away", "x", "y")
top = float(posterior.std.max())
for axes, (title, field) in zip(
    panels[1, 1:], {"std, 12 wells": posterior.std, "std, 6 more": better.std}.items(), strict=True
):
    shown = draw_field(axes, ground.domain, field, title, cmap=SPREAD_MAP, vmin=0.0, vmax=top)
colour_bar(figure, shown, list(panels[1]), "std")
for axes in panels.ravel()[1:]:
    axes.scatter(*first.T, s=14, facecolor="white", edgecolor="black", linewidth=0.7)
for axes in (panels[0, 2], panels[1, 0], panels[1, 2]):
    axes.scatter(*chosen.T, s=34, marker="^", facecolor="#c8452b", edgecolor="white", linewidth=0.7)
figure.savefig("wells.png")

# %% [markdown]
# ## What to try next
# - `criterion="information"`: what tells most about the whole field, rather than where it is least known.
# - A mesh of your own: `load_mesh("mine.msh")`, with physical groups of gmsh as names of the boundary.
# - The same from a file: `sciprob copy darcy-sensors`, then `--data wells.csv`.
# - `pcn` in the place of `laplace`: does the Gaussian at the mode say enough?
