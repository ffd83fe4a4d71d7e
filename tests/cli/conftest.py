"""A working directory with a small problem, the toy solver by name, and quick figures."""

import sys
from pathlib import Path
from typing import Any

import pytest

import sciprob.plot
import sciprob.solvers

sys.path.insert(0, str(Path(__file__).parents[1] / "driver"))

TOY = """
kind = "toy-sensors"
title = "A line"
citations = ["stuart2010"]
size = 6
seed = 2

[noise]
std = 0.2
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import toy_kind  # noqa: F401 (registers the kind)

    def plot_run(problem: Any, posterior: Any, folder: Path) -> None:
        (folder / "posterior.png").write_bytes(b"")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sciprob.plot, "plot_run", plot_run)
    monkeypatch.setitem(sciprob.solvers._MODULES, "toy", ("toy_sampler", "ToySampler"))
    (tmp_path / "problems").mkdir()
    (tmp_path / "problems" / "line.toml").write_text(TOY)
    return tmp_path
