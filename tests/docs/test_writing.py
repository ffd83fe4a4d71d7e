"""The pages on extending the package run as shown, and what they say of the results holds."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import sciprob.cli

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / f"{page}.md").read_text(), flags=re.DOTALL)


def run(page: str) -> dict:
    module = ModuleType(f"docs_{page}")
    sys.modules[module.__name__] = module  # where a resumed run looks for the class of a state
    for block in blocks(page):
        exec(compile(block, f"docs/{page}.md", "exec"), vars(module))
    return vars(module)


OPERATORS = run("writing_operators")
TestEpidemic = OPERATORS["TestEpidemic"]
TestAfterglow = OPERATORS["TestAfterglow"]
TestCubicRod = OPERATORS["TestCubicRod"]


def test_the_epidemic_conserves_people_and_ends_where_theory_says():
    days = 200
    beta, gamma = 0.4, 0.1
    curve = OPERATORS["Epidemic"](days)(torch.tensor([beta, gamma], dtype=torch.float64).log())
    assert curve[-1] < 1e-6
    recovered = gamma * (curve.sum() + (1e-3 - curve[-1]) / 2)  # the trapezoidal rule
    share = recovered.item()
    for _ in range(100):  # final size: log(s_0 / s) = R_0 (1 - s)
        share = 1 - (1 - 1e-3) * torch.tensor(-beta / gamma * share).exp().item()
    assert recovered == pytest.approx(share, abs=2e-4)


def test_the_rod_solves_its_equation():
    rod = OPERATORS["rod"]
    x = rod.domain.axis(0)
    errors = []
    for points in (24, 49):
        rod = OPERATORS["HostOperator"](OPERATORS["CubicRod"](points))
        x = rod.domain.axis(0)
        u = (torch.pi * x).sin()
        errors.append((rod(torch.pi**2 * u + u**3) - u).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.05)


def test_a_kind_of_ones_own_on_the_command_line(tmp_path, monkeypatch, capsys):
    (operator,) = [block for block in blocks("writing_operators") if "class Epidemic(" in block]
    (kind,) = blocks("writing_problems")
    (settings,) = blocks("writing_problems", "toml")
    (tmp_path / "operators.py").write_text(operator)
    (tmp_path / "epidemic.py").write_text(kind)
    (tmp_path / "outbreak.toml").write_text(settings)
    (tmp_path / "counts.csv").write_text("time,value\n1,0.001\n2,0.002\n4,0.004\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import epidemic  # noqa: F401 (registers the kind)

    assert sciprob.cli.main(["solve", "outbreak.toml", "--set", "spread=0.3", "--out", "run"]) == 0
    assert "reproduction number" in capsys.readouterr().out
    assert "spread = 0.3" in (tmp_path / "run" / "config.toml").read_text()
    assert sciprob.cli.main(["show", "outbreak.toml"]) == 0
    assert "Prior median of the infection rate, per day." in " ".join(capsys.readouterr().out.split())
    for mistake, words in (
        (["--set", "spread=-1"], "should be positive; change the one that is not."),
        (["--data", "counts.csv"], "should have the times 1, 2, ..., one row a day"),
    ):
        assert sciprob.cli.main(["solve", "outbreak.toml", *mistake]) == 2
        assert words in capsys.readouterr().err


def test_priors_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("writing_priors")
    problem, low, high = names["problem"], names["low"], names["high"]
    assert ((low <= problem.truth) & (problem.truth <= high)).double().mean() > 0.7
    draws = problem.prior.sample((4000,), generator=torch.Generator().manual_seed(0))
    place = (draws.diff(dim=1).abs().argmax(1).double() + 1) / 50
    assert place.mean() == pytest.approx(0.5, abs=0.03)
    assert place.var() == pytest.approx(1 / 12, rel=0.1)
    for prior in (names["positive"], names["rates"]):
        assert (prior.sample((50,), generator=torch.Generator().manual_seed(0)) > 0).all()
    assert (names["high"] - names["low"]).min() > 0


def test_a_solver_of_ones_own_agrees_with_the_closed_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("writing_solvers")
    # 2000 members leave errors of a few per cent; perturbed data left out make 0.19 and 0.83
    assert names["difference"] < 0.1
    assert names["ratio"] == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(names["again"].mean, names["posterior"].mean, rtol=0, atol=0)
    assert names["posterior"].meta["status"] == "completed"
