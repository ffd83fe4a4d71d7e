"""The two elliptic problems with point sensors: built from their files, with data of a finer mesh."""

import importlib.util
import math

import pytest
import torch

import sciprob
from sciprob.errors import ConfigError, DataError
from sciprob.io.mesh import load_mesh
from sciprob.operators.base import Capability
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.problems.point_sensors import SensorLayout
from sciprob.problems.registry import build_problem, load_problem
from sciprob.testing import OperatorConformance

pytestmark = [
    pytest.mark.fem,
    pytest.mark.skipif(importlib.util.find_spec("dolfinx") is None, reason="FEniCSx is not installed"),
]

SMALL = {"mesh.inversion": "unit_square", "mesh.data": "unit_square_fine"}  # 142 nodes, no hole


@pytest.fixture(scope="module")
def darcy():
    return load_problem("darcy-sensors")


@pytest.fixture(scope="module")
def poisson():
    return load_problem("poisson-source")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestDarcyConforms(OperatorConformance):
    def make(self):
        problem = load_problem("darcy-sensors", overrides=SMALL)
        return problem.operator, problem.truth


class TestPoissonConforms(OperatorConformance):
    def make(self):
        problem = load_problem("poisson-source")
        return problem.operator, problem.truth


@pytest.mark.parametrize("name", ["darcy", "poisson"])
def test_the_files_build_complete_problems(name, request):
    problem = request.getfixturevalue(name)
    n = problem.config["sensors"]["count"]
    assert problem.observed.shape == (n,)
    assert problem.truth.shape == problem.parameter.shape
    assert problem.data.dtype == problem.truth.dtype == torch.float64
    assert Capability.GAUSSIAN_PRIOR in problem.offers
    assert Capability.GAUSSIAN_NOISE in problem.offers
    assert problem.info.title
    assert problem.info.equation
    assert (Capability.LINEAR in problem.offers) == (name == "poisson")
    assert problem.info.default_solver == {"darcy": "laplace", "poisson": "gaussian"}[name]


def test_the_recorded_configuration_builds_the_same_problem(poisson):
    table = {key: value for key, value in poisson.config.items() if key != "name"}
    again = build_problem(table, name="poisson-source")
    assert torch.equal(again.data, poisson.data)
    assert torch.equal(again.truth, poisson.truth)
    assert again.config == poisson.config


@pytest.mark.parametrize("name", ["darcy", "poisson"])
def test_data_come_from_a_finer_mesh(name, request):
    """Made on another mesh; the inversion's model agrees with it within the noise, but not exactly."""
    problem = request.getfixturevalue(name)
    prior, operator, transfer = problem.simulator.model
    assert prior.space.mesh != problem.parameter.mesh
    assert len(prior.space.mesh.points) > 4 * problem.parameter.size
    fine = prior.sample(generator=generator(3))
    gap = (operator(fine) - problem.operator(transfer(fine))) / problem.likelihood.noise.std
    rms = float(gap.square().mean().sqrt())
    assert 0.05 < rms < 0.6


