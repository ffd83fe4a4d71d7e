"""Segmentations: Otsu's threshold and the Matthews correlation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError


def otsu_threshold(image: Tensor, bins: int = 256) -> float:
    """The threshold that maximises the variance between the two classes of a histogram.

    Args:
        image: Any shape, finite and not constant.
        bins: Number of equal bins between the extremes.

    Returns:
        Centre of the last bin of the lower class, as in scikit-image.

    Raises:
        DataError: If the image is constant or not finite.

    Source: Otsu, IEEE Trans. Systems, Man, Cybernetics 9 (1979).
    """
    values = image.detach().double().flatten().cpu()
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        message = f"Otsu's threshold needs an image with different finite values, got values from {low} to {high}."
        raise DataError(message)
    counts = torch.histc(values, bins=bins, min=low, max=high)
    centres = low + (high - low) / bins * (torch.arange(bins, dtype=torch.float64) + 0.5)
    below, sum_below = counts.cumsum(0)[:-1], (counts * centres).cumsum(0)
    above = counts.sum() - below
    difference = sum_below[:-1] / below - (sum_below[-1] - sum_below[:-1]) / above
    return float(centres[int((below * above * difference.square()).argmax())])


def matthews_correlation(predicted: Tensor, reference: Tensor) -> float:
    """Correlation of two binary images: 1 for equal, 0 for unrelated, -1 for opposite ones.

    (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN)); 0 where the denominator is.

    Raises:
        ShapeError: If the shapes differ.

    Source: Matthews, Biochimica et Biophysica Acta 405 (1975).
    """
    if predicted.shape != reference.shape:
        message = f"segmentations should have one shape, got {tuple(predicted.shape)} and {tuple(reference.shape)}."
        raise ShapeError(message)
    a, b = predicted.bool(), reference.bool()
    tp, tn = float((a & b).sum()), float((~a & ~b).sum())
    fp, fn = float((a & ~b).sum()), float((~a & b).sum())
    scale = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp * tn - fp * fn) / scale if scale > 0 else 0.0
