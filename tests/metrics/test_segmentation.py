"""Otsu's threshold and the Matthews correlation against independent libraries."""

import pytest
import torch

from sciprob.errors import DataError, ShapeError
from sciprob.metrics.segmentation import matthews_correlation, otsu_threshold


def two_classes(seed=0):
    g = torch.Generator().manual_seed(seed)
    lower = torch.randn(300, generator=g, dtype=torch.float64)
    return torch.cat([lower, 6 + 0.5 * torch.randn(100, generator=g, dtype=torch.float64)]).reshape(20, 20)


def test_otsu_separates_two_classes_as_scikit_image_does():
    filters = pytest.importorskip("skimage.filters")
    image = two_classes()
    assert 2.5 < otsu_threshold(image) < 4.5
    bin_width = float(image.max() - image.min()) / 256
    assert otsu_threshold(image) == pytest.approx(filters.threshold_otsu(image.numpy()), abs=1.01 * bin_width)


@pytest.mark.parametrize("bad", [torch.ones(4, 4), torch.tensor([0.0, float("nan")])])
def test_otsu_refuses_images_without_two_classes(bad):
    with pytest.raises(DataError, match="finite"):
        otsu_threshold(bad)


def test_matthews_correlation_is_the_correlation_of_binary_images():
    g = torch.Generator().manual_seed(1)
    a, b = (torch.rand(2, 500, generator=g) > 0.4).unbind()
    b = torch.where(torch.rand(500, generator=g) < 0.7, a, b)
    expected = float(torch.corrcoef(torch.stack([a, b]).double())[0, 1])
    assert matthews_correlation(a, b) == pytest.approx(expected, abs=1e-12)
    assert matthews_correlation(a, a) == 1.0
    assert matthews_correlation(a, ~a) == -1.0
    assert matthews_correlation(a, torch.ones_like(a)) == 0.0
    with pytest.raises(ShapeError, match="one shape"):
        matthews_correlation(a, b[:10])
