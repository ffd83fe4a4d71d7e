"""Bad input to every sampler with a diffusion prior: refused in one sentence, before any solve or network call."""

import shutil
from contextlib import suppress

import numpy as np
import pytest
import torch
from diffusion_twins import small_twin

import sciprob
from sciprob.errors import ConfigError, DataError, SciprobError, ShapeError, UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.likelihoods.level import InverseGamma
from sciprob.likelihoods.poisson import PoissonCounts
from sciprob.operators import DiagonalMap
from sciprob.operators.host import HostOperator
from sciprob.operators.linear import DenseMap
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.store import available_priors
from sciprob.problems.problem import Problem
from sciprob.solvers import SOLVERS
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.setup import make_solver
from sciprob.spaces import Space

SHORT = {
    "diffusion-ensemble": {"particles": 4, "steps": 4},
    "tds": {"particles": 4, "steps": 4},
    "dps": {"samples": 2, "steps": 4, "scale": 0.1},
    "pigdm": {"samples": 2, "steps": 4},
    "daps": {"samples": 2, "steps": 4, "flow_calls": 2},
    "split-gibbs": {"chains": 2, "samples": 4, "burn_in": 2, "prior_calls": 2},
    "red-diff": {"samples": 2, "steps": 4},
}
samplers = pytest.mark.parametrize("name", SHORT)


class BlackBox:
    """A program on the host that can only be run forwards."""

    domain, codomain = Space((3,), name="m"), Space((2,), name="y")

    def __init__(self):
        self.solves = 0

    def solve(self, m):
        self.solves += 1
        return np.stack([m[:, 0] + m[:, 1] ** 2, m[:, 2]], -1)


def run(name, problem):
    return sciprob.solve(problem, SOLVERS[name](**SHORT[name]), progress=False, device="cpu")


def refused(error):
    """The message, which is one sentence."""
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def with_operator(operator, prior, noise=None):
    likelihood = Likelihood(operator, noise or GaussianNoise(operator.codomain, 0.3))
    return Problem("box", prior, likelihood, data=torch.ones(operator.codomain.shape, dtype=torch.float64))


@samplers
def test_an_operator_without_gradient(name):
    """No sampler here can do without; what can is named, and it does solve the problem."""
    host, denoiser = BlackBox(), small_twin().prior.denoiser
    before = denoiser.calls
    white = GaussianPrior(torch.zeros(3, dtype=torch.float64), DiagonalMap(torch.ones(3, dtype=torch.float64)))
    with pytest.raises(UnsupportedProblemError) as error:
        run(name, with_operator(HostOperator(host), white))
    assert "`box` does not offer; use `pcn`" in refused(error)
    with pytest.raises(UnsupportedProblemError) as error:
        run(name, with_operator(HostOperator(host), small_twin().prior))
    assert "no other solver here does without" in refused(error)
    assert host.solves == denoiser.calls - before == 0


def test_what_is_named_instead_works():
    white = GaussianPrior(torch.zeros(3, dtype=torch.float64), DiagonalMap(torch.ones(3, dtype=torch.float64)))
    solver = SOLVERS["pcn"](preconditioner="prior", samples=10, burn_in=10, chains=2, thin=1)
    host = BlackBox()
    posterior = sciprob.solve(with_operator(HostOperator(host), white), solver, progress=False, device="cpu")
    assert host.solves > 0
    assert bool(torch.isfinite(posterior.mean).all())


@samplers
def test_noise_that_is_not_gaussian(name):
    operator = DenseMap(torch.ones(2, 3, dtype=torch.float64), domain=Space((3,), name="m"))
    problem = with_operator(operator, small_twin().prior, PoissonCounts(operator.codomain, 10.0))
    with pytest.raises(UnsupportedProblemError) as error:
        run(name, problem)
    assert "needs Gaussian noise" in refused(error)
    with pytest.raises(UnsupportedProblemError, match="need Gaussian noise"):
        LatentProblem(problem)


