"""The evidence and its gradient: dense closed form, finite differences, and dimensions that move."""

from __future__ import annotations

import pytest
import torch
from process_cases import advection, functional, gaussian, line, matern, poisson_2d, poisson_3d, student, variable_2d

from sciprob.errors import ConfigError, ConvergenceError
from sciprob.pde.functionals import Functionals, TensorPoints
from sciprob.priors.kernels import GaussianMixture
from sciprob.solvers.kronecker_gp import condition, log_evidence

CASES = {
    "poisson": (poisson_2d, lambda: (gaussian(), gaussian(0.7))),
    "advection": (advection, lambda: (gaussian(2.0), student())),
    "variable": (variable_2d, lambda: (matern(), gaussian())),
    "three dimensions": (lambda std: poisson_3d((3, 4, 3), std), lambda: (gaussian(), matern(), student())),
}


def gradients(kernels, functionals, **settings) -> torch.Tensor:
    evidence = log_evidence(kernels, functionals, **settings)
    parameters = [p for kernel in kernels for p in kernel.parameters()]
    return torch.cat([g.flatten() for g in torch.autograd.grad(evidence.sum(), parameters)])


def differences(kernels, functionals, step=1e-3, **settings) -> torch.Tensor:
    """Central differences of fourth order."""
    count = sum(p.numel() for kernel in kernels for p in kernel.parameters())
    units = torch.eye(count, dtype=torch.float64)
    return torch.stack([along(unit, kernels, functionals, step, **settings) for unit in units])


def along(direction, kernels, functionals, step=1e-3, **settings) -> torch.Tensor:
    parameters = [p for kernel in kernels for p in kernel.parameters()]
    start = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    values = {}
    with torch.no_grad():
        for k in (-2, -1, 1, 2):
            torch.nn.utils.vector_to_parameters(start + k * step * direction, parameters)
            values[k] = log_evidence(kernels, functionals, **settings).sum()
        torch.nn.utils.vector_to_parameters(start, parameters)
    return (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_differences_and_of_the_dense_gram(case):
    make, kernels = CASES[case][0](std=0.03), CASES[case][1]()
    settings = {"null_space": 1, "null_std": 5.0}
    computed = gradients(kernels, make, cut=1e-15, **settings)
    scale = float(computed.abs().max())
    for seed in (0, 1):
        g = torch.Generator().manual_seed(seed)
        direction = torch.randn(len(computed), generator=g, dtype=torch.float64)
        slope = along(direction, kernels, make, cut=1e-15, **settings)
        torch.testing.assert_close(computed @ direction, slope, rtol=1e-5, atol=1e-6 * scale)
    dense = gradients(kernels, make, method="dense", **settings)
    torch.testing.assert_close(computed, dense, rtol=1e-6, atol=1e-7 * scale)


def test_value_and_derivative_belong_to_each_right_hand_side():
    functionals, kernels = poisson_2d(std=0.03, batch=(2,)), CASES["poisson"][1]()
    together = log_evidence(kernels, functionals)
    assert together.shape == (2,)
    torch.testing.assert_close(together.detach(), condition(kernels, functionals).log_evidence)
    parameters = list(kernels[0].parameters())
    second = torch.autograd.grad(together[1], parameters)
    alone = [Functionals(f.name, f.coordinates, f.points, f.terms, f.values[1], f.std) for f in functionals]
    expected = torch.autograd.grad(log_evidence(kernels, alone), parameters)
    for a, b in zip(second, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_degenerate_spectra_have_finite_gradients():
    """Equal kernels and symmetric grids make eigenvalues meet, where derivatives of eigenvectors are infinite."""
    kernel = GaussianMixture([1.0, 1.0], [3.0, 3.0], [0.5, 0.5])
    points = TensorPoints((line(-1, 1, 30),))
    data = functional("u''", ("x",), points, {"xx": 1.0}, 0.5, (), 2)
    computed = gradients([kernel], [data])
    assert bool(torch.isfinite(computed).all())
    torch.testing.assert_close(computed[0], computed[1], rtol=1e-8, atol=1e-8)  # the components are interchangeable
    torch.testing.assert_close(computed, differences([kernel], [data]), rtol=1e-4, atol=1e-4)


def test_a_frequency_outside_the_span_is_pulled_towards_the_data():
    """Data at 5 cycles, kernel at 4.7: the part of the data out of reach says where to go."""
    x = line(0, 1, 60)
    wave = torch.sin(2 * torch.pi * 5 * x)
    kernel = GaussianMixture([1.0], [4.7], [0.05])
    data = Functionals("u", ("x",), TensorPoints((x,)), {"": x.new_ones(())}, wave, x.new_tensor(1e-2))
    (slope,) = torch.autograd.grad(log_evidence([kernel], [data]), [kernel.frequencies])
    torch.testing.assert_close(slope, differences([kernel], [data], 1e-4)[1:2], rtol=1e-3, atol=0)
    assert float(slope) > 0


def test_without_parameters_to_train_there_is_nothing_to_differentiate():
    functionals, kernels = poisson_2d(std=0.03), CASES["poisson"][1]()
    with torch.no_grad():
        assert not log_evidence(kernels, functionals).requires_grad
    for kernel in kernels:
        kernel.requires_grad_(False)
    assert not log_evidence(kernels, functionals).requires_grad


def test_what_cannot_be_computed_is_said():
    kernels = [gaussian()]
    functionals = [functional("u", ("x",), TensorPoints((line(0, 1, 60),)), {"": 1.0}, 1e-9)]
    with pytest.raises(ConfigError, match="method"):
        log_evidence(kernels, functionals, method="auto")
    with pytest.raises(ConvergenceError, match="positive definite"):
        log_evidence(kernels, functionals, method="dense")
