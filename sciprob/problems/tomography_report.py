"""Segmentation of a scanned object: scores beside the classical reconstructions, and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sciprob.metrics.probabilities import Reliability, brier_score, probability_above, reliability
from sciprob.metrics.segmentation import matthews_correlation, otsu_threshold
from sciprob.operators.xray import FilteredBackProjection, XrayTransform, edges_by_visibility
from sciprob.posteriors import Ensemble, SamplerPosterior
from sciprob.posteriors.base import Posterior
from sciprob.problems.problem import Problem

_CGLS_STEPS = 25
_SEEN, _UNSEEN = 5.0, 15.0  # degrees between an edge and the nearest ray


@dataclass(frozen=True)
class Readings:
    """The scan as it was measured, for the classical reconstructions.

    Args:
        operator: X-ray transform of the views used.
        sinogram: -log(I / I0), `(views, bins)`.
        reference: Full-angle segmentation of the same square, a boolean image of any resolution, if there is one.
        interior: Boolean image of the pixels whose content is not known beforehand.
    """

    operator: XrayTransform
    sinogram: Tensor
    reference: Tensor | None
    interior: Tensor


def report_segmentation(
    readings: Readings, problem: Problem, posterior: Posterior, folder: Path | None
) -> dict[str, Any]:
    """Segment the posterior and the classical reconstructions of the same data, and compare them.

    A pixel is material where its posterior probability is above one half; the classical images
    are cut at Otsu's threshold. Images, of an ensemble each member, are interpolated to the resolution of the
    reference first. Writes `reconstruction.png`, and with a reference `probability.png`, where there is a folder.

    Returns:
        `mcc`, `mcc_fbp`, `mcc_least_squares` (Matthews correlations with the reference, where there is
        one), `material_area` in the square of the length unit, `uncertain_area`: of pixels with a posterior
        probability between 5 and 95 %; with a reference `brier` and `calibration_error` of the probabilities of pixels
        inside the object; and, for scans that leave edges unseen, `edge_error_seen` and
        `edge_error_unseen`: std of the place of edges in the length unit, for edges of the mean at most 5 and at
        least 15 degrees from the nearest measured ray.
    """
    sinogram = readings.sinogram.to(problem.observed)
    fbp: Tensor = FilteredBackProjection(readings.operator)(sinogram)
    least_squares = cgls(readings.operator, sinogram, _CGLS_STEPS)
    median = posterior.quantile(0.5)
    segmentation = median > 0.5
    low, high = posterior.quantile(0.05) > 0.5, posterior.quantile(0.95) > 0.5
    pixel = float(torch.tensor(readings.operator.domain.spacing).prod())
    numbers: dict[str, Any] = {
        "material_area": pixel * float(segmentation.sum()),
        "uncertain_area": pixel * float((high & ~low).sum()),
    } | _edge_errors(readings, posterior)
    if readings.reference is not None:
        probability = material_probability(posterior, readings.reference)
        inside = _like(readings.interior.to(median), readings.reference) > 0.5
        forecast = probability[inside], readings.reference[inside]
        diagram = reliability(*forecast)
        numbers |= {"mcc": matthews_correlation(probability > 0.5, readings.reference)}
        for key, image in (("_fbp", fbp), ("_least_squares", least_squares)):
            finer = _like(image, readings.reference) > otsu_threshold(image)
            numbers[f"mcc{key}"] = matthews_correlation(finer, readings.reference)
        numbers |= {"brier": brier_score(*forecast), "calibration_error": diagram.calibration_error}
        if folder is not None:
            _probabilities(readings, probability, diagram).savefig(folder / "probability.png", dpi=150)
    if folder is not None:
        _figure(readings, posterior, fbp, least_squares, segmentation, numbers).savefig(
            folder / "reconstruction.png", dpi=150
        )
    return numbers


def material_probability(posterior: Posterior, reference: Tensor) -> Tensor:
    """Posterior probability that a pixel of the reference is material, `(*reference.shape)`.

    The members of an ensemble are interpolated to the reference before they are cut, so that edges keep their
    place within a pixel; of other posteriors the pixels' probabilities are interpolated.
    """
    if isinstance(posterior, SamplerPosterior):
        posterior = posterior.stored
    if not isinstance(posterior, Ensemble):
        return _like(probability_above(posterior, 0.5), reference)
    total = torch.zeros(reference.shape, dtype=torch.float64)
    for weight, member in zip(posterior.weights.tolist(), posterior.samples, strict=True):
        if weight > 0:
            total += weight * (_like(member, reference) > 0.5)
    return total.clamp(0, 1)


def _like(image: Tensor, reference: Tensor) -> Tensor:
    """Linear interpolation to the pixels of another image of the same square."""
    size = (int(reference.shape[0]), int(reference.shape[1]))
    return functional.interpolate(image[None, None].detach().cpu(), size, mode="bilinear", antialias=True)[0, 0]


def _edge_errors(readings: Readings, posterior: Posterior) -> dict[str, float]:
    """Std of the place of edges that are seen and of those that are not, where there are both.

    An edge that moves by d changes the image by |gradient| d: its error is std / |gradient|, here
    averaged with the weight |gradient|.
    """
    grid, geometry = readings.operator.domain, readings.operator.geometry
    edges = edges_by_visibility(posterior.mean, grid, geometry)
    inside = readings.interior.flatten()[edges.pixels]
    std = posterior.std.flatten().double().cpu()[edges.pixels]
    parts = {"seen": inside & (edges.gap <= _SEEN), "unseen": inside & (edges.gap >= _UNSEEN)}
    if not all(bool(part.any()) for part in parts.values()):
        return {}
    return {f"edge_error_{key}": float(std[part].sum() / edges.strength[part].sum()) for key, part in parts.items()}


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
        (posterior.std, _std_title(numbers), "magma", None),
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


def _probabilities(readings: Readings, probability: Tensor, diagram: Reliability) -> Any:
    """Probability map, the reference, and the reliability diagram."""
    from sciprob.plot.reliability import reliability_panel
    from sciprob.plot.style import colour_bar, dress, new_figure

    assert readings.reference is not None
    grid = readings.operator.domain
    extent = (grid.lower[1], grid.upper[1], grid.lower[0], grid.upper[0])
    figure = new_figure(12.5, 4.0)
    first, second, third = figure.subplots(1, 3)
    titles = ("posterior probability of material", "full-angle segmentation")
    for axes, image, title in zip((first, second), (probability, readings.reference.double()), titles, strict=True):
        shown = axes.imshow(image.numpy(), origin="lower", extent=extent, cmap="gray", vmin=0.0, vmax=1.0)
        dress(axes, title, "x / mm", "y / mm")
    colour_bar(figure, shown, [first, second], "probability")
    reliability_panel(third, diagram, "pixels inside the disc")
    return figure


def _std_title(numbers: dict[str, Any]) -> str:
    title = "posterior standard deviation"
    if "edge_error_seen" not in numbers:
        return title
    seen, unseen = numbers["edge_error_seen"], numbers["edge_error_unseen"]
    return f"{title}\n(edges: {seen:.2f} mm seen, {unseen:.2f} mm unseen)"


def _spread(image: Tensor) -> tuple[float, float]:
    low, high = torch.quantile(image.detach().double().flatten()[::7], torch.tensor([0.002, 0.998]).double())
    return float(low), float(high)
