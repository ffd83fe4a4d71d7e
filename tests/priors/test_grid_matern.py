"""Matern fields on grids: exact covariances, densities, boundaries, refinement."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import scipy.fft
import torch
from scipy.special import gamma, kv
from torch import Tensor
from torch.distributions import MultivariateNormal

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.operators import Capability
from sciprob.operators.store import describe, restore
from sciprob.priors import GridMatern, embedding
from sciprob.priors.embedding import circulant_embedding
from sciprob.priors.matern import matern_correlation, torus_correlation
from sciprob.spaces import GridSpace
from sciprob.testing import OperatorConformance

UPPER = (1.0, 2.0, 0.7)
GRIDS = [((9,), "node"), ((8,), "cell"), ((6, 7), "node"), ((7, 6), "cell"), ((1, 5), "cell"), ((3, 4, 5), "cell")]
BOUNDARIES = ("stationary", "periodic", "neumann")
SMOOTHNESS = (0.5, 0.8, 1.0, 2.5)


def grid(shape: tuple[int, ...], centring: str = "cell", upper: tuple[float, ...] | None = None) -> GridSpace:
    d = len(shape)
    return GridSpace(
        shape, dims=("z", "y", "x")[3 - d :], lower=(0.0,) * d, upper=upper or UPPER[:d], centring=centring
    )


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(prior: GridMatern) -> Tensor:
    root = prior.root.to_dense()
    return root @ root.T


def coordinates(space: GridSpace) -> Tensor:
    """Grid points `(size, d)` with columns in the order of the axes."""
    axes = torch.meshgrid(*(space.axis(i) for i in range(len(space.shape))), indexing="ij")
    return torch.stack([a.flatten() for a in axes], dim=-1)


def distances(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b[None]).norm(dim=-1)


def scipy_matern(r: Tensor, length: float, nu: float) -> Tensor:
    """The definition, with the value 1 at 0."""
    s = math.sqrt(2 * nu) * r / length
    positive = s.clamp_min(1e-12)
    values = 2 ** (1 - nu) / gamma(nu) * positive**nu * torch.as_tensor(kv(nu, positive.numpy()))
    return torch.where(s == 0, torch.ones_like(s), values)


def image_sum(prior: GridMatern, count: int = 8) -> Tensor:
    """Correlation summed over images by brute force: periodic shifts, and mirrored points for Neumann."""
    space, d = prior.space, len(prior.space.shape)
    neumann = prior.boundary == "neumann"
    if neumann:
        period = [2 * (b - a) for a, b in zip(space.lower, space.upper, strict=True)]
    else:
        period = [n * h for n, h in zip(space.shape, space.spacing, strict=True)]
    x = coordinates(space)
    total = torch.zeros(len(x), len(x), dtype=torch.float64)
    shifts = [[i * p for i in range(-count, count + 1)] for p in period]
    for shift in itertools.product(*shifts):
        for signs in itertools.product((1.0, -1.0) if neumann else (1.0,), repeat=d):
            image = torch.tensor(signs, dtype=torch.float64) * x + torch.tensor(shift, dtype=torch.float64)
            total += scipy_matern(distances(x, image), prior.length, prior.smoothness)
    return total


@pytest.mark.parametrize("nu", [0.3, 0.5, 1.0, 1.5, 2.0, 2.5, 3.7, 4.0, 7.5])
def test_correlation_is_materns(nu: float) -> None:
    r = torch.tensor([0.0, 1e-4, 0.03, 0.3, 1.0, 3.0, 9.0], dtype=torch.float64)
    torch.testing.assert_close(matern_correlation(r, 0.7, nu), scipy_matern(r, 0.7, nu), rtol=1e-12, atol=1e-15)
    tiny = torch.tensor([0.0, 1e-300, 1e-40], dtype=torch.float64)
    torch.testing.assert_close(
        matern_correlation(tiny, 0.7, nu), torch.ones(3, dtype=torch.float64), rtol=1e-10, atol=0
    )


def test_length_convention() -> None:
    """exp(-r / l) for nu = 1/2, and (1 + sqrt(3) r / l) exp(-sqrt(3) r / l) for nu = 3/2."""
    r = torch.linspace(0, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(matern_correlation(r, 0.4, 0.5), torch.exp(-r / 0.4), rtol=1e-14, atol=0)
    s = math.sqrt(3) * r / 0.4
    torch.testing.assert_close(matern_correlation(r, 0.4, 1.5), (1 + s) * torch.exp(-s), rtol=1e-14, atol=0)


@pytest.mark.parametrize(("shape", "centring"), GRIDS)
@pytest.mark.parametrize("nu", SMOOTHNESS)
@pytest.mark.parametrize("length", [0.15, 0.6])
def test_stationary_covariance(shape: tuple[int, ...], centring: str, nu: float, length: float) -> None:
    space = grid(shape, centring)
    prior = GridMatern(space, std=1.3, length=length, smoothness=nu)
    x = coordinates(space)
    expected = 1.3**2 * scipy_matern(distances(x, x), length, nu)
    torch.testing.assert_close(dense(prior), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(prior.variance(), torch.full(shape, 1.69, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("shape", "centring"), GRIDS[:5])
@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
@pytest.mark.parametrize("nu", [0.5, 0.8, 1.0])
def test_image_covariance(shape: tuple[int, ...], centring: str, boundary: str, nu: float) -> None:
    prior = GridMatern(grid(shape, centring), std=1.3, length=0.2, smoothness=nu, boundary=boundary)
    expected = image_sum(prior, 12 if len(shape) == 1 else 9)
    if boundary == "periodic":
        expected = expected / expected[0, 0]
    torch.testing.assert_close(dense(prior), 1.69 * expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(prior.variance().flatten(), dense(prior).diagonal(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("shape", "centring"), GRIDS)
@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
@pytest.mark.parametrize("varying", [False, True])
def test_density(shape: tuple[int, ...], centring: str, boundary: str, varying: bool) -> None:
    std = 0.5 + numbers(*shape, seed=5).abs() if varying else 0.8
    mean = numbers(*shape, seed=6)
    prior = GridMatern(grid(shape, centring), std=std, length=0.3, smoothness=1.0, mean=mean, boundary=boundary)
    assert Capability.PRIOR_LOG_PROB in prior.capabilities
    m = numbers(4, *shape, seed=7)
    expected = MultivariateNormal(mean.flatten(), dense(prior)).log_prob(m.flatten(1))
    torch.testing.assert_close(prior.log_prob(m), expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(prior.root(prior.root.solve(m)), m, rtol=0, atol=1e-11)
    torch.testing.assert_close(prior.root.T(prior.root.T.solve(m)), m, rtol=0, atol=1e-11)
    assert prior.log_prob(m[:0]).shape == (0,)


@pytest.mark.parametrize("shape", [(7,), (8,), (5, 6)])
def test_periodic_field_is_invariant_to_shifts(shape: tuple[int, ...]) -> None:
    prior = GridMatern(grid(shape), std=1.0, length=0.3, boundary="periodic")
    covariance = dense(prior).reshape(*shape, *shape)
    d = len(shape)
    for axis in range(d):
        shifted = covariance.roll((1, 1), (axis, axis + d))
        torch.testing.assert_close(shifted, covariance, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(8,), (7,), (6, 5)])
@pytest.mark.parametrize(("centring", "kind"), [("cell", 2), ("node", 1)])
def test_neumann_root_is_diagonal_in_the_cosine_transform(shape: tuple[int, ...], centring: str, kind: int) -> None:
    """The filter equals scipy's DCT-II (cells) or DCT-I (nodes), a diagonal, and the transform back."""
    prior = GridMatern(grid(shape, centring), std=1.0, length=0.3, boundary="neumann")
    x = numbers(*shape)
    amplitude = prior.root.amplitude[tuple(slice(n) for n in shape)].numpy()
    edge = prior.root._edge(x)
    spectrum = scipy.fft.dctn((edge * x).numpy(), type=kind) * amplitude
    expected = torch.as_tensor(scipy.fft.idctn(spectrum, type=kind))
    torch.testing.assert_close(prior.root(x), expected, rtol=0, atol=1e-12)


