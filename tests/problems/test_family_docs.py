"""The page on random-grid neural processes: its family runs as shown, and is the one of the package."""

import re
from pathlib import Path

import torch

import sciprob
from sciprob.pde import network_jets
from sciprob.solvers.rgnp import GaussNewton, NetworkShape, RandomGridNeuralProcess

PAGE = (Path(__file__).parents[2] / "docs" / "random_grid_neural_processes.md").read_text()
(FAMILY,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "ProblemFamily(" in block)


def page_family():
    names = {"__name__": "page"}
    exec(compile(FAMILY, "random_grid_neural_processes.md", "exec"), names)
    return names["family"]


def test_the_family_of_the_page_is_short_and_right():
    lines = [line for line in FAMILY.splitlines() if line.strip() and "import" not in line]
    assert len(lines) <= 30, len(lines)
    family, known = page_family(), sciprob.load_family("disk-family")
    g = torch.Generator().manual_seed(0)
    points, z, w = family.domain.sample(8, g), family.unknown.sample(1, g)[0], family.known.sample(1, g)[0]
    net = torch.nn.Sequential(torch.nn.Linear(2, 9), torch.nn.Tanh(), torch.nn.Linear(9, 1)).double()
    n = network_jets(net, points, "xy", family.pde.fields)
    expected = known.residual(points, n, torch.cat([z, z[:1] * 0]), w)["poisson"]
    assert torch.allclose(family.residual(points, n, z, w)["diffusion"], expected, rtol=1e-12, atol=1e-12)


def test_the_family_of_the_page_trains():
    family = page_family()
    solver = RandomGridNeuralProcess(
        network=NetworkShape(16, 2), gauss_newton=GaussNewton(points=200, steps=40), laplace_residuals=100
    )
    amortised = sciprob.fit(family, solver, progress=False, device="cpu")
    known, g = sciprob.load_family("disk-family"), torch.Generator().manual_seed(1)
    z, w, x = family.unknown.sample(10, g), family.known.sample(10, g), family.domain.sample(50, g)
    exact = known.solve(torch.cat([z, 0 * z[:, :1]], dim=-1), w, x)
    error = (amortised.mean(z, w, x) - exact).norm(dim=1) / exact.norm(dim=1)
    assert error.median() < 0.1
