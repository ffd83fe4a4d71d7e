"""Networks of points: derivatives against autograd, and Jacobians sample by sample against single gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sciprob
from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.pde import network_jets
from sciprob.pde.autodiff_jets import autodiff_jets
from sciprob.pde.jet import Jet
from sciprob.solvers.rgnp.jacobian import sample_jacobian
from sciprob.solvers.rgnp.network import NetworkShape, PointNetwork
from sciprob.solvers.rgnp.residuals import mean_field, weighted_residuals
from sciprob.solvers.rgnp.sampling import sobol_collocation
from sciprob.solvers.rgnp.store import new_network


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_derivatives_are_those_of_nested_autodiff(dtype: torch.dtype, tolerance: float, activation: str) -> None:
    shape = NetworkShape(7, 2, 3, activation)  # type: ignore[arg-type]
    network = PointNetwork((0.0, -1.0), (2.0, 1.0), 2, 2, shape, seeded()).to(dtype)
    points, q = torch.rand(5, 2, generator=seeded(1), dtype=dtype), torch.rand(1, 2, generator=seeded(2), dtype=dtype)
    fields = {"u": ("xx", "t", "xt"), "v": ("tt", "xx")}
    jets = network_jets(lambda x: network(x, q), points, "xt", fields)
    reference = PointNetwork((0.0, -1.0), (2.0, 1.0), 2, 2, shape, seeded())
    exact = autodiff_jets(lambda x: reference(x, q.double()), points.double(), "xt", ("xx", "xt", "tt"))
    for i, (name, derivatives) in enumerate(fields.items()):
        for derivative in ("", *derivatives):
            expected = exact[derivative][..., i].detach()
            error = (jets[name][derivative].detach().double() - expected).abs().max()
            assert error <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", ["poisson-family", "burgers-family", "cavity-family"])
def test_rows_of_the_jacobian_are_gradients_of_single_residuals(name: str) -> None:
    family = sciprob.load_family(name)
    network = new_network(family, NetworkShape(5, 2, 1), seeded())
    batch = sobol_collocation(family, 4, seeded(1), torch.float64)
    values, jacobian = sample_jacobian(network, lambda: weighted_residuals(family, network, batch))
    assert values.shape == (4, len(family.equations))
    for i in range(4):
        for k in range(len(family.equations)):
            alone = weighted_residuals(family, network, batch[i : i + 1])[0, k]
            gradient = torch.autograd.grad(alone, list(network.parameters()), allow_unused=True, materialize_grads=True)
            expected = torch.cat([g.flatten() for g in gradient])
            assert (jacobian[i, k] - expected).norm() <= 1e-12 * expected.norm()
            assert (values[i, k] - alone).abs() <= 1e-12 * alone.abs()


def test_field_jacobian_predicts_a_small_change_of_the_weights_to_second_order() -> None:
    family = sciprob.load_family("burgers-family")
    network = new_network(family, NetworkShape(6, 2, 2), seeded())
    batch = sobol_collocation(family, 3, seeded(1), torch.float64)

    def field() -> Tensor:
        return mean_field(family, network, batch.points.unsqueeze(-2), batch.z, batch.w)[:, 0]

    value, rows = sample_jacobian(network, field)
    start = nn.utils.parameters_to_vector(network.parameters()).detach()
    direction = torch.randn(len(start), generator=seeded(3), dtype=torch.float64)
    defects = []
    for h in (1e-2, 1e-3):
        nn.utils.vector_to_parameters(start + h * direction, network.parameters())
        defects.append((field() - value - h * rows @ direction).detach().norm())
    assert float(torch.log10(defects[0] / defects[1])) == pytest.approx(2.0, abs=0.15)


def test_jacobian_works_where_gradients_are_off_and_for_no_samples() -> None:
    family = sciprob.load_family("poisson-family")
    network = new_network(family, NetworkShape(4, 1, 1), seeded())
    for n in (0, 2):
        batch = sobol_collocation(family, 2, seeded(), torch.float64)[:n]
        with torch.no_grad():
            _, jacobian = sample_jacobian(network, lambda batch=batch: weighted_residuals(family, network, batch))
        assert jacobian.shape == (n, 1, sum(p.numel() for p in network.parameters()))
        assert n == 0 or bool(jacobian.any())


def test_networks_whose_rows_cannot_be_formed_are_refused() -> None:
    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))

    x = torch.zeros(3, 2)
    for network, words in ((Reused(), "used once"), (nn.LayerNorm(2), "LayerNorm has its own")):
        with pytest.raises(UnsupportedProblemError, match=words):
            sample_jacobian(network, lambda network=network: network(x))


def test_points_are_scaled_by_the_box_and_harmonics_have_quarter_periods() -> None:
    network = PointNetwork((1.0,), (3.0,), 0, 1, NetworkShape(3, 1, 2), seeded())
    features = network._features(torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64), torch.empty(1, 0))
    q = torch.pi / 2 * torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    expected = torch.cat([q * 2 / torch.pi, q.sin(), (2 * q).sin(), q.cos(), (2 * q).cos()], dim=-1)
    assert torch.allclose(features, expected, atol=1e-15)


def test_weights_work_with_functional_call_and_vmap() -> None:
    network = PointNetwork((0.0,), (1.0,), 1, 1, NetworkShape(4, 1, 1), seeded())
    stacked = {name: torch.stack([p, 2 * p]) for name, p in network.named_parameters()}
    x, q = torch.rand(5, 1, generator=seeded(1), dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)

    def slope(weights: dict[str, Tensor]) -> Tensor:
        def at(points: Jet) -> Jet:
            found: Jet = torch.func.functional_call(network, weights, (points, q))
            return found

        return network_jets(at, x, "x", {"u": ("x",)})["u"].x

    both = torch.func.vmap(slope)(stacked)
    assert torch.allclose(both[0], slope(dict(network.named_parameters())))
    assert not torch.allclose(both[0], both[1])


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="lower < upper"):
        PointNetwork((1.0,), (1.0,), 0, 1, NetworkShape(), seeded())
    with pytest.raises(ConfigError, match="width and depth"):
        NetworkShape(width=0)
    with pytest.raises(ConfigError, match="`activation`"):
        NetworkShape(activation="relu")  # type: ignore[arg-type]
    network = PointNetwork((0.0,), (1.0,), 2, 1, NetworkShape(4, 1, 1), seeded())
    with pytest.raises(ShapeError, match="takes 2 parameters"):
        network(torch.zeros(3, 1, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64))
