# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A real scan
#
# An acrylic disc with holes turned under X-rays; 721 pictures of a line of detector bins are the data (Helsinki
# Tomography Challenge 2022). From a file to an image with error bars: what the raw numbers are, what filtered
# back-projection makes of them, and what a posterior adds when views become few.
#
# The scan is real. It is fetched once from the published record, or taken from the folder that the variable
# `SCIPROB_DATA` names; without it the tutorial ends here.

# %%
import os
import sys

import torch

import sciprob
from sciprob.errors import DataError
from sciprob.io.htc import fetch_scan, read_scan, read_segmentation
from sciprob.operators.xray import FilteredBackProjection
from sciprob.plot.style import SPREAD_MAP, colour_bar, dress, new_figure

quick = "SCIPROB_SMOKE" in os.environ  # the tests take fewer pixels

try:
    path = fetch_scan("ta")
except DataError as error:
    print(f"{error} The tutorial needs the scan, and ends here.")
    sys.exit(0)

# %% [markdown]
# ## What is in the file
# A reading is $-\log(I / I_0)$: the attenuation along one ray, from the source through the disc to a bin. The geometry
# comes with it.

# %%
scan = read_scan(path)
views, bins = scan.sinogram.shape
print(f"{views} views of {bins} bins of {scan.bin_width} mm; source at {scan.source_origin} mm from the axis")
turned = torch.rad2deg(scan.angles[-1] - scan.angles[0])
assert abs(turned - 360) < 1  # one turn
first, last = scan.sinogram[0], scan.sinogram[-1]
assert (first - last).abs().mean() < 0.02 * first.max()  # and after it the same picture again

# %% [markdown]
# ## One problem, several numbers of views
# `tomography-htc2022` turns readings into lengths of acrylic, by a curve that was measured on a solid disc, and
# estimates the noise from neighbouring views. The unknown is the fraction of acrylic in each pixel, between 0 and
# 1: the sigmoid of a Gaussian field that knows where the disc ends.

# %%
size = {"pixels": 64, "bin_by": 4} if quick else {"pixels": 128, "bin_by": 2}


def scan_with(count: int) -> sciprob.Problem:
    """The problem with about `count` of the views, spread over the whole turn."""
    return sciprob.load_problem("tomography-htc2022", {**size, "largest_views": count}, data=path)


results = {}
for count in (8, 16) if quick else (8, 16, 45, 180):
    problem = scan_with(count)
    results[count] = problem, sciprob.solve(problem, "laplace", progress=False, device="cpu")
    scores = results[count][1].meta
    print(
        f"{len(problem.observed):4d} views: Matthews correlation {scores['mcc']:.3f}, "
        f"filtered back-projection {scores['mcc_fbp']:.3f}"
    )

# %% [markdown]
# The full-angle segmentation that came with the scan judges both. Filtered back-projection wants many views; the
# posterior knows that the disc is one material, and needs few.

# %%
few, posterior = results[min(results)]
most = results[max(results)][1]
assert posterior.meta["mcc"] > posterior.meta["mcc_fbp"] + 0.1
assert most.meta["mcc"] >= posterior.meta["mcc"] - 0.01  # more views do not make it worse
assert most.std.mean() < posterior.std.mean()  # and make it surer

# %% [markdown]
# ## Does it fit the data?
# Predicted lengths less measured ones, in units of their errors: near one if errors are what was assumed, more where
# the model lacks something. The picture of the residuals shows where: at the rim of the disc, which coarse pixels draw
# in steps.

# %%
residual = few.operator(posterior.mean) - few.observed
size_of_errors = residual / few.likelihood.noise.std
print(f"root mean square of the residuals: {size_of_errors.square().mean().sqrt():.2f} standard deviations")
assert residual.square().mean() < 0.01 * few.observed.square().mean()

# %%
half = scan.image_width / 2
extent = (-half, half, -half, half)
reference = read_segmentation(path)
figure = new_figure(12.0, 6.4)
panels = figure.subplots(2, 4)
step = max(1, views // 360)
shown = panels[0, 0].imshow(scan.sinogram[::step].numpy(), aspect="auto", cmap="gray", extent=(0, bins, 360, 0))
dress(panels[0, 0], "the data: one row a view", "bin", "degrees")
images = {
    f"filtered back-projection, {len(few.observed)} views": FilteredBackProjection(few.operator)(few.observed),
    f"posterior mean, {len(few.observed)} views": posterior.mean,
    f"posterior mean, {len(results[max(results)][0].observed)} views": most.mean,
}
for axes, (title, image) in zip(panels[0, 1:], images.items(), strict=True):
    shown = axes.imshow(image.numpy(), origin="lower", extent=extent, cmap="gray", vmin=0.0, vmax=1.0)
    dress(axes, title)
colour_bar(figure, shown, list(panels[0, 1:]), "fraction of acrylic")
if reference is not None:
    panels[1, 0].imshow(reference.numpy(), origin="lower", extent=extent, cmap="gray")
dress(panels[1, 0], "reference from all views")
rows = panels[1, 1].imshow(size_of_errors.numpy(), aspect="auto", cmap="coolwarm", vmin=-4, vmax=4)
dress(panels[1, 1], "residuals", "bin", "view")
colour_bar(figure, rows, [panels[1, 1]], "std")
top = float(posterior.std.max())
for axes, (title, image) in zip(
    panels[1, 2:], {"std, few views": posterior.std, "std, many": most.std}.items(), strict=True
):
    shown = axes.imshow(image.numpy(), origin="lower", extent=extent, cmap=SPREAD_MAP, vmin=0.0, vmax=top)
    dress(axes, title)
colour_bar(figure, shown, list(panels[1, 2:]), "std")
figure.savefig("real_scan.png")

# %% [markdown]
# ## What to try next
# - `span_degrees=90` to `30`: the challenge itself, views from a part of the turn; edges along missing rays get wide.
# - A scan of your own in the same format: `sciprob solve tomography-htc2022 --data mine.mat`.
# - A prior that was trained on discs with holes: `06_limited_angle_tomography`.
# - `model_error`: how much of a reading the calibration may be wrong by. Halve it, and see bands get too narrow.
