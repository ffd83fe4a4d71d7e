"""Derivatives of the kernels against automatic differentiation, closed values at zero and limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.priors.kernels import (
    GaussianMixture,
    Matern,
    SquaredExponential,
    StationaryKernel,
    StudentMixture,
    covariance,
)

W, MU = [1.3, 0.4, 0.02], [0.0, 2.3, 15.9]
PARAMETERS = {"scale": [0.7, 2.0, 9.0]}


def mixture(kind: str) -> StationaryKernel:
    scale = PARAMETERS["scale"]
    return {
        "gaussian": lambda: GaussianMixture(W, MU, scale),
        "student-1/2": lambda: StudentMixture(W, MU, scale, smoothness=0.5),
        "student-3/2": lambda: StudentMixture(W, MU, scale, smoothness=1.5),
        "student-5/2": lambda: StudentMixture(W, MU, scale),
        "student-9/2": lambda: StudentMixture(W, MU, scale, smoothness=4.5),
        "se": lambda: SquaredExponential(0.4, 1.7),
        "matern-5/2": lambda: Matern(0.4, 2.5, 1.7),
        "matern-7/2": lambda: Matern([0.4, 0.9], 3.5, [1.7, 0.2]),
    }[kind]()


KINDS = ("gaussian", "student-1/2", "student-3/2", "student-5/2", "student-9/2", "se", "matern-5/2", "matern-7/2")


def lags(*shape: int, seed: int = 0) -> Tensor:
    """Away from zero, both signs."""
    generator = torch.Generator().manual_seed(seed)
    tau = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.02
    return tau * torch.where(torch.rand(shape, generator=generator) < 0.5, -1.0, 1.0)


def by_autodiff(kernel: StationaryKernel, tau: Tensor, order: int) -> list[Tensor]:
    tau = tau.clone().requires_grad_()
    values = [kernel.derivatives(tau, 0)[0]]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1].sum(), tau, create_graph=True)[0])
    return [v.detach() for v in values]


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_those_of_automatic_differentiation_away_from_zero(kind: str) -> None:
    kernel = mixture(kind)
    order = min(kernel.max_order, 6)
    tau = lags(40)
    ours = kernel.derivatives(tau, order).detach()
    assert ours.shape == (order + 1, 40)
    for n, expected in enumerate(by_autodiff(kernel, tau, order)):
        scale = expected.abs().max()
        torch.testing.assert_close(ours[n] / scale, expected / scale, rtol=0, atol=1e-12)


def test_gaussian_values_at_zero() -> None:
    w, a = torch.tensor(W, dtype=torch.float64), torch.tensor(PARAMETERS["scale"], dtype=torch.float64)
    m = 2 * math.pi * torch.tensor(MU, dtype=torch.float64)
    ours = mixture("gaussian").derivatives(torch.zeros((), dtype=torch.float64), 6)
    closed = [
        w.sum(),
        torch.zeros(()),
        -(w * (2 * a + m**2)).sum(),
        torch.zeros(()),
        (w * (12 * a**2 + 12 * a * m**2 + m**4)).sum(),
        torch.zeros(()),
        -(w * (120 * a**3 + 180 * a**2 * m**2 + 30 * a * m**4 + m**6)).sum(),
    ]
    torch.testing.assert_close(ours, torch.stack([c.double() for c in closed]), rtol=1e-14, atol=0)


def test_student_values_at_zero() -> None:
    w, b = torch.tensor(W, dtype=torch.float64), math.sqrt(5) * torch.tensor(PARAMETERS["scale"], dtype=torch.float64)
    m = 2 * math.pi * torch.tensor(MU, dtype=torch.float64)
    ours = mixture("student-5/2").derivatives(torch.zeros((), dtype=torch.float64), 4)
    zero = torch.zeros((), dtype=torch.float64)
    second, fourth = -(w * (b**2 / 3 + m**2)).sum(), (w * (b**4 + 2 * b**2 * m**2 + m**4)).sum()
    torch.testing.assert_close(ours, torch.stack([w.sum(), zero, second, zero, fourth]), rtol=1e-14, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_is_the_limit_from_both_sides_and_parities_hold(kind: str) -> None:
    """The derivatives at zero continue those beside it, and k^(n)(-tau) = (-1)^n k^(n)(tau)."""
    kernel = mixture(kind)
    order = min(kernel.max_order, 8)
    at_zero = kernel.derivatives(torch.zeros(1, dtype=torch.float64), order)[:, 0]
    for tau in (1e-9, -1e-9):
        beside = kernel.derivatives(torch.full((1,), tau, dtype=torch.float64), order)[:, 0]
        for n in range(order + 1):
            even = at_zero[n - n % 2].abs()  # odd orders are compared on the scale of the even one below
            torch.testing.assert_close(beside[n] / even, at_zero[n] / even, rtol=0, atol=1e-4)
    tau = lags(9)
    signs = torch.tensor([(-1.0) ** n for n in range(order + 1)], dtype=torch.float64)[:, None]
    assert torch.equal(kernel.derivatives(-tau, order), signs * kernel.derivatives(tau, order))


class Stack(torch.nn.Module):
    """Derivatives at fixed lags, each order scaled to size one."""

    def __init__(self, kernel: StationaryKernel, tau: Tensor, order: int) -> None:
        super().__init__()
        self.kernel, self.tau, self.order = kernel, tau, order
        self.scale = kernel.derivatives(tau, order).detach().abs().amax(1, keepdim=True)

    def forward(self) -> Tensor:
        return self.kernel.derivatives(self.tau, self.order) / self.scale


@pytest.mark.parametrize("kind", KINDS)
def test_parameter_gradients(kind: str) -> None:
    """First and second derivatives in all parameters against finite differences, zero lag included."""
    kernel = mixture(kind)
    tau = torch.cat([lags(3), torch.zeros(1, dtype=torch.float64)])
    stack = Stack(kernel, tau, min(kernel.max_order, 3))
    names = [name for name, _ in stack.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in stack.parameters()]

    def value(*given: Tensor) -> Tensor:
        return torch.func.functional_call(stack, dict(zip(names, given, strict=True)), ())

    assert torch.autograd.gradcheck(value, parameters, eps=1e-7, atol=1e-5, rtol=1e-5)
    assert torch.autograd.gradgradcheck(value, parameters, eps=1e-7, atol=1e-3, rtol=1e-4)


def test_weight_and_frequency_gradients_in_closed_form() -> None:
    """d/d log w_q multiplies by the component; d/d mu at mu = 0 vanishes by symmetry."""
    kernel = mixture("gaussian")
    tau = lags(5)
    (by_weight,) = torch.autograd.grad(kernel.derivatives(tau, 2)[2].sum(), kernel.log_weights)
    for q in range(3):
        alone = GaussianMixture(W[q], MU[q], PARAMETERS["scale"][q])
        torch.testing.assert_close(by_weight[q], alone.derivatives(tau, 2)[2].sum().detach(), rtol=1e-12, atol=0)
    (by_frequency,) = torch.autograd.grad(kernel.derivatives(tau, 2)[2].sum(), kernel.frequencies)
    assert float(by_frequency[0].abs()) == 0.0
    assert float(by_frequency[1].abs()) > 1.0


@pytest.mark.parametrize("kind", ["gaussian", "student-9/2"])
def test_covariance_of_derivatives_has_the_right_signs(kind: str) -> None:
    """d^p/dx^p d^q/dy^q k(x - y) by automatic differentiation in both arguments."""
    kernel = mixture(kind)
    x = torch.tensor([0.1, 0.45, 0.5], dtype=torch.float64)
    y = torch.tensor([0.2, 0.93], dtype=torch.float64)
    for p in range(4):
        for q in range(4):
            a = x[:, None].expand(3, 2).clone().requires_grad_()
            b = y[None, :].expand(3, 2).clone().requires_grad_()
            value = kernel.derivatives(a - b, 0)[0]
            for variable in (a,) * p + (b,) * q:
                (value,) = torch.autograd.grad(value.sum(), variable, create_graph=True)
            torch.testing.assert_close(covariance(kernel, x, y, p, q), value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("n", "m", "shift"), [(7, 7, 0.0), (7, 4, 0.13), (3, 9, -0.4), (2, 2, 0.0)])
def test_uniform_lines_give_the_same_matrix_from_their_lags(n: int, m: int, shift: float) -> None:
    """Toeplitz tiling = direct evaluation, for every order, rectangular and shifted, with gradients."""
    kernel = GaussianMixture(W, [0.0, 1.2, 3.4], [0.7, 2.0, 3.0])
    x = 0.11 * torch.arange(n, dtype=torch.float64)
    y = 0.11 * torch.arange(m, dtype=torch.float64) + shift
    for p, q in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (2, 2)):
        ours = covariance(kernel, x, y, p, q)
        direct = (-1) ** q * kernel.derivatives(x[:, None] - y, p + q)[-1]
        largest = float(direct.detach().abs().max())
        torch.testing.assert_close(ours, direct, rtol=0, atol=1e-13 * largest)
        weight = torch.sin(torch.arange(n * m, dtype=torch.float64)).reshape(n, m)
        tiled = torch.autograd.grad((weight * ours).sum(), kernel.frequencies)
        plain = torch.autograd.grad((weight * direct).sum(), kernel.frequencies)
        torch.testing.assert_close(tiled, plain, rtol=1e-10, atol=1e-10)


def test_uneven_lines_are_not_taken_for_uniform() -> None:
    kernel = mixture("gaussian")
    x = torch.linspace(0, 1, 9, dtype=torch.float64)
    x[4] += 1e-9
    exact = covariance(kernel, x, x, 2, 0)
    torch.testing.assert_close(exact, kernel.derivatives(x[:, None] - x, 2)[2], rtol=0, atol=0)


def test_symmetry_of_blocks() -> None:
    """Even orders symmetric, odd ones antisymmetric, exactly."""
    kernel, x = mixture("student-5/2"), torch.linspace(0, 2, 17, dtype=torch.float64)
    assert torch.equal(covariance(kernel, x, x, 1, 1), covariance(kernel, x, x, 1, 1).mT)
    assert torch.equal(covariance(kernel, x, x, 1, 0), -covariance(kernel, x, x, 1, 0).mT)
    assert torch.equal(covariance(kernel, x, x, 1, 2), covariance(kernel, x, x, 2, 1).mT)


def test_joint_covariance_of_derivatives_is_positive() -> None:
    """[u, u', u''] at nodes has a covariance without negative eigenvalues: signs and orders fit together."""
    x = torch.linspace(0, 1, 12, dtype=torch.float64)
    for kind in ("gaussian", "student-5/2", "matern-7/2"):
        kernel, scale = mixture(kind), [1.0, 20.0, 400.0]
        joint = torch.cat(
            [torch.cat([covariance(kernel, x, x, p, q) / scale[p] / scale[q] for q in range(3)], 1) for p in range(3)]
        )
        eigenvalues = torch.linalg.eigvalsh(joint.detach())
        assert float(eigenvalues[0]) > -1e-13 * float(eigenvalues[-1])


def test_infinitely_long_envelope_leaves_cosines() -> None:
    """a -> 0: rank 2 Q - 1 with one zero frequency, and differentiation multiplies sines by -m^2 exactly."""
    mu = [0.0, 1.3, 3.1]
    kernel = GaussianMixture([1.0, 0.5, 0.2], mu, [1e-300] * 3)
    x = torch.linspace(0, 2, 40, dtype=torch.float64)
    matrix = covariance(kernel, x, x).detach()
    eigenvalues = torch.linalg.eigvalsh(matrix).flip(0)
    assert int((eigenvalues > 1e-12 * eigenvalues[0]).sum()) == 5
    second = covariance(kernel, x, x, 2, 0).detach()
    m = 2 * math.pi * 1.3
    sine = torch.sin(m * x)
    coefficients = torch.linalg.lstsq(matrix, sine[:, None], rcond=1e-12, driver="gelsd").solution
    torch.testing.assert_close((second @ coefficients)[:, 0], -(m**2) * sine, rtol=0, atol=1e-9 * m**2)


def test_mixture_without_frequencies_is_the_single_scale_kernel() -> None:
    tau = torch.cat([lags(20), torch.zeros(1, dtype=torch.float64)])
    pairs: list[tuple[Any, Any]] = [
        (SquaredExponential(0.4, 1.7), GaussianMixture(1.7, 0.0, 1 / (2 * 0.4**2))),
        (Matern(0.4, 2.5, 1.7), StudentMixture(1.7, 0.0, 1 / 0.4)),
    ]
    for single, general in pairs:
        torch.testing.assert_close(single.derivatives(tau, 4), general.derivatives(tau, 4), rtol=1e-12, atol=1e-12)


def test_scaling_of_the_coordinate() -> None:
    """k(s tau; mu, a) = k(tau; s mu, s^2 a), and n derivatives bring s^n."""
    s, tau = 3.7, lags(11)
    wide = GaussianMixture(W, MU, PARAMETERS["scale"]).derivatives(s * tau, 5)
    narrow = GaussianMixture(W, [s * f for f in MU], [s**2 * a for a in PARAMETERS["scale"]]).derivatives(tau, 5)
    powers = s ** torch.arange(6, dtype=torch.float64)[:, None]
    scale = narrow.abs().amax(1, keepdim=True)
    torch.testing.assert_close(powers * wide / scale, narrow / scale, rtol=0, atol=1e-13)


def test_shift_and_mirror_of_the_coordinate() -> None:
    """x -> x + c changes nothing; x -> L - x turns the sign of every derivative."""
    kernel = GaussianMixture(W, [0.0, 1.3, 4.1], PARAMETERS["scale"])
    x, y = torch.linspace(0, 2, 9, dtype=torch.float64), torch.tensor([0.3, 0.31, 1.7], dtype=torch.float64)
    for p, q in ((0, 0), (1, 0), (2, 1), (2, 2)):
        original = covariance(kernel, x, y, p, q)
        tolerance = 1e-12 * float(original.detach().abs().max())
        torch.testing.assert_close(covariance(kernel, x + 1, y + 1, p, q), original, rtol=0, atol=tolerance)
        mirrored = (-1) ** (p + q) * covariance(kernel, 2 - x, 2 - y, p, q)
        torch.testing.assert_close(mirrored, original, rtol=0, atol=tolerance)


def test_batch_axes_of_parameters_and_shape_of_lags() -> None:
    generator = torch.Generator().manual_seed(1)
    w, mu, a = (torch.rand((2, 3, 4), generator=generator, dtype=torch.float64) + 0.1 for _ in range(3))
    kernel = GaussianMixture(w, mu, a)
    tau = lags(5, 6)
    values = kernel.derivatives(tau, 2)
    assert values.shape == (3, 2, 3, 5, 6)
    torch.testing.assert_close(values[:, 1, 2], GaussianMixture(w[1, 2], mu[1, 2], a[1, 2]).derivatives(tau, 2))
    x = torch.linspace(0, 1, 7, dtype=torch.float64)
    assert covariance(kernel, x, x[:3], 1, 1).shape == (2, 3, 7, 3)
    torch.testing.assert_close(
        covariance(kernel, x, x, 1, 1)[1, 2], covariance(GaussianMixture(w[1, 2], mu[1, 2], a[1, 2]), x, x, 1, 1)
    )
    assert kernel.derivatives(tau[:0], 2).shape == (3, 2, 3, 0, 6)
    assert GaussianMixture(w[:0], mu[:0], a[:0]).derivatives(tau, 1).shape == (2, 0, 3, 5, 6)


def test_single_precision_follows_the_lags() -> None:
    kernel, tau = mixture("student-5/2"), lags(8)
    single = kernel.derivatives(tau.float(), 4)
    assert single.dtype == torch.float32
    double = kernel.derivatives(tau, 4)
    scale = double.abs().amax(1, keepdim=True)
    torch.testing.assert_close(single / scale.float(), (double / scale).float(), rtol=0, atol=2e-5)


def test_orders_that_do_not_exist_are_refused() -> None:
    zero = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(
        UnsupportedProblemError, match="StudentMixture has derivatives of orders 0 to 4 at zero lag, got"
    ):
        mixture("student-5/2").derivatives(zero, 5)
    with pytest.raises(UnsupportedProblemError, match="orders 0 to 0"):
        covariance(mixture("student-1/2"), zero, zero, 1, 0)
    with pytest.raises(UnsupportedProblemError, match="take a smoother kernel"):
        covariance(Matern(1.0, 1.5), zero, zero, 2, 1)


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="`weights` of a kernel should be positive, got 0"):
        GaussianMixture([0.0, 1.0], [0.0, 1.0], [1.0, 1.0])
    with pytest.raises(ConfigError, match=r"agree in shape .* weights \(2,\), frequencies \(3,\)"):
        GaussianMixture([1.0, 1.0], [0.0, 1.0, 2.0], 1.0)
    with pytest.raises(ConfigError, match="`smoothness` should be 1/2, 3/2"):
        StudentMixture(1.0, 0.0, 1.0, smoothness=2.0)
    with pytest.raises(ConfigError, match="`frequencies` of a kernel should be finite"):
        GaussianMixture(1.0, float("nan"), 1.0)
    with pytest.raises(ShapeError, match="should be vectors of coordinates"):
        covariance(mixture("se"), torch.zeros(2, 1), torch.zeros(2))
