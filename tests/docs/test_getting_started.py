"""The newcomer's path: what the page says is what happens, from an empty folder."""

import re
import warnings
from pathlib import Path

import pytest

from sciprob.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "getting_started.md").read_text()
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    sciprob ")]
ANSWERS = dict(re.findall(r"^\| (`.*?`|.*?) \| (.*?) \|$", PAGE[PAGE.index("| mistake |") :], flags=re.MULTILINE))


def command(start: str) -> list[str]:
    """The words of the page's command that begins so."""
    (line,) = [line for line in COMMANDS if line.startswith(f"sciprob {start}")]
    return line.split("#")[0].split()[1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(command("copy")) == 0
        (wells,) = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)
        Path("wells.csv").write_text(wells)
        assert main([*command("solve my-aquifer.toml --data wells.csv --out mine"), "--quiet"]) == 0
    return folder


def test_the_path_from_sensors_to_other_programs(folder, monkeypatch, capsys):
    pytest.importorskip("arviz")
    pytest.importorskip("pyvista")
    monkeypatch.chdir(folder)
    for name in ("figures", "metrics.json", "posterior.nc", "posterior.vtu", "config.toml", "cite.bib"):
        assert (folder / "mine" / name).exists(), f"the page says that a run has {name}"
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(compile(block, "docs/getting_started.md", "exec"), names)
    assert names["draws"].dims == ("chain", "draw", "node")
    assert set(names["mesh"].array_names) >= {"mean", "std", "q05", "q95"}
    assert names["mesh"].n_points == names["draws"].sizes["node"]
    assert float(names["band"].min()) > 0
    assert Path("std.png").stat().st_size > 10_000
    mean = names["data"]["summary"]["mean"].to_numpy()
    assert abs(names["loaded"].mean.numpy() - mean).max() < 1e-12


def test_mistakes_get_the_answers_of_the_page(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    wells = Path("wells.csv").read_text()
    files = {
        "no column `std`": "x,y,value\n0.2,0.3,0.7\n",
        "a value `nan`": "".join(wells.splitlines(keepends=True)[:3]) + "0.5,0.9,nan,0.01\n",
        "semicolons": wells.replace(",", ";"),
        "a point in centimetres": "x,y,value,std\n20,35,0.7,0.01\n",
    }
    solve = ["solve", "my-aquifer.toml"]
    wrong = {
        "`sciprob solve my-aquifer`": ["solve", "my-aquifer"],
        "`--set prior.lenght=0.2`": [*solve, "--set", "prior.lenght=0.2"],
        "`--solver laplas`": [*solve, "--solver", "laplas"],
        "`--solver gaussian`": [*solve, "--solver", "gaussian"],
        "no such file": [*solve, "--data", "wells.csv"],
        "a folder in use": [*solve, "--out", "mine"],
    } | {name: [*solve, "--data", "wells.csv"] for name in files}
    assert set(ANSWERS) - {"mistake", "---"} == set(wrong)
    try:
        for name, argv in wrong.items():
            Path("wells.csv").unlink(missing_ok=True)
            if name != "no such file":
                Path("wells.csv").write_text(files.get(name, wells))
            assert main(argv) == 2
            answer = capsys.readouterr().err.removeprefix("sciprob: ")
            said = ANSWERS[name].removesuffix(" or ...").replace("`wells.csv`; give", f"`{folder / 'wells.csv'}`; give")
            assert answer.startswith(said), f"{name}: {answer}"
            assert answer.count("\n") == 1
    finally:
        Path("wells.csv").write_text(wells)
