import json

import pytest

from sciprob.cli import main

SMALL = ["--set", "pixels=12", "--set", "scan.views=5", "--set", "scan.bins=18"]


def test_calibrate_says_its_verdict_and_writes_ranks_and_a_figure(tmp_path, capsys):
    out = tmp_path / "calibration"
    command = ["calibrate", "tomography-phantom", "--simulations", "20", "--draws", "19", "--quiet", *SMALL]
    assert main([*command, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "20 simulations, 19 draws each" in text
    assert "calibrated, as far as these simulations tell" in text
    table = json.loads((out / "calibration.json").read_text())
    assert len(table["ranks"]["mean"]) == 20
    assert (out / "ranks.png").stat().st_size > 10_000
    assert main([*command, "--out", str(out)]) == 2
    assert "exists; choose a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "words"),
    [(["--simulations", "3"], "at least 10"), (["--workers", "0"], "`workers` should be at least 1")],
)
def test_mistakes_of_calibrate_are_one_line(extra, words, capsys):
    assert main(["calibrate", "tomography-phantom", "--quiet", *SMALL, *extra]) == 2
    assert words in capsys.readouterr().err
