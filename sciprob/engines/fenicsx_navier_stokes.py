"""Incompressible flow on meshes by FEniCSx: Taylor-Hood elements, velocity and pressure solved together.

No splitting in time: a fractional-step method has an error of its own, largest near walls, that can
exceed the error of the mesh by orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sciprob.engines.conditions import Value, evaluate
from sciprob.engines.fenicsx_flow_boundary import FlowBoundary, Inflow, TimeValue
from sciprob.engines.fenicsx_flow_space import FlowSpace
from sciprob.engines.fenicsx_march import March
from sciprob.engines.fenicsx_mesh import DistributedMesh, fenics
from sciprob.engines.fenicsx_mixed import FlowDofs
from sciprob.engines.fenicsx_schemes import STEADY, Scheme, Step, time_steps
from sciprob.engines.fenicsx_unknowns import InitialUnknown, ScalarUnknowns, Unknown
from sciprob.errors import ConfigError, DataError
from sciprob.operators.host import HostOperator
from sciprob.spaces import Mesh, Space
from sciprob.spaces.mesh import Floats

__all__ = ["Inflow", "NavierStokes", "navier_stokes_operator"]

_SCALARS = ("density", "viscosity", "inflow")


class NavierStokes:
    """rho (u_t + u . grad u) + grad p - mu Lap u = 0, div u = 0, for `March`.

    Unknown are some of the numbers `"density"` rho, `"viscosity"` mu (dynamic) and `"inflow"` (all amplitudes
    of an `Inflow`), stored in this order, or the `"initial"` velocity `(d, n_nodes)`. Where the velocity is
    not given, mu du/dn = p n. Without such a part the pressure is zero at `pressure_point`. With the theta
    scheme and theta < 1 the pressure belongs to the middle of the step, and an initial velocity that
    doesn't fit the boundary values rings; BDF2 damps it.

    Args:
        mesh: Triangles or tetrahedra.
        unknown: Names of what is unknown.
        velocity: Velocity on parts of the boundary: one number or function of points and time per
            component. On nodes of two parts the one named last holds.
        inflow: One more part, named after all others.
        density: rho > 0 where it is known.
        viscosity: mu > 0 where it is known.
        amplitudes: Of the inflow where they are known.
        initial: Velocity at time 0, one number or function of points per component; default rest.
        pressure_point: A vertex of the mesh; None if an open part of the boundary determines the pressure.
        convection: False for Stokes flow.
        comm: mpi4py communicator; default all processes if there are several, else this one.

    Raises:
        MissingExtraError: If FEniCSx is not installed.
        DataError: For an unknown boundary part, values that are not finite or not positive, or no vertex at
            `pressure_point`.
        ConfigError: If `unknown` or the number of amplitudes or components does not fit.
    """

    linear = False
    matrix_depends_on_unknown = True

    def __init__(
        self,
        mesh: Mesh,
        *,
        unknown: Sequence[str] = ("viscosity",),
        velocity: Mapping[str, Sequence[TimeValue]] | None = None,
        inflow: Inflow | None = None,
        density: float = 1.0,
        viscosity: float = 1.0,
        amplitudes: Sequence[float] | None = None,
        initial: Sequence[Value] | None = None,
        pressure_point: Sequence[float] | None = None,
        convection: bool = True,
        comm: Any | None = None,
    ) -> None:
        self._unknown, self._convection = tuple(unknown), convection
        self.state = FlowSpace(mesh)
        self._boundary = FlowBoundary(self.state, velocity or {}, inflow, pressure_point)
        self.fixed = self._boundary.fixed
        self._amplitudes = self._check_settings(amplitudes)
        distributed = DistributedMesh(mesh, comm)
        self.dofs = FlowDofs(distributed, self.state)
        self._n_velocity = mesh.dim * self.state.velocity.size
        self._initial = self._initial_state(initial if initial is not None else (0.0,) * mesh.dim)
        self.unknown = self._make_unknown(distributed)
        known = {"density": density, "viscosity": viscosity}
        symbols = self.unknown.symbols if isinstance(self.unknown, ScalarUnknowns) else {}
        for name, value in known.items():
            _refuse_non_positive(name, value)
            known[name] = symbols.get(name, fenics().fem.Constant(distributed.domain, float(value)))
        self._rho, self._mu = known["density"], known["viscosity"]

    def _check_settings(self, amplitudes: Sequence[float] | None) -> Floats:
        """The known amplitudes; zeros where they are unknown."""
        ordered = tuple(name for name in _SCALARS if name in self._unknown)
        if not self._unknown or self._unknown not in (("initial",), ordered):
            message = f"`unknown` should be ('initial',) or some of {_SCALARS} in this order, got {self._unknown}."
            raise ConfigError(message)
        modes = self._boundary.modes
        if "inflow" in self._unknown:
            if not modes or amplitudes is not None:
                message = "an unknown inflow needs `inflow` with at least one mode, and no known `amplitudes`."
                raise ConfigError(message)
            return np.zeros(modes)
        if len(amplitudes or ()) != modes:
            message = f"`amplitudes` should have one number per mode of the inflow, {modes}, got {amplitudes}."
            raise ConfigError(message)
        return np.array(amplitudes or (), dtype=np.float64)

    def _initial_state(self, values: Sequence[Value]) -> Floats:
        nodes = self.state.velocity.points().numpy()
        state = np.zeros(self.state.size)
        state[: self._n_velocity] = np.concatenate([evaluate(v, nodes, "initial velocity") for v in values])
        return state

    def _make_unknown(self, mesh: DistributedMesh) -> Unknown:
        if self._unknown == ("initial",):
            shape = (self.state.mesh.dim, self.state.velocity.size)
            return InitialUnknown(Space(shape, name="initial_velocity", dims=("component", "node")))
        names = [name for name in self._unknown if name != "inflow"]
        if "inflow" in self._unknown:
            names += [f"inflow_{k}" for k in range(self._boundary.modes)]
        return ScalarUnknowns(mesh, names)

    def residual(self, u: Any, u1: Any, u2: Any, v: Any, weights: Any, theta: Any) -> Any:
        """The weak form; pressure and incompressibility are taken at the new time."""
        ufl = fenics().ufl
        dx = ufl.Measure("dx", domain=self.dofs.V.mesh, metadata={"quadrature_degree": 5})
        (new, p), (old, _), (older, _) = (ufl.split(state) for state in (u, u1, u2))
        test, q = ufl.split(v)
        a0, a1, a2 = weights
        form = self._rho * ufl.inner(a0 * new + a1 * old + a2 * older, test) * dx
        form += (theta * self._momentum(new, test) + (1 - theta) * self._momentum(old, test)) * dx
        return form - (p * ufl.div(test) + q * ufl.div(new)) * dx

    def _momentum(self, u: Any, v: Any) -> Any:
        ufl = fenics().ufl
        viscous = self._mu * ufl.inner(ufl.grad(u), ufl.grad(v))
        return viscous + self._rho * ufl.inner(ufl.dot(ufl.grad(u), u), v) if self._convection else viscous

    def prepare(self, step: Step) -> None:
        """No data inside the domain."""

    def given(self, step: Step, m: Floats) -> Floats:
        """Velocities at the end of the step, and zero pressure at its point."""
        return self._given_at(step.time, m)

    def _given_at(self, time: float, m: Floats) -> Floats:
        known = "inflow" not in self._unknown
        return self._boundary.values(time, self._amplitudes if known else m[len(m) - self._boundary.modes :])

    def given_derivative(self, step: Step) -> Floats | None:
        """By the amplitudes of the inflow where they are unknown."""
        return self._derivative_at(step.time)

    def _derivative_at(self, time: float) -> Floats | None:
        if "inflow" not in self._unknown:
            return None
        others = self.unknown.space.size - self._boundary.modes
        return np.pad(self._boundary.columns(time), ((0, 0), (others, 0)))

    def initial(self, m: Floats) -> Floats:
        """The initial velocity with the boundary values at time 0, and zero pressure."""
        state = self._initial.copy()
        if self._unknown == ("initial",):
            state[: self._n_velocity] = m
        state[self.fixed] = self._given_at(0.0, m)
        return state

    def initial_tangent(self, dm: Floats) -> Floats | None:
        """By the initial velocity where it is free, or by the inflow at time 0."""
        tangent = np.zeros((len(dm), self.state.size))
        if self._unknown == ("initial",):
            tangent[:, : self._n_velocity] = dm
            tangent[:, self.fixed] = 0.0
            return tangent
        columns = self._derivative_at(0.0)
        if columns is None:
            return None
        tangent[:, self.fixed] = dm @ columns.T
        return tangent

    def initial_adjoint(self, w: Floats) -> Floats:
        """Its transpose."""
        columns = self._derivative_at(0.0)
        if columns is not None:
            product: Floats = w[:, self.fixed] @ columns
            return product
        gradient = w.copy()
        gradient[:, self.fixed] = 0.0
        return gradient[:, : self._n_velocity]

    def check(self, m: Floats) -> None:
        """Density and viscosity are positive.

        Raises:
            DataError: If one is not.
        """
        if isinstance(self.unknown, ScalarUnknowns):
            for name, value in zip(self.unknown.names, m, strict=True):
                if name in ("density", "viscosity"):
                    _refuse_non_positive(name, float(value))


def _refuse_non_positive(name: str, value: float) -> None:
    if not value > 0:
        message = f"the {name} should be positive, got {value:g}; use its logarithm or a positive prior."
        raise DataError(message)


def navier_stokes_operator(
    mesh: Mesh,
    *,
    times: Sequence[float] | None = None,
    step: float | None = None,
    scheme: Scheme = "bdf2",
    theta: float = 0.5,
    on_failure: str = "raise",
    march: Mapping[str, Any] | None = None,
    **settings: Any,
) -> HostOperator:
    """Unknown of `NavierStokes` to the flow, a `FlowSpace` at `times`, or the steady one; differentiable.

    Args:
        mesh: Triangles or tetrahedra.
        times: Output times, multiples of `step`, increasing from 0 on; None for steady flow.
        step: Time step.
        scheme: `"bdf2"` or `"theta"`.
        theta: Of the theta scheme, 1/2 to 1.
        on_failure: `"raise"`, or `"nan"` for samples that cannot be solved.
        march: Keyword arguments of `March`: `store`, `tolerance`, `cache_size`, ...
        settings: Keyword arguments of `NavierStokes`.

    Raises:
        SciprobError: As `NavierStokes` and `time_steps`.
        ConfigError: If only one of `times` and `step` is given, or a steady problem asks for its initial state.
    """
    options = dict(march or {})
    if times is None or step is None:
        if times is not None or step is not None:
            message = "a time-dependent flow needs `times` and `step`, a steady one neither."
            raise ConfigError(message)
        equation = NavierStokes(mesh, **settings)
        if isinstance(equation.unknown, InitialUnknown):
            message = "a steady flow has no initial state; give `times` and `step`, or another unknown."
            raise ConfigError(message)
        return HostOperator(March(equation, equation.state, STEADY, [1], **options), on_failure=on_failure)
    steps, outputs = time_steps(times, step, scheme, theta)
    codomain = FlowSpace(mesh, tuple(float(t) for t in times))
    equation = NavierStokes(mesh, **settings)
    return HostOperator(March(equation, codomain, steps, outputs, **options), on_failure=on_failure)
