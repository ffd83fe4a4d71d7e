"""The kernels inside GPyTorch: its own kernels, exact regression, products over columns, batches."""

from __future__ import annotations

import math

import gpytorch
import pytest
import torch
from linear_operator.operators import KroneckerProductLinearOperator, ToeplitzLinearOperator
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.priors.kernels import GaussianMixture, Matern, SquaredExponential, StationaryKernel, StudentMixture

POINTS = torch.rand(13, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
OTHERS = torch.linspace(-0.5, 3.5, 9, dtype=torch.float64)[:, None]


def test_squared_exponential_is_gpytorchs() -> None:
    reference = gpytorch.kernels.RBFKernel().double()
    reference.lengthscale = torch.tensor(0.7, dtype=torch.float64)
    ours = SquaredExponential(0.7)
    torch.testing.assert_close(
        ours(POINTS, OTHERS).to_dense(), reference(POINTS, OTHERS).to_dense(), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("smoothness", [0.5, 1.5, 2.5])
def test_matern_is_gpytorchs(smoothness: float) -> None:
    reference = gpytorch.kernels.MaternKernel(nu=smoothness).double()
    reference.lengthscale = torch.tensor(0.7, dtype=torch.float64)
    ours = Matern(0.7, smoothness)
    torch.testing.assert_close(
        ours(POINTS, OTHERS).to_dense(), reference(POINTS, OTHERS).to_dense(), rtol=0, atol=1e-12
    )


def test_gaussian_mixture_is_gpytorchs_spectral_mixture() -> None:
    """Its scale is the standard deviation of the spectral density: a = 2 pi^2 scale^2."""
    reference = gpytorch.kernels.SpectralMixtureKernel(num_mixtures=2).double()
    w, mu, scale = (torch.tensor(v, dtype=torch.float64) for v in ([0.7, 0.2], [0.4, 2.5], [0.3, 0.1]))
    reference.mixture_weights, reference.mixture_means = w, mu[:, None, None]
    reference.mixture_scales = scale[:, None, None]
    ours = GaussianMixture(w, mu, 2 * math.pi**2 * scale**2)
    torch.testing.assert_close(
        ours(POINTS, OTHERS).to_dense(), reference(POINTS, OTHERS).to_dense(), rtol=0, atol=1e-12
    )


def test_first_gradient_in_the_inputs_is_exact_on_the_diagonal_too() -> None:
    """k' is 0 at coinciding points; the row sum of k(x, y) has gradient sum k'(x_i - y_j)."""
    for kernel in (GaussianMixture([1.0, 0.3], [0.0, 2.0], 1.0), StudentMixture([1.0, 0.3], [0.0, 2.0], 1.0)):
        x = POINTS.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(kernel(x, POINTS).to_dense().sum(), x)
        expected = kernel.derivatives(POINTS - POINTS.mT, 1)[1].sum(1, keepdim=True)
        torch.testing.assert_close(gradient, expected.detach(), rtol=1e-12, atol=1e-12)


class Regression(gpytorch.models.ExactGP):
    def __init__(self, x: Tensor, y: Tensor, kernel: gpytorch.kernels.Kernel) -> None:
        likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
        likelihood.noise = 1e-2
        super().__init__(x, y, likelihood)
        self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

    def forward(self, x: Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def dense_prediction(
    kernel: gpytorch.kernels.Kernel, x: Tensor, y: Tensor, at: Tensor, noise: float
) -> tuple[Tensor, Tensor]:
    gram = kernel(x).to_dense() + noise * torch.eye(len(x), dtype=x.dtype)
    cross = kernel(at, x).to_dense()
    mean = cross @ torch.linalg.solve(gram, y)
    return mean, kernel(at).to_dense() - cross @ torch.linalg.solve(gram, cross.mT)


@pytest.mark.parametrize("kind", ["gaussian", "student", "scaled"])
def test_exact_regression_trains_and_predicts_the_dense_formula(kind: str) -> None:
    """The marginal likelihood rises, its gradient reaches all parameters, prediction = dense linear algebra."""
    x = torch.linspace(0, 2, 40, dtype=torch.float64)[:, None]
    y = torch.sin(2 * math.pi * 3.1 * x[:, 0]) + 0.3 * x[:, 0]
    kernel: gpytorch.kernels.Kernel = {
        "gaussian": lambda: GaussianMixture([0.5, 0.5], [0.0, 3.0], [0.2, 0.2]),
        "student": lambda: StudentMixture([0.5, 0.5], [0.0, 3.0], [0.5, 0.5]),
        "scaled": lambda: gpytorch.kernels.ScaleKernel(GaussianMixture([0.5, 0.5], [0.0, 3.0], [0.2, 0.2])).double(),
    }[kind]()
    model = Regression(x, y, kernel)
    evidence = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    history = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = -evidence(model(x), y)
        loss.backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in kernel.parameters())
        optimiser.step()
        history.append(float(loss.detach()))
    assert history[-1] < history[0] - 0.1
    model.eval()
    at = torch.tensor([[0.03], [0.77], [2.2]], dtype=torch.float64)
    with torch.no_grad():
        predicted = model(at)
        mean, covariance = dense_prediction(kernel, x, y, at, float(model.likelihood.noise))
        torch.testing.assert_close(predicted.mean, mean, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(predicted.covariance_matrix, covariance, rtol=1e-7, atol=1e-9)


def test_product_of_factors_on_columns_is_the_separable_covariance() -> None:
    first = GaussianMixture([1.0, 0.5], [0.0, 2.0], 1.0, active_dims=(0,))
    second = StudentMixture([0.3], [1.1], 0.8, active_dims=(1,))
    product = gpytorch.kernels.ProductKernel(first, second)
    a = torch.rand(6, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    b = torch.rand(4, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def factor(kernel: StationaryKernel, left: Tensor, right: Tensor, column: int) -> Tensor:
        return kernel.derivatives(left[:, None, column] - right[None, :, column], 0)[0]

    expected = factor(first, a, b, 0) * factor(second, a, b, 1)
    torch.testing.assert_close(product(a, b).to_dense(), expected, rtol=1e-13, atol=0)
    square = factor(first, a, a, 0) * factor(second, a, a, 1)
    torch.testing.assert_close(product(a).to_dense(), square, rtol=1e-13, atol=0)
    torch.testing.assert_close(product(a, diag=True), square.diagonal(), rtol=1e-13, atol=0)


def test_grid_kernel_has_toeplitz_factors_in_a_kronecker_product() -> None:
    """`GridKernel` on a 6 x 5 grid = the product of both axes, held as Toeplitz factors of `linear_operator`."""
    kernel = GaussianMixture([1.0, 0.5], [0.0, 1.3], 1.0)
    lines = [torch.linspace(0, 1, 6, dtype=torch.float64), torch.linspace(0, 2, 5, dtype=torch.float64)]
    points = gpytorch.utils.grid.create_data_from_grid(lines)
    structured = gpytorch.kernels.GridKernel(kernel, lines).double().eval()
    covariance = structured(points, points).evaluate_kernel()
    assert isinstance(covariance, KroneckerProductLinearOperator)
    assert all(isinstance(part, ToeplitzLinearOperator) for part in covariance.linear_ops)
    expected = torch.ones((), dtype=torch.float64)
    for axis in range(2):
        expected = expected * kernel.derivatives(points[:, None, axis] - points[None, :, axis], 0)[0]
    torch.testing.assert_close(covariance.to_dense(), expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # raised inside gpytorch
def test_structured_kernel_interpolation() -> None:
    """Cubic interpolation from a fine grid: close to the exact covariance at scattered points."""
    kernel = StudentMixture([1.0, 0.5], [0.0, 1.3], 1.0)
    interpolated = gpytorch.kernels.GridInterpolationKernel(kernel, grid_size=200, num_dims=1, grid_bounds=[(0.0, 3.0)])
    interpolated = interpolated.double()
    torch.testing.assert_close(interpolated(POINTS).to_dense(), kernel(POINTS).to_dense(), rtol=0, atol=1e-3)


def test_batches_of_kernels_and_of_inputs() -> None:
    w = torch.tensor([[1.0, 0.2], [0.5, 0.1], [2.0, 0.3]], dtype=torch.float64)
    kernel = GaussianMixture(w, [0.0, 2.0], [1.0, 3.0])
    assert kernel.batch_shape == (3,)
    assert kernel(POINTS).shape == (3, 13, 13)
    alone = GaussianMixture(w[1], [0.0, 2.0], [1.0, 3.0])
    torch.testing.assert_close(kernel(POINTS)[1].to_dense(), alone(POINTS).to_dense())
    torch.testing.assert_close(kernel[1](POINTS).to_dense(), alone(POINTS).to_dense())
    batch = torch.stack([POINTS, POINTS + 1, 2 * POINTS])
    values = kernel(batch, batch[..., :4, :]).to_dense()
    torch.testing.assert_close(values[1], alone(batch[1], batch[1, :4]).to_dense())
    torch.testing.assert_close(alone.expand_batch(torch.Size([3]))(batch).to_dense()[2], alone(batch[2]).to_dense())
    assert kernel(batch, diag=True).shape == (3, 13)
    columns = torch.cat([POINTS, 2 * POINTS], dim=-1)
    per_column = kernel.forward(columns, columns[:4], last_dim_is_batch=True)
    assert per_column.shape == (3, 2, 13, 4)
    torch.testing.assert_close(per_column[1, 1], alone(2 * POINTS, 2 * POINTS[:4]).to_dense())


def test_single_precision_model() -> None:
    kernel = GaussianMixture([1.0, 0.3], [0.0, 2.0], 1.0).float()
    assert kernel.dtype == torch.float32
    assert kernel(POINTS.float()).to_dense().dtype == torch.float32


def test_state_is_saved_and_loaded() -> None:
    kernel = StudentMixture([1.0, 0.3], [0.0, 2.0], 1.0)
    other = StudentMixture([9.0, 9.0], [9.0, 9.0], 9.0)
    other.load_state_dict(kernel.state_dict())
    assert torch.equal(other(POINTS).to_dense(), kernel(POINTS).to_dense())


def test_several_columns_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"one column, got 2; choose one by `active_dims`"):
        GaussianMixture(1.0, 0.0, 1.0)(torch.zeros(4, 2, dtype=torch.float64)).to_dense()
