"""Runs in these tests draw one empty figure, because drawing takes longer than all else; one test draws."""

from pathlib import Path
from typing import Any

import pytest

import sciprob.plot


@pytest.fixture(autouse=True)
def _quick_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def plot_run(problem: Any, posterior: Any, folder: Path) -> None:
        (folder / "posterior.png").write_bytes(b"")

    if "real_figures" not in request.fixturenames:
        monkeypatch.setattr(sciprob.plot, "plot_run", plot_run)


@pytest.fixture
def real_figures() -> None:
    """Ask for the real figures."""
