"""What the README shows runs as shown."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
FIRST, EVOLUTION, OPERATOR, CONFORMANCE = BLOCKS


def test_the_first_example_gives_a_posterior(tmp_path, monkeypatch):
    pytest.importorskip("dolfinx_solver", reason="the first example solves a finite-element problem")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(FIRST, "README", "exec"), names)
    posterior, problem = names["posterior"], names["problem"]
    assert (tmp_path / "run" / "posterior.nc").exists()
    covered = (names["low"] <= problem.truth) & (problem.truth <= names["high"])
    assert 0.75 < covered.double().mean() <= 1.0
    assert names["draws"].shape == (64, *posterior.space.shape)


def test_an_ensemble_of_flows_has_gradients():
    names: dict = {}
    exec(compile(EVOLUTION, "README", "exec"), names)
    trajectories = names["trajectories"]
    assert trajectories.shape == (16, 2, 64, 64)
    assert (trajectories.square().sum((-2, -1)).diff(dim=1) < 0).all()  # without forcing enstrophy decays
    mean = torch.full_like(names["gradient"], 1.0 * 2)  # the mean of the vorticity is conserved, at both times
    torch.testing.assert_close(names["gradient"], mean, rtol=0, atol=1e-3)


def test_an_own_operator_takes_at_most_thirty_lines_and_works():
    body = [line for line in OPERATOR.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(body) <= 30, f"{len(body)} lines"
    names: dict = {"__name__": "readme"}
    exec(compile(OPERATOR, "README", "exec"), names)
    posterior, problem = names["posterior"], names["problem"]
    error = torch.linalg.vector_norm(posterior.mean - problem.truth) / torch.linalg.vector_norm(problem.truth)
    assert error < 0.1
    assert posterior.std.max() < 0.2


def test_the_own_operator_passes_the_conformance_suite(tmp_path):
    definitions = OPERATOR[: OPERATOR.index("sensors =")]
    (tmp_path / "test_mine.py").write_text(definitions + CONFORMANCE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "test_mine.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "passed" in result.stdout
