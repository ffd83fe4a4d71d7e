"""Training shared by processes: collectives against dense arithmetic, and the numbers of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rgnp_cases import small_solver
from safetensors.torch import load_file
from shared_training_script import trained

import sciprob
from sciprob.errors import ConfigError
from sciprob.solvers.rgnp import RandomGridNeuralProcess
from sciprob.solvers.rgnp.parallel import ALONE, Processes

SCRIPT = Path(__file__).with_name("shared_training_script.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    out = tmp_path_factory.mktemp("shared")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(out)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return out, [load_file(out / f"{rank}.safetensors") for rank in range(2)]


def test_parts_are_disjoint_and_complete_for_any_number_of_processes() -> None:
    for n in (1, 5, 12):
        for count in (1, 2, 3, 7):
            ranks: list[Any] = [SimpleNamespace(global_rank=rank, world_size=count) for rank in range(count)]
            parts = [Processes(fabric).part(n) for fabric in ranks]
            assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
            sizes = [part.stop - part.start for part in parts]
            assert max(sizes) - min(sizes) <= 1
    assert ALONE.part(5) == slice(0, 5)


def test_collectives_are_those_of_all_rows(results: tuple[Path, list[dict[str, torch.Tensor]]]) -> None:
    first, second = results[1]
    rows = first["rows"]
    assert torch.equal(torch.cat([first["part"], second["part"]]), torch.tensor([0, 3, 3, 7]))
    for found in (first, second):
        assert torch.equal(found["gathered"], rows)
        assert torch.allclose(found["gram"], rows @ rows.mT, rtol=1e-13, atol=1e-13)
        assert torch.allclose(found["sum"], rows.mT @ rows, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("name", "family", "points"), [("even", "poisson-family", 20), ("uneven", "cavity-family", 9)])
def test_two_processes_train_as_one(
    results: tuple[Path, list[dict[str, torch.Tensor]]], name: str, family: str, points: int
) -> None:
    """Also with parts of unequal size, and with several residuals per sample."""
    first, second = results[1]
    assert torch.equal(first[name], second[name])
    assert torch.allclose(first[name], trained(family, points, 0.0, ALONE), rtol=1e-9, atol=1e-11)


def test_samples_drawn_by_residual_are_the_same_for_all(results: tuple[Path, list[dict[str, torch.Tensor]]]) -> None:
    first, second = results[1]
    assert torch.equal(first["resampled"], second["resampled"])
    assert torch.allclose(first["resampled"], trained("poisson-family", 20, 0.5, ALONE), rtol=1e-9, atol=1e-11)
    assert not torch.allclose(first["resampled"], first["even"], rtol=1e-3)


def test_fit_gives_all_of_them_the_map_and_writes_once(
    results: tuple[Path, list[dict[str, torch.Tensor]]],
) -> None:
    out, (first, second) = results
    assert torch.equal(first["fit"], second["fit"])
    assert torch.allclose(first["fit"], first["even"], rtol=1e-12)
    saved = sciprob.load_amortised(out / "map")
    assert torch.equal(torch.nn.utils.parameters_to_vector(saved.network.parameters()).detach(), first["fit"])
    assert json.loads((out / "map" / "metrics.json").read_text())["steps"] == 4


def test_what_processes_cannot_share_is_refused() -> None:
    fabric: Any = SimpleNamespace(global_rank=0, world_size=2, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match="number of steps"):
        sciprob.fit("poisson-family", small_solver(2, 0), fabric=fabric, budget="5s", progress=False)
    with pytest.raises(ConfigError, match="runs in one process"):
        sciprob.fit("poisson-family", RandomGridNeuralProcess(trainer="variational"), fabric=fabric, progress=False)
