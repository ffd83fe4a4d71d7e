"""Polynomials through Chebyshev points: nodes, differentiation, interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def chebyshev_nodes(degree: int, lower: float = -1.0, upper: float = 1.0) -> Floats:
    """The `degree + 1` extreme points of the Chebyshev polynomial on [lower, upper], ascending, ends included."""
    unit = np.sin(np.pi * np.arange(-degree, degree + 1, 2) / (2 * degree))  # exactly symmetric, unlike the cosine
    nodes: Floats = lower + (upper - lower) * (unit + 1) / 2
    return nodes


def barycentric_weights(nodes: Floats) -> Floats:
    """Weights 1 / prod_j (x_i - x_j), up to a common factor; stable for Chebyshev-like nodes up to some hundred."""
    scale = 4 / (nodes.max() - nodes.min())  # one over the capacity keeps the products of order one
    differences = scale * (nodes[:, None] - nodes[None, :])
    np.fill_diagonal(differences, 1.0)
    weights: Floats = 1 / differences.prod(axis=1)
    return weights


def differentiation_matrix(nodes: Floats) -> Floats:
    """The matrix D, `(n, n)`, with (D f)_i = p'(x_i) for the polynomial p through (x_i, f_i).

    Its rows sum to zero by construction, which keeps the rounding errors of second derivatives small.
    """
    weights = barycentric_weights(nodes)
    differences = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(differences, 1.0)
    matrix: Floats = weights[None, :] / weights[:, None] / differences
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    return matrix


def interpolation_matrix(nodes: Floats, points: Floats) -> Floats:
    """The matrix, `(m, n)`, that evaluates the polynomial through the nodes at `points (m,)`."""
    differences = points[:, None] - nodes[None, :]
    hit = differences == 0
    at_node = hit.any(axis=1)
    terms = barycentric_weights(nodes) / np.where(hit, 1.0, differences)
    matrix: Floats = terms / terms.sum(axis=1, keepdims=True)
    matrix[at_node] = hit[at_node]
    return matrix


def values_at(nodes: Floats, values: Floats, points: Floats) -> Floats:
    """The polynomial through `(nodes, values)` at `points (m,)`."""
    found: Floats = interpolation_matrix(nodes, points) @ values
    return found