@samplers
def test_noise_of_unknown_size(name):
    """Refused, until a size is given."""
    twin = small_twin()
    noise = GaussianNoise(twin.operator.codomain, 0.4, level=InverseGamma(3.0, 2.0))
    problem = with_operator(twin.operator, twin.prior, noise)
    with pytest.raises(UnsupportedProblemError) as error:
        run(name, problem)
    assert "give it (`noise_level`)" in refused(error)
    solver = SOLVERS[name](**SHORT[name], noise_level=1.5)
    assert bool(torch.isfinite(sciprob.solve(problem, solver, progress=False, device="cpu").samples).all())


@samplers
def test_data_that_are_not_finite(name):
    for bad in (torch.nan, torch.inf):
        with pytest.raises(DataError) as error:
            run(name, small_twin().observe(torch.tensor([1.0, bad], dtype=torch.float64)))
        assert "1" in refused(error)  # the entry


@samplers
def test_noise_of_size_zero(name):
    space = Space((2,), name="y")
    with pytest.raises(DataError) as error:
        run(name, with_operator(DenseMap(torch.ones(2, 3)), small_twin().prior, GaussianNoise(space, 0.0)))
    refused(error)


@samplers
@pytest.mark.filterwarnings("ignore::sciprob.errors.SciprobWarning")
def test_noise_of_a_millionth_of_the_data(name):
    """Every method meets such data, or says why it cannot: no NaN, no numbers from rounding."""
    twin, noise = small_twin(), 1e-6
    problem = with_operator(twin.operator, twin.prior, GaussianNoise(twin.operator.codomain, noise))
    with suppress(SciprobError):
        posterior = run(name, problem)
        assert bool(torch.isfinite(posterior.samples).all())
        assert float(posterior.samples.abs().max()) < 20 * 3  # the largest noise level is 20


@samplers
def test_a_prior_of_another_size(name):
    operator = DenseMap(torch.ones(2, 4, dtype=torch.float64), domain=Space((4,), name="m"))
    with pytest.raises((ShapeError, UnsupportedProblemError)) as error:
        run(name, with_operator(operator, small_twin().prior))
    assert "shape" in refused(error)


@samplers
def test_misspelt_settings(name):
    wrong = next(iter(SHORT[name]))
    with pytest.raises(ConfigError) as error:
        make_solver(name, {wrong + "x": 3}, "[solver] of mine.toml")
    assert f"did you mean `{wrong}`?" in refused(error)
    with pytest.raises(ConfigError) as error:
        make_solver(name, {wrong: 2.5}, "[solver] of mine.toml")
    assert f"`{wrong}` should be int, got 2.5" in refused(error)


LEARNED = {
    "tomography-sparse": "ellipses",
    "tomography-limited": "ellipses",
    "darcy-grid-learned": "darcy",
    "inpainting": "ellipses",
    "deblurring": "ellipses",
    "super-resolution": "ellipses",
}


@pytest.mark.parametrize("problem", LEARNED)
def test_priors_in_problem_files(problem, tmp_path):
    """Unknown, of another size, damaged, without its weights."""
    prior = {"prior.kind": "diffusion", "prior.weights": LEARNED[problem]}

    def fails(kinds, **settings):
        with pytest.raises(kinds) as error:
            sciprob.load_problem(problem, prior | {key.replace("__", "."): value for key, value in settings.items()})
        return refused(error)

    assert f"did you mean `{LEARNED[problem]}`?" in fails(ConfigError, prior__weights=LEARNED[problem][:-1])
    size = "grid.inversion" if problem.startswith("darcy") else "pixels"
    assert "was trained for fields of shape (64, 64)" in fails(ConfigError, **{size: 32})
    file = next(known for known in available_priors() if known.name == LEARNED[problem])
    copy = tmp_path / "copy.toml"
    shutil.copy(file.path, copy)
    assert "safetensors" in fails((ConfigError, DataError), prior__weights=str(copy))
    whole = file.path.with_suffix(".safetensors").read_bytes()
    damaged = tmp_path / file.path.with_suffix(".safetensors").name
    for content in (whole[:-100], whole[:1000] + b"x" + whole[1001:], b""):
        damaged.write_bytes(content)
        assert "damaged" in fails(DataError, prior__weights=str(copy))


@pytest.mark.parametrize("problem", LEARNED)
def test_noise_of_problem_files(problem):
    key = "noise.level" if problem.startswith("darcy") else "noise.std"
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises((ConfigError, DataError)) as error:
            sciprob.load_problem(problem, {key: bad})
        refused(error)
