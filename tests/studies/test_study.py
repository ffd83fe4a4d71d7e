import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
import xarray

from sciprob.errors import ConfigError
from sciprob.studies import run_study
from sciprob.studies.plan import make_plan

SMALL = {"pixels": 10, "scan.bins": 15, "scan.views": 5}


def plan_table(**changes):
    table = {
        "title": "Views",
        "seeds": 2,
        "problems": {"phantom": {"problem": "tomography-phantom", "set": SMALL, "vary": {"noise.std": [0.01, 0.05]}}},
        "solvers": {"gaussian": {}, "chains": {"solver": "pcn", "chains": 2, "samples": 60, "burn_in": 20}},
    }
    return table | changes


def plan(**changes):
    return make_plan(plan_table(**changes), Path("study.toml"))


def numbers(table: pandas.DataFrame) -> pandas.DataFrame:
    """All columns but those that depend on the clock."""
    return table.drop(columns=[name for name in table if "seconds" in name])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_study(plan(), tmp_path_factory.mktemp("studies") / "whole", progress=False)


def test_one_row_per_problem_setting_solver_and_data_set(finished):
    table = finished.table
    assert len(table) == 2 * 2 * 2
    assert list(table.columns[:4]) == ["problem", "noise.std", "solver", "seed"]
    gaussian, chains = (table[table["solver"] == name].reset_index() for name in ("gaussian", "chains"))
    assert (gaussian["relative_error"] - chains["relative_error"]).abs().max() < 0.2  # the same truths and data
    assert gaussian["relative_error"].nunique() == 4  # which differ between settings and seeds


def test_means_over_data_sets(finished):
    means, table = finished.summary(), finished.table
    assert list(means["runs"]) == [2, 2, 2, 2]
    picked = table[(table["noise.std"] == 0.05) & (table["solver"] == "gaussian")]["relative_error"]
    row = means[(means["noise.std"] == 0.05) & (means["solver"] == "gaussian")]
    assert float(row["relative_error"].iloc[0]) == pytest.approx(picked.mean())
    assert float(row["+-"].iloc[0]) == pytest.approx(picked.std() / 2**0.5)


def test_the_files_hold_the_table(finished):
    again = pandas.read_csv(finished.folder / "results.csv")
    pandas.testing.assert_frame_equal(again, finished.table, check_dtype=False)
    with xarray.open_dataset(finished.folder / "results.nc", engine="h5netcdf") as data:
        assert dict(data.sizes) == {"problem": 1, "noise.std": 2, "solver": 2, "seed": 2}
        cell = data["crps"].sel({"problem": "phantom", "noise.std": 0.01, "solver": "gaussian", "seed": 1})
        assert float(cell) == pytest.approx(float(finished.table["crps"].iloc[1]))
    assert (finished.folder / "runs/phantom,noise.std=0.01/gaussian/seed-0001/posterior.nc").is_file()


def test_what_was_finished_is_not_repeated(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.folder.rglob("metrics.json")}
    again = run_study(plan(), finished.folder, progress=False)
    assert {p: p.stat().st_mtime_ns for p in finished.folder.rglob("metrics.json")} == before
    pandas.testing.assert_frame_equal(again.table, finished.table)


def test_figures_can_be_left_out(tmp_path):
    phantom = {"phantom": {"problem": "tomography-phantom", "set": SMALL}}
    bare = plan(figures=False, seeds=1, problems=phantom, solvers={"gaussian": {}})
    folder = run_study(bare, tmp_path / "bare", progress=False).folder / bare.cases[0].folder
    assert (folder / "posterior.nc").is_file()
    assert not (folder / "figures").exists()
    (folder / "metrics.json").unlink()  # as after a kill
    run_study(bare, tmp_path / "bare", progress=False)
    assert (folder / "metrics.json").is_file()
    assert not (folder / "figures").exists()
    with pytest.raises(ConfigError, match=r"`figures` of study\.toml should be true or false"):
        plan(figures="no")


def test_a_study_killed_twice_ends_with_the_same_table(finished, tmp_path):
    import tomli_w

    file, out = tmp_path / "study.toml", tmp_path / "out"
    file.write_text(tomli_w.dumps(plan_table()))
    command = [sys.executable, "-m", "sciprob", "study", str(file), "--out", str(out), "--quiet"]
    for wanted in (1, 4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 300
        while len(list(out.rglob("metrics.json"))) < wanted and time.monotonic() < deadline:
            assert process.poll() is None, "the study ended before it was killed"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert 4 <= len(list(out.rglob("metrics.json"))) < 8
    assert not (out / "results.csv").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    again = pandas.read_csv(out / "results.csv")
    pandas.testing.assert_frame_equal(numbers(again), numbers(finished.table), check_dtype=False, check_exact=True)


def test_a_run_that_fails_is_a_row_with_its_reason(tmp_path):
    failing = {"sm-gp": {}, "gaussian": {}}
    study = run_study(plan(seeds=[3], solvers=failing), tmp_path / "out", progress=False)
    row = study.table[study.table["solver"] == "sm-gp"].iloc[0]
    assert row["status"] == "failed"
    assert "which `tomography-phantom` does not offer" in row["reason"]
    assert list(study.summary()["failed"]) == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"problms": {}}, "unknown key `problms` in study.toml; did you mean `problems`?"),
        ({"solvers": {"gausian": {}}}, "did you mean `gaussian`?"),
        ({"solvers": {"pcn": {"sampels": 3}}}, "did you mean `samples`?"),
        ({"problems": {"a": {"problem": "tomography-phantm"}}}, "did you mean `tomography-phantom`?"),
        ({"problems": {"tomography-phantom": {"vary": {"pixels": 3}}}}, "should be a list of values, got 3"),
        ({"problems": {}}, r"at least one table `\[problems.LABEL\]`"),
        ({"seeds": 0}, "number of data sets"),
    ],
)
def test_mistakes_show_before_any_run(changes, words):
    with pytest.raises(ConfigError, match=words):
        plan(**changes)


def test_a_folder_of_something_else_is_refused(finished, tmp_path):
    with pytest.raises(ConfigError, match="holds another study"):
        run_study(plan(seeds=1), finished.folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not a study"):
        run_study(plan(), tmp_path)
