"""Quadrature on simplices of any degree, in barycentric coordinates.

Up to degree 6 on triangles and tetrahedra the classical symmetric rules, which other finite-element codes
use as well, so that results agree to round-off although exp(m) is no polynomial; beyond, and on edges,
Gauss rules, on collapsed coordinates where there are several.

Sources: Strang and Fix, An Analysis of the Finite Element Method (1973); Dunavant, Int. J. Numer. Meth. Eng.
21 (1985); Keast, Comput. Meth. Appl. Mech. Eng. 55 (1986).
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import NamedTuple

import numpy as np

from sciprob.errors import UnsupportedProblemError
from sciprob.spaces.mesh import Floats


class Rule(NamedTuple):
    """Points and weights on the unit simplex.

    Attributes:
        points: Barycentric coordinates `(q, dim + 1)`.
        weights: `(q,)`, with sum 1: times the volume of a simplex they integrate over it.
    """

    points: Floats
    weights: Floats


def quadrature(dim: int, degree: int) -> Rule:
    """A rule exact for polynomials of a degree.

    Args:
        dim: Of the simplex: 1, 2 or 3.
        degree: Of the polynomials, at least 1.

    Raises:
        UnsupportedProblemError: If the degree is less than 1.
    """
    if degree < 1:
        message = f"the quadrature degree should be at least 1, got {degree}."
        raise UnsupportedProblemError(message)
    if (dim, degree) in _ORBITS:
        return _symmetric(_ORBITS[dim, degree])
    return _collapsed(dim, degree)


def _symmetric(orbits: list[tuple[float, tuple[float, ...]]]) -> Rule:
    """All distinct permutations of one point per orbit."""
    points, weights = [], []
    for weight, point in orbits:
        orbit = sorted(set(permutations(point)))
        points += orbit
        weights += [weight] * len(orbit)
    return Rule(np.array(points), np.array(weights))


def _collapsed(dim: int, degree: int) -> Rule:
    """Products of Gauss-Jacobi rules under x = s, y = t (1 - s), ...: every axis takes its Jacobian as weight."""
    from scipy.special import roots_jacobi

    n = degree // 2 + 1
    points, weights = np.ones((1, 1)), np.ones(1)  # the simplex of dimension 0
    for k in range(1, dim + 1):
        node, weight = roots_jacobi(n, k - 1, 0)
        s, weight = (1 + node) / 2, weight / 2**k * k  # so that the weights of every dimension sum to 1
        shrunk = (1 - s)[:, None, None] * points[None]
        apex = np.broadcast_to(s[:, None, None], (*shrunk.shape[:2], 1))
        points = np.concatenate([shrunk, apex], axis=2).reshape(-1, k + 1)
        weights = np.outer(weight, weights).ravel()
    return Rule(points, weights)


_R15 = math.sqrt(15.0)
_R5 = math.sqrt(5.0)


def _orbit(weight: float, *free: float) -> tuple[float, tuple[float, ...]]:
    """Weight, and a point whose last coordinate closes the sum to 1."""
    return weight, (*free, 1.0 - sum(free))


def _doubled(weight: float, a: float) -> tuple[float, tuple[float, ...]]:
    """A point (a, a, b, b) of the tetrahedron with a + b = 1/2, exactly paired."""
    return weight, (a, a, 0.5 - a, 0.5 - a)


_THIRD = (1.0 / 3.0,) * 3
_QUARTER = (0.25,) * 4

_ORBITS: dict[tuple[int, int], list[tuple[float, tuple[float, ...]]]] = {
    (2, 1): [(1.0, _THIRD)],
    (2, 2): [_orbit(1 / 3, 1 / 6, 1 / 6)],
    (2, 3): [_orbit(1 / 6, 0.109039009072877, 0.231933368553031)],
    (2, 4): [
        _orbit(0.109951743655322, 0.091576213509771, 0.091576213509771),
        _orbit(0.223381589678011, 0.445948490915965, 0.445948490915965),
    ],
    (2, 5): [
        (0.225, _THIRD),
        _orbit((155 - _R15) / 1200, (6 - _R15) / 21, (6 - _R15) / 21),
        _orbit((155 + _R15) / 1200, (6 + _R15) / 21, (6 + _R15) / 21),
    ],
    (2, 6): [
        _orbit(0.050844906370207, 0.063089014491502, 0.063089014491502),
        _orbit(0.116786275726379, 0.249286745170910, 0.249286745170910),
        _orbit(0.082851075618374, 0.053145049844816, 0.310352451033785),
    ],
    (3, 1): [(1.0, _QUARTER)],
    (3, 2): [_orbit(0.25, (5 - _R5) / 20, (5 - _R5) / 20, (5 - _R5) / 20)],
    (3, 3): [(-0.8, _QUARTER), _orbit(0.45, 1 / 6, 1 / 6, 1 / 6)],
    (3, 4): [
        (2 / 105, (0.0, 0.0, 0.5, 0.5)),
        _orbit(0.0885898247429807, *(0.1005267652252045,) * 3),
        _orbit(0.1328387466855907, *(0.3143728734931922,) * 3),
    ],
    (3, 5): [
        (0.1817020685825351, _QUARTER),
        (0.0361607142857143, (0.0, 1 / 3, 1 / 3, 1 / 3)),
        _orbit(0.0698714945161738, 1 / 11, 1 / 11, 1 / 11),
        _doubled(0.0656948493683187, 0.0665501535736643),
    ],
    (3, 6): [
        _orbit(0.0399227502581679, *(0.2146028712591517,) * 3),
        _orbit(0.0100772110553207, *(0.0406739585346113,) * 3),
        _orbit(0.0553571815436544, *(0.3223378901422757,) * 3),
        _orbit(27 / 560, 0.0636610018750175, 0.0636610018750175, 0.2696723314583159),
    ],
}
