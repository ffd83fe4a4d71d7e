"""One loop for all solvers: capabilities, budget, log, NaN guard, interruption, exact resumption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_sampler import ToySampler, toy_problem

import sciprob.solvers.loop
from sciprob.errors import ConfigError, ConvergenceError, DataError, NonFiniteError, UnsupportedProblemError
from sciprob.operators import Capability
from sciprob.posteriors import Ensemble
from sciprob.solvers.driver import resume, solve


def samples(posterior: Any) -> torch.Tensor:
    assert isinstance(posterior, Ensemble)
    return posterior.samples


@pytest.fixture
def reference() -> torch.Tensor:
    """Draws of an uninterrupted run of 20 steps."""
    return samples(solve(toy_problem(), ToySampler(), seed=3, progress=False))


class StopAt(Exception):
    """Raised by a callback to end a run like a crash would."""


def crash_at(step: int) -> Any:
    def callback(k: int, state: Any, info: Any) -> None:
        if k == step:
            raise StopAt

    return callback


def test_same_seed_same_numbers_and_other_seed_others(reference: torch.Tensor) -> None:
    assert torch.equal(samples(solve(toy_problem(), ToySampler(), seed=3, progress=False)), reference)
    assert not torch.equal(samples(solve(toy_problem(), ToySampler(), seed=4, progress=False)), reference)


@pytest.mark.parametrize("step", [1, 7, 20])
def test_a_crashed_run_resumes_bit_for_bit(
    step: int, reference: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sciprob.solvers.loop, "_CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(sciprob.solvers.loop, "_CHECKPOINT_SHARE", 1e9)
    out = tmp_path / "run"
    with pytest.raises(StopAt):
        solve(toy_problem(), ToySampler(), seed=3, out=out, progress=False, callbacks=[crash_at(step)])
    assert not (out / "metrics.json").exists()
    seen: list[int] = []
    again = resume(
        out,
        problem=toy_problem(),
        solver=ToySampler(),
        progress=False,
        callbacks=[lambda k, state, info: seen.append(k)],
    )
    assert seen == list(range(step, 21)), "only the steps after the last checkpoint are made again"
    assert torch.equal(samples(again), reference)
    assert again.meta["steps"] == 20


def test_a_killed_process_resumes_bit_for_bit(tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = Path(__file__).with_name("toy_sampler.py")
    process = subprocess.Popen([sys.executable, str(script), str(out)], env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.time() + 60
    while not (out / "checkpoint" / "state.safetensors").exists() or _lines(out / "metrics.jsonl") < 3:
        assert time.time() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps: list[int] = []
    solver = ToySampler(draws=400, pause=0.01)
    killed = resume(
        out, problem=toy_problem(), solver=solver, progress=False, callbacks=[lambda k, s, i: steps.append(k)]
    )
    assert 1 < steps[0] < 400
    whole = solve(toy_problem(), replace(solver, pause=0.0), seed=3, progress=False)
    assert torch.equal(samples(killed), samples(whole))
    logged = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert logged == sorted(set(logged))
    assert not list(out.rglob(".*"))


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_the_log_of_a_run_without_checkpoint_starts_again(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(StopAt):
        solve(toy_problem(), ToySampler(), out=out, progress=False, callbacks=[crash_at(4)])
    assert _lines(out / "metrics.jsonl") > 0
    assert not (out / "checkpoint" / "state.safetensors").exists()
    with (out / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "sec')  # torn by the kill
    resume(out, problem=toy_problem(), solver=ToySampler(), progress=False)
    logged = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert logged == sorted(set(logged))


def test_state_tensors_have_the_layout_of_reloaded_ones() -> None:
    offsets: list[int] = []
    watch = [lambda k, state, info: offsets.append(state.m.storage_offset())]
    posterior = solve(toy_problem(), ToySampler(), progress=False, callbacks=watch)
    assert posterior.meta["diagnostics"]["accepted"] > 0
    assert offsets == [0] * 20


def test_run_folder_is_complete(real_figures: None, tmp_path: Path) -> None:
    out = tmp_path / "run"
    posterior = solve(toy_problem(), ToySampler(), seed=3, out=out, progress=False, budget="5m")
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "posterior", "posterior.nc", "metrics.json", "metrics.jsonl", "config.toml", "figures", "checkpoint",
        "environment.json", "cite.bib",
    }  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["problem"] == "toy-line"
    assert metrics["solver"] == "toy"
    assert metrics["status"] == "completed"
    assert metrics["advice"] == "All planned steps were made. Sample longer."
    assert metrics["seed"] == 3
    assert metrics["solves"].keys() >= {"forward", "adjoint", "tangent"}
    assert metrics["network_calls"] == 3
    assert metrics["diagnostics"]["accepted"] > 0
    assert set(metrics["coverage"]) == {"0.5", "0.8", "0.9", "0.95"}
    assert metrics["crps"] > 0
    assert metrics["relative_error"] > 0
    assert posterior.meta == metrics
    config = tomllib.loads((out / "config.toml").read_text())
    assert config["solver"] == {"name": "toy", "draws": 20, "scale": 0.3, "pause": 0.0, "late": 0}
    assert config["run"].items() >= {"seed": 3, "device": "cpu", "budget": 300.0}.items()
    for key in ("@software{sciprob", "stuart2010", "cotter2013"):
        assert key in (out / "cite.bib").read_text()
    environment = json.loads((out / "environment.json").read_text())
    assert environment["versions"]["torch"]
    assert environment["threads"] >= 1
    assert list((out / "figures").glob("*.png"))


def test_budget_stops_and_resume_finishes(reference: torch.Tensor, tmp_path: Path) -> None:
    out = tmp_path / "run"
    slow = ToySampler(pause=0.05)
    early = solve(toy_problem(), slow, seed=3, out=out, progress=False, budget=0.3)
    assert early.meta["status"] == "budget"
    assert 2 <= early.meta["steps"] < 20
    assert torch.equal(samples(early), reference[: early.meta["steps"]])
    late = resume(out, problem=toy_problem(), solver=slow, progress=False)
    assert torch.equal(samples(late), reference)
    assert late.meta["status"] == "completed"
    assert late.meta["seconds"] >= early.meta["seconds"] + 0.05 * (20 - early.meta["steps"])


def test_every_part_makes_a_step_however_small_its_budget(tmp_path: Path) -> None:
    solver = ToySampler(draws=4)
    with pytest.raises(ConvergenceError, match=r"time budget ended after 1 steps; `sciprob resume .*too early"):
        solve(toy_problem(), solver, out=tmp_path / "run", progress=False, budget=1e-6)
    for step in (2, 3):
        posterior = resume(tmp_path / "run", problem=toy_problem(), solver=solver, progress=False, budget=1e-6)
        assert posterior.meta["steps"] == step


def test_ctrl_c_stops_after_the_step_and_says_how_to_go_on(
    reference: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def press(k: int, state: Any, info: Any) -> None:
        if k == 5:
            os.kill(os.getpid(), signal.SIGINT)

    partial = solve(toy_problem(), ToySampler(), seed=3, out=out, callbacks=[press])
    assert partial.meta["status"] == "interrupted"
    assert f"Interrupted after 5 steps; `sciprob resume {out}` continues." in capsys.readouterr().err
    assert torch.equal(samples(partial), reference[:5])
    whole = resume(out, problem=toy_problem(), solver=ToySampler(), progress=False)
    assert torch.equal(samples(whole), reference)
    with pytest.raises(KeyboardInterrupt):
        solve(toy_problem(), ToySampler(late=10), progress=False, callbacks=[press])


def test_resuming_a_finished_run_gives_it_again(reference: torch.Tensor, tmp_path: Path) -> None:
    solve(toy_problem(), ToySampler(), seed=3, out=tmp_path / "run", progress=False)
    again = resume(tmp_path / "run", problem=toy_problem(), solver=ToySampler(), progress=False)
    assert torch.equal(samples(again), reference)


def test_solves_of_all_parts_are_added(tmp_path: Path) -> None:
    whole = solve(toy_problem(), ToySampler(), progress=False).meta["solves"]
    early = solve(toy_problem(), ToySampler(pause=0.05), out=tmp_path / "run", progress=False, budget=0.3)
    assert early.meta["steps"] < 20
    late = resume(tmp_path / "run", problem=toy_problem(), solver=ToySampler(pause=0.05), progress=False)
    assert late.meta["solves"] == whole
    assert whole["forward"] == 40, "two per step"


def test_data_set_in_python_are_those_of_the_run(tmp_path: Path) -> None:
    other = toy_problem().observe(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    first = solve(other, ToySampler(), seed=3, out=tmp_path / "run", progress=False)
    again = resume(tmp_path / "run", problem=toy_problem(), solver=ToySampler(), progress=False)
    assert torch.equal(samples(first), samples(again))
    assert "relative_error" not in again.meta


def test_nan_is_caught_and_the_last_good_state_kept(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"`state.m` at \(1,\) became NaN in step 6"):
        solve(toy_problem(), ToySampler(poison=6), out=tmp_path / "run", progress=False)


def test_missing_capability_is_named_before_anything_runs(tmp_path: Path) -> None:
    class Demanding(ToySampler):
        needs = frozenset({Capability.PRIOR_LOG_PROB, Capability.GAUSSIAN_PRIOR})

    with pytest.raises(UnsupportedProblemError, match="`toy` needs a prior density, which `toy-line` does not offer"):
        solve(toy_problem(), Demanding(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_problems_without_data_and_wrong_wishes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no data"):
        solve(toy_problem(data=None), ToySampler(), out=tmp_path / "run")
    with pytest.raises(ConfigError, match="`device` should be auto, cpu or cuda, got 'tpu'"):
        solve(toy_problem(), ToySampler(), device="tpu")
    with pytest.raises(ConfigError, match="unknown solver `laplase`; did you mean `laplace`"):
        solve(toy_problem(), "laplase")
    assert not (tmp_path / "run").exists()


def test_folders_in_use_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="holds other files and is not a run"):
            solve(toy_problem(), ToySampler(), out=tmp_path / "thesis", overwrite=overwrite)
    out = tmp_path / "run"
    solve(toy_problem(), ToySampler(), seed=1, out=out, progress=False)
    with pytest.raises(ConfigError, match=f"already holds a run; continue it .`sciprob resume {out}`. or use"):
        solve(toy_problem(), ToySampler(), out=out)
    again = solve(toy_problem(), ToySampler(), seed=2, out=out, overwrite=True, progress=False)
    assert again.meta["seed"] == 2


def test_what_cannot_be_rebuilt_is_asked_for(tmp_path: Path) -> None:
    solve(toy_problem(), ToySampler(), out=tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="names the solver `toy`, which is not the package's"):
        resume(tmp_path / "run")
    with pytest.raises(ConfigError, match="was built in Python; use `sciprob"):
        resume(tmp_path / "run", solver=ToySampler())
    with pytest.raises(ConfigError, match="is not a run folder"):
        resume(tmp_path)
