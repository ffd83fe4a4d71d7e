"""Two processes give the numbers of one: states, gradients and tangents in canonical order."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = [pytest.mark.mpi, pytest.mark.fem, pytest.mark.timeout(300)]
if importlib.util.find_spec("dolfinx") is None:
    pytest.skip("needs FEniCSx", allow_module_level=True)

SCRIPT = Path(__file__).with_name("two_ranks_script.py")


def mpiexec() -> str:
    """The launcher that belongs to this Python's MPI."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.is_file() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("needs mpiexec")
    return found


def run(command: list[str], out: Path) -> dict[str, torch.Tensor]:
    """Run the script, wait, and read what it wrote.

    The launcher starts its processes by fork, so neither ssh nor a network is needed; variables of
    a surrounding MPI run would confuse it.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PMI_", "PMIX_", "OMPI_COMM_", "HYDI_"))}
    environment |= {"HYDRA_LAUNCHER": "fork", "OMP_NUM_THREADS": "1"}
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        [*command, sys.executable, str(SCRIPT), str(out)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {key: value for path in sorted(out.iterdir()) for key, value in load_file(path).items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    return run([], folders[0]), run([mpiexec(), "-n", "2"], folders[1])


def test_two_processes_equal_one(results: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]) -> None:
    one, two = results
    assert {key.split("/")[1] for key in one} == {key.split("/")[1] for key in two}
    assert len(two) == 2 * len(one)
    for key, value in two.items():
        reference = one["0/" + key.split("/")[1]]
        assert (value - reference).abs().max() <= 1e-10 * reference.abs().max(), key


def test_the_mesh_is_distributed_and_the_tensors_are_replicated(
    results: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]],
) -> None:
    one, two = results
    names = {key.split("/")[1] for key in one}
    assert names >= {"linear-u", "linear-gradient", "linear-tangent", "nonlinear-block", "source-adjoint"}
    for name in names:
        assert torch.equal(two[f"0/{name}"], two[f"1/{name}"]), name
