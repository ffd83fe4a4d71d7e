"""Time-dependent scalar problems on meshes by FEniCSx: diffusion with a polynomial reaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from sciprob.engines.conditions import Conditions, Value, evaluate
from sciprob.engines.fenicsx_flow_boundary import TimeValue
from sciprob.engines.fenicsx_forms import FormParts
from sciprob.engines.fenicsx_march import March
from sciprob.engines.fenicsx_mesh import DistributedMesh, DofMap, fenics
from sciprob.engines.fenicsx_schemes import Scheme, Step, time_steps
from sciprob.engines.fenicsx_unknowns import FieldUnknown, InitialUnknown, ScalarUnknowns, Unknown
from sciprob.errors import ConfigError, DataError
from sciprob.operators.host import HostOperator
from sciprob.spaces import FESpace, Mesh, Space
from sciprob.spaces.mesh import Floats

ScalarUnknown = Literal["initial", "source", "log_conductivity", "coefficients"]


class ReactionDiffusion:
    """u_t - div(k exp(m) grad u) + c_1 u + c_2 u^2 + ... = f + s, for `March`.

    One of these is unknown: the `"initial"` state; the `"source"` s(x), constant in time; the
    `"log_conductivity"` m(x); or the `"coefficients"` (k, c_1, c_2, ...). The others take the values given
    here, s = m = 0. Fields m and s are piecewise linear. Nothing moves where u is given, so the initial
    state's values there have no effect.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Degree of u, 1 or 2.
        unknown: Which of them.
        initial: u at time 0.
        conductivity: k > 0.
        reaction: (c_1, c_2, ...).
        source: f, a number or a function of points and time.
        dirichlet: u on parts of the boundary, numbers or functions of points and time.
        neumann: k exp(m) du/dn on parts of the boundary, constant in time.
        robin: `(alpha, g)` on parts of the boundary, constant in time: k exp(m) du/dn + alpha u = g.
        quadrature_degree: Of all integrals.
        name: Name of the state.
        comm: mpi4py communicator; default all processes if there are several, else this one.

    Raises:
        MissingExtraError: If FEniCSx is not installed.
        DataError: For an unknown boundary part, values that are not finite, or a conductivity that is not positive.
        ConfigError: If a part has two conditions, or `unknown` is none of the above.
    """

    def __init__(
        self,
        mesh: Mesh,
        degree: int = 1,
        *,
        unknown: ScalarUnknown = "initial",
        initial: Value = 0.0,
        conductivity: float = 1.0,
        reaction: Sequence[float] = (),
        source: TimeValue = 0.0,
        dirichlet: Mapping[str, TimeValue] | None = None,
        neumann: Mapping[str, Value] | None = None,
        robin: Mapping[str, tuple[Value, Value]] | None = None,
        quadrature_degree: int = 4,
        name: str = "u",
        comm: Any | None = None,
    ) -> None:
        self._dirichlet = dict(dirichlet or {})
        conditions = Conditions(dict.fromkeys(self._dirichlet, 0.0), neumann or {}, robin or {})
        conditions.check(mesh, steady=False)
        distributed = DistributedMesh(mesh, comm)
        self.space = FESpace(mesh, degree, name=name)
        self.dofs = DofMap(distributed, self.space)
        self.fixed, _ = conditions.dirichlet_values(self.space)
        self._nodes = self.space.points()
        self._initial = evaluate(initial, self._nodes.numpy(), "initial state")
        self._parts = FormParts(distributed, degree, conditions, quadrature_degree)
        self._source = source
        self._loads = [self._parts.coefficient(self._source_at(0.0), "source") for _ in range(2)]
        self._times = [0.0, 0.0]
        self._kind = unknown
        if not conductivity > 0:
            message = f"the conductivity should be positive, got {conductivity:g}."
            raise DataError(message)
        self.unknown = self._make_unknown(distributed, 1 + len(reaction))
        self.linear = all(c == 0.0 for c in reaction[1:]) and not (unknown == "coefficients" and len(reaction) > 1)
        self.matrix_depends_on_unknown = unknown in ("log_conductivity", "coefficients")
        self._coefficients = self._make_coefficients((conductivity, *reaction))

    def _make_unknown(self, mesh: DistributedMesh, count: int) -> Unknown:
        if self._kind == "initial":
            return InitialUnknown(FESpace(self.space.mesh, self.space.degree, name="initial"))
        if self._kind in ("source", "log_conductivity"):
            return FieldUnknown(mesh, self._kind)
        if self._kind == "coefficients":
            return ScalarUnknowns(mesh, ["conductivity", *(f"reaction_{i}" for i in range(1, count))], self._kind)
        known = "'initial', 'source', 'log_conductivity' or 'coefficients'"
        message = f"`unknown` should be {known}, got {self._kind!r}."
        raise ConfigError(message)

    def _make_coefficients(self, values: Sequence[float]) -> list[Any]:
        if isinstance(self.unknown, ScalarUnknowns):
            return list(self.unknown.symbols.values())
        domain = self.dofs.V.mesh
        # a known zero is left out: the equation then stays linear for the form compiler, too
        return [fenics().fem.Constant(domain, float(c)) if c != 0.0 else None for c in values]

    def residual(self, u: Any, u1: Any, u2: Any, v: Any, weights: Any, theta: Any) -> Any:
        """The weak form; loads are averaged as the rest is."""
        a0, a1, a2 = weights
        dx = self._parts.dx
        form = (a0 * u + a1 * u1 + a2 * u2) * v * dx
        form += theta * self._spatial(u, v) + (1 - theta) * self._spatial(u1, v)
        new, old = self._loads
        form -= (theta * new + (1 - theta) * old) * v * dx + self._parts.boundary_loads(v)
        if self._kind == "source":
            form -= self.unknown.function * v * dx  # type: ignore[attr-defined]
        return form

    def _spatial(self, u: Any, v: Any) -> Any:
        ufl, dx = fenics().ufl, self._parts.dx
        k, *reaction = self._coefficients
        if self._kind == "log_conductivity":
            k = k * ufl.exp(self.unknown.function)  # type: ignore[attr-defined]
        form = k * ufl.inner(ufl.grad(u), ufl.grad(v)) * dx + self._parts.robin(u, v)
        for power, c in enumerate(reaction, 1):
            if c is not None:
                form += c * u**power * v * dx
        return form

    def _source_at(self, time: float) -> Value:
        source = self._source
        return (lambda x: source(x, time)) if callable(source) else source

    def prepare(self, step: Step) -> None:
        """Sources at both ends of the step."""
        if not callable(self._source):
            return
        d = self.space.mesh.dim
        for i, time in enumerate((step.time, step.before)):
            if time != self._times[i]:
                now = self._source_at(time)
                self._loads[i].interpolate(lambda x, now=now: evaluate(now, x[:d].T, "source"))
                self._times[i] = time

    def given(self, step: Step, m: Floats) -> Floats:
        """Dirichlet values at the end of the step."""
        return self._given_at(step.time)

    def _given_at(self, time: float) -> Floats:
        values = {
            part: (lambda x, value=value: value(x, time)) if callable(value) else value
            for part, value in self._dirichlet.items()
        }
        return Conditions(values).dirichlet_values(self.space)[1]

    def given_derivative(self, step: Step) -> Floats | None:
        """None: boundary values are known."""
        return None

    def initial(self, m: Floats) -> Floats:
        """The initial state with the boundary values at time 0."""
        state = m.copy() if self._kind == "initial" else self._initial.copy()
        state[self.fixed] = self._given_at(0.0)
        return state

    def initial_tangent(self, dm: Floats) -> Floats | None:
        """The direction inside, zero where u is given."""
        if self._kind != "initial":
            return None
        tangent = dm.copy()
        tangent[:, self.fixed] = 0.0
        return tangent

    def initial_adjoint(self, w: Floats) -> Floats:
        """The same: it is a projection."""
        gradient = w.copy()
        gradient[:, self.fixed] = 0.0
        return gradient

    def check(self, m: Floats) -> None:
        """The conductivity is positive.

        Raises:
            DataError: If it is not.
        """
        if self._kind == "coefficients" and not m[0] > 0:
            message = f"the conductivity should be positive, got {m[0]:g}; use its logarithm or a positive prior."
            raise DataError(message)


def evolution_operator(
    mesh: Mesh,
    degree: int = 1,
    *,
    times: Sequence[float],
    step: float,
    scheme: Scheme = "bdf2",
    theta: float = 0.5,
    on_failure: str = "raise",
    march: Mapping[str, Any] | None = None,
    **settings: Any,
) -> HostOperator:
    """Unknown of a `ReactionDiffusion` to its states at `times`, `(n_times, n_nodes)`, differentiable.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Degree of the state, 1 or 2.
        times: Output times, multiples of `step`, increasing from 0 on.
        step: Time step.
        scheme: `"bdf2"` or `"theta"`.
        theta: Of the theta scheme, 1/2 to 1.
        on_failure: `"raise"`, or `"nan"` for samples that cannot be solved.
        march: Keyword arguments of `March`: `store`, `tolerance`, `cache_size`, ...
        settings: Keyword arguments of `ReactionDiffusion`.

    Raises:
        SciprobError: As `ReactionDiffusion` and `time_steps`.
    """
    steps, outputs = time_steps(times, step, scheme, theta)
    equation = ReactionDiffusion(mesh, degree, **settings)
    space = equation.space
    coords = dict(space.coords) | {"time": torch.tensor(np.asarray(times, dtype=np.float64))}
    codomain = Space((len(outputs), *space.shape), name=space.name, dims=("time", *space.dims), coords=coords)
    return HostOperator(March(equation, codomain, steps, outputs, **dict(march or {})), on_failure=on_failure)