def test_neumann_draws_are_even_about_the_bounds() -> None:
    """The covariance's one-sided normal derivative vanishes with the square of the spacing."""
    slopes = []
    for n in (33, 65):
        prior = GridMatern(grid((n,), "node", (1.0,)), std=1.0, length=0.3, smoothness=2.5, boundary="neumann")
        covariance = dense(prior)
        slopes.append(float((covariance[1, n // 2] - covariance[0, n // 2]).abs()))
    assert slopes[0] / slopes[1] == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_refinement_leaves_the_covariance(boundary: str) -> None:
    """Nodes shared by a grid and its refinement have the same covariance."""
    results = []
    for n in (5, 9, 17):
        size = n - 1 if boundary == "periodic" else n
        upper = (1.0 - 1.0 / size,) if boundary == "periodic" else (1.0,)
        prior = GridMatern(grid((size,), "node", upper), std=1.0, length=0.4, smoothness=1.5, boundary=boundary)
        step = (n - 1) // 4
        results.append(dense(prior)[::step, ::step])
        torch.testing.assert_close(prior.variance().flatten(), dense(prior).diagonal(), rtol=1e-12, atol=0)
    for finer in results[1:]:
        torch.testing.assert_close(finer, results[0], rtol=0, atol=1e-12)


def test_boundaries_agree_in_the_interior() -> None:
    priors = [GridMatern(grid((41,), "node", (1.0,)), std=1.0, length=0.03, boundary=b) for b in BOUNDARIES]
    interior = [dense(p)[15:26, 15:26] for p in priors]
    for other in interior[1:]:
        torch.testing.assert_close(other, interior[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_samples_have_the_covariance(boundary: str) -> None:
    """Entrywise within six standard errors of a product of Gaussians, and the mean within six."""
    n = 20_000
    prior = GridMatern(grid((4, 5)), std=1.3, length=0.5, mean=0.7, boundary=boundary)
    draws = prior.sample((n,), generator=torch.Generator().manual_seed(0)).flatten(1)
    expected, variance = dense(prior), prior.variance().flatten()
    assert bool(((draws.mean(0) - 0.7).abs() <= 6 * (variance / n).sqrt()).all())
    centred = draws - 0.7
    sample = centred.T @ centred / n
    band = 6 * ((expected.square() + variance[:, None] * variance[None]) / n).sqrt()
    assert bool(((sample - expected).abs() <= band).all())
    # the band is no blank cheque: a field of half the length lies outside
    shorter = dense(GridMatern(prior.space, std=1.3, length=0.25, boundary=boundary))
    assert bool(((sample - shorter).abs() > band).any())


def test_varying_std_may_vanish() -> None:
    std = torch.ones(6, 7, dtype=torch.float64)
    std[0] = 0.0
    for boundary in BOUNDARIES:
        prior = GridMatern(grid((6, 7)), std=std, length=0.3, mean=2.0, boundary=boundary)
        draw = prior.sample((3,), generator=torch.Generator().manual_seed(0))
        assert bool((draw[:, 0] == 2.0).all())
        assert bool((draw[:, 1:] != 2.0).all())
        assert bool((prior.variance()[0] == 0).all())
        assert Capability.PRIOR_LOG_PROB not in prior.capabilities
        with pytest.raises(UnsupportedProblemError, match="inverse"):
            prior.log_prob(draw)


def test_unresolved_spectrum_has_no_density() -> None:
    prior = GridMatern(grid((200,)), std=1.0, length=0.5, smoothness=5.5, boundary="neumann")
    assert Capability.PRIOR_LOG_PROB not in prior.capabilities
    with pytest.raises(UnsupportedProblemError):
        prior.root.log_abs_det()


def test_embedding_is_small_and_grows_with_the_length() -> None:
    """Long fields need padding, but far less than the 25 lengths of an unwindowed embedding."""
    space = grid((64, 64), upper=(1.0, 1.0))
    short, spectrum = circulant_embedding(space, 0.05, 1.5)
    assert max(short) <= 2 * 64
    assert float(spectrum.min()) >= 0
    long, _ = circulant_embedding(space, 0.3, 1.5)
    assert 2 * 64 < max(long) <= 4 * 64
    assert float(spectrum.mean()) == pytest.approx(1.0, rel=1e-12)


def test_impossible_embedding_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_LARGEST_TORUS", 10_000)
    with pytest.raises(ConfigError, match="'neumann'"):
        GridMatern(grid((20, 20), upper=(1.0, 1.0)), std=1.0, length=30.0)
    with pytest.raises(ConfigError, match="too long for a periodic domain"):
        torus_correlation((64, 64), (1 / 64, 1 / 64), 50.0, 1.5)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_root_is_stored_and_restored(boundary: str) -> None:
    prior = GridMatern(grid((5, 6), "node"), std=torch.rand(5, 6) + 0.1, length=0.3, boundary=boundary)
    kind, settings, tensors = describe(prior.root)
    again = restore(kind, settings, tensors)
    assert kind == "grid-matern-root"
    xi = numbers(2, *prior.white.shape)
    assert torch.equal(again(xi), prior.root(xi))
    assert again.codomain == prior.space


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"std": -1.0}, ConfigError, "`std`"),
        ({"std": math.nan}, ConfigError, "`std`"),
        ({"std": torch.ones(3)}, ShapeError, r"\(4, 5\)"),
        ({"mean": torch.ones(3)}, ShapeError, "`mean`"),
        ({"length": 0.0}, ConfigError, "`length`"),
        ({"smoothness": math.inf}, ConfigError, "`smoothness`"),
        ({"boundary": "dirichlet"}, ConfigError, "stationary, periodic, neumann"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        GridMatern(grid((4, 5)), **({"std": 1.0, "length": 0.3} | arguments))


class TestStationaryRoot(OperatorConformance):
    def make(self) -> Any:
        root = GridMatern(grid((5, 6), "node"), std=numbers(5, 6).abs(), length=0.4).root
        return root, numbers(*root.domain.shape, seed=1)


class TestPeriodicRoot(OperatorConformance):
    def make(self) -> Any:
        return GridMatern(grid((4, 3, 5)), std=1.2, length=0.4, boundary="periodic").root, numbers(4, 3, 5, seed=1)


class TestNeumannCellRoot(OperatorConformance):
    def make(self) -> Any:
        return GridMatern(grid((5, 6)), std=1.2, length=0.4, boundary="neumann").root, numbers(5, 6, seed=1)


class TestNeumannNodeRoot(OperatorConformance):
    def make(self) -> Any:
        return GridMatern(grid((5, 6), "node"), std=1.2, length=0.4, boundary="neumann").root, numbers(5, 6, seed=1)


class TestWhitening(OperatorConformance):
    def make(self) -> Any:
        prior = GridMatern(grid((9,)), std=1.2, length=0.4, mean=0.3)
        return prior.whitening, numbers(*prior.white.shape, seed=1)
