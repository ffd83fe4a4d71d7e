# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # What the data say, what the prior says
#
# An acrylic disc with holes was scanned by X-rays, but only from 30 of 360 degrees (Helsinki Tomography Challenge
# 2022, level 7). Rays along an edge show where it is; edges along which no ray passed are not in the data. A prior
# that knows discs with holes says what they look like, and the posterior says how sure it is.
#
# The scan is real. It is fetched once from the published record, or taken from the folder that the variable
# `SCIPROB_DATA` names; without it the tutorial ends here.

# %%
import os
import sys

import torch

import sciprob
from sciprob.errors import DataError
from sciprob.io.htc import fetch_scan, read_segmentation
from sciprob.metrics.probabilities import reliability
from sciprob.operators.xray import FilteredBackProjection
from sciprob.plot.reliability import reliability_panel
from sciprob.plot.style import SPREAD_MAP, colour_bar, dress, new_figure
from sciprob.problems.tomography_report import material_probability
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble

quick = "SCIPROB_SMOKE" in os.environ  # the tests take fewer views, and few draws

try:
    scan = fetch_scan("tc")
except DataError as error:
    print(f"{error} The tutorial needs the scan, and ends here.")
    sys.exit(0)

# %% [markdown]
# ## The problem
# The unknown is the fraction of acrylic in each of 128 x 128 pixels. Readings were turned into lengths of material by
# a curve measured on a solid disc, so that the operator is linear: line integrals, with errors of about 1 %.

# %%
settings = {"span_degrees": 30.0, "largest_views": 12 if quick else 60}
problem = sciprob.load_problem("tomography-htc2022-learned", settings, data=scan)
reference = read_segmentation(scan)  # from all angles: used to judge, never to reconstruct
print(f"{problem.observed.numel()} line integrals for {problem.parameter.size} pixels")

# %% [markdown]
# ## What the data say
# Filtered back-projection uses nothing but the data. Edges at a right angle to the missing rays are there; the others
# are smeared out along the rays.

# %%
fbp = FilteredBackProjection(problem.operator)(problem.observed)

# %% [markdown]
# ## What the prior says
# A draw of the prior, without data. It was trained on drawn discs with holes of many shapes and never saw a scan.

# %%
generator = torch.Generator().manual_seed(0)
disc = problem.prior.sample(generator=generator)

# %% [markdown]
# ## What a simple prior makes of the data
# `tomography-htc2022` is the same scan with a simple prior: the fraction is the sigmoid of a smooth Gaussian field. The
# mode of its posterior fits the data, and where no ray runs along a wall between two holes, there is no wall.

# %%
plain = sciprob.load_problem("tomography-htc2022", settings | {"pixels": 128, "bin_by": 4}, data=scan)
gaussian = sciprob.solve(plain, "laplace", seed=0, progress=False, device="cpu")
gaussian.save("gaussian_field")

# %% [markdown]
# ## Both together
# Particles begin at draws of that posterior with noise as large as the spread of the discs. Level by level, the
# trained prior denoises them, the data correct what it draws, and less noise is added again. From pure noise a dozen
# particles would hardly find thousands of precise line integrals.

# %%
few = {"particles": 4, "steps": 4, "products": 10} if quick else {"particles": 16, "steps": 12, "products": 40}
solver = DiffusionEnsemble(start="gaussian_field", correctors=0 if quick else 1, **few)
posterior = sciprob.solve(problem, solver, seed=0, progress=False, device="cpu")
scores = posterior.meta
print(f"Matthews correlation: {scores['mcc']:.3f}; Gaussian field {gaussian.meta['mcc']:.3f}; ", end="")
print(f"filtered back-projection {scores['mcc_fbp']:.3f}")
assert scores["mcc"] > scores["mcc_fbp"] + 0.1
assert quick or scores["mcc"] > gaussian.meta["mcc"]

# %%
extent = (-37.97, 37.97, -37.97, 37.97)
figure = new_figure(12.0, 6.6)
panels = figure.subplots(2, 4)
images = {
    "filtered back-projection": fbp,
    "a draw of the prior": disc,
    "all angles (reference)": reference.double(),
    "Gaussian field: mean": gaussian.mean,
    "trained prior: mean": posterior.mean,
    "a draw of the posterior": posterior.samples[0],
    "another one": posterior.samples[-1],
}
for axes, (title, image) in zip(panels.ravel(), images.items(), strict=False):
    shown = axes.imshow(image.numpy(), origin="lower", extent=extent, cmap="gray", vmin=0.0, vmax=1.0)
    dress(axes, title)
colour_bar(figure, shown, list(panels[0]), "fraction of acrylic")
spread = panels[1, 3].imshow(posterior.std.numpy(), origin="lower", extent=extent, cmap=SPREAD_MAP, vmin=0.0)
dress(panels[1, 3], "posterior std")
colour_bar(figure, spread, [panels[1, 3]], "std")
figure.savefig("limited_angle.png")

# %% [markdown]
# ## Is the doubt in the right places, and of the right size?
# The data fix edges near the direction of some ray: there the posterior is sure, whatever the prior. Edges across the
# missing directions come from the prior, and their place is less certain.

# %%
if "edge_error_seen" in scores:
    print(f"edges known to {scores['edge_error_seen']:.2f} mm where rays pass along them,")
    print(f"and to {scores['edge_error_unseen']:.2f} mm where none does")

# %% [markdown]
# Where the posterior says that a pixel is material with probability 0.7, seven of ten such pixels should be: the
# reliability diagram compares with the reference. A curve flatter than the diagonal means more certainty than the data
# and the prior deserve.

# %%
probability = material_probability(posterior, reference)
diagram = reliability(probability.flatten(), reference.flatten())
figure = new_figure(8.5, 4.0)
first, second = figure.subplots(1, 2)
shown = first.imshow(probability.numpy(), origin="lower", extent=extent, cmap="gray", vmin=0.0, vmax=1.0)
dress(first, "probability of material", "x / mm", "y / mm")
colour_bar(figure, shown, [first], "probability")
reliability_panel(second, diagram, "all pixels")
figure.savefig("reliability.png")
print(f"calibration error {diagram.calibration_error:.3f}")
