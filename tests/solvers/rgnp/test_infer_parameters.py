"""Inference through a cheap exact operator, against quadrature: designs, modes, ends of the box, surrogate error."""

import math
import warnings

import pytest
import torch

from sciprob.errors import DataError, NonFiniteError, SciprobWarning, ShapeError
from sciprob.problems.family import ParameterBox
from sciprob.solvers.rgnp import infer_tempering
from sciprob.solvers.rgnp.infer import infer_parameters
from sciprob.solvers.rgnp.infer_covariance import covariance_near
from sciprob.solvers.rgnp.infer_moves import Particles
from sciprob.solvers.rgnp.infer_proposal import Mixture, find_modes, mixture_around
from sciprob.solvers.rgnp.infer_target import FieldPosterior
from sciprob.solvers.rgnp.low_rank import LowRankGaussian

BOX = ParameterBox(("decay", "wave"), (0.2, 1.0), (3.0, 4.0))


class Law:
    """A field in closed form, and a surrogate's error of which the size may vary with z."""

    def __init__(self, points, function, error=0.0, fixed=False):
        self.points, self.function, self.error, self.fixed = points, function, error, fixed

    def mean(self, z):
        return self.function(self.points, z)

    def __call__(self, z):
        mean = self.mean(z)
        shapes = torch.stack([torch.ones_like(self.points), torch.cos(3 * self.points)], dim=-1)
        size = torch.full_like(z[:, :1], 1.2) if self.fixed else z[:, :1]
        return LowRankGaussian(mean, 0 * mean, self.error * size[..., None] * shapes)


def damped_wave(x, z):
    return torch.exp(-z[..., :1] * x) * torch.sin(z[..., 1:2] * x)


def data(points, function=damped_wave, truth=(1.1, 2.5), noise=0.05, seed=0):
    z = torch.tensor(truth, dtype=torch.float64)
    g = torch.Generator().manual_seed(seed)
    return function(points, z) + noise * torch.randn(len(points), dtype=torch.float64, generator=g)


def quadrature(box, law, y, noise, n=201):
    """Mean, standard deviation, nodes and weights on a grid of midpoints, refined where the mass is."""
    low, high = box.ends(y)
    for _ in range(3):
        axes = [a + (b - a) * (torch.arange(n).double() + 0.5) / n for a, b in zip(low, high, strict=True)]
        z = torch.cartesian_prod(*axes).reshape(-1, box.size)
        logs = torch.cat([dense_log_prob(law(part), y, noise) for part in z.split(4000)])
        weights = torch.softmax(logs, 0)
        mean = weights @ z
        std = (weights @ (z - mean).square()).sqrt()
        first, last = box.ends(y)
        low, high = (mean - 7 * std).clamp(first, last), (mean + 7 * std).clamp(first, last)
    return mean, std, z, weights


def dense_log_prob(law, y, noise):
    """Without what the package knows of low rank where there is a covariance, so only for few data."""
    if float(law.factors.abs().max()) == 0:
        return torch.distributions.Normal(law.mean, noise).log_prob(y).sum(-1)
    covariance = law.covariance() + noise**2 * torch.eye(len(y)).double()
    return torch.distributions.MultivariateNormal(law.mean, covariance).log_prob(y)


def agree(posterior, reference, mean_tolerance=0.2, ratio=0.15):
    """Means within a fraction of the standard deviation, spreads, and quartiles of each marginal."""
    mean, std, z, weights = reference
    assert float(((posterior.mean - mean) / std).abs().max()) < mean_tolerance
    assert float((posterior.std / std - 1).abs().max()) < ratio
    for level in (0.25, 0.75):
        cut = posterior.quantile(level)
        below = torch.stack([weights[z[:, i] <= cut[i]].sum() for i in range(z.shape[-1])])
        assert float((below - level).abs().max()) < 0.08


def infer(law, y, noise=0.05, box=BOX, seed=1, **settings):
    return infer_parameters(box, law, y, noise, generator=torch.Generator().manual_seed(seed), **settings)


