"""Which edges of an object a scan can see."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sciprob.operators.xray.geometry import BeamGeometry
from sciprob.spaces import GridSpace

_FAINTEST = 0.05  # of the steepest gradient; flatter pixels are no edges


class Edges(NamedTuple):
    """Pixels with an edge.

    Attributes:
        pixels: Flat indices `(n,)`.
        strength: Size of the image's gradient there `(n,)`.
        gap: Angle in degrees between the edge and the nearest ray through the pixel `(n,)`.
    """

    pixels: Tensor
    strength: Tensor
    gap: Tensor


def edges_by_visibility(image: Tensor, grid: GridSpace, geometry: BeamGeometry) -> Edges:
    """Edges of an image and how far each is from being tangent to a measured ray.

    Rays that run along an edge see it sharply; where no ray comes near its direction, the edge
    cannot be reconstructed stably.

    Args:
        image: `(ny, nx)`, rows along +y.
        grid: Its cell-centred (y, x) grid.
        geometry: The measured rays.

    Source: Quinto, SIAM J. Math. Anal. 24 (1993).
    """
    along_y, along_x = torch.gradient(image.detach().double().cpu(), spacing=grid.spacing)
    gradient = torch.stack([along_x, along_y], dim=-1).reshape(-1, 2)
    strength = gradient.norm(dim=-1)
    pixels = (strength > _FAINTEST * strength.max()).nonzero().flatten()
    normals = gradient[pixels] / strength[pixels, None]
    across = (geometry.directions(grid.points()[pixels].double()) * normals).sum(-1).abs()
    return Edges(pixels, strength[pixels], torch.rad2deg(across.amin(0).clamp_max(1).asin()))
