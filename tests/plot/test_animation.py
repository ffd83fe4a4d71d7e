"""Trajectories: figures and animations show the numbers, frame by frame."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from sciprob.errors import SciprobWarning, ShapeError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators.linear import DiagonalMap
from sciprob.plot import field_figure, plot_run
from sciprob.plot.animation import _curves, _maps, animate
from sciprob.plot.trajectory import trajectory_figure
from sciprob.posteriors import GaussianPosterior
from sciprob.priors.base import GaussianPrior
from sciprob.problems.problem import Problem
from sciprob.spaces import GridSpace, Space

TIMES = torch.linspace(0, 0.5, 5, dtype=torch.float64)


def space_of(*dims):
    n = len(dims)
    grid = GridSpace((6, 7)[:n], "u", dims, lower=(0.0,) * n, upper=(1.0, 2.0)[:n], centring="periodic")
    coords = dict(grid.coords) | {"time": TIMES}
    return Space((5, *grid.shape), "vorticity", ("time", *dims), "1/s", coords)


def posterior_on(space):
    generator = torch.Generator().manual_seed(0)
    mean, std = (torch.rand(space.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return GaussianPosterior(space, mean=mean, root=DiagonalMap(0.1 + std, space))


CASES = [("x",), ("y", "x"), ("x", "y")]


@pytest.mark.parametrize("dims", CASES)
@pytest.mark.parametrize("known", [False, True])
def test_an_animation_has_one_frame_for_each_time(dims, known, tmp_path):
    space = space_of(*dims)
    posterior = posterior_on(space)
    path = animate(posterior, tmp_path / "u.gif", truth=posterior.mean + 0.1 if known else None, title="flow")
    with Image.open(path) as gif:
        assert gif.n_frames == 5
        frames = []
        for i in range(5):
            gif.seek(i)
            frames.append(np.asarray(gif.convert("RGB"), dtype=float))
            assert gif.info["duration"] == pytest.approx(120, abs=10)
    assert all(frame.shape == frames[0].shape for frame in frames)
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(frames))


def test_frames_of_a_line_hold_the_numbers():
    posterior = posterior_on(space_of("x"))
    figure, show = _curves(posterior, posterior.mean + 1, "")
    show(3, "t = 0.375")
    axes = figure.axes[0]
    mean, truth = axes.lines
    np.testing.assert_allclose(mean.get_ydata(), posterior.mean[3])
    np.testing.assert_allclose(truth.get_ydata(), posterior.mean[3] + 1)
    vertices = axes.collections[0].get_paths()[0].vertices
    low, high = posterior.interval(0.9)
    assert vertices[:, 1].min() == pytest.approx(float(low[3].min()))
    assert vertices[:, 1].max() == pytest.approx(float(high[3].max()))
    assert axes.get_title() == "t = 0.375"


@pytest.mark.parametrize("dims", CASES[1:])
def test_frames_of_a_plane_hold_the_numbers(dims):
    posterior = posterior_on(space_of(*dims))
    figure, show = _maps(posterior, posterior.mean + 1, "")
    show(2, "t = 0.25")
    images = [np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3]]
    for image, field in zip(images, (posterior.mean[2] + 1, posterior.mean[2], posterior.std[2]), strict=True):
        expected = field.numpy() if dims == ("y", "x") else field.numpy().T
        np.testing.assert_allclose(image, expected)


def test_space_time_figure():
    space = space_of("x")
    posterior = posterior_on(space)
    sensors = {"x": torch.tensor([0.1, 0.4]), "time": torch.tensor([0.2, 0.3])}
    figure = trajectory_figure(posterior, truth=posterior.mean, sensors=sensors)
    truth, mean, std = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3])
    np.testing.assert_allclose(truth, mean)
    np.testing.assert_allclose(mean, posterior.mean)
    np.testing.assert_allclose(std, posterior.std)
    dots = figure.axes[1].lines[0]
    np.testing.assert_allclose(dots.get_xydata(), [[0.1, 0.2], [0.4, 0.3]])


def test_snapshots_are_those_of_their_times():
    posterior = posterior_on(space_of("y", "x"))
    figure = trajectory_figure(posterior)
    panels = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in panels[:4]] == [f"mean, t = {t}" for t in ("0", "0.125", "0.375", "0.5")]
    np.testing.assert_allclose(panels[2].images[0].get_array(), posterior.mean[3])
    np.testing.assert_allclose(panels[6].images[0].get_array(), posterior.std[3])


def test_what_is_no_trajectory_is_refused(tmp_path):
    still = Space((5, 6), "u", ("y", "x"))
    posterior = posterior_on(still)
    with pytest.raises(ShapeError, match="axes time and one or two of space"):
        trajectory_figure(posterior)
    moving = posterior_on(space_of("x"))
    with pytest.raises(ShapeError, match="truth"):
        animate(moving, tmp_path / "u.gif", truth=torch.zeros(3))
    assert not (tmp_path / "u.gif").exists()


def test_one_failing_figure_does_not_cost_the_others(tmp_path, monkeypatch):
    space = GridSpace((4,), "m", ("x",), lower=(0.0,), upper=(1.0,))
    prior = GaussianPrior(torch.zeros(4).double(), DiagonalMap(torch.ones(4).double(), space))
    operator = DiagonalMap(torch.ones(4).double(), space)
    problem = Problem("p", prior, Likelihood(operator, GaussianNoise(space, 0.1)), data=torch.zeros(4).double())
    assert field_figure(posterior_on(space)).axes

    def broken(*_, **__):
        message = "no ink"
        raise OSError(message)

    monkeypatch.setattr("sciprob.plot.run.field_figure", broken)
    with pytest.warns(SciprobWarning, match=r"posterior.png was not drawn \(OSError: no ink\)"):
        paths = plot_run(problem, posterior_on(space), tmp_path)
    assert sorted(path.name for path in paths) == ["data_misfit.png", "marginals.png", "predictive.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in sorted(paths)]