DESIGNS = {
    "even": lambda n: torch.linspace(0.01, 2, n, dtype=torch.float64),
    "clustered": lambda n: 2 * q(n) ** 4,
    "one-sided": lambda n: 0.4 * q(n),
}


def q(n):
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("n", [1, 3, 30, 300])
def test_posterior_equals_quadrature_for_any_design_and_number(design, n):
    points = DESIGNS[design](n)
    law, y = Law(points, damped_wave), data(points)
    posterior = infer(law, y)
    assert posterior.space == BOX.space
    assert bool(BOX.contains(posterior.samples).all())
    assert posterior.ess > 290
    agree(posterior, quadrature(BOX, law, y, 0.05))


def test_five_thousand_precise_points_are_no_harder():
    points = DESIGNS["even"](5000)
    law, y = Law(points, damped_wave), data(points, noise=0.01)
    posterior = infer(law, y, noise=0.01, samples=400)
    assert posterior.ess > 110
    z = posterior.mean.clone()
    fisher = torch.autograd.functional.jacobian(lambda p: damped_wave(points, p), z) / 0.01
    std = torch.linalg.inv(fisher.T @ fisher).diagonal().sqrt()  # so many data leave a Gaussian
    assert float((posterior.std / std - 1).abs().max()) < 0.15
    assert float(((z - torch.tensor([1.1, 2.5])) / std).abs().max()) < 3.5


def test_both_modes_are_found():
    box = ParameterBox(("a", "b"), (-2.0, -1.0), (2.0, 1.0))

    def square(x, z):
        return z[..., :1] ** 2 * x + z[..., 1:2]

    points = DESIGNS["even"](20)
    law, y = Law(points, square), data(points, square, (1.2, 0.3), noise=0.1)
    posterior = infer(law, y, noise=0.1, box=box)
    assert posterior.meta["modes"] == 2
    right = float(posterior.weights[posterior.samples[:, 0] > 0].sum())
    assert right == pytest.approx(0.5, abs=0.1)
    agree(posterior, quadrature(box, law, y, 0.1, n=601))


def test_a_curved_ridge_is_followed():
    """Only the product is known, precisely: no Gaussian is near it."""
    box = ParameterBox(("a", "b"), (0.1, 0.1), (3.0, 3.0))

    def product(x, z):
        return z[..., :1] * z[..., 1:2] * x

    points = DESIGNS["even"](10)
    law, y = Law(points, product), data(points, product, (1.0, 1.5), noise=0.03)
    posterior = infer(law, y, noise=0.03, box=box)
    assert posterior.meta["rounds"] > 0
    agree(posterior, quadrature(box, law, y, 0.03, n=401), mean_tolerance=0.25)


def test_parameters_at_an_end_of_the_box_stay_inside():
    points = DESIGNS["even"](30)
    law, y = Law(points, damped_wave), data(points, truth=(0.2, 4.0))
    posterior = infer(law, y)
    agree(posterior, quadrature(BOX, law, y, 0.05))


@pytest.mark.parametrize("n", [2, 25])
def test_the_doubt_of_the_surrogate_widens_the_posterior_as_it_should(n):
    """The error is shared by all points and grows with z: its normalising constant counts."""
    points = DESIGNS["even"](n)
    law, y = Law(points, damped_wave, error=0.3), data(points)
    posterior = infer(law, y, samples=2000)
    agree(posterior, quadrature(BOX, law, y, 0.05, n=81))
    if n == 25:
        sharp = infer(Law(points, damped_wave), y)
        assert bool((posterior.std > 1.3 * sharp.std).any())


