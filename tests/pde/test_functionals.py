"""Functionals: points, orders, values on closed forms, refusals."""

import pytest
import torch

from sciprob.errors import ShapeError
from sciprob.pde import coordinate_jets
from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints


def grid() -> TensorPoints:
    return TensorPoints((torch.linspace(0, 1, 4).double(), torch.linspace(2, 3, 3).double()))


def test_the_last_coordinate_is_fastest() -> None:
    columns = grid().columns(("x", "t"))
    assert torch.equal(columns["x"].reshape(4, 3)[:, 0], grid().lines[0])
    assert torch.equal(columns["t"].reshape(4, 3)[0], grid().lines[1])


def test_functionals_of_a_polynomial() -> None:
    """u = x^2 t^3: u_xt + x u_xx - 2 u = 6 x t^2 + 2 x t^3 - 2 x^2 t^3, on a grid and on its scattered points."""
    points = grid()
    x = points.columns(("x", "t"))
    jets = coordinate_jets(x, ("xxt",))
    u = jets["x"] ** 2 * jets["t"] ** 3
    exact = 6 * x["x"] * x["t"] ** 2 + 2 * x["x"] * x["t"] ** 3 - 2 * x["x"] ** 2 * x["t"] ** 3
    one = torch.ones((), dtype=torch.float64)
    on_grid = Functionals(
        "test",
        ("x", "t"),
        points,
        {"tx": one, "xx": points.lines[0][:, None], "": -2 * one},
        torch.zeros(2, 4, 3).double(),
        one,
    )
    torch.testing.assert_close(on_grid.of(u), exact.reshape(4, 3), rtol=1e-14, atol=1e-14)
    scattered = ScatteredPoints(torch.stack([x["x"], x["t"]], dim=-1))
    terms = {"xt": one, "xx": x["x"], "": -2 * one}
    at_points = Functionals("test", ("x", "t"), scattered, terms, torch.zeros(12).double(), one)
    torch.testing.assert_close(at_points.of(u), exact, rtol=1e-14, atol=1e-14)


def test_orders() -> None:
    one = torch.ones((), dtype=torch.float64)
    f = Functionals("test", ("x", "t"), grid(), {"txx": one}, torch.zeros(4, 3).double(), one)
    assert list(f.terms) == ["xxt"]
    assert f.orders("txx") == (2, 1)
    assert f.orders("") == (0, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": torch.zeros(3, 4)}, r"end in \(4, 3\), got \(3, 4\)"),
        ({"values": torch.zeros(3)}, r"end in \(4, 3\)"),
        ({"std": torch.ones(4)}, "std of `test` should broadcast"),
        ({"std": torch.ones(2, 4, 3)}, "std of `test` should broadcast"),
        ({"terms": {"x": torch.ones(4)}}, "term `x` of `test` should broadcast"),
        ({"terms": {"y": torch.ones(())}}, "should name only"),
        ({"coordinates": ("x",)}, "2 coordinates need 2 names"),
    ],
)
def test_wrong_shapes_are_refused(changes: dict[str, object], words: str) -> None:
    given = {
        "name": "test",
        "coordinates": ("x", "t"),
        "points": grid(),
        "terms": {"x": torch.ones(())},
        "values": torch.zeros(4, 3),
        "std": torch.ones(()),
    }
    with pytest.raises(ShapeError, match=words):
        Functionals(**{**given, **changes})  # type: ignore[arg-type]


def test_points_of_the_wrong_rank_are_refused() -> None:
    with pytest.raises(ShapeError, match="line 1 of a tensor grid"):
        TensorPoints((torch.zeros(3), torch.zeros(3, 1)))
    with pytest.raises(ShapeError, match=r"should be \(n, d\)"):
        ScatteredPoints(torch.zeros(3))
