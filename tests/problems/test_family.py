"""Families of PDE problems: boxes, domains, hard conditions, residuals, files."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import sciprob
from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.pde import HardCondition, columns, coordinate_jets, network_jets
from sciprob.pde.burgers import Burgers
from sciprob.pde.jet import Jet
from sciprob.problems.family import BoxDomain, DiskDomain, ParameterBox, ProblemFamily
from sciprob.problems.references.poisson import collocate_poisson
from sciprob.problems.registry import load_problem

FAMILIES = ("poisson-family", "burgers-family", "cavity-family", "disk-family")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(family: ProblemFamily, *batch: int, n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Points `(*batch, n, d)`, z, w."""
    g, size = generator(1), math.prod(batch)
    points = family.domain.sample(size * n, g).reshape(*batch, n, family.domain.dim)
    z, w = family.unknown.sample(size, g), family.known.sample(size, g)
    return points, z.reshape(*batch, family.unknown.size), w.reshape(*batch, family.known.size)


def network(family: ProblemFamily, seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    layers = torch.nn.Linear(family.domain.dim, 9), torch.nn.Tanh(), torch.nn.Linear(9, family.n_fields)
    return torch.nn.Sequential(*layers).double()


def outputs(family: ProblemFamily, points: Tensor) -> dict[str, Jet]:
    return network_jets(network(family), points, family.pde.coordinates, family.pde.fields)


def values(family: ProblemFamily, points: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """u at points, by lift and distance."""
    lift, distance = family.lift_and_distance(points, z, w)
    return lift + distance * network(family)(points)


def test_the_unit_scale_of_a_box() -> None:
    box = ParameterBox(("nu", "a"), (0.01, -1.0), (0.1, 3.0), (True, False))
    z = box.sample(4000, generator())
    assert box.contains(z).all()
    assert torch.allclose(box.from_unit(box.unit(z)), z, rtol=1e-14, atol=1e-14)
    middle = torch.tensor([math.sqrt(0.01 * 0.1), 1.0], dtype=torch.float64)
    assert box.unit(middle).abs().max() < 1e-14
    # the prior is uniform in nu itself: its mean is that of the interval within 4 standard errors
    assert (z.mean(0) - torch.tensor([0.055, 1.0])).abs().le(4 * z.std(0) / 4000**0.5).all()
    uniform = torch.rand(4000, 2, generator=generator(3), dtype=torch.float64) * 2 - 1
    logs = box.from_unit(uniform)[:, 0].log()
    assert abs(logs.mean() - middle[0].log()) < 4 * logs.std() / 4000**0.5
    assert box.space.labels == ("nu", "a")
    assert box.unit(z.float()).dtype == torch.float32
    outside = torch.tensor([[0.2, 0.0], [0.05, 3.1], [float("nan"), 0.0]])
    assert not box.contains(outside).any()


def test_an_empty_box() -> None:
    box = ParameterBox(name="w")
    assert box.size == 0
    assert box.sample(3, generator()).shape == (3, 0)
    assert box.contains(torch.zeros(3, 0)).all()
    assert box.unit(torch.zeros(3, 0)).shape == (3, 0)


def test_gradients_of_the_unit_scale_are_finite() -> None:
    box = ParameterBox(("nu", "a"), (0.01, -1.0), (0.1, 3.0), (True, False))
    z = torch.tensor([0.05, -0.5], requires_grad=True)
    (slope,) = torch.autograd.grad(box.unit(z).sum(), z)
    assert torch.allclose(slope, torch.tensor([2 / 0.05 / math.log(10), 0.5]))


@pytest.mark.parametrize(
    ("names", "lower", "upper", "log", "words"),
    [
        (("a",), (1.0,), (1.0,), (), "lower < upper"),
        (("a",), (-1.0,), (1.0,), (True,), "positive"),
        (("a", "b"), (0.0,), (1.0,), (), "as many"),
    ],
)
def test_wrong_boxes(names, lower, upper, log, words) -> None:
    with pytest.raises(ConfigError, match=words):
        ParameterBox(names, lower, upper, log)


def test_a_disk_is_filled_uniformly() -> None:
    disk = DiskDomain(2.0, (1.0, -1.0))
    points = disk.sample(20000, generator())
    assert disk.contains(points).all()
    square = (points - torch.tensor([1.0, -1.0])).square().sum(-1) / 4
    # r^2 / R^2 is uniform: mean 1/2, variance 1/12, within 4 standard errors
    assert abs(square.mean() - 0.5) < 4 * (1 / 12 / 20000) ** 0.5
    assert abs(square.var() - 1 / 12) < 0.002
    assert torch.allclose(points.mean(0), torch.tensor([1.0, -1.0], dtype=torch.float64), atol=4 / 20000**0.5)
    assert disk.unit(torch.tensor([3.0, 1.0])).tolist() == [1.0, 1.0]
    assert not disk.contains(torch.tensor([[2.9, 0.9]])).any()


def test_points_gather_where_a_box_clusters_them() -> None:
    box = BoxDomain(("x", "t"), (0.0, 1.0), (1.0, 3.0), (1.0, 2.0))
    points = box.sample(20000, generator())
    assert box.contains(points).all()
    share = (points[:, 1] < 1 + 2 * 0.25).double().mean()  # q^2 < 1/4 for half of them
    assert abs(share - 0.5) < 4 * 0.5 / 20000**0.5
    with pytest.raises(ConfigError, match="at least 1"):
        BoxDomain(("x",), (0.0,), (1.0,), (0.5,))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_residuals_take_batches(name: str, batch: tuple[int, ...]) -> None:
    family = sciprob.load_family(name)
    points, z, w = draw(family, *batch)
    residuals = family.residual(points, outputs(family, points), z, w)
    assert tuple(residuals) == family.equations
    for equation, residual in residuals.items():
        assert residual.shape == (*batch, 5)
        weight = family.residual_weights(z, w)[equation]
        assert (residual * weight).shape == (*batch, 5)
        if batch == (3,):
            alone = family.residual(points[1], outputs(family, points[1]), z[1], w[1])[equation]
            assert torch.allclose(residual[1], alone, rtol=1e-12, atol=1e-12)
    lift, distance = family.lift_and_distance(points, z, w)
    assert lift.shape == distance.shape == (*batch, 5, family.n_fields)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_parameter_draw_per_point(name: str) -> None:
    family = sciprob.load_family(name)
    points, z, w = draw(family, 4, n=1)
    n = outputs(family, points)
    assert family.residual(points, n, z, w)[family.equations[0]].shape == (4, 1)
    u = family.physical(columns(points, family.pde.coordinates), n, z, w)
    stacked = torch.stack([u[field].value for field in family.fields], dim=-1)
    assert torch.allclose(stacked, values(family, points, z, w), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", FAMILIES)
def test_single_precision_stays_single(name: str) -> None:
    family = sciprob.load_family(name)
    points, z, w = (item.float() for item in draw(family, 2))
    n = network_jets(network(family).float(), points, family.pde.coordinates, family.pde.fields)
    for residual in family.residual(points, n, z, w).values():
        assert residual.dtype == torch.float32
    lift, distance = family.lift_and_distance(points, z, w)
    assert lift.dtype == distance.dtype == torch.float32


def test_the_initial_wave_holds_for_any_weights() -> None:
    family = sciprob.load_family("burgers-family")
    x = torch.linspace(0, 1, 41, dtype=torch.float64)
    _, z, w = draw(family, 6)
    start = values(family, torch.stack([x, 0 * x], dim=-1), z, w)[..., 0]
    assert (start - torch.sin(2 * math.pi * w * x) * torch.sin(math.pi * x)).abs().max() < 1e-14
    times = torch.linspace(0, 1, 9, dtype=torch.float64)
    for wall in (0.0, 1.0):
        points = torch.stack([torch.full_like(times, wall), times], dim=-1)
        assert values(family, points, z, w).abs().max() < 1e-14
    inside = torch.tensor([[0.3, 0.5]], dtype=torch.float64)
    assert values(family, inside, z, w).abs().min() > 1e-3  # and the network does count inside


def test_walls_and_lid_of_the_cavity_hold_for_any_weights() -> None:
    family = sciprob.load_family("cavity-family", {"lid": "{lower = 0.5, upper = 2.0}"})
    points, z, w = draw(family, 4, n=30)
    x, y, t = points.unbind(-1)
    for axis, end in ((0, 0.0), (0, 1.0), (1, 0.0)):
        on_wall = points.clone()
        on_wall[..., axis] = end
        assert values(family, on_wall, z, w)[..., :2].abs().max() < 1e-13
    lid = torch.stack([x, torch.ones_like(y), t], dim=-1)
    moved = values(family, lid, z, w)
    assert (moved[..., 0] - w * (1 - (2 * x - 1) ** 6) * t).abs().max() < 1e-13
    assert moved[..., 1].abs().max() < 1e-13
    rest = torch.stack([x, y, torch.zeros_like(t)], dim=-1)
    assert values(family, rest, z, w)[..., :2].abs().max() == 0
    corner = torch.stack([0 * x, 0 * y, t], dim=-1)
    assert values(family, corner, z, w)[..., 2].abs().max() == 0
    assert values(family, points, z, w).abs().mean(dim=(0, 1)).min() > 1e-3


@pytest.mark.parametrize(("name", "boundary"), [("poisson-family", [[-1.0], [1.0]]), ("disk-family", None)])
def test_zero_on_the_boundary_for_any_weights(name: str, boundary: list[list[float]] | None) -> None:
    family = sciprob.load_family(name)
    _, z, w = draw(family, 3)
    angle = torch.arange(12, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
    points = circle if boundary is None else torch.tensor(boundary, dtype=torch.float64)
    assert values(family, points, z, w).abs().max() < 1e-15
    # first order only: halving the way to the boundary halves the distance
    _, near = family.lift_and_distance(points * (1 - 1e-4), z, w)
    _, nearer = family.lift_and_distance(points * (1 - 5e-5), z, w)
    assert torch.allclose(near / nearer, torch.full_like(near, 2.0), rtol=1e-3)


def polynomial_flow(case: str, x: dict[str, Jet]) -> dict[str, Jet]:
    """Divergence-free polynomial flows with rho = 0.9, mu = 0.5."""
    zero = Jet.constant(torch.zeros(1, dtype=torch.float64))
    if case == "parabola":  # u = y (1 - y), driven by p_x = mu u''
        return {"u": x["y"] * (1 - x["y"]), "v": zero * x["x"], "p": -1.0 * x["x"]}
    # a strain that grows in time: u = x t, v = -y t, p = -rho (x^2 (t^2 + 1) + y^2 (t^2 - 1)) / 2
    square = (x["x"] ** 2) * (x["t"] ** 2 + 1) + (x["y"] ** 2) * (x["t"] ** 2 - 1)
    return {"u": x["x"] * x["t"], "v": -(x["y"] * x["t"]), "p": -0.45 * square}


@pytest.mark.parametrize("case", ["parabola", "strain"])
def test_polynomial_flows_have_no_residual(case: str) -> None:
    family = sciprob.load_family("cavity-family")
    points, _, w = draw(family, n=20)
    x = columns(points, "xyt")
    z = torch.tensor([0.9, 0.5], dtype=torch.float64)
    u = polynomial_flow(case, coordinate_jets(x, ("xx", "yy", "t")))
    given = family.parameters(z, w)
    for residual in family.residual_of(x, u, given).values():
        assert residual.abs().max() < 1e-13
    wrong = family.residual_of(x, {**u, "v": u["v"] + 0.1 * u["u"]}, given)
    assert max(float(residual.abs().max()) for residual in wrong.values()) > 1e-2


def spectral_jet(z: Tensor, forcing: float) -> tuple[Tensor, Jet]:
    """The collocated Poisson solution with its derivatives at the inner nodes."""
    import numpy as np

    from sciprob.problems.references.chebyshev import differentiation_matrix

    nodes, u = collocate_poisson(z.numpy(), forcing, degree=96)
    slope = differentiation_matrix(nodes) @ u
    stored = {"": u, "x": slope, "xx": differentiation_matrix(nodes) @ slope}
    inner = {name: torch.from_numpy(np.ascontiguousarray(item[1:-1])) for name, item in stored.items()}
    return torch.from_numpy(nodes[1:-1].copy()), Jet(inner)


def test_the_residual_of_a_spectral_solution() -> None:
    family = sciprob.load_family("poisson-family")
    for seed in range(5):
        z = family.unknown.sample(1, generator(seed))[0]
        x, u = spectral_jet(z, 1.5)
        found = family.residual_of({"x": x}, {"u": u}, family.parameters(z, torch.tensor([1.5], dtype=torch.float64)))
        assert found["poisson"].abs().max() < 1e-9
        flipped = family.residual_of(
            {"x": x}, {"u": u}, family.parameters(z, -torch.tensor([1.5], dtype=torch.float64))
        )
        assert flipped["poisson"].abs().min() > 2.9


def test_parameters_are_checked() -> None:
    family = sciprob.load_family("burgers-family")
    points, z, w = draw(family, 3)
    with pytest.raises(ShapeError, match=r"`z` should end in \(2,\)"):
        family.parameters(z[..., :1], w)
    with pytest.raises(ShapeError, match="columns"):
        family.lift_and_distance(points[..., :1], z, w)


def test_mistakes_of_a_family_are_named() -> None:
    condition = HardCondition(lambda x, p: {}, lambda x, p: {"u": x["t"]})
    box, domain = ParameterBox(("viscosity",), (0.1,), (1.0,)), BoxDomain(("x", "t"), (0.0, 0.0), (1.0, 1.0))
    with pytest.raises(ConfigError, match="coordinates"):
        ProblemFamily("f", Burgers(), BoxDomain(("x",), (0.0,), (1.0,)), box, condition)
    with pytest.raises(ConfigError, match="two parameters `viscosity`"):
        ProblemFamily("f", Burgers(), domain, box, condition, constants={"viscosity": 1.0})
    with pytest.raises(ConfigError, match="no `viscosity`"):
        ProblemFamily("f", Burgers(), domain, ParameterBox(("nu",), (0.1,), (1.0,)), condition)
    family = ProblemFamily("f", Burgers(), domain, box, condition)
    with pytest.raises(UnsupportedProblemError, match="no reference"):
        family.solve(torch.ones(1), torch.ones(0), torch.zeros(2, 2))


def test_files() -> None:
    family = sciprob.load_family("burgers-family", {"viscosity.lower": 0.02})
    assert family.unknown.lower == (0.02, 0.5)
    assert family.unknown.log == (True, False)
    assert family.info.default_solver == "rgnp"
    assert family.config["viscosity"]["lower"] == 0.02
    with pytest.raises(ConfigError, match="is a family of problems and not one"):
        load_problem("burgers-family")
    with pytest.raises(ConfigError, match="one problem and no family"):
        sciprob.load_family("poisson-source")
    with pytest.raises(ConfigError, match="unknown key `viscosiy`"):
        sciprob.load_family("burgers-family", {"viscosiy.lower": 0.02})
    with pytest.raises(ConfigError, match="lower < upper"):
        sciprob.load_family("burgers-family", {"viscosity.lower": 0.2})
