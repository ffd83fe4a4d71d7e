"""Segmentation of a scanned object: scores beside the classical reconstructions, and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciprob.metrics.segmentation import matthews_correlation, otsu_threshold
from sciprob.operators.xray import FilteredBackProjection, XrayTransform
from sciprob.posteriors.base import Posterior
from sciprob.problems.problem import Problem

_CGLS_STEPS = 25


@dataclass(frozen=True)
class Readings:
    """The scan as it was measured, for the classical reconstructions.

    Args:
        operator: X-ray transform of the views used.
        sinogram: -log(I / I0), `(views, bins)`.
        reference: Full-angle segmentation, boolean image, if there is one.
    """

    operator: XrayTransform
    sinogram: Tensor
    reference: Tensor | None


def report_segmentation(
    readings: Readings, problem: Problem, posterior: Posterior, folder: Path | None
) -> dict[str, Any]:
    """Segment the posterior and the classical reconstructions of the same data, and compare them.

    A pixel is material where its posterior probability is above one half; the classical images
    are cut at Otsu's threshold. Writes `reconstruction.png` where there is a folder.

    Returns:
        `mcc`, `mcc_fbp`, `mcc_least_squares` (Matthews correlations with the reference, where there is
        one), `material_area` in the square of the length unit, `uncertain_area`: of pixels with a posterior
        probability between 5 and 95 %.
    """
    sinogram = readings.sinogram.to(problem.observed)
    fbp: Tensor = FilteredBackProjection(readings.operator)(sinogram)
    least_squares = cgls(readings.operator, sinogram, _CGLS_STEPS)
    segmentation = posterior.quantile(0.5) > 0.5
    low, high = posterior.quantile(0.05) > 0.5, posterior.quantile(0.95) > 0.5
    pixel = float(torch.tensor(readings.operator.domain.spacing).prod())
    numbers: dict[str, Any] = {
        "material_area": pixel * float(segmentation.sum()),
        "uncertain_area": pixel * float((high & ~low).sum()),
        "mean_std_material": float(posterior.std[segmentation].mean()) if bool(segmentation.any()) else 0.0,
    }
    if readings.reference is not None:
        reference = readings.reference.to(segmentation.device)
        classical = {"fbp": fbp, "least_squares": least_squares}
        numbers["mcc"] = matthews_correlation(segmentation, reference)
        for key, image in classical.items():
            numbers[f"mcc_{key}"] = matthews_correlation(image > otsu_threshold(image), reference)
    if folder is not None:
        _figure(readings, posterior, fbp, least_squares, segmentation, numbers).savefig(
            folder / "reconstruction.png", dpi=150
        )
    return numbers


def cgls(operator: XrayTransform, data: Tensor, steps: int) -> Tensor:
    """Conjugate-gradient least squares from zero: plain, regularised by stopping alone.

    Source: Hestenes and Stiefel, J. Res. Nat. Bur. Standards 49 (1952).
    """
    image = data.new_zeros(operator.domain.shape)
    residual, gradient = data.clone(), operator.T(data)
    direction, square = gradient.clone(), gradient.square().sum()
    for _ in range(steps):
        product = operator(direction)
        length = square / product.square().sum()
        image = image + length * direction
        residual = residual - length * product
        gradient = operator.T(residual)
        fresh = gradient.square().sum()
        direction, square = gradient + fresh / square * direction, fresh
    return image


def _figure(
    readings: Readings,
    posterior: Posterior,
    fbp: Tensor,
    least_squares: Tensor,
    segmentation: Tensor,
    numbers: dict[str, Any],
) -> Any:
    """Six images with colour bars."""
    from matplotlib.figure import Figure

    grid = readings.operator.domain
    extent = (grid.lower[1], grid.upper[1], grid.lower[0], grid.upper[0])
    figure = Figure(figsize=(12, 7.6), layout="constrained")
    axes = figure.subplots(2, 3).ravel()

    def titled(words: str, key: str) -> str:
        return f"{words}  (MCC {numbers[key]:.3f})" if key in numbers else words

    unit = (0.0, 1.0)
    panels = [
        (fbp, titled("filtered back-projection", "mcc_fbp"), "gray", None),
        (least_squares, titled("least squares, stopped early", "mcc_least_squares"), "gray", None),
        (posterior.mean, "posterior mean", "gray", unit),
        (posterior.std, "posterior standard deviation", "magma", None),
        (segmentation.double(), titled("segmentation", "mcc"), "gray", unit),
    ]
    if readings.reference is not None:
        panels.append((readings.reference.double(), "full-angle segmentation", "gray", unit))
    for axis, (image, title, colours, limits) in zip(axes, panels, strict=False):
        low, high = limits or _spread(image)
        shown = axis.imshow(
            image.detach().cpu().numpy(), origin="lower", extent=extent, cmap=colours, vmin=low, vmax=high
        )
        axis.set_title(title, fontsize=10)
        figure.colorbar(shown, ax=axis, shrink=0.85)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[::3]:
        axis.set_ylabel("y / mm")
    for axis in axes[3:]:
        axis.set_xlabel("x / mm")
    return figure


def _spread(image: Tensor) -> tuple[float, float]:
    low, high = torch.quantile(image.detach().double().flatten()[::7], torch.tensor([0.002, 0.998]).double())
    return float(low), float(high)
