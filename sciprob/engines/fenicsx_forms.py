"""The parts of the weak forms that elliptic engines share."""

from __future__ import annotations

from typing import Any

import numpy as np

from sciprob.engines.conditions import Conditions, Value, evaluate
from sciprob.engines.fenicsx_mesh import DistributedMesh, fenics


class FormParts:
    """Measures, coefficients and boundary terms on a distributed mesh.

    Args:
        mesh: The distributed mesh.
        degree: Degree of the state.
        conditions: Boundary conditions.
        quadrature_degree: Polynomial degree that all integrals are exact for.
    """

    def __init__(self, mesh: DistributedMesh, degree: int, conditions: Conditions, quadrature_degree: int) -> None:
        ufl = fenics().ufl
        metadata = {"quadrature_degree": quadrature_degree}
        self._mesh = mesh
        self._degree = degree
        self._quadrature_degree = quadrature_degree
        self._conditions = conditions
        self.dx = ufl.Measure("dx", domain=mesh.domain, metadata=metadata)
        self._ds = ufl.Measure("ds", domain=mesh.domain, subdomain_data=mesh.facet_tags, metadata=metadata)

    def coefficient(self, value: Value, what: str) -> Any:
        """A number as a constant (a Python zero would drop out of the form), a callable at the quadrature points."""
        fx = fenics()
        if not callable(value):
            return fx.fem.Constant(
                self._mesh.domain, float(evaluate(value, np.zeros((1, self._mesh.mesh.dim)), what)[0])
            )
        cell = self._mesh.domain.basix_cell()
        element = fx.basix.ufl.quadrature_element(cell, value_shape=(), degree=self._quadrature_degree)
        return self._mesh.interpolate(value, element, what)

    def _on_facets(self, value: Value, what: str) -> Any:
        """The same for boundary integrals: a callable is interpolated one degree above the state."""
        if not callable(value):
            return self.coefficient(value, what)
        fx = fenics()
        element = fx.basix.ufl.element("Lagrange", self._mesh.domain.basix_cell(), self._degree + 1)
        return self._mesh.interpolate(value, element, what)

    def _part(self, name: str) -> Any:
        return self._ds(self._mesh.mesh.tag(name, self._mesh.mesh.dim - 1))

    def robin(self, u: Any, v: Any) -> Any:
        """Int alpha u v ds over the Robin parts; 0 if there are none."""
        return sum(
            self._on_facets(alpha, f"Robin coefficient on {name!r}") * u * v * self._part(name)
            for name, (alpha, _) in self._conditions.robin.items()
        )

    def boundary_loads(self, v: Any) -> Any:
        """Int g v ds over the Neumann and Robin parts; 0 if there are none."""
        fluxes = dict(self._conditions.neumann)
        fluxes |= {name: value for name, (_, value) in self._conditions.robin.items()}
        return sum(self._on_facets(g, f"flux on {name!r}") * v * self._part(name) for name, g in fluxes.items())
