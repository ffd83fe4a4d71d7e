"""`sciprob.fit` and `sciprob fit`: files, resuming after any stop, interruption, and mistakes in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rgnp_cases import seeded, small_solver

import sciprob
from sciprob.cli import main
from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.solvers.fitting import resume_fit
from sciprob.solvers.rgnp import Amortised, NetworkShape
from sciprob.solvers.rgnp.calibration import ErrorScale
from sciprob.solvers.rgnp.variational import Variational, VariationalSettings

SETTINGS = (
    *("network.width=8", "network.depth=1", "network.harmonics=2", "gauss_newton.points=40"),
    *("laplace_residuals=40", "calibration_cases=4", "calibration_points=10"),
)


def command(out: Path, steps: int, *more: str) -> list[str]:
    settings = [word for pair in (*SETTINGS, f"gauss_newton.steps={steps}") for word in ("--set", pair)]
    return ["fit", "poisson-family", *settings, "--out", str(out), "--quiet", "--device", "cpu", *more]


def same(a: Amortised, b: Amortised) -> bool:
    z, w = a.family.unknown.sample(3, seeded(1)), a.family.known.sample(3, seeded(2))
    x = torch.linspace(-1, 1, 11, dtype=torch.float64).unsqueeze(-1)
    return torch.equal(a.mean(z, w, x), b.mean(z, w, x)) and torch.equal(a.std(z[0], w[0], x), b.std(z[0], w[0], x))


def test_a_fit_leaves_a_folder_that_loads(tmp_path: Path) -> None:
    model = sciprob.fit("poisson-family", small_solver(steps=5, cases=4), seed=3, out=tmp_path / "map", progress=False)
    files = {"config.toml", "environment.json", "metrics.json", "metrics.jsonl", "cite.bib", "model", "checkpoint"}
    assert {path.name for path in (tmp_path / "map").iterdir()} == files
    metrics = json.loads((tmp_path / "map" / "metrics.json").read_text())
    assert (metrics["status"], metrics["steps"], metrics["seed"], metrics["calibration_cases"]) == (
        "completed",
        5,
        3,
        4,
    )
    assert metrics["scale"]["factors"] == list(model.scale.factors)
    assert "random grid" in (tmp_path / "map" / "cite.bib").read_text().lower()
    assert same(sciprob.load_amortised(tmp_path / "map"), model)
    assert same(resume_fit(tmp_path / "map", progress=False), model)  # nothing left to do


def test_the_same_seed_gives_the_same_map_and_another_seed_another() -> None:
    solver = small_solver(steps=3, cases=0)
    first, again, other = (sciprob.fit("poisson-family", solver, seed=s, progress=False) for s in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


def test_a_killed_fit_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 somewhere after a checkpoint; then `sciprob resume`."""
    script = (
        "import sys, sciprob.solvers.loop as loop, sciprob.cli;"
        "loop._CHECKPOINT_EVERY = 0.0; loop._CHECKPOINT_SHARE = 1e9;"
        "sys.exit(sciprob.cli.main(sys.argv[1:]))"
    )
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, *command(killed, 120)])
    try:
        log, deadline = killed / "metrics.jsonl", time.monotonic() + 120
        while time.monotonic() < deadline and not (log.is_file() and len(log.read_text().splitlines()) >= 3):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (killed / "checkpoint" / "state.safetensors").is_file()
    assert not (killed / "metrics.json").exists()
    assert main(["resume", str(killed), "--quiet"]) == 0
    assert main(command(tmp_path / "whole", 120)) == 0
    assert same(sciprob.load_amortised(killed), sciprob.load_amortised(tmp_path / "whole"))
    assert json.loads((killed / "metrics.json").read_text())["steps"] == 120


def test_ctrl_c_keeps_what_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(step: int, _state: Any, _info: Any) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    solver = small_solver(steps=6, cases=4)
    model = sciprob.fit("poisson-family", solver, out=tmp_path / "map", callbacks=[interrupt])
    assert (model.meta["status"], model.meta["steps"]) == ("interrupted", 3)
    assert f"`sciprob resume {tmp_path / 'map'}` continues" in capsys.readouterr().err
    assert same(sciprob.load_amortised(tmp_path / "map"), model)
    finished = resume_fit(tmp_path / "map", progress=False)
    assert (finished.meta["status"], finished.meta["steps"]) == ("completed", 6)
    assert same(finished, sciprob.fit("poisson-family", solver, progress=False))


