"""Run by `test_ensemble_ranks.py` on one and on two processes; each writes what it got."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sciprob.engines.fenicsx import Elliptic
from sciprob.engines.fenicsx_ensemble import GroupedSolver
from sciprob.engines.fenicsx_evolution import evolution_operator
from sciprob.engines.fenicsx_mesh import fenics
from sciprob.engines.fenicsx_navier_stokes import Inflow, navier_stokes_operator
from sciprob.errors import ConvergenceError
from sciprob.operators.host import HostOperator
from sciprob.spaces import box_mesh


def evolution(comm: Any) -> Any:
    """Nonlinear diffusion with an unknown initial state and conditions of all kinds."""
    return evolution_operator(
        box_mesh((5, 4)), 2, times=[0.1, 0.3], step=0.1, reaction=(0.0, 0.0, 2.0), source=lambda x, t: t + x[:, 0],
        dirichlet={"left": lambda x, t: t * x[:, 1]}, robin={"top": (1.0, 2.0)}, comm=comm,
    ).host  # fmt: skip


def heat(comm: Any) -> Any:
    """A linear problem with an unknown source."""
    return evolution_operator(box_mesh((5, 4)), times=[0.1, 0.3], step=0.1, unknown="source", comm=comm).host


def flow(comm: Any) -> Any:
    """A channel with unknown viscosity and inflow; states computed again."""
    return navier_stokes_operator(
        box_mesh((6, 4), (0.0, 0.0), (2.0, 1.0)), times=[0.1, 0.3], step=0.05, unknown=("viscosity", "inflow"),
        velocity={"bottom": (0.0, 0.0), "top": (0.0, 0.0)}, march={"store": 3},
        inflow=Inflow("left", [lambda x: x[:, 1] * (1 - x[:, 1]), lambda x: x[:, 1] ** 2 * (1 - x[:, 1])]), comm=comm,
    ).host  # fmt: skip


def elliptic(comm: Any) -> Any:
    """The steady engine."""
    return Elliptic(box_mesh((5, 4)), 2, source=2.0, dirichlet={"bottom": 0.3}, reaction=5.0, comm=comm)


ENGINES: dict[str, Callable[[Any], Any]] = {"evolution": evolution, "heat": heat, "flow": flow, "elliptic": elliptic}


def failure(groups: int) -> torch.Tensor:
    """A sample that cannot be solved is named on every process, by its number in the whole batch."""
    operator = HostOperator(GroupedSolver(elliptic, groups))
    m = torch.zeros(4, *operator.domain.shape, dtype=torch.float64)
    m[3] = 800.0
    with pytest.raises(ConvergenceError, match="sample 3 ") as caught:
        operator(m)
    return torch.tensor([caught.value.sample])


def main(out: Path) -> None:
    """Solve, differentiate and save, once per number of groups."""
    world = fenics().MPI.COMM_WORLD
    results = {}
    for groups in (1, 2)[: world.size]:
        generator = torch.Generator().manual_seed(0)
        for name, build in ENGINES.items():
            solver = GroupedSolver(build, groups)
            assert solver._inner.size == world.size // groups
            if world.size > groups:
                dofs = getattr(solver.host, "dofs", None) or solver.host._states
                assert 0 < dofs.owned < len(dofs.columns)  # the mesh is distributed
            operator = HostOperator(solver)
            event, state = operator.domain.shape, operator.codomain.shape

            def noise(*shape: int, generator: torch.Generator = generator) -> torch.Tensor:
                return torch.randn(*shape, dtype=torch.float64, generator=generator)

            m = 0.3 * noise(3, *event) if name != "flow" else 0.05 + 0.2 * noise(3, *event).abs()
            u, gradient = operator.vjp(m, noise(3, *state))
            tangent = operator.jvp(m, noise(3, *event))[1]
            derivative = operator.linearise(m[0])[1]
            block = derivative.T(noise(5, *state)), derivative(noise(5, *event))
            values = {"u": u, "gradient": gradient, "tangent": tangent, "block-adjoint": block[0], "block": block[1]}
            results |= {f"{name}-{key}@{groups}": value for key, value in values.items()}
        results[f"failure@{groups}"] = failure(groups)
    save_file({f"{world.rank}/{key}": value.contiguous() for key, value in results.items()}, out / f"{world.rank}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
