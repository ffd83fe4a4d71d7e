"""Networks on point sets: symmetries, limits, gradients, every layer alive."""

import numpy as np
import pytest
import torch

from sciprob.errors import ConfigError, DataError, ShapeError
from sciprob.solvers.rgnp.gicnet import GICNet, GICShape
from sciprob.solvers.rgnp.set_interpolation import kernel_interpolation

SMALL = GICShape(channels=6, width=16)


def net(dim=1, values=2, side=3, outputs=4, shape=SMALL):
    return GICNet(dim, values, side, outputs, shape, torch.Generator().manual_seed(0))


def sets(dim=1, m=9, batch=(2,), seed=1):
    g = torch.Generator().manual_seed(seed)
    points = 2 * torch.rand(*batch, m, dim, dtype=torch.float64, generator=g) - 1
    values = torch.randn(*batch, m, 2, dtype=torch.float64, generator=g)
    return points, values, torch.randn(*batch, 3, dtype=torch.float64, generator=g)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_order_and_repetition_of_points_change_nothing(dim):
    model, (points, values, side) = net(dim), sets(dim)
    out = model(points, values, side)
    assert out.shape == (2, 4)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model(points[:, order], values[:, order], side), out, atol=1e-12, rtol=1e-12)
    twice = model(torch.cat([points, points], 1), torch.cat([values, values], 1), side)
    torch.testing.assert_close(twice, out, atol=1e-12, rtol=1e-12)


def test_points_of_weight_zero_are_not_seen_and_sets_of_different_size_share_a_batch():
    model, (points, values, side) = net(2), sets(2)
    log_weights = torch.zeros(2, 9, dtype=torch.float64)
    log_weights[1, 4:] = -torch.inf
    out = model(points, values, side, log_weights)
    torch.testing.assert_close(out[0], model(points[0], values[0], side[0]), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(out[1], model(points[1, :4], values[1, :4], side[1]), atol=1e-12, rtol=1e-12)
    out.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("batch", [(), (0,), (2, 3)])
def test_leading_axes_are_batches(batch):
    model, (points, values, side) = net(), sets(batch=batch)
    out = model(points, values, side)
    assert out.shape == (*batch, 4)
    for index in np.ndindex(batch):
        torch.testing.assert_close(out[index], model(points[index], values[index], side[index]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [1.0, 0.1, 0.004])
def test_constants_are_reproduced_at_every_node_and_far_nodes_see_the_nearest_point(length):
    """With length 0.004 a kernel that is summed directly underflows at most nodes."""
    points, _, _ = sets(m=5, batch=())
    nodes = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
    lengths = torch.full((1,), length, dtype=torch.float64)
    constant, _ = kernel_interpolation(points, torch.full((5, 1), 3.7, dtype=torch.float64), nodes, lengths)
    torch.testing.assert_close(constant, torch.full_like(constant, 3.7), atol=1e-13, rtol=0)
    if length < 0.01:
        position, _ = kernel_interpolation(points, points, nodes, lengths)
        nearest = points[(nodes - points.T).abs().argmin(1)]
        torch.testing.assert_close(position, nearest, atol=1e-3, rtol=0)


def test_interpolation_is_the_ratio_of_sums_and_moves_with_the_grid():
    points, values, _ = sets(2, m=30, batch=())
    nodes = 2 * torch.rand(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) - 1
    lengths = torch.tensor([0.5, 0.3], dtype=torch.float64)
    average, density = kernel_interpolation(points, values, nodes, lengths)
    for p, length in enumerate(lengths):
        kernel = torch.exp(-((nodes[:, None] - points[None]) ** 2).sum(-1) / (2 * length**2))
        torch.testing.assert_close(average[:, p], kernel @ values[:, p] / kernel.sum(1), atol=1e-12, rtol=1e-10)
        torch.testing.assert_close(density[:, p], kernel.mean(1).log(), atol=1e-12, rtol=1e-10)
    shift = torch.tensor([0.4, -2.0], dtype=torch.float64)
    moved, _ = kernel_interpolation(points + shift, values, nodes + shift, lengths)
    torch.testing.assert_close(moved, average, atol=1e-12, rtol=1e-12)


def slope(draw_points):
    """Order in m at which outputs approach those of a very dense even set."""
    model, side = net(), torch.zeros(3, dtype=torch.float64)

    def out(points):
        values = torch.cat([torch.sin(3 * points), points**2], dim=-1)
        with torch.no_grad():
            return model(points, values, side.expand(*points.shape[:-2], 3))

    limit = out(((torch.arange(20_000, dtype=torch.float64) + 0.5) / 10_000 - 1)[:, None])
    sizes = (60, 250, 1000, 2000)
    drifts = [float((out(draw_points(m)) - limit).square().mean().sqrt()) for m in sizes]
    return np.polyfit(np.log(sizes), np.log(drifts), 1)[0]


def test_outputs_converge_as_points_are_added():
    g = torch.Generator().manual_seed(4)
    assert slope(lambda m: 2 * torch.rand(40, m, 1, dtype=torch.float64, generator=g) - 1) < -0.4

    def sobol(m):
        engines = [torch.quasirandom.SobolEngine(1, scramble=True, seed=seed) for seed in range(10)]
        return torch.stack([2 * engine.draw(m, dtype=torch.float64) - 1 for engine in engines])

    assert slope(sobol) < -0.7


@pytest.mark.parametrize("dim", [1, 2])
def test_gradients_are_finite_for_one_point_and_on_nodes(dim):
    model = net(dim)
    for points in (torch.full((1, dim), 0.3, dtype=torch.float64), model.nodes.clone()):
        points.requires_grad_()
        out = model(points, torch.ones(len(points), 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
        gradients = torch.autograd.grad(out.sum(), [points, *model.parameters()])
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_every_parameter_is_alive():
    """In the published code all lift layers but the last were dead, and narrow channels were zero."""
    model, (points, values, side) = net(shape=GICShape(channels=6, width=16)), sets(m=9)
    out = model(points, values, side)
    out.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert float(parameter.grad.abs().max()) > 0, name
    assert bool((model.raw_lengths.grad.abs() > 0).all())
    before = out.detach()
    for layer in range(0, 8, 2):
        changed = net()
        with torch.no_grad():
            changed.lift[layer].weight *= -1
            assert float((changed(points, values, side) - before).abs().max()) > 1e-6, layer


def test_lengths_cannot_fall_below_half_a_spacing():
    model = net()
    with torch.no_grad():
        model.raw_lengths.fill_(-1e3)
    assert bool((model.lengths >= 1 / 15).all())


def test_density_tells_a_cluster_from_an_even_set():
    model, side = net(), torch.zeros(3, dtype=torch.float64)
    even = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
    values = torch.ones(200, 2, dtype=torch.float64)
    clustered = even.abs() ** 3 * even.sign()
    with torch.no_grad():
        assert float((model(even, values, side) - model(clustered, values, side)).abs().max()) > 1e-4


def test_bad_inputs_are_named():
    model, (points, values, side) = net(), sets()
    with pytest.raises(DataError, match="at least one point"):
        model(points[:, :0], values[:, :0], side)
    with pytest.raises(ShapeError, match="columns"):
        model(points, values[..., :1], side)
    with pytest.raises(ConfigError, match="grid of more"):
        net(shape=GICShape(grid=5))