class CostlyLaw(Law):
    """The same, asked for its covariance at as few parameters as possible."""

    def __init__(self, points, function, error, power=1.0):
        super().__init__(points, function, error)
        self.power, self.asked = power, 0

    def __call__(self, z):
        self.asked += len(z)
        law = super().__call__(z)
        return LowRankGaussian(law.mean, law.std, law.factors * z[:, :1, None] ** (self.power - 1))

    def anchored(self, z):
        law, factors = self, self(z[None]).factors

        class Anchored:
            mean = law.mean

            def __call__(self, z):
                return LowRankGaussian(law.mean(z), torch.zeros_like(law.mean(z)), factors.expand(len(z), -1, -1))

        return Anchored()

    def narrowed(self, z, noise, generator):
        return self


@pytest.mark.parametrize(("n", "power"), [(25, 1), (25, 5)])
def test_a_costly_covariance_is_asked_at_few_parameters_unless_it_bends_too_much(n, power):
    points = DESIGNS["even"](n)
    law, y = CostlyLaw(points, damped_wave, 0.3, power), data(points)
    posterior = infer(law, y, samples=1000)
    asked, degree = law.asked, posterior.meta["covariance_degree"]
    agree(posterior, quadrature(BOX, law, y, 0.05, n=81))
    assert posterior.meta["covariance_error"] < 0.1
    assert (asked >= 1000) == (degree < 0)
    assert (degree == 1) == (power == 1), degree


@pytest.mark.parametrize("centre", [(-0.4, 0.0), (0.9, -0.95)])
def test_a_guess_helps_or_does_no_harm(centre):
    points = DESIGNS["even"](30)
    law, y = Law(points, damped_wave), data(points)
    mean = torch.tensor(centre, dtype=torch.float64)
    guess = LowRankGaussian(mean, torch.full_like(mean, 0.05), mean.new_zeros(2, 0))
    agree(infer(law, y, guess=guess), quadrature(BOX, law, y, 0.05))


def test_noise_by_datum_and_the_same_seed():
    points = DESIGNS["even"](12)
    noise = torch.full((12,), 0.05, dtype=torch.float64)
    law, y = Law(points, damped_wave), data(points)
    noise[6:] = 1e4  # says: forget these
    posterior = infer(law, y, noise)
    agree(posterior, quadrature(BOX, Law(points[:6], damped_wave), y[:6], 0.05))
    again = infer(law, y, noise)
    assert torch.equal(posterior.samples, again.samples)


def test_data_that_nothing_explains_are_reported():
    points = DESIGNS["even"](30)
    with pytest.warns(SciprobWarning, match="no parameters in the box explain"):
        posterior = infer(Law(points, damped_wave), 3 + data(points))
    assert posterior.meta["misfit"] > 100
    assert "advice" in posterior.meta
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        infer(Law(points, damped_wave), data(points))


def test_unusable_data_are_named():
    points = DESIGNS["even"](3)
    law, y = Law(points, damped_wave), data(points)
    with pytest.raises(DataError, match="n >= 1"):
        infer(law, y[:0])
    with pytest.raises(DataError, match="finite"):
        infer(law, y * math.nan)
    with pytest.raises(DataError, match="positive"):
        infer(law, y, 0.0)
    with pytest.raises(ShapeError, match="should give 2 values"):
        infer(law, y[:2])
    with pytest.raises(NonFiniteError, match="no finite likelihood"):
        infer(Law(points, lambda x, z: damped_wave(x, z) * math.nan), y)


def posterior_at(n=30):
    points = DESIGNS["even"](n)
    return FieldPosterior(BOX, Law(points, damped_wave), data(points), torch.full((n,), 0.05, dtype=torch.float64))


def test_gauss_newton_ends_at_a_stationary_point():
    target = posterior_at()
    starts = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    modes, density, roots = find_modes(target, starts)
    best = modes[density.argmax()]
    gradient, hessian = target.linearise(best[None])
    decrement = float(gradient[0] @ torch.linalg.solve(hessian[0], gradient[0]))
    assert decrement < 0.11
    root = roots[density.argmax()]
    torch.testing.assert_close(root @ root.mT @ hessian[0], torch.eye(2).double(), atol=1e-8, rtol=0)


