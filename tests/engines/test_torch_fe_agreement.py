"""The torch elements beside FEniCSx: one problem, two engines, the same numbers."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from torch_fe_cases import MIXED, jiggled, noise, relative

from sciprob.engines import fenicsx, torch_fe
from sciprob.expressions import Expression

pytestmark = [
    pytest.mark.fem,
    pytest.mark.skipif(importlib.util.find_spec("dolfinx") is None, reason="FEniCSx is not installed"),
]


@pytest.mark.parametrize("divisions", [(4, 3), (2, 2, 2)])
@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize(("reaction", "quadrature_degree"), [(0.0, 4), (5.0, 4), (5.0, 2)])
def test_states_and_derivatives(
    divisions: tuple[int, ...], degree: int, reaction: float, quadrature_degree: int
) -> None:
    """Also where the quadrature is too coarse to be exact: the points are the same."""
    settings = MIXED | {"reaction": reaction, "quadrature_degree": quadrature_degree}
    theirs = fenicsx.elliptic_operator(jiggled(divisions), degree, **settings)
    ours = torch_fe.elliptic_operator(jiggled(divisions), degree, **settings)
    assert ours.domain == theirs.domain
    assert ours.codomain == theirs.codomain
    m, dm = 0.5 * noise(3, *ours.domain.shape), noise(3, *ours.domain.shape, seed=1)
    v = noise(3, *ours.codomain.shape, seed=2)
    assert relative(ours(m), theirs(m)) < 1e-11
    assert relative(ours.jvp(m, dm)[1], theirs.jvp(m, dm)[1]) < 1e-11
    assert relative(ours.vjp(m, v)[1], theirs.vjp(m, v)[1]) < 1e-11


@pytest.mark.parametrize("divisions", [(4, 3), (2, 2, 2)])
@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("quadrature_degree", [2, 6])
def test_sources(divisions: tuple[int, ...], degree: int, quadrature_degree: int) -> None:
    """Conductivity at the quadrature points, boundary data, and the transpose."""
    settings: dict[str, Any] = {
        "conductivity": Expression("exp(2*x)"),
        "dirichlet": {"left": Expression("y")},
        "neumann": {"right": 0.5},
        "robin": {"top": (1.0, 2.0)},
        "quadrature_degree": quadrature_degree,
    }
    theirs = fenicsx.source_operator(jiggled(divisions), degree, **settings)
    ours = torch_fe.source_operator(jiggled(divisions), degree, **settings)
    m, v = noise(3, *ours.domain.shape), noise(3, *ours.codomain.shape, seed=2)
    assert relative(ours(m), theirs(m)) < 1e-11
    assert relative(ours.vjp(m, v)[1], theirs.vjp(m, v)[1]) < 1e-11