@pytest.mark.parametrize("name", ["darcy", "poisson"])
def test_simulation_is_reproducible_and_has_the_noise_it_says(name, request):
    problem = request.getfixturevalue(name)
    first, again, other = (problem.simulate(generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.data, again.data)
    assert torch.equal(first.truth, again.truth)
    assert not torch.equal(first.truth, other.truth)
    residual = [
        (p.data - p.operator(p.truth)) / p.likelihood.noise.std
        for p in (problem.simulate(generator(s)) for s in range(8))
    ]
    rms = float(torch.stack(residual).square().mean().sqrt())
    assert 0.9 < rms < 1.3  # noise of size 1 and the difference of the meshes


@pytest.mark.parametrize("name", ["darcy", "poisson"])
def test_gradient_of_the_log_likelihood(name, request):
    """Against central differences in five random directions."""
    problem = request.getfixturevalue(name)
    m = problem.truth + 0.3 * problem.prior.sample(generator=generator(4))
    gradient = problem.likelihood.score(m, problem.data)
    for seed in range(5):
        direction = problem.prior.sample(generator=generator(10 + seed))
        h = 1e-4
        up, down = (problem.likelihood.log_prob(m + s * h * direction, problem.data) for s in (1, -1))
        expected = float(up - down) / (2 * h)
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_poisson_is_linear_and_zero_on_the_boundary(poisson):
    a, b = (poisson.prior.sample(generator=generator(seed)) for seed in (5, 6))
    combined = poisson.operator(2.0 * a - 3.0 * b)
    torch.testing.assert_close(combined, 2.0 * poisson.operator(a) - 3.0 * poisson.operator(b), rtol=1e-10, atol=1e-12)
    assert float(poisson.operator(torch.zeros_like(a)).abs().max()) == 0.0
    constant = torch.ones_like(a)
    middle = poisson.operator(constant).max()
    assert 0.05 < float(middle) < 0.0737  # the largest value of -Laplacian u = 1 on the unit square


def test_nonzero_boundary_values_make_poisson_affine():
    problem = load_problem("poisson-source", overrides={"dirichlet.left": 1.0, "dirichlet.right": "1 + y*(1-y)"})
    assert Capability.LINEAR in problem.offers  # which affine operators offer too
    m = problem.prior.sample((2,), generator=generator(7))
    zero = problem.operator(torch.zeros_like(m[0]))
    assert float(zero.min()) > 0.0
    torch.testing.assert_close(problem.operator(m[0] + m[1]) + zero, problem.operator(m[0]) + problem.operator(m[1]))
    exact, laplace = (sciprob.solve(problem, solver, progress=False) for solver in ("gaussian", "laplace"))
    assert float(((laplace.mean - exact.mean) / exact.std).abs().mean()) < 1e-3


def dense_bayes(problem):
    """Posterior covariance and gain by the formulas of the textbook."""
    root, forward = problem.prior.root.to_dense(), problem.operator.to_dense()
    prior = root @ root.T
    noise = problem.likelihood.noise.std.expand(len(forward)).square().diag()
    gain = torch.linalg.solve(forward @ prior @ forward.T + noise, forward @ prior).T
    return prior - gain @ forward @ prior, gain


def test_exact_posterior_covers_truths_of_the_finer_mesh(poisson):
    """Simulator, noise and prior fit together: 90 % bands of the exact posterior cover 90 % of 100 simulated truths.

    Nodes of one truth are correlated: the band is that of about 4 independent nodes per truth. Halved noise
    or a prior of another size leave it.
    """
    covariance, gain = dense_bayes(poisson)
    std, forward = covariance.diagonal().sqrt(), poisson.operator.to_dense()
    inside, g = [], generator(8)
    for _ in range(100):
        truth, data = poisson.simulator(g)
        mean = poisson.prior.mean + gain @ (data - forward @ poisson.prior.mean)
        inside.append(float(((truth - mean).abs() < 1.6449 * std).double().mean()))
    coverage = sum(inside) / len(inside)
    assert abs(coverage - 0.9) < 3 * math.sqrt(0.09 / 400)


def test_darcy_answers_to_its_coefficient(darcy):
    """A constant shift of m leaves the head alone where f = 0, but not with a source."""
    no_source = load_problem("darcy-sensors", overrides=SMALL | {"source": 0.0})
    m = no_source.truth
    torch.testing.assert_close(no_source.operator(m + 1.0), no_source.operator(m), rtol=1e-9, atol=1e-10)
    assert float((darcy.operator(darcy.truth + 1.0) - darcy.operator(darcy.truth)).abs().max()) > 0.05


@pytest.mark.parametrize("name", ["square_with_hole", "unit_square"])
def test_sensors_keep_their_distance(name):
    mesh = load_mesh(name)
    points = SensorLayout(count=300, seed=2, distance=0.05).place(mesh)
    assert points.shape == (300, 2)
    gap = torch.cdist(points, torch.tensor(mesh.points[mesh.boundary_facets].reshape(-1, 2))).min()
    assert float(gap) >= 0.05
    if name == "square_with_hole":
        assert float((points - torch.tensor([0.6, 0.45])).norm(dim=1).min()) > 0.15
    assert torch.equal(SensorLayout(count=40, seed=2, distance=0.05).place(mesh), points[:40])
    assert not torch.equal(SensorLayout(count=40, seed=3, distance=0.05).place(mesh), points[:40])
    counts = torch.histogram(points[:, 0], bins=4, range=(0.05, 0.95)).hist
    assert float(counts.min()) > 40  # all over the domain


def sensors_file(tmp_path, rows):
    path = tmp_path / "wells.csv"
    path.write_text("x,y,value,std\n" + "\n".join(rows) + "\n")
    return path


def test_measurements_of_a_file(darcy, tmp_path):
    """The problem's own data through a file: the same likelihood, and no truth."""
    x, y = (darcy.operator.codomain.coords[axis] for axis in "xy")
    rows = [f"{a!r},{b!r},{v!r},0.01" for a, b, v in zip(x.tolist(), y.tolist(), darcy.data.tolist(), strict=True)]
    problem = load_problem("darcy-sensors", data=sensors_file(tmp_path, rows))
    assert problem.truth is None
    assert torch.equal(problem.data, darcy.data)
    m = darcy.prior.sample((2,), generator=generator(9))
    torch.testing.assert_close(
        problem.likelihood.log_prob(m, problem.data), darcy.likelihood.log_prob(m, darcy.data), rtol=1e-12, atol=0
    )
    assert problem.simulate(generator(1)).truth is not None


def test_bad_measurements_name_their_row(tmp_path):
    with pytest.raises(DataError, match=r"row 3 of `wells.csv` \(0.6, 0.45\) lies in a hole"):
        load_problem("darcy-sensors", data=sensors_file(tmp_path, ["0.1,0.1,1,0.1", "0.6,0.45,1,0.1"]))
    with pytest.raises(DataError, match=r"row 2 of `wells.csv` has std = -1"):
        load_problem("darcy-sensors", data=sensors_file(tmp_path, ["0.1,0.1,1,-1"]))


@pytest.mark.parametrize(
    ("overrides", "error", "sentence"),
    [
        ({"noise.std": -1.0}, ConfigError, "`std` of the noise should be positive, got -1"),
        ({"prior.length": 0.0}, ConfigError, "`length` of a Matern prior should be a positive number"),
        ({"prior.lenght": 0.1}, ConfigError, "unknown key `lenght`.*did you mean `length`"),
        ({"sensors.count": 0}, ConfigError, "`count` should be at least 1, got 0"),
        ({"sensors.distance": 2.0}, ConfigError, "leaves no room for 50 sensors"),
        ({"mesh.inversion": "square"}, ConfigError, "there is no mesh 'square'"),
        ({"dirichlet.west": 0.0}, DataError, "west"),
        ({"source": "sin(q)"}, ConfigError, "q"),
        ({"mesh.inversion": "unit_square"}, DataError, "the mesh of the data does not cover the inversion's"),
    ],
)
def test_wrong_settings_are_refused(overrides, error, sentence):
    with pytest.raises(error, match=sentence):
        load_problem("darcy-sensors", overrides=overrides)


def test_report(poisson, tmp_path):
    """Numbers of the prior as a posterior, and the figure."""
    posterior = GaussianPosterior(poisson.parameter, mean=poisson.truth, root=poisson.prior.root)
    numbers = poisson.report(poisson, posterior, tmp_path)
    assert numbers["sensors"] == 40
    assert 0.7 < numbers["residual_rms"] < 1.4
    assert abs(numbers["largest_residual"]) >= numbers["residual_rms"]
    assert (tmp_path / "residuals.png").stat().st_size > 10_000
    assert poisson.report(poisson, posterior, None) == numbers
