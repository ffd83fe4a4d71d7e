"""The documentation builds without a warning, every page is reachable, and its examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def test_the_site_builds_with_warnings_as_errors(tmp_path):
    pytest.importorskip("sphinx", reason="the extra `docs` has Sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html"]
    folders = ["-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "html")]
    built = subprocess.run([*command, *folders], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    interface = (tmp_path / "html" / "api.html").read_text()
    assert "(*batch, *domain)" in interface, "docstrings are in the interface"
    for script in (ROOT / "tutorials").glob("*.py"):
        page = (tmp_path / "html" / "tutorials" / f"{script.stem}.html").read_text()
        title = re.search(r"^# # (.*)$", script.read_text(), flags=re.MULTILINE)
        assert title is not None
        assert title[1].replace("'", "’") in page.replace("'", "’")
        assert "jupytext" not in page
        assert "# %%" not in page


def test_every_tutorial_has_a_page_and_every_page_a_script():
    scripts = {path.stem for path in (ROOT / "tutorials").glob("*.py")}
    assert {path.stem for path in (DOCS / "tutorials").glob("*.md")} == scripts


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[\w-]+)?\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_commands_in_the_pages_name_problems_and_options_that_exist():
    from sciprob.cli.arguments import build_parser
    from sciprob.problems.registry import available

    parser, known = build_parser(), {file.name for file in available()}
    lines = [line for path in PAGES for line in path.read_text().splitlines() if line.startswith("    sciprob ")]
    assert len(lines) > 30
    for line in lines:
        words = line.split("#")[0].split("(any")[0].replace('"', "").split()
        if words[-1] == "--help" or words[1] == "--version":
            continue
        args = parser.parse_args(words[1:])
        name = getattr(args, "problem", None)
        if name is not None and not name.endswith(".toml"):
            assert name in known, line


def test_a_front_moves_at_the_speed_of_its_theory():
    names = _run("reaction_diffusion")
    speed = (names["position"][1] - names["position"][0]) / 2
    assert speed == pytest.approx(2 - 3 / (2 * 5), abs=0.16), "2 - 3 / (2 t) as t grows, read to half a cell"


def test_the_flames_page_runs():
    states = _run("kuramoto_sivashinsky")["states"]
    assert states.shape == (2, 64)
    assert torch.isfinite(states).all()


def _run(page: str) -> dict:
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), flags=re.DOTALL):
        exec(compile(block, f"docs/{page}.md", "exec"), names)
    return names
