import base64
import io
import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import sciprob
from sciprob.errors import ConfigError, ConvergenceError, UnsupportedProblemError
from sciprob.plot.comparison import scores_figure
from sciprob.solvers.setup import make_solver
from sciprob.studies.comparison import compare
from sciprob.studies.report import report

SMALL = {"pixels": 12, "scan.views": 6, "scan.bins": 18}


def solvers(*names, **settings):
    return {name: make_solver(name, settings.get(name)) for name in names}


@pytest.fixture(scope="module")
def comparison():
    problem = sciprob.load_problem("tomography-phantom", SMALL)
    methods = solvers("gaussian", "laplace", "sm-gp", "pcn", pcn={"chains": 4, "samples": 500, "burn_in": 100})
    return compare(problem, methods, referee="pcn", progress=False)


def test_every_method_is_measured_against_the_referee(comparison):
    rows = {row["solver"]: row for row in comparison.rows}
    assert list(rows) == ["gaussian", "laplace", "sm-gp", "pcn"]
    assert rows["pcn"]["mean_difference"] == 0
    assert rows["pcn"]["std_ratio"] == 1
    floor = rows["pcn"]["sliced_wasserstein"]  # two sets of draws of one posterior
    for name in ("gaussian", "laplace"):  # exact here, so only the chains' own error is between them
        assert rows[name]["mean_difference"] < 0.15
        assert rows[name]["std_ratio"] == pytest.approx(1, abs=0.05)
        assert rows[name]["sliced_wasserstein"] < 1.3 * floor
    assert "does not offer" in rows["sm-gp"]["reason"]
    assert not comparison.interrupted


def test_a_different_posterior_is_far_from_the_referee(comparison):
    problem = sciprob.load_problem("tomography-phantom", SMALL | {"noise.std": 0.2})
    wide = compare(problem.observe(comparison.problem.observed), solvers("gaussian"), progress=False)
    methods = {"narrow": make_solver("gaussian"), "wide": Given(wide.posteriors["gaussian"])}
    rows = {row["solver"]: row for row in compare(comparison.problem, methods, progress=False).rows}
    assert rows["wide"]["std_ratio"] > 1.3
    assert rows["wide"]["sliced_wasserstein"] > 2 * rows["narrow"]["sliced_wasserstein"]


@dataclass
class GivenState:
    """Nothing."""

    done: bool = True


class Given:
    """A solver that returns a posterior it was given."""

    name = "given"
    needs = frozenset()
    citations = ()
    max_steps = 1

    def __init__(self, posterior):
        self.posterior = posterior

    def init(self, problem, streams):
        return GivenState()

    def step(self, problem, state, streams):
        return state, {}

    def finished(self, state):
        return None

    def result(self, problem, state):
        return self.posterior

    def diagnostics(self, problem, state):
        return {}


@pytest.fixture(scope="module")
def page(comparison):
    return report(comparison)


class Checker(HTMLParser):
    """Balanced tags, and everything that a page would fetch."""

    void = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_well_formed_and_needs_nothing_else(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(checker.sources) == 3  # equation, bars, fields
    assert all(source.startswith("data:image/png;base64,") for source in checker.sources)
    assert "<script" not in page


def test_its_pictures_show_something(page):
    for text in re.findall(r"data:image/png;base64,([^\"]+)", page):
        image = imread(io.BytesIO(base64.b64decode(text)))
        assert np.std(image[..., :3]) > 0.05


def test_its_table_has_the_rows_and_names_the_referee(page, comparison):
    assert page.count("<tr") == 1 + len(comparison.rows)
    assert page.count('<tr class="referee">') == 1
    assert "Referee: pcn" in page
    assert f"{comparison.rows[0]['relative_error']:.3g}" in page
    assert "pixels = 12" in page  # settings of the problem
    assert "burn_in = 100" in page  # and of a solver


def test_the_floor_of_a_referee_is_that_of_different_draws(comparison):
    members = comparison.posteriors["pcn"].ensemble(400, generator=torch.Generator().manual_seed(0))
    members.meta |= {"status": "completed", "solves": {}, "seconds": 1.0}
    for seed in range(4):  # half of the members would be drawn twice for half of the seeds
        (row,) = compare(comparison.problem, {"few": Given(members)}, seed=seed, progress=False).rows
        assert row["sliced_wasserstein"] > 0.02


class Failing(Given):
    """A solver that gives up at once."""

    name = "failing"

    def init(self, problem, streams):
        message = "the iteration did not converge; take smaller steps."
        raise ConvergenceError(message)


def test_one_that_fails_does_not_stop_the_others():
    problem = sciprob.load_problem("tomography-phantom", SMALL)
    methods = {"failing": Failing(None), **solvers("gaussian")}
    rows = compare(problem, methods, progress=False).rows
    assert [row["status"] for row in rows] == ["failed", "converged"]
    assert rows[0]["reason"] == "the iteration did not converge; take smaller steps."
    with pytest.raises(ConvergenceError):
        compare(problem, methods, referee="failing", progress=False)
    with pytest.raises(ConfigError, match="no solver came to an end"):
        compare(problem, {"failing": Failing(None)}, progress=False)


def test_who_is_left_out_is_said_before_the_work(capsys):
    problem = sciprob.load_problem("tomography-phantom", SMALL)
    compare(problem, solvers("rgnp", "gaussian"))
    words = capsys.readouterr().err
    assert words.startswith("rgnp is left out: solver `rgnp` needs a family of problems (`sciprob fit`)")


def test_bars_have_decades_only_where_values_need_them():
    rows = [{"solver": "a", "seconds": 3.0, "forward": 10}, {"solver": "b", "seconds": 4.0, "forward": 90_000}]
    seconds, solves = sorted(scores_figure(rows, "a").axes, key=lambda axes: axes.get_title(), reverse=True)
    assert (seconds.get_xscale(), solves.get_xscale()) == ("linear", "log")
    assert [text.get_text() for text in solves.texts] == ["10", "90,000"]


def test_words_of_a_problem_cannot_break_the_page(comparison):
    import dataclasses

    info = dataclasses.replace(comparison.problem.info, title="<script>alert(1)</script>", equation=r"\notacommand{x}")
    page = report(dataclasses.replace(comparison, problem=dataclasses.replace(comparison.problem, info=info)))
    assert "<script" not in page
    assert r"<code>\notacommand{x}</code>" in page


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_a_browser_draws_the_page(page, tmp_path):
    (tmp_path / "report.html").write_text(page)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,1600",
               f"--screenshot={tmp_path / 'page.png'}", f"file://{tmp_path / 'report.html'}"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    image = imread(tmp_path / "page.png")
    assert image.shape[:2] == (1600, 1000)
    assert np.std(image[..., :3].mean(-1).reshape(16, 100, -1).mean(1), axis=0).mean() > 0.01


def test_mistakes_are_named(comparison):
    with pytest.raises(ConfigError, match="`referee` should be one of gaussian, got `pcn`"):
        compare(comparison.problem, solvers("gaussian"), referee="pcn")
    with pytest.raises(UnsupportedProblemError, match="does not offer"):
        compare(comparison.problem, solvers("gaussian", "sm-gp"), referee="sm-gp")
    with pytest.raises(ConfigError, match="no solver supports"):
        compare(comparison.problem, solvers("sm-gp"))
