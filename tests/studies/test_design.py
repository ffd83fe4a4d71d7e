import itertools

import pytest
import torch

import sciprob
from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import DenseMap
from sciprob.posteriors import GaussianPosterior
from sciprob.spaces import Space
from sciprob.studies.design import next_sensors, readings_at
from sciprob.studies.sequential import update


def tensor(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SPACE = Space((5,), name="m")
POSTERIOR = GaussianPosterior(SPACE, mean=tensor(5, seed=0), root=DenseMap(tensor(5, 5, seed=1), codomain=SPACE))
CANDIDATES = DenseMap(tensor(9, 5, seed=2), domain=SPACE, codomain=Space((9,), name="y"))
NOISE = 0.3 + 0.1 * torch.arange(9, dtype=torch.float64)


def measured(indices):
    """Posterior covariance after measuring some candidates, by the package's own conditioning."""
    indices = list(indices)
    codomain = Space((len(indices),), name="y")
    operator = DenseMap(CANDIDATES.to_dense()[indices], domain=SPACE, codomain=codomain)
    likelihood = Likelihood(operator, GaussianNoise(codomain, NOISE[indices]))
    return update(POSTERIOR, likelihood, torch.zeros(len(indices), dtype=torch.float64)).covariance()


def information(indices):
    return 0.5 * (torch.logdet(POSTERIOR.covariance()) - torch.logdet(measured(indices)))


def variance(indices):
    return torch.trace(POSTERIOR.covariance()) - torch.trace(measured(indices))


@pytest.mark.parametrize(("criterion", "value"), [("information", information), ("variance", variance)])
def test_each_choice_is_the_best_given_the_ones_before(criterion, value):
    design = next_sensors(POSTERIOR, CANDIDATES, NOISE, count=4, criterion=criterion)
    chosen, total = [], 0.0
    torch.testing.assert_close(design.first, torch.stack([value([i]) for i in range(9)]), rtol=1e-9, atol=0)
    for best, gain in zip(design.chosen.tolist(), design.gains, strict=True):
        gains = {i: float(value([*chosen, i])) - total for i in range(9) if i not in chosen}
        assert best == max(gains, key=gains.get)
        assert float(gain) == pytest.approx(gains[best], rel=1e-8)
        chosen.append(best)
        total += gains[best]
    assert design.variance_before - design.variance_after == pytest.approx(float(variance(chosen)), rel=1e-9)


def test_greedy_information_is_within_its_bound_of_the_best_triple():
    design = next_sensors(POSTERIOR, CANDIDATES, NOISE, count=3)
    best = max(float(information(triple)) for triple in itertools.combinations(range(9), 3))
    assert float(design.gains.sum()) >= (1 - 1 / 2.718281828) * best
    assert float(design.gains.sum()) <= best + 1e-9


def test_an_ensemble_finds_the_same_sensors():
    members = POSTERIOR.ensemble(20_000, generator=torch.Generator().manual_seed(3))
    exact, found = (next_sensors(p, CANDIDATES, NOISE, count=3) for p in (POSTERIOR, members))
    assert torch.equal(found.chosen, exact.chosen)
    torch.testing.assert_close(found.gains, exact.gains, rtol=0.02, atol=0)


def test_sensors_of_a_nonlinear_problem_lower_the_uncertainty_they_promise():
    problem = sciprob.load_problem("darcy-grid", {"grid.inversion": 12, "grid.data": 12, "sensors.count": 6})
    posterior = sciprob.solve(problem, "laplace", progress=False)
    axis = torch.linspace(0.1, 0.9, 7, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    readings = readings_at(problem.operator, points)
    assert readings.codomain.shape == (49,)
    design = next_sensors(posterior, readings, 0.01, count=5, criterion="variance")
    worst = design.first.argsort()[:5]
    assert design.variance_after < design.variance_before
    assert float(design.first[design.chosen[0]]) > 2 * float(design.first[worst].mean())


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="choose 1 to 9 sensors"):
        next_sensors(POSTERIOR, CANDIDATES, NOISE, count=10)
    with pytest.raises(ConfigError, match="positive and finite"):
        next_sensors(POSTERIOR, CANDIDATES, 0.0)
    with pytest.raises(UnsupportedProblemError, match="does not end in values at points"):
        readings_at(CANDIDATES, torch.zeros(3, 2))
