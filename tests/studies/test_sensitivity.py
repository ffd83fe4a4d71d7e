import math

import pytest
import torch

import sciprob
from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.operators import DenseMap
from sciprob.posteriors import Ensemble, GaussianPosterior
from sciprob.priors import GaussianPrior
from sciprob.spaces import Space
from sciprob.studies.sensitivity import sobol_indices


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(seed=1, size=5):
    g = generator(seed)
    root = torch.randn(size, size, generator=g, dtype=torch.float64)
    return GaussianPrior(torch.zeros(size, dtype=torch.float64), DenseMap(root, codomain=Space((size,), name="m")))


def test_linear_quantities_have_the_shares_of_the_principal_directions():
    prior = gaussian()
    covariance = prior.root.to_dense() @ prior.root.to_dense().T
    values, vectors = torch.linalg.eigh(covariance)
    c = torch.arange(1.0, 6, dtype=torch.float64)
    shares = ((vectors.T @ c).square() * values).flip(0)
    exact = shares / shares.sum()
    found = sobol_indices(prior, lambda m: m @ c, directions=3, samples=4_096, generator=generator())
    assert found.labels == ("direction 1", "direction 2", "direction 3", "rest")
    expected = torch.tensor([*exact[:3], exact[3:].sum()])
    torch.testing.assert_close(found.first, expected, rtol=0, atol=0.06)
    torch.testing.assert_close(found.total, expected, rtol=0, atol=0.06)  # no interactions
    assert found.std**2 == pytest.approx(float(c @ covariance @ c), rel=0.06)
    torch.testing.assert_close(found.modes[0].abs(), (vectors[:, -1] * values[-1].sqrt()).abs(), rtol=1e-9, atol=1e-12)


def test_products_are_interactions():
    root = DenseMap(torch.diag(torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)), codomain=Space((3,), name="m"))
    posterior = GaussianPosterior(root.codomain, mean=torch.zeros(3, dtype=torch.float64), root=root)
    found = sobol_indices(
        posterior, lambda m: m[:, 0] * m[:, 1] + m[:, 2], directions=3, samples=4_096, generator=generator(2)
    )
    variance = 4 + 0.25
    exact_first = torch.tensor([0.0, 0.0, 0.25 / variance], dtype=torch.float64)
    exact_total = torch.tensor([4 / variance, 4 / variance, 0.25 / variance], dtype=torch.float64)
    # the bootstrap's own standard errors: its 90 % interval is 3.3 of them wide
    for estimate, interval, exact in (
        (found.first, found.first_interval, exact_first),
        (found.total, found.total_interval, exact_total),
    ):
        error = (interval[:, 1] - interval[:, 0]) / 3.29
        assert bool(((estimate - exact).abs() < 4 * error).all())
        assert float(error.max()) < 0.06


def test_the_intervals_hold_the_exact_index():
    prior, c = gaussian(3), torch.ones(5, dtype=torch.float64)
    covariance = prior.root.to_dense() @ prior.root.to_dense().T
    values, vectors = torch.linalg.eigh(covariance)
    exact = float((vectors[:, -1] @ c).square() * values[-1] / (c @ covariance @ c))
    inside = 0
    for seed in range(40):
        found = sobol_indices(prior, lambda m: m @ c, directions=1, samples=256, generator=generator(seed))
        low, high = found.total_interval[0].tolist()
        inside += low <= exact <= high
    assert inside >= 40 * 0.9 - 4 * math.sqrt(40 * 0.09)


def test_what_is_known_no_longer_decides():
    """Under the posterior a quantity hangs on what the data left open."""
    problem = sciprob.load_problem("darcy-grid", {"grid.inversion": 8, "grid.data": 8, "sensors.count": 8})
    posterior = sciprob.solve(problem, "laplace", progress=False)

    def flow(m):
        return problem.operator(m).mean(1)

    before = sobol_indices(problem.prior, flow, directions=4, samples=128, generator=generator(4))
    after = sobol_indices(posterior, flow, directions=4, samples=128, generator=generator(5))
    assert after.std < 0.2 * before.std
    assert before.first[0] > 0.3  # the mean conductivity


def test_what_cannot_be_done_is_named():
    members = Ensemble(Space((2,)), torch.zeros(3, 2))
    with pytest.raises(UnsupportedProblemError, match="independent inputs"):
        sobol_indices(members, lambda m: m[:, 0], generator=generator())
    with pytest.raises(ShapeError, match="one number per sample"):
        sobol_indices(gaussian(), lambda m: m, generator=generator())
