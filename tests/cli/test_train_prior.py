"""`sciprob train-prior`: training, going on, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sciprob.cli import main
from sciprob.priors.diffusion.store import load_diffusion_prior

QUICK = [
    word
    for pair in ("family.points=8", "network.width=8", "training.steps=3", "training.batch=4", "draws=100")
    for word in ("--set", pair)
]


def test_train_go_on_and_load(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train-prior", "gaussian-field", *QUICK, "--quiet"]
    assert main([*command, "--budget", "0.000001"]) == 0
    assert "steps" in capsys.readouterr().out
    place = folder / "gaussian-field-prior"
    assert json.loads((place / "metrics.json").read_text())["status"] == "budget"
    assert main(["train-prior", "--resume", str(place), "--budget", "0.000001", "--quiet"]) == 0
    assert main(["resume", str(place), "--quiet"]) == 0
    output = capsys.readouterr().out
    assert "3 of 3" in output
    assert "best linear" in output
    assert json.loads((place / "metrics.json").read_text())["status"] == "max_steps"
    assert load_diffusion_prior(place / "model").space.shape == (8, 8)
    assert main(command) == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["elipses"], "did you mean `ellipses`"),
        (["holes", "--set", "network.widht=8"], "did you mean `width`"),
        (["holes", "--set", "training.steps=none"], "should be int"),
        ([], "give the name of a prior"),
        (["holes", "--resume", "somewhere"], "leave out the name"),
        (["--resume", "nowhere"], "not a run folder"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-prior", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_list_shows_trained_priors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    assert "trained priors" in output
    assert "128 x 128" in output
    assert "gaussian-field  (to be trained)" in output
