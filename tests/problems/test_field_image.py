"""Inpainting, deblurring, super-resolution: solved exactly, from the command line, with bad settings refused."""

import pytest
import torch

import sciprob
from sciprob.cli import main
from sciprob.errors import ConfigError
from sciprob.operators import Restriction
from sciprob.problems.registry import load_problem

SMALL = {"pixels": 16, "prior.length": 0.3, "noise.std": 0.1}
CASES = {
    "inpainting": {},
    "deblurring": {"blur.width": 0.06},
    "super-resolution": {"factor": 4},
}


@pytest.mark.parametrize("name", CASES)
def test_the_exact_posterior_covers_the_truth(name):
    inside = []
    for seed in range(4):
        problem = load_problem(name, SMALL | CASES[name] | {"seed": seed})
        posterior = sciprob.solve(problem, "gaussian", progress=False)
        inside.append(posterior.meta["coverage"]["0.9"])
        assert posterior.meta["residual_rms"] < 1.3
    assert 0.8 < sum(inside) / 4 < 0.99


@pytest.mark.parametrize("name", CASES)
def test_each_is_solved_from_the_command_line(name, capsys):
    settings = [part for key, value in (SMALL | CASES[name]).items() for part in ("--set", f"{key}={value}")]
    assert main(["solve", name, "--solver", "gaussian", *settings]) == 0
    assert "coverage" in capsys.readouterr().out


def test_the_hidden_share_is_hidden():
    for pattern in ("points", "box"):
        problem = load_problem("inpainting", SMALL | {"hidden.pattern": pattern, "hidden.share": 0.25})
        assert isinstance(problem.operator, Restriction)
        assert problem.operator.codomain.size == 192


def test_motion_and_borders_are_settings():
    still = load_problem("deblurring", SMALL | {"blur.kind": "motion", "blur.width": 0.3, "blur.border": "periodic"})
    constant = torch.full((16, 16), 2.0, dtype=torch.float64)
    torch.testing.assert_close(still.operator(constant), constant)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("inpainting", {"hidden.share": 0.0}, "share"),
        ("inpainting", {"noise.std": 0.0}, "positive"),
        ("inpainting", {"pixels": 2}, "pixels"),
        ("deblurring", {"blur.width": 2.0}, "covers"),
        ("super-resolution", {"factor": 5}, "factor"),
        ("inpainting", {"prior.kind": "diffusion"}, "weights"),
        ("inpainting", {"prior.weights": "ellipses"}, "weights"),
    ],
)
def test_bad_settings_are_refused(name, settings, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_problem(name, SMALL | settings)
    assert "\n" not in str(caught.value)


def test_no_file_is_read(tmp_path):
    (tmp_path / "x.csv").write_text("x,y\n")
    with pytest.raises(ConfigError, match="reads no file"):
        load_problem("inpainting", data=tmp_path / "x.csv")