def test_gradient_of_the_target_by_differences():
    target = posterior_at()
    xi = 0.3 * torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    direction, h = torch.tensor([0.6, -0.8], dtype=torch.float64), 1e-5
    slope = (target.log_density(xi + h * direction) - target.log_density(xi - h * direction)) / (2 * h)
    torch.testing.assert_close(-target.linearise(xi)[0] @ direction, slope, atol=1e-4, rtol=1e-5)


def test_mixture_density_integrates_to_one_and_is_that_of_its_draws():
    modes = torch.tensor([[0.5, -1.0], [-2.0, 1.0]], dtype=torch.float64)
    roots = torch.tensor([[[0.5, 0.0], [0.2, 0.3]], [[0.4, 0.0], [-0.1, 0.6]]], dtype=torch.float64)
    mixture = mixture_around(modes, torch.zeros(2, dtype=torch.float64), roots, 0.2)
    axis = torch.linspace(-9, 9, 721, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    density = mixture.log_prob(grid).exp() / (2 * math.pi) * (axis[1] - axis[0]) ** 2
    assert float(density.sum()) == pytest.approx(1, abs=2e-3)  # the tails go beyond
    draws = mixture.sample(40_000, torch.Generator().manual_seed(5))
    inside = (grid - modes[0]).norm(dim=-1) < 0.7
    share = float(((draws - modes[0]).norm(dim=-1) < 0.7).double().mean())
    assert share == pytest.approx(float(density[inside].sum()), abs=4 * math.sqrt(0.25 / 40_000))


@pytest.mark.parametrize("rounds", [0, 4])
def test_a_proposal_that_is_far_off_is_refined_or_tempered(rounds, monkeypatch):
    """Both ways lead from the prior to the posterior; without refinement it takes stages and moves."""
    monkeypatch.setattr(infer_tempering, "_ROUNDS", rounds)
    target = posterior_at()
    prior = Mixture(torch.ones(1).double(), torch.zeros(0, 2).double(), torch.zeros(0, 2, 2).double())
    particles, figures = infer_tempering.temper(target, prior, 600, 0.5, torch.Generator().manual_seed(6))
    assert (figures["stages"] > 3) == (rounds == 0)
    assert (figures["rounds"] > 0) == (rounds > 0)
    assert figures["tempered"] == 1
    if rounds == 0:
        assert 0.3 < figures["acceptance"] < 0.9
        assert figures["displacement"] > 1
    weights = torch.softmax(particles.log_weights, 0)
    z = target.parameters(particles.xi)
    mean, std, _, _ = quadrature(BOX, target.law, target.data, 0.05)
    assert float(((weights @ z - mean) / std).abs().max()) < 0.3
    spread = (weights @ (z - weights @ z).square()).sqrt()
    assert float((spread / std - 1).abs().max()) < 0.2


def test_a_polynomial_of_the_covariance_is_exact_for_factors_that_are_one():
    """Factors that are cubic in the whitened coordinates are found by degree three, and not before."""
    points = DESIGNS["even"](9)

    class Cubic(CostlyLaw):
        def __call__(self, z):
            mean = self.mean(z)
            xi = target.whiten(z)
            size = 1 + 0.5 * xi[:, :1] + 0.3 * xi[:, :1] * xi[:, 1:] ** 2
            return LowRankGaussian(mean, 0 * mean, (size * torch.cos(points))[..., None])

    y, noise = torch.ones_like(points), torch.full_like(points, 0.3)
    target = FieldPosterior(BOX, Cubic(points, damped_wave, 0.3), y, noise)
    g = torch.Generator().manual_seed(7)
    xi = torch.randn(200, 2, dtype=torch.float64, generator=g)
    zero = torch.zeros(200, dtype=torch.float64)
    found, figures = covariance_near(target, Particles(xi, zero, zero, zero), g)
    assert figures["covariance_degree"] == 3
    assert figures["covariance_error"] < 1e-6
    near = xi[xi.norm(dim=-1) < 2]
    torch.testing.assert_close(found.law(found.parameters(near)).factors, target.law(target.parameters(near)).factors)
