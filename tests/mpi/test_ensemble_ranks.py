"""Ensembles over groups of processes: two groups of one and one group of two give the numbers of one process."""

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

SCRIPT = Path(__file__).with_name("ensemble_ranks_script.py")
Results = dict[str, torch.Tensor]


def run(processes: int, out: Path) -> Results:
    """Run the script, wait, and read what it wrote; without variables of a surrounding MPI run."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PMI_", "PMIX_", "OMPI_COMM_", "HYDI_"))}
    environment |= {"HYDRA_LAUNCHER": "fork", "OMP_NUM_THREADS": "1"}
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    launcher: list[str] = []
    if processes > 1:
        beside = Path(sys.executable).with_name("mpiexec")
        found = str(beside) if beside.is_file() else shutil.which("mpiexec")
        if found is None:
            pytest.skip("needs mpiexec")
        launcher = [found, "-n", str(processes)]
    done = subprocess.run(
        [*launcher, sys.executable, str(SCRIPT), str(out)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {key: value for path in sorted(out.iterdir()) for key, value in load_file(path).items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    return run(1, tmp_path_factory.mktemp("one")), run(2, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("groups", [1, 2])
def test_groups_equal_one_process(results: tuple[Results, Results], groups: int) -> None:
    one, two = results
    keys = [key.removesuffix("@1").removeprefix("0/") for key in one]
    assert len(keys) == 4 * 5 + 1
    for key in keys:
        reference = one[f"0/{key}@1"]
        for rank in (0, 1):
            value = two[f"{rank}/{key}@{groups}"]
            assert (value - reference).abs().max() <= 1e-9 * reference.abs().max(), key


def test_a_failed_sample_has_its_number_in_the_whole_batch(results: tuple[Results, Results]) -> None:
    for values in results:
        assert all(int(value) == 3 for key, value in values.items() if "failure" in key)
