"""Every equation's solution map satisfies its strong residual, by differences in time of computed trajectories."""

import math

import pytest
import torch

from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.advection import AdvectionSpectral
from sciprob.engines.spectral.equations.allen_cahn import AllenCahnSpectral
from sciprob.engines.spectral.equations.burgers_2d import Burgers2DSpectral
from sciprob.engines.spectral.equations.heat import HeatSpectral
from sciprob.engines.spectral.equations.korteweg_de_vries import KortewegDeVriesSpectral
from sciprob.engines.spectral.equations.navier_stokes_3d import NavierStokes3DSpectral
from sciprob.engines.spectral.equations.reaction_diffusion import FisherKPPSpectral, GrayScottSpectral
from sciprob.pde.advection_diffusion import AdvectionDiffusion
from sciprob.pde.allen_cahn import AllenCahn
from sciprob.pde.burgers import Burgers2D
from sciprob.pde.grid_jets import trajectory_jet, trajectory_points
from sciprob.pde.heat import Heat
from sciprob.pde.korteweg_de_vries import KortewegDeVries
from sciprob.pde.navier_stokes import NavierStokes
from sciprob.pde.reaction_diffusion import FisherKPP, GrayScott
from sciprob.spaces import GridSpace

TIMES = torch.arange(9, dtype=torch.float64) * 2e-3  # seven are needed for order 6


def periodic(*shape):
    dims = ("z", "y", "x")[-len(shape) :]
    grid = GridSpace(
        shape, dims=dims, lower=(0.0,) * len(shape), upper=(2 * math.pi,) * len(shape), centring="periodic"
    )
    return SpectralBasis(grid)


def closed(n):
    grid = GridSpace((n,), dims=("x",), lower=(0.0,), upper=(math.pi,), centring="cell")
    return SpectralBasis(grid, "neumann")


def axes(basis):
    """Coordinates by name, each of the grid's shape."""
    return {d: v.reshape(basis.grid.shape) for d, v in zip(sorted(basis.grid.dims), basis.grid.points().T, strict=True)}


def one_dimensional(basis, offset=0.0):
    x = axes(basis)["x"]
    return offset + 0.4 * torch.cos(x) + 0.2 * torch.cos(2 * x)


def heat():
    basis = periodic(16, 16)
    x = axes(basis)
    start = torch.sin(x["x"]) * torch.cos(2 * x["y"]) + torch.cos(x["x"] + x["y"])
    return HeatSpectral(basis, diffusivity=0.3), Heat("xy"), start, {"diffusivity": 0.3}


def advection():
    basis = periodic(16, 16)
    x = axes(basis)
    numbers = {"velocity_x": 0.7, "velocity_y": -0.4, "diffusivity": 0.05}
    equation = AdvectionSpectral(basis, velocity=(0.7, -0.4), diffusivity=0.05)
    return equation, AdvectionDiffusion("xy"), torch.sin(x["x"] + 2 * x["y"]) + torch.cos(x["x"]), numbers


def burgers():
    basis = periodic(32, 32)
    x = axes(basis)
    start = torch.stack([0.5 * torch.sin(x["x"] + x["y"]), 0.3 * torch.cos(x["x"] - 2 * x["y"])])
    return Burgers2DSpectral(basis, viscosity=0.1), Burgers2D(), start, {"viscosity": 0.1}


def allen_cahn():
    basis = closed(48)
    numbers = {"diffusivity": 0.1, "reaction": 1.5}
    return AllenCahnSpectral(basis, **numbers), AllenCahn(), one_dimensional(basis), numbers


def korteweg_de_vries():
    basis = periodic(48)
    numbers = {"convection": 1.0, "dispersion": 0.05, "viscosity": 0.1}
    return KortewegDeVriesSpectral(basis, **numbers), KortewegDeVries(), one_dimensional(basis), numbers


def fisher():
    basis = closed(48)
    numbers = {"diffusivity": 0.1, "growth": 2.0}
    return FisherKPPSpectral(basis, **numbers), FisherKPP(), one_dimensional(basis, 0.7), numbers


def gray_scott():
    basis = periodic(96)
    numbers = {"diffusivity_u": 0.05, "diffusivity_v": 0.02, "feed": 0.3, "kill": 0.2}
    equation = GrayScottSpectral(basis, diffusivity=(0.05, 0.02), feed=0.3, kill=0.2)
    start = torch.stack([one_dimensional(basis, 0.8), one_dimensional(basis, 0.5).square()])
    return equation, GrayScott(), start, numbers


SCALARS = (heat, advection, allen_cahn, korteweg_de_vries, fisher)
PAIRS = (burgers, gray_scott)


def residuals(case, change=None):
    """Largest residual of a computed trajectory; with `change` a parameter is wrong by a tenth in the strong form."""
    equation, pde, start, numbers = case()
    if change is not None:
        numbers = numbers | {change: 1.1 * numbers[change]}
    u = Evolution(equation, TIMES, step=1e-3)(start)
    parts = [u] if case in SCALARS else list(u.unbind(1))
    fields = {
        name: trajectory_jet(equation.basis, part, TIMES, derivatives)
        for (name, derivatives), part in zip(pde.fields.items(), parts, strict=True)
    }
    found = pde(trajectory_points(equation.basis, TIMES, u), fields, numbers)
    return max(float(r.abs().max()) for r in found.values())


@pytest.mark.parametrize("case", SCALARS + PAIRS, ids=lambda case: case.__name__)
def test_computed_trajectories_satisfy_the_strong_form(case):
    assert residuals(case) < 1e-8
    for parameter in case()[3]:
        assert residuals(case, parameter) > 1e-3, parameter


def pressure(basis, velocity):
    """p with -Laplace p = sum_ij d_i d_j (u_i u_j), for trajectories `(times, 3, *grid)`."""
    laplacian = basis.laplacian()
    total = 0.0
    for i, a in enumerate("xyz"):
        for j, b in enumerate("xyz"):
            stress = basis.to_spectral(velocity[:, i] * velocity[:, j])
            total = total + basis.wavenumber(a) * basis.wavenumber(b) * stress
    return basis.to_grid(total / torch.where(laplacian == 0, torch.inf, laplacian))


def test_computed_flows_in_space_satisfy_momentum_and_continuity():
    basis = periodic(24, 24, 24)
    x = axes(basis)
    start = torch.stack(
        [
            torch.sin(x["z"]) + 0.5 * torch.cos(x["y"]),
            torch.sin(x["x"]) + 0.3 * torch.cos(2 * x["z"]),
            torch.sin(x["y"]) + 0.4 * torch.cos(x["x"]),
        ]
    )
    u = Evolution(NavierStokes3DSpectral(basis, viscosity=0.2), TIMES, step=1e-3)(start)
    pde = NavierStokes("xyz")
    parts = dict(zip("uvw", u.unbind(1), strict=True)) | {"p": pressure(basis, u)}
    fields = {name: trajectory_jet(basis, parts[name], TIMES, pde.fields[name]) for name in pde.fields}
    points = trajectory_points(basis, TIMES, u)
    for name, residual in pde(points, fields, {"viscosity": 0.2}).items():
        assert float(residual.abs().max()) < 1e-6, name
    assert float(pde(points, fields, {"viscosity": 0.22})["momentum_x"].abs().max()) > 1e-2
