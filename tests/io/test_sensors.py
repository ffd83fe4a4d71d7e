"""Every way a file of sensors can be wrong has its own sentence."""

import pytest
import torch

from sciprob.errors import DataError, SciprobWarning
from sciprob.io.sensors import read_sensors
from sciprob.spaces import FESpace, GridSpace, Mesh, box_mesh


def square_with_hole():
    """[0, 3]^2 without its middle square [1, 2]^2."""
    full = box_mesh((3, 3), (0.0, 0.0), (3.0, 3.0))
    centres = full.points[full.cells].mean(axis=1)
    keep = ~((centres > 1.0) & (centres < 2.0)).all(axis=1)
    return FESpace(Mesh(full.points, full.cells[keep]))


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "sensors.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_good_file(tmp_path):
    text = "# made by hand\nValue, x, y, STD\n1.5, 0.5, 2.5, 0.1\n\n-2e-1, 2.5, 0.25, 0.2\n"
    sensors = read_sensors(write(tmp_path, text, "utf-8-sig"), square_with_hole())
    assert sensors.points.tolist() == [[0.5, 2.5], [2.5, 0.25]]
    assert sensors.values.tolist() == [1.5, -0.2]
    assert sensors.std.tolist() == [0.1, 0.2]
    assert sensors.points.dtype == torch.float64
    assert sensors.lines == (3, 5)


def test_three_dimensions_and_grids(tmp_path):
    path = write(tmp_path, "x,y,z,value,std\n0.1,0.2,0.3,4,5\n")
    sensors = read_sensors(path, FESpace(box_mesh((1, 1, 1), (0.0,) * 3, (1.0,) * 3)))
    assert sensors.points.tolist() == [[0.1, 0.2, 0.3]]
    grid = GridSpace((4, 4), dims=("y", "x"), lower=(0.0, 0.0), upper=(1.0, 1.0))
    with pytest.raises(DataError, match=r"unknown column `z`"):
        read_sensors(path, grid)
    with pytest.raises(DataError, match=r"row 2 of `sensors.csv` has y = 7, outside \[0, 1\]"):
        read_sensors(write(tmp_path, "x,y,value,std\n0.1,7,4,5\n"), grid)


HEADER = "x,y,value,std\n0.5,0.5,1,0.1\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "`sensors.csv` is empty; its first line should be `x,y,value,std`"),
        ("# only a comment\n\n", "`sensors.csv` is empty"),
        ("x,y,value,std\n", "has a header but no measurements"),
        ("x,y,value\n0.5,0.5,1\n", "has no column `std` \\(found `x`, `y`, `value`\\); the first line should be"),
        ("0.5,0.5,1,0.1\n", "has no column `x`, `y`, `value`, `std`"),
        ("x,y,value,std,note\n", "unknown column `note`; remove it"),
        ("x,y,value,std,x\n", "the column `x` more than once"),
        ("x;y;value;std\n0,5;0,5;1;0,1\n", "not separated by commas"),
        (HEADER + "0.5,0.5,1\n", "row 3 of `sensors.csv` should have 4 entries \\(x,y,value,std\\), got 3"),
        (HEADER + "0,5,0,5,1,0.1\n", "row 3 of `sensors.csv` should have 4 entries .*, got 6"),
        (HEADER + "0.5,0.5,high,0.1\n", "row 3 of `sensors.csv` has value = 'high', which is not a number"),
        (HEADER + "0.5,,1,0.1\n", "row 3 of `sensors.csv` has y = '', which is not a number"),
        (HEADER + "\n0.5,0.5,NaN,0.1\n", "row 4 of `sensors.csv` has value = NaN, which is not finite; remove the row"),
        (HEADER + "0.5,0.5,1,inf\n", "row 3 of `sensors.csv` has std = inf, which is not finite"),
        (HEADER + "0.5,0.5,1,-0.1\n", "row 3 of `sensors.csv` has std = -0.1; give the positive standard deviation"),
        (HEADER + "0.5,0.5,1,0\n", "row 3 of `sensors.csv` has std = 0"),
        (HEADER + "3.5,0.5,1,0.1\n", r"row 3 of `sensors.csv` \(3.5, 0.5\) lies outside the mesh's box"),
        (HEADER + "# hole\n1.5,1.4,1,0.1\n", r"row 4 of `sensors.csv` \(1.5, 1.4\) lies in a hole"),
    ],
)
def test_each_error_names_row_and_remedy(tmp_path, text, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        read_sensors(write(tmp_path, text), square_with_hole())
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(DataError, match="not a text file of comma-separated values"):
        read_sensors(write(tmp_path, HEADER + "0.5,0.5,µ,1\n", "latin-1"), square_with_hole())
    with pytest.raises(DataError, match="cannot be read \\(No such file or directory\\); check the path"):
        read_sensors(tmp_path / "missing.csv", square_with_hole())
    with pytest.raises(DataError, match="cannot be read \\(Is a directory\\)"):
        read_sensors(tmp_path, square_with_hole())


def test_repeats(tmp_path):
    """The same place twice is a second measurement; the same row twice is suspicious."""
    sensors = read_sensors(write(tmp_path, HEADER + "0.5,0.5,1.1,0.1\n"), square_with_hole())
    assert len(sensors.values) == 2
    with pytest.warns(SciprobWarning, match="row 3 of `sensors.csv` repeats row 2"):
        sensors = read_sensors(write(tmp_path, HEADER + "0.5,0.5,1,0.1\n"), square_with_hole())
    assert len(sensors.values) == 2
