"""Train with two processes on the CPU and write what each of them has; started by `test_shared_training.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file

import sciprob
from sciprob.random import Streams
from sciprob.solvers.rgnp import GaussNewton, NetworkShape, RandomGridNeuralProcess
from sciprob.solvers.rgnp.gauss_newton import weights
from sciprob.solvers.rgnp.parallel import Processes


def solver(family: str, points: int, resampled: float) -> RandomGridNeuralProcess:
    """Double precision, so that only the order of sums is left."""
    steps = GaussNewton(points=points, steps=4, resampled=resampled)
    return RandomGridNeuralProcess(
        NetworkShape(8, 2, 1), steps, precision="double", laplace_residuals=30, calibration_cases=0
    )


def trained(family: str, points: int, resampled: float, processes: Processes) -> torch.Tensor:
    """Weights after four steps."""
    method, built, streams = solver(family, points, resampled), sciprob.load_family(family), Streams(0)
    state = method.init(built, streams)
    for _ in range(4):
        state, _ = method.step(built, state, streams, processes)
    return state.weights


def collectives(processes: Processes) -> dict[str, torch.Tensor]:
    """Of rows that both processes could make: 7 samples, two rows each."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(14, 5, generator=generator, dtype=torch.float64)
    part = processes.part(7)
    own = rows[2 * part.start : 2 * part.stop]
    return {
        "rows": rows,
        "gathered": processes.gather(own, 7),
        "gram": processes.gram(own, 7),
        "sum": processes.sum(own.mT @ own),
        "part": torch.tensor([part.start, part.stop]),
    }


def work(fabric: Fabric, out: str) -> None:
    """Of one process."""
    processes = Processes(fabric)
    found = collectives(processes)
    found |= {"even": trained("poisson-family", 20, 0.0, processes)}
    found |= {"uneven": trained("cavity-family", 9, 0.0, processes)}
    found |= {"resampled": trained("poisson-family", 20, 0.5, processes)}
    fitted = sciprob.fit(
        "poisson-family", solver("poisson-family", 20, 0.0), fabric=fabric, out=f"{out}/map", progress=False
    )
    found |= {"fit": weights(fitted.network)}
    save_file({name: value.contiguous() for name, value in found.items()}, f"{out}/{fabric.global_rank}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_fork")
    Path(sys.argv[1]).mkdir(exist_ok=True)
    fabric.launch(work, sys.argv[1])
