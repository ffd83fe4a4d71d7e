"""Problem files are found, read and built; every mistake in them is one sentence."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tomli_w
import torch

import sciprob.assets
from sciprob.cli.solving import prepare
from sciprob.errors import ConfigError, DataError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import DiagonalMap
from sciprob.priors.base import GaussianPrior
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import (
    available,
    build_problem,
    find,
    kind_class,
    kinds,
    load_problem,
    register,
)
from sciprob.solvers import SOLVERS
from sciprob.solvers.setup import chosen_solver, make_solver
from sciprob.spaces import Space


@dataclass(frozen=True)
class Noise:
    std: float = 0.1


@register("toy-identity")
@dataclass(frozen=True)
class ToyIdentity:
    """y = m + noise."""

    size: int = 3
    noise: Noise = field(default_factory=Noise)

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        space = Space((self.size,))
        ones = torch.ones(self.size, dtype=torch.float64)
        prior = GaussianPrior(0 * ones, DiagonalMap(ones, space))
        likelihood = Likelihood(DiagonalMap(2 * ones, space), GaussianNoise(space, self.noise.std))
        values = torch.tensor([float(v) for v in data.read_text().split()], dtype=torch.float64) if data else ones
        info = Info(title="from the kind", citations=("stuart2010",))
        return Problem(name, prior, likelihood, data=values, info=info)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ./problems/toy.toml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems").mkdir()
    text = 'kind = "toy-identity"\ntitle = "A toy"\nsize = 4\n[noise]\nstd = 0.5\n'
    (tmp_path / "problems" / "toy.toml").write_text(text)
    return tmp_path


def test_load_by_name_and_by_path_give_the_same(folder: Path) -> None:
    by_name, by_path = load_problem("toy"), load_problem("problems/toy.toml")
    for problem in (by_name, by_path):
        assert problem.name == "toy"
        assert problem.parameter.shape == (4,)
        assert problem.info.title == "A toy"
        assert problem.info.citations == ("stuart2010",)
        assert float(problem.likelihood.noise.std) == 0.5
    assert find("toy").origin == "working directory"


def test_config_rebuilds_the_problem(folder: Path) -> None:
    problem = load_problem("toy", {"size": "2", "noise.std": 0.25})
    (folder / "config.toml").write_text(tomli_w.dumps({"problem": dict(problem.config), "solver": {"name": "x"}}))
    again = load_problem(folder / "config.toml")
    assert again.config == problem.config
    assert again.name == "toy"
    assert again.parameter.shape == (2,)
    assert float(again.likelihood.noise.std) == 0.25


def test_data_file_is_recorded_and_verified(folder: Path) -> None:
    (folder / "y.txt").write_text("1 2 3 4")
    problem = load_problem("toy", data="y.txt")
    assert problem.observed.tolist() == [1, 2, 3, 4]
    assert build_problem(problem.config, name="toy").observed.tolist() == [1, 2, 3, 4]
    (folder / "y.txt").write_text("1 2 3 5")
    with pytest.raises(DataError, match=r"y.txt` changed since it was recorded"):
        build_problem(problem.config, name="toy")
    with pytest.raises(DataError, match="there is no data file"):
        load_problem("toy", data="z.txt")


def test_data_file_of_a_problem_file_is_relative_to_it(folder: Path) -> None:
    (folder / "problems" / "y.txt").write_text("5 6 7 8")
    path = folder / "problems" / "toy.toml"
    path.write_text('data_file = "y.txt"\n' + path.read_text())
    assert load_problem("toy").observed.tolist() == [5, 6, 7, 8]


def test_unknown_names_are_answered_with_the_nearest(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown problem `toi`; did you mean `toy`\?"):
        load_problem("toi")
    with pytest.raises(ConfigError, match=r"no problem file `nothing.toml`"):
        load_problem("nothing.toml")
    with pytest.raises(ConfigError, match=r"unknown key `noise.sdt`|unknown key `sdt` in \[noise\] of toy.toml"):
        load_problem("toy", {"noise.sdt": "1"})
    (folder / "problems" / "bad.toml").write_text('kind = "toy-identiti"\n')
    with pytest.raises(ConfigError, match=r"unknown problem kind `toy-identiti`; did you mean `toy-identity`\?"):
        load_problem("bad")
    (folder / "problems" / "bad.toml").write_text("size = 3\n")
    with pytest.raises(ConfigError, match=r"`kind` is missing in bad.toml"):
        load_problem("bad")


def test_syntax_error_is_one_sentence_with_its_line(folder: Path) -> None:
    (folder / "broken.toml").write_text('kind = "toy-identity"\nsize = = 3\n')
    with pytest.raises(ConfigError, match=r"not valid TOML: .*line 2") as error:
        load_problem("broken.toml")
    assert "\n" not in str(error.value)


def test_working_directory_wins_and_checkout_is_called_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Path(sciprob.assets.__file__).parents[1] / "problems"
    assert sciprob.assets.folders("problems")[0] == folder / "problems"
    assert sciprob.assets.origin(checkout / "x.toml") == "checkout"
    monkeypatch.chdir(checkout.parent)
    assert sciprob.assets.origin(checkout / "x.toml") == "checkout"
    assert [file.name for file in available()].count("toy") == 0


def test_kind_names_are_unique_and_listed() -> None:
    assert "toy-identity" in kinds()
    assert kind_class("toy-identity") is ToyIdentity
    with pytest.raises(ConfigError, match="'toy-identity' is already"):
        register("toy-identity")(Noise)


def test_listing_imports_neither_torch_nor_engines() -> None:
    code = "import sys, sciprob.problems.registry as r; r.available(); print({'torch', 'dolfinx'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_settings_of_the_default_solver_come_with_the_problem(folder: Path) -> None:
    """They hold where the problem's own solver is meant, by name or by default, and nowhere else."""
    path = folder / "problems" / "toy.toml"
    path.write_text('kind = "toy-identity"\ndefault_solver = "pcn"\n[solver]\nchains = 7\n')
    problem = load_problem("toy")
    assert problem.info.solver_settings == {"chains": 7}
    assert chosen_solver(None, problem).chains == chosen_solver("pcn", problem).chains == 7
    assert chosen_solver(SOLVERS["pcn"], problem).chains == 4
    assert chosen_solver("laplace", problem).name == "laplace"
    assert "solver" not in problem.config  # a run records the solver's settings by itself
    request = prepare(_arguments("toy", "samples=9"), None)
    assert (request.solvers["pcn"].chains, request.solvers["pcn"].samples) == (7, 9)
    assert prepare(_arguments("toy", "chains=2"), ["pcn"]).solvers["pcn"].chains == 2
    path.write_text('kind = "toy-identity"\ndefault_solver = "pcn"\n[solver]\nchain = 7\n')
    with pytest.raises(ConfigError, match=r"unknown key `chain` in \[solver\] of problem `toy`; did you mean `chains`"):
        chosen_solver(None, load_problem("toy"))
    path.write_text('kind = "toy-identity"\nsolver = "pcn"\n')
    with pytest.raises(ConfigError, match="`solver` of `toy` should be a table"):
        load_problem("toy")


def _arguments(problem: str, *settings: str) -> argparse.Namespace:
    return argparse.Namespace(problem=problem, settings=settings, data=None, seed=None, budget=None, device="cpu")


def test_solver_settings_of_all_problem_files_are_valid() -> None:
    for file in available():
        if "solver" in file.table:
            make_solver(file.table["default_solver"], file.table["solver"], file.path.name)
