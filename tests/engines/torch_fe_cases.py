"""Meshes and problems that the tests of the torch elements share."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.expressions import Expression
from sciprob.spaces import Mesh, box_mesh

MIXED: dict[str, Any] = {
    "source": Expression("2 + x*y"),
    "dirichlet": {"left": 0.0, "top": lambda x: x[:, 0]},
    "neumann": {"right": Expression("0.5 + y")},
    "robin": {"bottom": (2.0, Expression("1 + x"))},
}
"""All three kinds of conditions; polynomials, which both engines integrate alike."""


def jiggled(divisions: tuple[int, ...], seed: int = 0) -> Mesh:
    """A box mesh with its inner points moved by up to a fifth of the spacing."""
    mesh, rng = box_mesh(divisions), np.random.default_rng(seed)
    inner = ((mesh.points > 0) & (mesh.points < 1)).all(axis=1, keepdims=True)
    move = 0.2 * inner * rng.uniform(-1, 1, mesh.points.shape) / np.array(divisions)
    return dataclasses.replace(mesh, points=mesh.points + move)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())
