"""Every sub-command does what its help says, and every mistake is one line and exit code 2."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_sampler import ToySampler

import sciprob.solvers
from sciprob.cli import main
from sciprob.io.store import load_posterior

Capture = pytest.CaptureFixture[str]


def fails(capsys: Capture, *argv: str, code: int = 2) -> str:
    """The one line on stderr of a command that must fail."""
    capsys.readouterr()
    try:
        result = main(list(argv))
    except SystemExit as exit_:  # argparse
        result = int(exit_.code or 0)
    output = capsys.readouterr()
    assert result == code
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    assert "Traceback" not in output.err
    return output.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["solve", "linee"], "unknown problem `linee`; did you mean `line`?"),
        (["solve", "missing.toml"], "there is no problem file `missing.toml`"),
        (["solve", "line", "--solver", "gausian"], "unknown solver `gausian`; did you mean `gaussian`?"),
        (["solve", "line", "--set", "noise.sdt=1"], "unknown setting `noise.sdt`; did you mean `noise.std`?"),
        (["solve", "line", "--set", "problem.siez=1"], "unknown setting `siez`; did you mean `size`?"),
        (["solve", "line", "--set", "solver.sampels=1"], "did you mean `samples`?"),
        (["solve", "line", "--set", "size"], "`--set` takes KEY=VALUE, got `size`"),
        (["solve", "line", "--set", "size=many"], "`size` should be int, got 'many' in line.toml"),
        (["solve", "line", "--set", "samples=many"], "`samples` should be int, got 'many' in solver `gaussian`"),
        (["solve", "line", "--solver", "toy", "--set", "draws=3"], "write `problem.draws` or `solver.draws`"),
        (["solve", "line", "--budget", "soon"], "positive time such as `60s`"),
        (["solve", "line", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["solve", "line", "--data", "nothing.csv"], "there is no data file"),
        (["slove", "line"], "unknown command `slove`; did you mean `solve`?"),
        (["solve"], "required: PROBLEM; see `sciprob solve --help`"),
        (["solve", "line", "--sed", "1"], "unrecognized arguments: --sed"),
        (["resume", "nowhere"], "`nowhere` is not a run folder"),
        (["cite", "nowhere"], "`nowhere` has no cite.bib"),
        (["plot", "nowhere"], "`nowhere` is not a run folder"),
        (["show", "linee"], "unknown problem `linee`"),
        (["show", "laplas"], "unknown solver or problem `laplas`; did you mean `laplace`?"),
        (["solve", "line", "--out", "/proc/run"], "'/proc/run'; check the path and its permissions."),
        (["solve", "tomography-htc2022", "--data", "problems/line.toml"], "is not a readable MATLAB 5 file"),
        (["compare", "line", "--solvers", "gaussian,gaussian"], "takes different names"),
        (["compare", "line", "--solvers", "gaussian,pnc"], "unknown solver `pnc`; did you mean `pcn`?"),
        (["mesh", "bild", "x"], "unknown command `bild`; did you mean `build`?"),
        ([], "required: COMMAND"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(argv: list[str], words: str, capsys: Capture) -> None:
    assert words in fails(capsys, *argv)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "toy-sensors"\nsze = 3\n', "unknown key `sze` in mine.toml; did you mean `size`?"),
        ('kind = "toy-sensors"\n[noise]\nst = 3\n', "unknown key `st` in [noise] of mine.toml; did you mean `std`?"),
        ('kind = "toy-sensor"\n', "unknown problem kind `toy-sensor`; did you mean `toy-sensors`?"),
        ('kind = "toy-sensors"\nsize = "3"\n', "`size` should be int, got '3' in mine.toml"),
        ("size = 3\nsize = 4\n", "`mine.toml` is not valid TOML: "),
        ("kind = toy", "line 1"),
    ],
)
def test_mistakes_in_problem_files(text: str, words: str, folder: Path, capsys: Capture) -> None:
    (folder / "mine.toml").write_text(text)
    assert words in fails(capsys, "solve", "mine.toml")


def test_debug_shows_the_traceback() -> None:
    for argv in (["--debug", "solve", "linee"], ["solve", "linee", "--debug"]):
        with pytest.raises(sciprob.errors.ConfigError):
            main(argv)


def test_defects_are_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def broken(*args: Any) -> None:
        message = "first line\nsecond line"
        raise RuntimeError(message)

    monkeypatch.setattr("sciprob.cli.catalogue.find", broken)
    line = fails(capsys, "show", "line", code=1)
    assert line.startswith("sciprob: RuntimeError: first line second line (unexpected; run again with --debug")


def test_solve_writes_a_run_and_prints_its_table(capsys: Capture) -> None:
    assert main(["solve", "line", "--out", "run", "--seed", "4", "--set", "noise.std=0.3", "--set", "samples=70"]) == 0
    out = capsys.readouterr().out
    for words in (
        "line by gaussian: converged",
        "relative error",
        "90 %: ",
        "CRPS",
        "time",
        "solves",
        "run (posterior",
    ):
        assert words in out
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["seed"] == 4
    config = Path("run/config.toml").read_text()
    assert "std = 0.3" in config
    assert "samples = 70" in config


def test_a_config_toml_is_rerunnable_and_its_numbers_return(capsys: Capture) -> None:
    main(["solve", "line", "--solver", "toy", "--set", "solver.draws=30", "--seed", "5", "--out", "run", "--quiet"])
    assert main(["solve", "run/config.toml", "--out", "again", "--quiet"]) == 0
    first, again = load_posterior("run"), load_posterior("again")
    assert torch.equal(first.samples, again.samples)
    assert len(again.samples) == 30
    assert Path("run/config.toml").read_text() == Path("again/config.toml").read_text()


def test_out_folders_in_use_are_refused_and_overwritten_on_request(capsys: Capture) -> None:
    assert main(["solve", "line", "--out", "run"]) == 0
    assert "`sciprob resume run`) or use `--overwrite`" in fails(capsys, "solve", "line", "--out", "run")
    assert main(["solve", "line", "--out", "run", "--overwrite"]) == 0


@dataclass(frozen=True)
class Pressing(ToySampler):
    """Presses Ctrl-C in its third step, unless a file says that it is tired of it."""

    def step(self, problem: Any, state: Any, streams: Any) -> Any:
        if len(state.draws) == 2 and not Path("tired").exists():
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(problem, state, streams)


def test_ctrl_c_exits_with_130_and_resume_finishes(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(sciprob.solvers._MODULES, "toy", (__name__, "Pressing"))
    assert main(["solve", "line", "--solver", "toy", "--out", "run"]) == 130
    output = capsys.readouterr()
    assert "Interrupted after 3 steps; `sciprob resume run` continues." in output.err
    assert "line by toy: interrupted" in output.out
    Path("tired").touch()
    assert main(["resume", "run"]) == 0
    assert "line by toy: completed" in capsys.readouterr().out
    main(["solve", "line", "--solver", "toy", "--out", "whole"])
    assert torch.equal(load_posterior("run").samples, load_posterior("whole").samples)


def test_compare_prints_one_row_per_solver_and_writes_them(capsys: Capture) -> None:
    solvers = ["--solvers", "gaussian,laplace,toy", "--set", "toy.draws=400"]
    assert main(["compare", "line", *solvers, "--out", "both", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "mean difference" in out
    rows = json.loads(Path("both/compare.json").read_text())["rows"]
    assert [row["solver"] for row in rows] == ["gaussian", "laplace", "toy"]
    assert rows[0]["mean_difference"] == 0
    assert rows[1]["mean_difference"] < 1e-3, "the same posterior, by another way"
    assert 1e-3 < rows[2]["mean_difference"] < 0.5
    assert rows[1]["std_ratio"] == pytest.approx(1, abs=1e-2)
    with Path("both/compare.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert float(table[2]["mean_difference"]) == rows[2]["mean_difference"]
    assert Path("both/toy/posterior.nc").is_file()


def test_compare_says_what_is_not_supported(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(ToySampler, "needs", frozenset({sciprob.operators.Capability.PRIOR_LOG_PROB}))
    assert main(["compare", "line", "--solvers", "gaussian,toy"]) == 0
    out = capsys.readouterr().out
    assert "not supported" in out
    assert "toy: solver `toy` needs a prior density" in out


def test_simulated_sensors_are_data_again(capsys: Capture) -> None:
    import xarray

    assert main(["simulate", "line", "--seed", "3", "--out", "data"]) == 0
    with xarray.open_datatree("data/simulated.nc", engine="h5netcdf") as tree:
        values = tree["data"]["y"].values.tolist()
        assert tree["truth"]["m"].sizes == {"x": 6}
        assert tree.attrs["seed"] == 3
    with Path("data/sensors.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["x", "value", "std"]
    assert [float(row["value"]) for row in rows] == values
    assert {float(row["std"]) for row in rows} == {0.2}
    assert main(["solve", "line", "--data", "data/sensors.csv", "--out", "run"]) == 0
    assert "data_sha256" in Path("run/config.toml").read_text()
    assert "is not empty" in fails(capsys, "simulate", "line", "--out", "data")
    Path("data/sensors.csv").write_text("x,value,std\n0.5,1,1\n")
    assert "changed since it was recorded" in fails(capsys, "resume", "run")


def test_list_show_and_cite(capsys: Capture) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "line" in out
    assert "A line" in out
    assert "darcy-sensors" in out
    assert "laplace" in out
    assert main(["show", "line"]) == 0
    out = capsys.readouterr().out
    assert "problems/line.toml (working directory)" in out
    assert "noise.std 0.2 float" in " ".join(out.split())
    assert "Standard deviation of each value." in out
    assert main(["show", "line-nothing"]) == 2
    assert main(["show", "laplace"]) == 0
    assert "newton_steps" in capsys.readouterr().out
    main(["solve", "line", "--out", "run"])
    capsys.readouterr()
    assert main(["cite", "run"]) == 0
    assert "@article{stuart2010" in capsys.readouterr().out


def test_a_copied_problem_is_the_same_and_can_be_changed(capsys: Capture) -> None:
    Path("deeper").mkdir()
    assert main(["copy", "line", "mine.toml"]) == 0
    assert "`sciprob solve mine.toml --out run`" in capsys.readouterr().out
    assert Path("mine.toml").read_text() == Path("problems/line.toml").read_text()
    assert main(["copy", "mine.toml", "deeper"]) == 0
    assert main(["copy", "poisson-family"]) == 0
    assert "`sciprob fit poisson-family.toml --out run`" in capsys.readouterr().out
    Path("deeper/mine.toml").write_text(Path("mine.toml").read_text().replace("std = 0.2", "std = 0.4"))
    assert main(["solve", "deeper/mine.toml", "--out", "run"]) == 0
    assert "std = 0.4" in Path("run/config.toml").read_text()
    assert "is not overwritten; name another file" in fails(capsys, "copy", "line", "mine.toml")
    assert "should end in .toml" in fails(capsys, "copy", "line", "mine")
    assert "there is no folder `nowhere`" in fails(capsys, "copy", "line", "nowhere/mine.toml")
    assert "did you mean `line`?" in fails(capsys, "copy", "linee")
    assert "a file `mine.toml` is here; write its name with .toml" in fails(capsys, "show", "mine")


def test_plot_draws_again(capsys: Capture) -> None:
    main(["solve", "line", "--out", "run"])
    Path("run/figures/posterior.png").unlink()
    capsys.readouterr()
    assert main(["plot", "run"]) == 0
    assert capsys.readouterr().out == "run/figures/posterior.png\n"
    assert main(["plot", "run", "--out", "elsewhere"]) == 0
    assert Path("elsewhere/posterior.png").exists()


def test_doctor_finds_what_is_required(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sciprob.cli.doctor._optional", lambda: iter([("gmsh", "absent", "optional")]))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in ("python", "torch", "FEniCSx", "MPI", "CUDA", "threads", "problems"):
        assert f"  {part} " in out
    assert "missing" not in out
    monkeypatch.setattr("sciprob.cli.doctor._required", lambda: iter([("scipy", "missing", "run `pip install scipy`")]))
    assert main(["doctor"]) == 2


@pytest.mark.parametrize(
    "command", ["", "list", "show", "copy", "doctor", "solve", "resume", "compare", "simulate", "plot", "mesh", "cite"]
)
def test_help_has_an_example(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command.split(), "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert "example:\n  sciprob " in out if command else "sciprob solve darcy-sensors" in out


def test_help_is_fast_and_light() -> None:
    code = (
        "import sys, sciprob.cli\n"
        "try: sciprob.cli.main(['solve', '--help'])\n"
        "except SystemExit: sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    assert time.perf_counter() - start < 5, "0.2 s where nothing else runs"


def test_module_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "sciprob", "solve"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "sciprob: the following arguments are required: PROBLEM; see `sciprob solve --help`.\n"
