"""Latent equations for videos: the posterior of many dimensions against exact ones, bounds, training, resumption."""

import math
from pathlib import Path

import pytest
import torch

import sciprob
from sciprob.errors import ConfigError, SciprobError, UnsupportedProblemError
from sciprob.priors.videos import BouncingBall
from sciprob.problems.bouncing_ball import BouncingBallVideo
from sciprob.random import Streams
from sciprob.sde import AffineSDE, MarkovPathPosterior, PathData, geometric_rates
from sciprob.solvers.fbm_vi.guide import make_guide
from sciprob.solvers.fbm_vi.simulate import draw_noise, simulate
from sciprob.solvers.fbm_vi.sites import Sites
from sciprob.solvers.fbm_vi.video_model import VideoControl, VideoModel
from sciprob.solvers.fbm_vi.video_networks import Networks, VideoShape
from sciprob.solvers.fbm_vi.video_solver import FractionalVideo

SHAPE = VideoShape(pixels=8, latents=2, states=5, channels=(8,), features=6, width=5)
TINY = FractionalVideo(training_steps=12, batch=3, channels=8, features=8, width=6, rates=4, validation=2, members=5)
SMALL = {"frames": "5", "seen": "3", "pixels": "8"}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def make_model(substeps=2):
    times = 0.2 * torch.arange(5, dtype=torch.float64)
    return VideoModel(Networks(SHAPE), geometric_rates(0.01, 50.0, 4), times, substeps, 0.3, learn_hurst=True)


def random_vector(model, *, trained=True):
    """Numbers and weights in float64; trained networks have a drift and a control."""
    vector = model.start(generator(0)).double()
    vector[: model.size] = torch.tensor([0.6, 0.2, -0.3, 0.4, -0.2, 0.1, -0.5], dtype=torch.float64)
    return vector + 0.1 * torch.randn(vector.shape, dtype=torch.float64, generator=generator(1)) if trained else vector


def test_many_paths_of_many_dimensions_are_independent_exact_posteriors():
    """Without a drift every path has the weight of the evidence, the sum over videos and dimensions, ahead too."""
    model, batch, count = make_model(), 3, 4000
    vector = random_vector(model, trained=False)
    index = model.substeps * torch.arange(3)
    values = torch.randn(3, batch * 2, dtype=torch.float64, generator=generator(2))
    precision = 5 * torch.rand(3, batch * 2, dtype=torch.float64, generator=generator(3)) + 1
    reference = model.reference(vector).repeated(batch)
    sites = Sites(index, values, precision)
    drawn = simulate(reference, make_guide(reference, sites), draw_noise(reference, count, generator(4)))
    weights = drawn.log_ratio + sites.log_density(drawn.x)
    scale, mean, std = model.numbers(vector)
    total = 0.0
    for i in range(batch * 2):
        d = i % 2
        path = AffineSDE(
            model.hurst(vector), scale=scale[d], initial_mean=mean[d], initial_std=std[d], normalisation="unit"
        )
        data = PathData(model.times[:3], values[:, i], precision[:, i] ** -0.5)
        exact = MarkovPathPosterior(path, data, model.rates, horizon=float(model.times[-1]))
        total += float(exact.log_evidence)
        expected, spread = exact.at(model.times)
        found = drawn.x[:, :: model.substeps, i]
        assert float(((found.mean(0) - expected) / spread).abs().max()) < 4 / math.sqrt(count)
        assert float((found.std(0) / spread - 1).abs().max()) < 4 / math.sqrt(2 * count)
    torch.testing.assert_close(weights, torch.full_like(weights, total), rtol=1e-8, atol=1e-8)


def test_gradient_of_the_bound_is_that_of_differences():
    model = make_model()
    vector, videos = random_vector(model), torch.rand(2, 5, 8, 8, dtype=torch.float64, generator=generator(5))

    def bound(v):
        return model.bound(v, videos, 2, generator(6))[0]

    inputs = vector.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(bound(inputs), inputs)
    for i in range(model.size):
        step = torch.zeros_like(vector)
        step[i] = 1e-5
        with torch.no_grad():
            difference = float(bound(vector + step) - bound(vector - step)) / 2e-5
        assert float(gradient[i]) == pytest.approx(difference, rel=1e-5, abs=1e-6)


def test_beyond_the_frames_seen_nothing_is_controlled():
    model = make_model(substeps=1)
    vector = random_vector(model)
    control = VideoControl(model.networks.control(vector[model.size :]), torch.ones(2, 1, 6, dtype=torch.float64), 2)
    states = torch.randn(4, 2, 3, 5, dtype=torch.float64, generator=generator(9))
    together = control.at_states(model.times[:-1], states)
    for n, function in enumerate(control.along(model.times[:-1])):
        torch.testing.assert_close(function(states[n]), together[n], rtol=1e-12, atol=1e-14)
    assert bool((together[2:] == 0).all())
    assert bool((together[:2] != 0).all())