def test_the_published_training_gives_a_map_too_and_resumes(tmp_path: Path) -> None:
    """Its mean is that of the trained forward map."""
    shape = NetworkShape(6, 1, 1, "silu")
    settings = VariationalSettings(network=shape, batch=4, points=5, steps=4, train_inverse=False)
    solver = replace(small_solver(cases=0), trainer="variational", variational=settings)
    states = []
    whole = sciprob.fit(
        "poisson-family", solver, progress=False, callbacks=[lambda _k, state, _i: states.append(state)]
    )
    assert (whole.meta["status"], whole.meta["steps"]) == ("completed", 4)
    family = whole.family
    field = Variational(family, settings).forward_map(states[-1].published)
    z, w, x = family.unknown.sample(1, seeded(1)), family.known.sample(1, seeded(2)), family.domain.sample(5, seeded(3))
    with torch.no_grad():
        assert torch.allclose(whole.mean(z, w, x)[0, :, 0], field.field(x, z, w).mean[0], rtol=1e-12)
    sciprob.fit("poisson-family", solver, budget=1e-9, out=tmp_path / "map", progress=False)
    assert same(resume_fit(tmp_path / "map", progress=False), whole)


def test_a_budget_stops_after_a_step_and_can_be_resumed(tmp_path: Path) -> None:
    solver = small_solver(steps=3, cases=0)
    model = sciprob.fit("poisson-family", solver, budget=1e-9, out=tmp_path / "map", progress=False)
    assert (model.meta["status"], model.meta["steps"]) == ("budget", 1)
    assert resume_fit(tmp_path / "map", progress=False).meta["steps"] == 3


def test_families_built_in_python_can_be_fitted_and_resumed_with_the_family(tmp_path: Path) -> None:
    family = replace(sciprob.load_family("disk-family"), name="mine", reference=None, config={})
    solver = small_solver(steps=2)
    model = sciprob.fit(family, solver, out=tmp_path / "map", progress=False)
    assert model.scale == ErrorScale()
    assert "calibration_cases" not in model.meta
    with pytest.raises(ConfigError, match="family=family"):
        resume_fit(tmp_path / "map", progress=False)
    assert resume_fit(tmp_path / "map", family=family, progress=False).meta["steps"] == 2
    assert Amortised.load(tmp_path / "map", family).family.name == "mine"


def test_the_command_prints_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path / "map", 2, "--set", "coefficient.lower=-0.5")) == 0
    output = capsys.readouterr().out
    assert "poisson-family by rgnp: completed" in output
    assert "on 4 reference solutions" in output
    assert f"sciprob.load_amortised('{tmp_path / 'map'}').predict(z, w, x)" in output
    assert sciprob.load_amortised(tmp_path / "map").family.unknown.lower == (-0.5,) * 5


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fit", "poison-family"], "did you mean `poisson-family`?"),
        (["fit", "darcy-sensors"], "is one problem and no family; use `sciprob solve darcy-sensors`"),
        (["fit", "poisson-family", "--solver", "pcn"], "`sciprob.fit` needs one for families: `rgnp`"),
        (["fit", "poisson-family", "--set", "network.widht=3"], "did you mean `network.width`?"),
        (["fit", "poisson-family", "--set", "gauss_newton.rate=-1"], "Gauss-Newton needs"),
        (["solve", "darcy-sensors", "--solver", "rgnp"], "needs a family of problems (`sciprob fit`)"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_the_wrong_kind_of_folder_is_named(tmp_path: Path) -> None:
    sciprob.fit("poisson-family", small_solver(steps=1, cases=0), out=tmp_path / "map", progress=False)
    with pytest.raises(ConfigError, match="use `sciprob"):
        sciprob.resume(tmp_path / "map")
    with pytest.raises(ConfigError, match="already holds a run"):
        sciprob.fit("poisson-family", small_solver(steps=1, cases=0), out=tmp_path / "map", progress=False)
    with pytest.raises(UnsupportedProblemError, match="one problem at a time"):
        sciprob.fit("poisson-family", "laplace")
