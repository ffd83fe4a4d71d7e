"""Boundary conditions by name, and the parts of the weak forms that elliptic engines share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sciprob.engines.fenicsx_mesh import DistributedMesh, Value, evaluate, fenics
from sciprob.errors import ConfigError, DataError, UnsupportedProblemError
from sciprob.spaces import FESpace
from sciprob.spaces.mesh import Floats, Ints, Mesh


@dataclass(frozen=True)
class Conditions:
    """What holds on which named part of the boundary; the rest has zero flux.

    With n the outer normal and k the conductivity:

    Args:
        dirichlet: u = value. On nodes of two parts the one named last holds.
        neumann: k du/dn = value.
        robin: k du/dn + alpha u = value, as `(alpha, value)`.
    """

    dirichlet: Mapping[str, Value] = field(default_factory=dict)
    neumann: Mapping[str, Value] = field(default_factory=dict)
    robin: Mapping[str, tuple[Value, Value]] = field(default_factory=dict)

    def check(self, mesh: Mesh) -> None:
        """Refuse what has no meaning or no unique solution.

        Raises:
            DataError: If the mesh has no such boundary part.
            ConfigError: If a part has two conditions.
            UnsupportedProblemError: If there is neither a Dirichlet nor a Robin part.
        """
        names = [*self.dirichlet, *self.neumann, *self.robin]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"boundary part {twice[0]!r} should have one condition, it has two; remove one."
            raise ConfigError(message)
        boundary = set(map(tuple, mesh.boundary_facets.tolist()))
        for name in names:
            facets = np.sort(mesh.named_facets(name), axis=1).tolist()
            if not facets or not boundary.issuperset(map(tuple, facets)):
                message = f"the part {name!r} has facets inside the domain or none; conditions hold on its boundary."
                raise DataError(message)
        if not self.dirichlet and not self.robin:
            message = "with Neumann conditions only the solution is not unique; add a Dirichlet or Robin part."
            raise UnsupportedProblemError(message)

    def dirichlet_values(self, space: FESpace) -> tuple[Ints, Floats]:
        """Constrained degrees of freedom, ascending, and their values."""
        values = np.full(space.size, np.nan)
        nodes = space.points().numpy()
        for name, value in self.dirichlet.items():
            dofs = space.named_dofs(name)
            values[dofs] = evaluate(value, nodes[dofs], f"Dirichlet value on {name!r}")
        dofs = np.flatnonzero(~np.isnan(values))
        return dofs, values[dofs]


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
