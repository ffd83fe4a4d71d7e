"""Figures show the numbers they claim to show, whatever the space, and leave Matplotlib alone."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PolyCollection

from sciprob.errors import ConfigError, ShapeError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.likelihoods.poisson import PoissonCounts
from sciprob.operators.linear import DenseMap, DiagonalMap
from sciprob.operators.observe import PointObservation
from sciprob.operators.parameterise import Exp
from sciprob.plot import Predictive, chains_figure, data_figure, field_figure, marginals_figure, plot_run
from sciprob.posteriors import Ensemble, GaussianPosterior, TransformedPosterior
from sciprob.priors.base import GaussianPrior
from sciprob.problems.problem import Info, Problem
from sciprob.spaces import GridSpace, Space
from sciprob.spaces.fe import FESpace
from sciprob.spaces.mesh import Mesh


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def triangles() -> Mesh:
    points = np.array([[0, 0], [2, 0], [2, 1], [0, 1], [0.9, 0.4]], dtype=float)
    return Mesh(points, np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]))


def tetrahedra() -> Mesh:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], dtype=float)
    return Mesh(points, np.array([[0, 1, 2, 3], [1, 2, 3, 4]]))


SPACES = {
    "p1": FESpace(triangles(), 1, name="log_conductivity"),
    "p2": FESpace(triangles(), 2),
    "tetrahedra": FESpace(tetrahedra(), 1),
    "image": GridSpace((5, 7), "image", ("y", "x"), "1/mm", lower=(0.0, -1.0), upper=(1.0, 2.0), centring="cell"),
    "volume": GridSpace((3, 4, 5), "m", ("z", "y", "x"), lower=(0.0,) * 3, upper=(1.0,) * 3),
    "curve": GridSpace((9,), "rate", ("t",), "1/s", lower=(0.0,), upper=(1.0,)),
    "points": Space((6,), "m", ("points",), coords={"x": torch.rand(6), "y": torch.rand(6)}),
    "vector": Space((4,), "theta", ("parameter",)),
    "scalar": Space(()),
    "sinogram": Space((6, 8), "sinogram", ("angle", "bin"), coords={"angle": torch.linspace(0, 3, 6)}),
}


def posterior_on(space: Space) -> GaussianPosterior:
    std = 0.5 + randn(*space.shape, seed=2).abs()
    return GaussianPosterior(space, mean=randn(*space.shape), root=DiagonalMap(std, space), meta={"seed": 1})


def point_problem(space: Space, points: torch.Tensor) -> Problem:
    prior = GaussianPrior(torch.zeros(space.shape).double(), DiagonalMap(torch.ones(space.shape).double(), space))
    operator = PointObservation(space, points.double())
    likelihood = Likelihood(operator, GaussianNoise(operator.codomain, 0.1))
    problem = Problem("points", prior, likelihood, info=Info(title="Points"))
    return problem.simulate(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_its_figure(name, tmp_path):
    posterior = posterior_on(SPACES[name])
    truth = posterior.mean + 1
    figure = posterior.plot(truth, title="a title")
    titles = [axes.get_title() for axes in figure.axes]
    if name == "curve":
        assert titles == ["posterior"]
    elif name in ("vector", "scalar"):
        assert len(titles) == SPACES[name].size
    else:
        suffix = ", middle section" if name in ("tetrahedra", "volume") else ""
        names = ("truth", "posterior mean", "|mean - truth|", "posterior std")
        assert titles[:4] == [title + suffix for title in names]
    figure.savefig(tmp_path / "figure.png")
    marginals_figure(posterior, truth=truth).savefig(tmp_path / "marginals.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_mean_and_truth_share_a_scale_and_error_and_std_another():
    posterior = posterior_on(SPACES["image"])
    truth = posterior.mean * 3
    panels = field_figure(posterior, truth=truth).axes[:4]
    images = [axes.get_images()[0] for axes in panels]
    assert images[0].norm is images[1].norm
    assert images[2].norm is images[3].norm
    assert images[0].norm.vmax == pytest.approx(float(truth.max()))
    assert images[2].norm.vmin == 0
    np.testing.assert_allclose(images[0].get_array(), truth)
    np.testing.assert_allclose(images[1].get_array(), posterior.mean)
    np.testing.assert_allclose(images[2].get_array(), 2 * posterior.mean.abs())
    np.testing.assert_allclose(images[3].get_array(), posterior.std)
    assert images[1].get_extent() == pytest.approx([-1, 2, 0, 1])  # cells fill the domain
    assert images[1].origin == "lower"
    assert [axes.get_xlabel() for axes in panels] == ["x"] * 4
    assert all(axes.get_aspect() == 1 for axes in panels)


def test_x_runs_to_the_right_whatever_the_order_of_the_axes():
    grid = GridSpace((5, 3), "m", ("x", "y"), lower=(0.0, 0.0), upper=(4.0, 1.0))
    posterior = posterior_on(grid)
    axes = field_figure(posterior).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    np.testing.assert_allclose(axes.get_images()[0].get_array(), posterior.mean.T)
    assert axes.get_images()[0].get_extent() == pytest.approx([-0.5, 4.5, -0.25, 1.25])  # pixels around the nodes


@pytest.mark.parametrize("degree", [1, 2])
def test_triangulated_fields_cover_the_mesh(degree):
    space = FESpace(triangles(), degree)
    axes = posterior_on(space).plot().axes[0]
    (mesh,) = axes.collections
    triangulation = mesh._triangulation
    corners = np.stack([triangulation.x, triangulation.y], axis=-1)[triangulation.triangles]
    sides = np.swapaxes(corners[:, 1:] - corners[:, :1], 1, 2)
    points = np.random.default_rng(0).uniform([0, 0], [2, 1], (500, 2))
    shares = np.linalg.solve(sides, (points[:, None] - corners[:, 0])[..., None])[..., 0]  # barycentric
    inside = (shares >= 0).all(-1) & (shares.sum(-1) <= 1)
    assert (inside.sum(1) == 1).all()  # each point in one triangle: no gap, no overlap
    assert len(triangulation.triangles) == 4 * degree**2
    np.testing.assert_allclose(mesh.get_array(), posterior_on(space).mean)


def test_section_of_tetrahedra_is_the_field_there():
    space = SPACES["tetrahedra"]
    x, y, z = space.points().T
    posterior = GaussianPosterior(space, mean=x + 2 * y + 4 * z, root=DiagonalMap(torch.ones(5).double(), space))
    image = posterior.plot().axes[0].get_images()[0].get_array()
    px, py = np.meshgrid(np.linspace(0, 1, 200), np.linspace(0, 1, 200))
    inside = ~np.ma.getmaskarray(np.ma.masked_invalid(image))
    assert inside.mean() == pytest.approx(0.125 + 0.5, abs=0.02)  # a triangle of one cell, a square of the other
    np.testing.assert_allclose(np.asarray(image)[inside], (px + 2 * py + 4 * 0.5)[inside], atol=1e-9)


def test_curves_show_their_bands():
    posterior = posterior_on(SPACES["curve"])
    axes = posterior.plot(posterior.mean).axes[0]
    bands = [c for c in axes.collections if isinstance(c, PolyCollection)]
    low, high = posterior.interval(0.9)
    y = bands[0].get_paths()[0].vertices[:, 1]
    assert y.min() == pytest.approx(float(low.min()))
    assert y.max() == pytest.approx(float(high.max()))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("t", "rate (1/s)")


def test_marginal_densities_integrate_to_one_and_peak_at_the_mode():
    space = Space((1,))
    base = GaussianPosterior(space, mean=torch.tensor([0.2]).double(), root=DiagonalMap(torch.tensor([0.5]).double()))
    for posterior, mode in ((base, 0.2), (TransformedPosterior(base, Exp(space)), math.exp(0.2 - 0.25))):
        line = marginals_figure(posterior).axes[0].lines[0]
        x, height = line.get_data()
        assert np.trapezoid(height, x) == pytest.approx(1, abs=2e-3)
        assert x[height.argmax()] == pytest.approx(mode, abs=0.03)


def test_gaussian_residuals_are_whitened_and_intervals_are_predictive():
    problem = point_problem(SPACES["image"], torch.tensor([[0.5, 0.5], [-0.2, 0.9]]))
    space = problem.parameter
    posterior = GaussianPosterior(
        space, mean=problem.truth, root=DiagonalMap(torch.full(space.shape, 1e-3).double(), space)
    )
    predictive = Predictive.of(problem, posterior, generator=torch.Generator().manual_seed(0), n=4000)
    exact = (problem.observed - problem.operator(problem.truth)) / 0.1
    torch.testing.assert_close(predictive.residual, exact, atol=1e-2, rtol=0)
    torch.testing.assert_close(predictive.replicated.std, torch.full((2,), 0.1).double(), atol=0.005, rtol=0)
    axes = data_figure(predictive).axes[0]
    assert len(next(c for c in axes.collections if isinstance(c, LineCollection)).get_segments()) == 2


def test_residuals_of_counts_are_standardised():
    space = Space((3000,), dims=("bin",))
    identity = DenseMap(torch.ones(3000, 1).double(), domain=Space((1,)), codomain=space)
    noise = PoissonCounts(space, 50.0)
    prior = GaussianPrior(torch.zeros(1).double(), DiagonalMap(torch.ones(1).double()))
    problem = Problem("counts", prior, Likelihood(identity, noise)).simulate(torch.Generator().manual_seed(3))
    posterior = Ensemble(Space((1,)), problem.truth.expand(2, 1))
    predictive = Predictive.of(problem, posterior, generator=torch.Generator().manual_seed(0))
    assert float(predictive.residual.mean()) == pytest.approx(0, abs=0.1)
    assert float(predictive.residual.std()) == pytest.approx(1, abs=0.06)


def test_all_figures_of_a_run(tmp_path):
    problem = point_problem(SPACES["p1"], torch.tensor([[0.5, 0.5], [1.2, 0.9], [0.1, 0.2]]))
    exact = posterior_on(problem.parameter)
    names = {"posterior.png", "marginals.png", "samples.png", "data_misfit.png", "predictive.png"}
    paths = plot_run(problem, exact, tmp_path / "figures")
    assert {path.name for path in paths} == names
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    chains = Ensemble(problem.parameter, exact.sample((40,), generator=torch.Generator()), chains=2)
    assert {path.name for path in plot_run(problem, chains, tmp_path)} == names | {"chains.png"}


def test_data_with_two_axes_are_shown_as_images(tmp_path):
    space = SPACES["sinogram"]
    operator = DenseMap(randn(48, 3), domain=Space((3,)), codomain=space)
    prior = GaussianPrior(torch.zeros(3).double(), DiagonalMap(torch.ones(3).double()))
    problem = Problem("rays", prior, Likelihood(operator, GaussianNoise(space, 0.1)))
    problem = problem.simulate(torch.Generator().manual_seed(0))
    predictive = Predictive.of(problem, posterior_on(Space((3,))), generator=torch.Generator().manual_seed(0))
    figure = data_figure(predictive)
    measured = figure.axes[0]
    np.testing.assert_allclose(measured.get_images()[0].get_array(), problem.observed)
    assert (measured.get_xlabel(), measured.get_ylabel()) == ("bin", "angle")
    figure.savefig(tmp_path / "data.png")


def test_flat_ranks_of_mixed_chains():
    samples = torch.cat([torch.zeros(100, 1) - 5, torch.zeros(100, 1) + 5]).double() + 0.1 * randn(200, 1)
    figure = chains_figure(Ensemble(Space((1,)), samples, chains=2))
    first = figure.axes[1].patches[0].get_data().values  # the low chain has the low ranks only
    assert first[:5].sum() == 100
    assert first[5:].sum() == 0
    with pytest.raises(ConfigError, match="Markov chains"):
        chains_figure(Ensemble(Space((1,)), samples))


def test_a_wrong_truth_is_refused():
    with pytest.raises(ShapeError, match="truth"):
        posterior_on(SPACES["image"]).plot(torch.zeros(3))


def test_importing_plot_does_not_load_matplotlib_and_drawing_not_pyplot():
    code = (
        "import sys, torch, sciprob.plot; assert 'matplotlib' not in sys.modules;"
        "from sciprob.posteriors import Ensemble; from sciprob.spaces import Space;"
        "Ensemble(Space((3,)), torch.rand(9, 3)).plot(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_few_numbers_have_rows_of_their_own():
    space = Space((2,), name="parameters", dims=("parameter",), labels=("density", "viscosity"))
    draws = torch.tensor([1.0, 1e-3], dtype=torch.float64) * torch.rand(200, 2, dtype=torch.float64)
    posterior = Ensemble(space, draws)
    figure = posterior.plot(truth=torch.tensor([0.5, 5e-4], dtype=torch.float64))
    rows = [axes.get_yticklabels()[0].get_text() for axes in figure.axes]
    assert rows == ["density", "viscosity"]
    (low, high), (narrow, wide) = (axes.get_xlim() for axes in figure.axes)
    assert (high - low) > 100 * (wide - narrow)  # each on its own scale
    assert "viscosity" in posterior.to_xarray()["posterior"].coords["parameter"]
