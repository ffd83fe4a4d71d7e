"""Run by `test_two_ranks.py` on one and on two processes; each writes what it got."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from sciprob.engines.fenicsx import elliptic_operator, source_operator
from sciprob.engines.fenicsx_mesh import fenics
from sciprob.io.mesh import load_mesh
from sciprob.spaces import box_mesh


def reuse_and_failure(noise: Callable[..., torch.Tensor]) -> dict[str, torch.Tensor]:
    """Storage that is handed from one linearisation to the next, and a sample that cannot be solved."""
    operator = elliptic_operator(
        box_mesh((4, 4)), source=1.0, dirichlet={"left": 0.0}, cache_size=2, on_failure="nan"
    )  # fmt: skip
    m, v = 0.5 * noise(6, *operator.domain.shape), noise(6, *operator.codomain.shape)
    gradients = [operator.linearise(m[i % 3])[1].T(v[i]) for i in range(6)]
    m[4] = 800.0
    return {"reuse-gradients": torch.stack(gradients), "failure-u": torch.nan_to_num(operator(m), nan=-1.0)}


def main(out: Path) -> None:
    """Solve, differentiate, and save."""
    world = fenics().MPI.COMM_WORLD
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    results = {}
    hole = load_mesh("unit_square")
    cases = {
        "linear": elliptic_operator(
            hole, 1, source=lambda x: 1 + x[:, 0], dirichlet={"left": 0.0}, neumann={"right": 0.5},
            robin={"top": (1.0, lambda x: x[:, 0])},
        ),
        "nonlinear": elliptic_operator(hole, 2, source=2.0, dirichlet={"bottom": 0.3}, reaction=5.0),
        "solid": elliptic_operator(box_mesh((3, 2, 2)), 2, source=2.0, dirichlet={"left": 0.0, "top": 1.0}),
    }  # fmt: skip
    for name, operator in cases.items():
        assert operator.host._comm.size == world.size
        if world.size > 1:
            assert 0 < operator.host._states.owned < operator.codomain.size
        m = 0.5 * noise(2, *operator.domain.shape)
        u, results[f"{name}-gradient"] = operator.vjp(m, noise(2, *operator.codomain.shape))
        _, results[f"{name}-tangent"] = operator.jvp(m, noise(2, *operator.domain.shape))
        _, derivative = operator.linearise(m[0])
        results[f"{name}-u"] = u
        results[f"{name}-block"] = derivative.T(noise(5, *operator.codomain.shape))
    results |= reuse_and_failure(noise)
    source = source_operator(hole, 1, conductivity=lambda x: 1 + x[:, 0], dirichlet={"left": 1.0})
    results["source-u"], results["source-adjoint"] = source.vjp(noise(3, 142), noise(3, 142))
    save_file({f"{world.rank}/{key}": value.contiguous() for key, value in results.items()}, out / f"{world.rank}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
