import csv

import pytest
import torch

import sciprob
from sciprob.cli import main

COMMAND = ["design", "poisson-source", "--set", "engine=torch", "--set", "sensors.count=6", "--quiet"]
TIMES = 10  # at which sensors of `advection` read


def read(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def variances(text: str) -> tuple[float, float]:
    (line,) = [line for line in text.splitlines() if line.startswith("summed variances")]
    words = line.replace(",", "").split()
    return float(words[words.index("now") - 1]), float(words[words.index("expected") - 1])


def test_design_promises_what_the_sensors_then_bring(tmp_path, capsys):
    out = tmp_path / "design"
    assert main([*COMMAND, "--sensors", "2", "--criterion", "variance", "--candidates", "60", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    chosen, candidates = read(out / "design.csv"), read(out / "candidates.csv")
    assert len(candidates) == 60
    best = max(candidates, key=lambda row: float(row["variance"]))
    assert {key: best[key] for key in ("x", "y", "variance")} == {key: chosen[0][key] for key in ("x", "y", "variance")}
    assert (out / "design.png").stat().st_size > 10_000
    # a linear-Gaussian posterior's variances do not depend on the values, so readings of zero will do
    settings = {"engine": "torch", "sensors.count": 6}
    places = torch.stack([sciprob.load_problem("poisson-source", settings).operator.codomain.coords[a] for a in "xy"])
    rows = [*places.T.tolist(), *([float(row["x"]), float(row["y"])] for row in chosen)]
    file = tmp_path / "sensors.csv"
    file.write_text("x,y,value,std\n" + "\n".join(f"{x:.17g},{y:.17g},0,0.01" for x, y in rows))
    more = sciprob.load_problem("poisson-source", settings, data=file)
    after = float(sciprob.solve(more, "gaussian", progress=False).std.square().sum())
    assert variances(text)[1] == pytest.approx(after, rel=1e-3)
    assert variances(text)[0] > 1.05 * after


def test_places_of_a_file_are_chosen_from_with_all_times(tmp_path, capsys):
    file = tmp_path / "places.csv"
    file.write_text("name,x\na,0.2\nb,0.7\n")
    command = ["design", "advection", "--candidates", str(file), "--sensors", "3", "--quiet"]
    assert main([*command, "--out", str(tmp_path / "design")]) == 0
    assert f"of {2 * TIMES} candidates" in capsys.readouterr().out
    rows = read(tmp_path / "design" / "candidates.csv")
    assert {row["x"] for row in rows} == {"0.2", "0.7"}
    assert len({row["time"] for row in rows}) == TIMES
    assert len(rows) == 2 * TIMES


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--sensors", "1000"], "should be 1 to"),
        (["--candidates", "nowhere.csv"], "is no file"),
        (["--noise", "-1"], "`--noise` should be positive"),
    ],
)
def test_mistakes_are_one_line(extra, words, capsys):
    assert main([*COMMAND, *extra]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_problems_without_sensors_are_refused(capsys):
    assert main(["design", "tomography-phantom", "--set", "pixels=8", "--quiet"]) == 2
    assert "not values at points" in capsys.readouterr().err
