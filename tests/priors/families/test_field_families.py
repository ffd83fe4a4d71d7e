"""Families of fields: ranges, moments, symmetries, and pixels that are averages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sciprob.engines.spectral import SpectralBasis
from sciprob.engines.spectral.equations.navier_stokes_2d import NavierStokes2DSpectral
from sciprob.engines.spectral.evolution import Evolution
from sciprob.errors import ConfigError
from sciprob.operators.xray import Ellipses
from sciprob.priors.families import ScaledFamily, family_names, make_family
from sciprob.priors.families.darcy import DarcyField
from sciprob.priors.families.ellipses import EllipsePhantoms
from sciprob.priors.families.gaussian_field import GaussianField
from sciprob.priors.families.hole_shapes import SHAPES, coverage
from sciprob.priors.families.holes import Holes
from sciprob.priors.families.vorticity import Vorticity, move

QUICK: dict[str, dict[str, Any]] = {"vorticity": {"flows": 2, "points": 32, "snapshots": 2, "last": 5.0}}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", family_names())
def test_draws_fit_their_space_and_scale(name: str) -> None:
    family = make_family({"name": name, **QUICK.get(name, {})})
    draws = family.sample(64, seeded())
    assert draws.shape == (64, *family.space.shape)
    assert draws.dtype == torch.float32
    assert bool(draws.isfinite().all())
    assert torch.equal(draws, family.sample(64, seeded()))
    assert not torch.equal(draws[0], draws[1])
    scaled = ScaledFamily(family).sample(64, seeded())
    assert 0.6 < float(scaled.square().mean().sqrt()) < 1.4
    assert torch.allclose(scaled * family.scale + family.shift, draws, atol=1e-5)


def test_coverage_measures_areas_to_second_order() -> None:
    sizes, errors = (16, 32, 64, 128), []
    for n in sizes:
        pixel, total = 2 / n, 0.0
        axis = (torch.arange(n, dtype=torch.float64) + 0.5) * pixel - 1
        for k in range(20):  # circles at many places on the grid
            x, y = axis - 0.1 * math.sin(k), axis[:, None] + 0.1 * math.cos(3 * k)
            level = (x.square() + y.square()).sqrt() - 0.6
            area = float(coverage(level / pixel, distance=True).sum()) * pixel**2
            total += abs(area / (math.pi * 0.36) - 1) / 20
        errors.append(total)
    slope = math.log(errors[0] / errors[-1]) / math.log(sizes[-1] / sizes[0])
    assert slope > 1.6
    assert errors[-1] < 1e-4
    stretched = coverage(7 * level)  # in any unit: the slope is measured
    assert float((stretched - coverage(level / pixel, distance=True)).abs().max()) < 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_hole_shapes_stay_within_their_radius_and_have_an_inside(shape: Any) -> None:
    axis = torch.linspace(-1.6, 1.6, 65)
    b, a = torch.meshgrid(axis, axis, indexing="ij")
    count = 200
    level = shape(a.expand(count, -1, -1), b.expand(count, -1, -1), torch.full((count,), 0.7), seeded())
    assert bool(level.isfinite().all())
    assert bool((level[:, a.square() + b.square() > 1.15**2] > 0).all())
    assert bool((level.amin((1, 2)) < 0).all())


def test_discs_hold_their_holes() -> None:
    family = Holes()
    draws = family.sample(200, seeded())
    assert float(draws.min()) >= 0
    assert float(draws.max()) <= 1
    x, y = family.space.points().float().T.reshape(2, 128, 128)
    radius = (x.square() + y.square()).sqrt()
    reach = math.sqrt(2) * family.offset
    assert float(draws[:, radius > family.radius + reach + 0.6].max()) == 0  # air around the disc
    rim = (radius > family.radius - 0.03 * family.radius) & (radius < family.radius - 0.6)
    centred = Holes(offset=0.0).sample(200, seeded())
    assert float(centred[:, rim].min()) > 0.99  # holes keep away from the rim
    share = draws.mean((1, 2)) * (2 * family.half_width) ** 2 / (math.pi * family.radius**2)
    assert float(share.max()) > 0.97  # some are nearly solid
    assert float(share.min()) < 0.6  # some are mostly holes
    edges = ((draws > 0.01) & (draws < 0.99)).float().mean()
    assert 0.02 < float(edges) < 0.12


def test_coarse_discs_are_averages_of_fine_ones() -> None:
    fine, coarse = Holes(pixels=128).sample(100, seeded(3)), Holes(pixels=64).sample(100, seeded(3))
    averaged = torch.nn.functional.avg_pool2d(fine, 2)
    error = (averaged - coarse).square().mean((1, 2)).sqrt()
    same = error[error < 0.1]  # level sets of random fields come from noise of each grid
    assert len(same) > 75
    assert float(same.median()) < 0.02


def test_ellipses_agree_with_supersampled_ones() -> None:
    family = EllipsePhantoms(pixels=64)
    generator = seeded(1)
    value = torch.rand(1, 6, generator=generator)
    centre = 1.2 * torch.rand(1, 6, 2, generator=generator) - 0.6
    axes = 0.08 + 0.3 * torch.rand(1, 6, 2, generator=generator)
    angle = 3 * torch.rand(1, 6, generator=generator)
    mine = family._sum(value, centre, axes, angle)[0].double()
    ellipses = Ellipses(*(part[0].double() for part in (value, centre, axes, angle)))
    reference = ellipses.image(family.space, supersampling=16)
    points = ellipses.image(family.space, supersampling=1)
    assert float((mine - reference).norm()) < 0.1 * float((points - reference).norm())


def test_bodies_are_those_of_the_phantom_problem() -> None:
    bodies = EllipsePhantoms(bodies=1.0).sample(50, seeded())
    assert float(bodies[:, :2].abs().max()) == 0  # nothing outside of the disc of radius 0.9
    middle = bodies[:, 28:36, 28:36]
    assert 0.4 < float(middle.mean()) < 0.6
    free = EllipsePhantoms(bodies=0.0).sample(50, seeded())
    assert float(free.min()) >= 0


def test_two_phases_follow_the_arcsine_law() -> None:
    family = DarcyField(cells=32)
    draws = (family.sample(4000, seeded()) - family.shift) / family.scale
    assert float(draws.abs().max()) <= 1 + 1e-5
    field = DarcyField(kind="lognormal", cells=32).sample(4000, seeded())
    one, two = field[:, 16, 8], field[:, 16, 16]
    correlation = float(one @ two / (one.norm() * two.norm()))
    signs = (draws[:, 16, 8].sign() * draws[:, 16, 16].sign()).mean()
    assert abs(float(signs) - 2 / math.pi * math.asin(correlation)) < 4 / math.sqrt(4000)
    assert abs(float(draws.mean())) < 0.06
    assert bool(((draws.sign() == field.sign()) | (draws == 0)).float().mean() > 0.98)


def test_gaussian_fields_have_the_covariance_of_their_prior() -> None:
    family = GaussianField(points=8)
    draws = family.sample(20_000, seeded()).double().flatten(1)
    covariance = family.prior.covariance.to_dense(dtype=torch.float64)
    assert float((draws.T @ draws / len(draws) - covariance).abs().max()) < 6 * math.sqrt(2 / len(draws))


def test_moves_are_symmetries_of_the_forced_flow() -> None:
    family = Vorticity(points=32)
    basis = SpectralBasis(family.space)
    equation = NavierStokes2DSpectral.kolmogorov(basis, viscosity=1 / 200, wavenumber=4)
    flow = Evolution(equation, [0.5], step=0.02)
    noise = torch.randn(16, 32, 32, dtype=torch.float64, generator=seeded())
    start = 3 * basis.to_grid(basis.to_spectral(noise) * basis.dealias())
    moved = flow(move(start, seeded(1)))[:, 0]
    assert torch.allclose(moved, move(flow(start)[:, 0], seeded(1)), atol=1e-11)
    assert float((moved - flow(start)[:, 0]).abs().max()) > 1


def test_snapshots_have_mean_zero_and_differ() -> None:
    family = Vorticity(**QUICK["vorticity"])
    draws = family.sample(40, seeded())
    assert float(draws.mean((1, 2)).abs().max()) < 1e-4
    assert 2 < float(draws.square().mean().sqrt()) < 6


@pytest.mark.parametrize(
    "table",
    [
        {"name": "holes", "pixels": 8},
        {"name": "holes", "radius": 40.0},
        {"name": "ellipses", "bodies": 2.0},
        {"name": "darcy", "kind": "three-phase"},
        {"name": "vorticity", "points": 60},
        {"name": "vorticity", "first": 5.0, "last": 4.0},
        {"name": "discs"},
    ],
)
def test_wrong_settings_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_family(table)