def test_sites_context_and_likelihood_are_those_of_the_frames():
    model = make_model()
    vector, videos = (
        random_vector(model, trained=False),
        torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=generator(12)),
    )
    offset = model.size
    for name, size in model.networks._sizes():
        if name == "encoder.sites.bias":
            vector[offset + 2 : offset + 4] += 18.0  # log precisions of the sites
        offset += math.prod(size)
    context, values, _ = model.networks.encode(vector[model.size :], videos)
    drawn = model.draw(vector, videos, 3, generator(13))
    assert drawn.x.shape == (3, 2, 5, 2)
    torch.testing.assert_close(drawn.x[:, :, :3], values.expand(3, -1, -1, -1), rtol=0, atol=2e-3)
    along = model._along(context)
    torch.testing.assert_close(along[:: model.substeps], context[:, :2].transpose(0, 1))
    torch.testing.assert_close(along[1], (context[:, 0] + context[:, 1]) / 2)
    errors = torch.distributions.Normal(model.frames(vector, drawn.x[:, :, :3]), model.std)
    by_hand = errors.log_prob(videos.expand(3, -1, -1, -1, -1)).sum((-3, -2, -1))
    torch.testing.assert_close(model.log_likelihood(vector, videos, drawn.x), by_hand)


def test_videos_of_a_batch_do_not_see_each_other():
    model = make_model()
    vector, videos = random_vector(model), torch.rand(2, 5, 8, 8, dtype=torch.float64, generator=generator(10))
    weights = vector[model.size :]
    together, apart = model.networks.encode(weights, videos), model.networks.encode(weights, videos[1:])
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a[1:], b, rtol=1e-10, atol=1e-12)
    parts, context = model.networks.control(weights), model._along(together[0])
    states = torch.randn(8, 4, 3, 5, dtype=torch.float64, generator=generator(11))
    times = torch.arange(8, dtype=torch.float64)
    both = VideoControl(parts, context, 8).at_states(times, states)
    second = VideoControl(parts, context[:, 1:], 8).at_states(times, states[:, 2:])
    torch.testing.assert_close(both[:, 2:], second, rtol=1e-12, atol=1e-14)


def test_ball_moves_straight_and_leaves_walls():
    prior = BouncingBall(40, 64, 0.1)
    places = prior.positions((200,), generator=generator(0))
    assert float(places.min()) == 8
    assert float(places.max()) == 56
    velocity = places.diff(dim=1)
    inside = ((places > 8) & (places < 56)).all(-1)
    free = inside[:, 1:-1] & inside[:, 2:]
    assert bool((velocity[:, 1:] == velocity[:, :-1]).all(-1)[free].all())
    stuck = (places[:, 1:-1] == 8) & (velocity[:, :-1] < 0) & (velocity[:, :-1] > -5)
    assert bool((velocity[:, 1:][stuck] > 0).all())
    assert sorted(velocity[:, 1:][stuck].unique().tolist()) == [1, 2, 3, 4]
    frames = prior.render(places[:3])
    pixel = prior.space.coords["x"].float()
    mass = frames.sum((-2, -1))
    torch.testing.assert_close((frames.sum(-2) * pixel).sum(-1) / mass, places[:3, :, 0], rtol=0, atol=0.1)
    torch.testing.assert_close((frames.sum(-1) * pixel).sum(-1) / mass, places[:3, :, 1], rtol=0, atol=0.1)
    torch.testing.assert_close(mass, torch.full_like(mass, 64 * math.pi), rtol=0.02, atol=0)


def test_first_frames_and_their_adjoint():
    problem = sciprob.load_problem("bouncing-ball", overrides=SMALL)
    video = torch.randn(2, *problem.parameter.shape, generator=generator(0))
    seen = torch.randn(2, *problem.operator.codomain.shape, generator=generator(1))
    assert torch.equal(problem.operator(video), video[:, :3])
    left, right = (problem.operator(video) * seen).sum(), (video * problem.operator.T(seen)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-5)


@pytest.mark.parametrize("noise", ["fractional", "brownian"])
def test_training_raises_the_bound(noise):
    problem = sciprob.load_problem("bouncing-ball", overrides=SMALL)
    bounds = []
    for steps in (0, 60):
        solver = FractionalVideo(
            noise=noise,
            training_steps=steps,
            batch=8,
            channels=8,
            features=8,
            width=6,
            rates=4,
            validation=4,
            members=4,
        )
        found = sciprob.solve(problem, solver, progress=False).meta["diagnostics"]
        bounds.append(found["elbo"])
        assert (found["hurst"] == 0.5) == (noise == "brownian" or steps == 0)
    assert bounds[1] > bounds[0] + 100


def test_resumed_is_uninterrupted(tmp_path):
    problem = sciprob.load_problem("bouncing-ball", overrides=SMALL)
    whole = sciprob.solve(problem, TINY, seed=1, progress=False)

    def stop(step, state, info):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SciprobError)):
        sciprob.solve(problem, TINY, seed=1, progress=False, out=tmp_path / "run", callbacks=(stop,))
    resumed = sciprob.resume(tmp_path / "run", progress=False)
    assert torch.equal(whole.samples, resumed.samples)
    assert whole.meta["diagnostics"] == resumed.meta["diagnostics"]
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"frames.png", "hurst.png", "video.gif"} <= figures


def test_refusals():
    problem = sciprob.load_problem("bouncing-ball", overrides=SMALL)
    with pytest.raises(ConfigError, match="multiple of 8"):
        sciprob.solve(problem, FractionalVideo(channels=12), progress=False)
    with pytest.raises(ConfigError, match="`seen` should be"):
        BouncingBallVideo(seen=30)
    with pytest.raises(UnsupportedProblemError, match="takes no data file"):
        BouncingBallVideo().build(name="ball", data=Path("film.csv"))
    with pytest.raises(UnsupportedProblemError, match="a prior of videos"):
        sciprob.solve(sciprob.load_problem("fou-bridge"), TINY, progress=False)
    state = TINY.init(problem, Streams(0))
    with pytest.raises(UnsupportedProblemError, match="`resume` it"):
        TINY.result(problem, state)
