"""The solver on linear equations: accuracy, invariances, choice of kernels, resumption, advice and errors."""

import warnings

import gp_problems as cases
import pytest
import torch

import sciprob
from sciprob.errors import ConfigError, DataError, SciprobWarning
from sciprob.pde.collocation import Collocation
from sciprob.pde.helmholtz import Laplace
from sciprob.problems.collocation_problem import collocation_problem
from sciprob.random import Streams
from sciprob.solvers.kronecker_gp.candidates import pack, unpack
from sciprob.solvers.kronecker_gp.scoring import restore
from sciprob.solvers.kronecker_gp.solver import SpectralMixtureGP
from sciprob.solvers.state import pack as pack_state
from sciprob.solvers.state import settle
from sciprob.solvers.state import unpack as unpack_state


@pytest.fixture(scope="module")
def posterior():
    return cases.solved(cases.problem())


def test_three_scales_are_solved_between_the_nodes(posterior):
    assert cases.error(posterior, cases.waves) < 1e-6


def test_mean_obeys_equation_and_boundary(posterior):
    x = torch.linspace(0, 1.3, 333, dtype=torch.float64)
    second = posterior.derivative("xx").at(x[:, None]).mean
    wanted = -(31**2) * torch.sin(31 * x + 0.4) - 0.2 * 70**2 * torch.cos(70 * x)
    assert float((second - wanted).norm() / wanted.norm()) < 1e-6
    ends = torch.tensor([[0.0], [1.3]], dtype=torch.float64)
    torch.testing.assert_close(posterior.at(ends).mean, cases.waves(ends[:, 0]), rtol=0, atol=1e-8)


def test_the_truth_plays_no_part(posterior):
    with_truth = cases.solved(cases.problem(truth=True))
    assert torch.equal(with_truth.mean, posterior.mean)
    assert with_truth.meta["relative_error"] < 1e-6


def test_mean_and_std_scale_with_the_data():
    """Three times the data: everything else is a ratio. Rough kernels, whose std is not rounding."""
    once = cases.solved(cases.problem(points=(60,)), kernel="student-mixture")
    thrice = cases.solved(cases.problem(lambda x: 3 * cases.waves(x), points=(60,)), kernel="student-mixture")
    torch.testing.assert_close(thrice.mean, 3 * once.mean, rtol=1e-6, atol=1e-6)
    inside = slice(1, -1)
    torch.testing.assert_close(thrice.std[inside], 3 * once.std[inside], rtol=0.02, atol=0)


def test_shifted_interval_gives_the_shifted_solution(posterior):
    moved = cases.solved(cases.problem(lambda x: cases.waves(x - 5.0), lower=(5.0,), upper=(6.3,)))
    torch.testing.assert_close(moved.mean, posterior.mean, rtol=0, atol=1e-6)


def test_stretched_interval_gives_the_same_solution(posterior):
    wide = cases.solved(cases.problem(lambda x: cases.waves(x / 4), upper=(5.2,)))
    torch.testing.assert_close(wide.mean, posterior.mean, rtol=0, atol=1e-6)


def test_plane_wave_in_two_dimensions():
    def exact(x, y):
        return torch.sin(12 * x) * torch.cos(17 * y) + 0.3 * y

    posterior = cases.solved(cases.problem(exact, points=(36, 41), lower=(0.0, 0.0), upper=(1.0, 1.1)))
    points = torch.rand(300, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    truth = exact(*points.unbind(1))
    assert float((posterior.at(points).mean - truth).norm() / truth.norm()) < 1e-6


def test_a_source_on_the_grid_alone_is_enough():
    c = cases.collocation()
    x = c.points().lines[0]
    table = {"forcing": c.parameters["forcing"]({"x": x})}
    values = Collocation(c.pde, c.lower, c.upper, c.shape, table, c.conditions)
    posterior = cases.solved(collocation_problem("table", values))
    assert cases.error(posterior, cases.waves) < 1e-6
    assert "held_out_residual" not in posterior.meta["diagnostics"]


def test_other_observations_are_solved_for():
    """`observe` replaces source and boundary values; the solution follows."""
    given, other = cases.problem(), cases.problem(lambda x: torch.cos(29 * x))
    posterior = cases.solved(given.observe(other.operator.data))
    assert cases.error(posterior, lambda x: torch.cos(29 * x)) < 1e-5


def test_explicit_families_are_kept():
    for kernel in ("gaussian-mixture", "student-mixture", "prior"):
        posterior = cases.solved(cases.problem(), kernel=kernel)
        assert kernel.split("-")[0] in posterior.meta["diagnostics"]["kernel"]
        assert cases.error(posterior, cases.waves) < 1e-5


def test_kernels_survive_packing_bit_for_bit():
    kernels = [axis.kernel for axis in cases.problem().operator.axes]
    for old, new in zip(kernels, unpack(pack(kernels)), strict=True):
        for (name, p), (same, q) in zip(old.named_parameters(), new.named_parameters(), strict=True):
            assert name == same
            assert torch.equal(p, q)


def test_resumed_run_equals_uninterrupted():
    given, method, streams = cases.problem(), SpectralMixtureGP(), Streams(0)
    state = settle(method.init(given, streams))
    through_disk = state
    while method.finished(state) is None:
        state = settle(method.step(given, state, streams)[0])
        tensors = {}
        tree = pack_state(through_disk, "state", tensors)
        through_disk = unpack_state(tree, tensors, torch.device("cpu"), [SpectralMixtureGP.__module__])
        through_disk = settle(method.step(given, through_disk, streams)[0])
    assert method.finished(through_disk) is method.finished(state)
    assert torch.equal(method.result(given, through_disk).mean, method.result(given, state).mean)
    assert torch.equal(restore(state.best).triangle.root, restore(through_disk.best).triangle.root)


def test_posterior_is_stored_exactly(posterior, tmp_path):
    loaded = sciprob.load_posterior(posterior.save(tmp_path / "p"))
    assert torch.equal(loaded.mean, posterior.mean)
    torch.testing.assert_close(loaded.std, posterior.std)


def test_unresolved_frequency_is_named_with_the_points_it_needs():
    def exact(x):
        return torch.sin(2 * torch.pi * 40 * x + 0.3)

    with pytest.warns(SciprobWarning, match="does not resolve; use (\\d+) points"):
        coarse = cases.solved(cases.problem(exact, points=(61,), upper=(1.0,)))
    assert "points" in coarse.meta["advice"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", SciprobWarning)
        fine = cases.solved(cases.problem(exact, points=(201,), upper=(1.0,)))
    assert cases.error(fine, exact) < 1e-5  # what is promised for one wave at this number of points per period


@pytest.mark.parametrize("wrong", [{"kernel": "cosine"}, {"components": 0}, {"tolerance": -1.0}, {"choice": "truth"}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SpectralMixtureGP(**wrong)


def test_source_with_nan_is_refused_with_its_place():
    def bad(x):
        return torch.where(x["x"] > 0.5, torch.nan, x["x"])

    with pytest.raises(DataError, match=r"x = 0\.5"):
        collocation_problem("nan", Collocation(Laplace("x"), (0.0,), (1.0,), (20,), {"forcing": bad}))


@pytest.mark.parametrize("waves", [41, 100])
def test_aliases_are_told_from_the_waves_they_stand_for(waves):
    """On 60 points 100 waves look like 18; with a shift by half a cell they would again."""
    given = cases.problem(lambda x: torch.sin(waves * x), points=(60,), upper=(2 * torch.pi,))
    with pytest.warns(SciprobWarning, match="does not resolve; use"):
        cases.solved(given)
