"""What a time-dependent equation provides to the implicit time steps of `March`."""

from __future__ import annotations

from typing import Any, Protocol

from sciprob.engines.fenicsx_mesh import DofMap
from sciprob.engines.fenicsx_schemes import Step
from sciprob.engines.fenicsx_unknowns import Unknown
from sciprob.spaces.mesh import Floats, Ints


class Equation(Protocol):
    """A time-dependent equation on a distributed mesh, in the state's degrees of freedom."""

    @property
    def dofs(self) -> DofMap:
        """Numbering of the state."""
        ...

    @property
    def unknown(self) -> Unknown:
        """What is unknown."""
        ...

    @property
    def fixed(self) -> Ints:
        """Canonical numbers where the state is given, ascending."""
        ...

    @property
    def linear(self) -> bool:
        """Whether F is linear in the states."""
        ...

    @property
    def matrix_depends_on_unknown(self) -> bool:
        """Whether dF/dU_n does; asked of linear equations only."""
        ...

    def residual(self, u: Any, u1: Any, u2: Any, v: Any, weights: Any, theta: Any) -> Any:
        """The form F of new state u, earlier states u1 and u2, and test function v."""
        ...

    def prepare(self, step: Step) -> None:
        """Put the data of a step (sources) into the form."""
        ...

    def given(self, step: Step, m: Floats) -> Floats:
        """g_n(m), `(n_fixed,)`."""
        ...

    def given_derivative(self, step: Step) -> Floats | None:
        """dg_n/dm, `(n_fixed, n_parameters)`; None if zero."""
        ...

    def initial(self, m: Floats) -> Floats:
        """U_0, `(n_states,)`."""
        ...

    def initial_tangent(self, dm: Floats) -> Floats | None:
        """dU_0 for directions `(K, n_parameters)`, `(K, n_states)`; None if zero."""
        ...

    def initial_adjoint(self, w: Floats) -> Floats:
        """Transpose of `initial_tangent`, where that is not None."""
        ...

    def check(self, m: Floats) -> None:
        """Refuse values without meaning, such as a negative viscosity."""
        ...
