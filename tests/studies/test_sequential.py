import pytest
import torch

import sciprob
from sciprob.errors import DataError, SciprobWarning, UnsupportedProblemError
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import DenseMap
from sciprob.posteriors import Ensemble, GaussianPosterior
from sciprob.priors import GaussianPrior
from sciprob.problems.problem import Problem
from sciprob.solvers import Laplace
from sciprob.spaces import Space
from sciprob.studies.sequential import as_prior, update


def tensor(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SPACE = Space((6,), name="m")
PRIOR = GaussianPrior(tensor(6, seed=1), DenseMap(tensor(6, 6, seed=2), codomain=SPACE))


def experiment(rows: int, seed: int, std=0.5) -> Likelihood:
    codomain = Space((rows,), name="y")
    spread = std * (1 + torch.arange(rows, dtype=torch.float64))
    return Likelihood(
        DenseMap(tensor(rows, 6, seed=seed), domain=SPACE, codomain=codomain), GaussianNoise(codomain, spread)
    )


FIRST, SECOND = experiment(4, 3), experiment(3, 4, std=6.0)
TRUTH = PRIOR.sample(generator=torch.Generator().manual_seed(5))
Y1, Y2 = (e.sample(TRUTH, generator=torch.Generator().manual_seed(6)) for e in (FIRST, SECOND))


def both_at_once() -> GaussianPosterior:
    codomain = Space((7,), name="y")
    matrix = torch.cat([FIRST.operator.to_dense(), SECOND.operator.to_dense()])
    noise = GaussianNoise(codomain, torch.cat([FIRST.noise.std, SECOND.noise.std]))
    likelihood = Likelihood(DenseMap(matrix, domain=SPACE, codomain=codomain), noise)
    return sciprob.solve(Problem("both", PRIOR, likelihood, torch.cat([Y1, Y2])), "gaussian", progress=False)


def test_updating_equals_conditioning_on_all_data_at_once():
    first = sciprob.solve(Problem("first", PRIOR, FIRST, Y1), "gaussian", progress=False)
    updated, exact = update(first, SECOND, Y2), both_at_once()
    torch.testing.assert_close(updated.mean, exact.mean, rtol=0, atol=1e-11)
    torch.testing.assert_close(updated.covariance(), exact.covariance(), rtol=0, atol=1e-11)
    torch.testing.assert_close(updated.std, exact.std, rtol=0, atol=1e-11)


def test_the_order_of_the_data_does_not_matter(tmp_path):
    prior = GaussianPosterior(SPACE, mean=PRIOR.mean, root=PRIOR.root)
    forth, back = update(update(prior, FIRST, Y1), SECOND, Y2), update(update(prior, SECOND, Y2), FIRST, Y1)
    torch.testing.assert_close(forth.mean, back.mean, rtol=0, atol=1e-11)
    torch.testing.assert_close(forth.covariance(), back.covariance(), rtol=0, atol=1e-11)
    assert forth.meta["updates"] == 2
    forth.save(tmp_path / "kept")  # nested low-rank roots are stored too
    torch.testing.assert_close(sciprob.load_posterior(tmp_path / "kept").mean, forth.mean, rtol=0, atol=0)


def test_a_posterior_as_prior_of_the_next_problem():
    exact = Laplace(tolerance=1e-12, decrease=0.0, cg_steps=500, eigenvalue_tolerance=1e-12)
    first = sciprob.solve(Problem("first", PRIOR, FIRST, Y1), exact, progress=False)
    second = sciprob.solve(
        Problem("second", as_prior(first), SECOND, Y2),
        exact,
        progress=False,
    )
    torch.testing.assert_close(second.mean, both_at_once().mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(second.std, both_at_once().std, rtol=0, atol=1e-6)


def test_reweighted_members_have_the_moments_of_the_posterior():
    first = sciprob.solve(Problem("first", PRIOR, FIRST, Y1), "gaussian", progress=False)
    members = first.ensemble(60_000, generator=torch.Generator().manual_seed(7))
    updated, exact = update(members, SECOND, Y2), both_at_once()
    assert isinstance(updated, Ensemble)
    bound = 4 / updated.ess**0.5
    assert float(((updated.mean - exact.mean).abs() / exact.std).max()) < bound
    assert float((updated.std / exact.std - 1).abs().max()) < bound
    again = update(updated, SECOND, Y2)  # weights multiply
    torch.testing.assert_close(again.log_weights - updated.log_weights, SECOND.log_prob(members.samples, Y2))


def test_an_ensemble_that_the_data_leave_alone_warns():
    members = Ensemble(SPACE, PRIOR.sample((50,), generator=torch.Generator().manual_seed(8)))
    with pytest.warns(SciprobWarning, match="members have weight; solve again with all data"):
        update(members, experiment(4, 3, std=0.001), Y1)


def test_what_cannot_be_updated_is_named():
    first = sciprob.solve(Problem("first", PRIOR, FIRST, Y1), "gaussian", progress=False)
    with pytest.raises(DataError, match="finite"):
        update(first, SECOND, torch.full((3,), torch.nan, dtype=torch.float64))
    drawn = GaussianPosterior(SPACE, mean=first.mean, draws=first.sample((5,), generator=torch.Generator()))
    with pytest.raises(UnsupportedProblemError, match=r"draw `posterior\.ensemble"):
        update(drawn, SECOND, Y2)
    with pytest.raises(UnsupportedProblemError, match="only a Gaussian posterior with a root"):
        as_prior(drawn)
    darcy = sciprob.load_problem("darcy-grid", {"grid.inversion": 6, "grid.data": 6, "sensors.count": 4})
    prior = GaussianPosterior(darcy.parameter, mean=darcy.prior.mean, root=darcy.prior.root)
    with pytest.raises(UnsupportedProblemError, match="needs a linear operator"):
        update(prior, darcy.likelihood, darcy.observed)
