"""Forward Taylor mode of networks against nested `torch.func`, and its derivatives in the parameters."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.pde.autodiff_jets import autodiff_jets
from sciprob.pde.coordinates import point_jets
from sciprob.pde.derivative_names import closure
from sciprob.pde.jet import Jet
from sciprob.pde.network_jets import network_jets

NAMES = ("xxxx", "xxt", "tt")
FIELDS = {"u": ("xx", "t"), "v": ("xxt",)}


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class Features(nn.Module):
    """Fourier features, constant parameters, a skip connection and a product of branches."""

    def __init__(self, width=8):
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(2, width))
        self.first, self.second = nn.Linear(2 * width + 3, width), nn.Linear(width, width)
        self.last = nn.Linear(width, 2)
        self.register_buffer("z", torch.randn(1, 3))

    def forward(self, x):
        a = x @ self.frequencies
        h = torch.tanh(self.first(torch.cat([torch.sin(a), torch.cos(a), self.z.expand(*x.shape[:-1], 3)], dim=-1)))
        h = h + nn.functional.silu(self.second(h)) * torch.sigmoid(h) / (1 + h * h)
        return self.last(h)


def network(activation, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    if activation == "features":
        return Features().to(dtype)
    layers = [nn.Linear(2, 9), activation(), nn.Linear(9, 7), activation(), nn.Linear(7, 2)]
    return nn.Sequential(*layers).to(dtype)


LAYERS = {
    "tanh": nn.Tanh,
    "sine": Sine,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "softplus": lambda: nn.Softplus(beta=1.5),
    "features": "features",
}


def points(*batch, dtype=torch.float64):
    return torch.rand(*batch, 2, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_derivative_equals_nested_forward_mode(layer, dtype, tolerance):
    net, x = network(LAYERS[layer], dtype=dtype), points(3, 6, dtype=dtype)
    reference = autodiff_jets(net.double(), x.double(), "xt", NAMES)
    jet = net.to(dtype)(point_jets(x, "xt", NAMES))
    scale = max(float(reference[name].detach().abs().max()) for name in closure(NAMES))
    for name in closure(NAMES):
        assert jet[name].dtype == dtype
        assert jet[name].shape == (3, 6, 2)
        error = (jet[name].double() - reference[name]).abs().max()
        assert error <= tolerance * min(scale, 1 + float(reference[name].detach().abs().max())), name


@pytest.mark.parametrize("layer", LAYERS)
def test_richardson_differences_converge_with_order_two(layer):
    """Independent of automatic differentiation: central differences, error falling fourfold."""
    net, x = network(LAYERS[layer]), points(6)
    jet = net(point_jets(x, "xt", ("xx", "t")))
    errors = []
    with torch.no_grad():
        for h in (0.04, 0.02, 0.01):
            dx, dt = torch.tensor([h, 0.0]).double(), torch.tensor([0.0, h]).double()
            second = (net(x + dx) - 2 * net(x) + net(x - dx)) / h**2
            first = (net(x + dt) - net(x - dt)) / (2 * h)
            errors.append([float((second - jet.xx).norm()), float((first - jet.t).norm())])
    for coarse, fine in pairwise(errors):
        for a, b in zip(coarse, fine, strict=True):
            assert 3.6 < a / b < 4.4, errors


def loss_by_jets(net, parameters, x):
    u = functional_call(Residual(net), parameters, (x,))
    return u.square().sum()


class Residual(nn.Module):
    """A nonlinear function of the derivatives, as a residual is."""

    def __init__(self, net, nested=False):
        super().__init__()
        self.net, self.nested = net, nested

    def forward(self, x):
        if self.nested:
            jet = autodiff_jets(self.net, x, "xt", NAMES)
            return (jet.t + jet.value * jet.x - 0.1 * jet.xx + 0.01 * jet.xxxx + jet.xxt).sum(-1)
        u = self.net(point_jets(x, "xt", NAMES))
        return (u.t + u.value * u.x - 0.1 * u.xx + 0.01 * u.xxxx + u.xxt).sum(-1)


def pair(layer):
    net = network(LAYERS[layer])
    parameters = {f"net.{k}": v.detach() for k, v in net.named_parameters()}
    return Residual(net), Residual(net, nested=True), parameters


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_in_the_parameters(layer):
    """Ordinary backward, `torch.func.grad`, forward mode and a reference through nested forward mode."""
    fused, nested, parameters = pair(layer)
    x = points(5)

    def loss(module):
        return lambda p: functional_call(module, p, (x,)).square().sum()

    reference = grad(loss(nested))(parameters)
    found = grad(loss(fused))(parameters)
    loss_value = fused(x).square().sum()
    backward = torch.autograd.grad(loss_value, list(fused.parameters()))
    direction = {k: torch.randn_like(v) for k, v in parameters.items()}
    _, tangent = jvp(loss(fused), (parameters,), (direction,))
    slope = sum((reference[k] * direction[k]).sum() for k in parameters)
    assert float(tangent) == pytest.approx(float(slope), rel=1e-10)
    for key, other in zip(parameters, backward, strict=True):
        scale = 1e-11 * (1 + reference[key].abs().max())
        assert (found[key] - reference[key]).abs().max() < scale, key
        assert (other - reference[key]).abs().max() < scale, key


@pytest.mark.parametrize("layer", ["tanh", "features"])
def test_per_point_gradients_and_batches_of_parameters(layer):
    """The two uses of `vmap`: rows of the Jacobian of residuals, and ensembles of networks."""
    fused, nested, parameters = pair(layer)
    x = points(5)

    def residual(module):
        return lambda p, point: functional_call(module, p, (point[None],))[0]

    rows = vmap(grad(residual(fused)), (None, 0))(parameters, x)
    reference = jacrev(lambda p: functional_call(nested, p, (x,)))(parameters)
    for key in parameters:
        assert (rows[key] - reference[key]).abs().max() < 1e-11 * (1 + reference[key].abs().max()), key
    ensemble = {k: torch.stack([v, 0.5 * v, -v]) for k, v in parameters.items()}
    together = vmap(lambda p: functional_call(fused, p, (x,)))(ensemble)
    one_by_one = [functional_call(fused, {k: v[i] for k, v in ensemble.items()}, (x,)) for i in range(3)]
    assert (together - torch.stack(one_by_one)).abs().max() < 1e-13


@pytest.mark.parametrize("layer", ["tanh", "sine", "silu"])
def test_second_derivatives_in_the_parameters(layer):
    fused, nested, parameters = pair(layer)
    x = points(3)
    key = "net.2.weight"

    def loss(module):
        return lambda w: functional_call(module, parameters | {key: w}, (x,)).square().sum()

    reference = hessian(loss(nested))(parameters[key])
    scale = reference.abs().max()
    for found in (hessian(loss(fused)), jacrev(jacrev(loss(fused))), jacfwd(jacfwd(loss(fused)))):
        assert (found(parameters[key]) - reference).abs().max() < 1e-11 * scale
    weight = parameters[key].clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(fused)(weight), weight, create_graph=True)
    (second,) = torch.autograd.grad(first[0, 0], weight)
    assert (second - reference[0, 0]).abs().max() < 1e-11 * scale


def test_vmap_over_a_derivative_alone():
    """The value may lack the batch axis that one of its derivatives has."""
    value, slopes = torch.rand(2, 4, dtype=torch.float64), torch.rand(3, 2, 4, dtype=torch.float64)

    def function(slope):
        jet = torch.tanh(Jet({"": value, "x": slope, "xx": slope}))
        return jet.value, jet.xx

    for found, alone in zip(vmap(function)(slopes), zip(*map(function, slopes), strict=True), strict=True):
        assert found.shape == (3, 2, 4)
        assert (found - torch.stack(list(alone))).abs().max() < 1e-15


def test_coordinates_can_be_differentiated_too():
    """Sensitivity of a derivative to the position of its point: one more derivative."""
    net, x = network(nn.Tanh), points(4).requires_grad_()
    (slope,) = torch.autograd.grad(net(point_jets(x, "xt", ("xx",))).xx[..., 0].sum(), x)
    expected = net(point_jets(x.detach(), "xt", ("xxx", "xxt")))
    assert (slope[:, 0] - expected.xxx[..., 0]).abs().max() < 1e-12
    assert (slope[:, 1] - expected.xxt[..., 0]).abs().max() < 1e-12


def test_fields_are_the_outputs_in_order():
    net, x = network(nn.Tanh), points(2, 4)
    fields = network_jets(net, x, "xt", FIELDS)
    assert list(fields) == ["u", "v"]
    assert (fields["v"].value - net(x)[..., 1]).abs().max() < 1e-14
    assert fields["u"].xx.shape == (2, 4)
    with pytest.raises(ShapeError, match="should have 1 outputs, got 2"):
        network_jets(net, x, "xt", {"u": ("x",)})


def test_a_kink_is_refused_with_a_way_out():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with pytest.raises(UnsupportedProblemError, match=r"`relu` has no derivative rule for jets.*autodiff_jets"):
        net(point_jets(points(4).float(), "xt", ("xx",)))


def test_empty_batches():
    net = network(nn.Tanh)
    jet = net(point_jets(points(0, 4), "xt", NAMES))
    assert jet.xxxx.shape == (0, 4, 2)


@pytest.mark.filterwarnings("ignore")
def test_a_residual_compiles_as_one_graph():
    net, x = network(nn.Tanh), points(8)

    def residual(at):
        u = net(point_jets(at, "xt", ("xx", "t")))
        return (u.t + u.value * u.x - 0.1 * u.xx).square().sum()

    compiled = torch.compile(residual, backend="eager", fullgraph=True)
    assert float(compiled(x).detach()) == pytest.approx(float(residual(x).detach()), rel=1e-12)


@pytest.mark.parametrize(
    ("coordinates", "derivatives", "share"), [("xyt", ("xx", "yy", "t"), 0.5), ("xt", ("xxxx",), 0.25)]
)
def test_arithmetic_grows_with_the_number_of_derivatives_only(coordinates, derivatives, share):
    """Matrix products of one pass: those of as many evaluations as derivatives; nested reverse mode needs more."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(len(coordinates), 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))
    x = torch.rand(50, len(coordinates))

    def by_jets():
        u = net(point_jets(x, coordinates, derivatives))
        return sum(u[name].square().sum() for name in derivatives)

    def nested():
        columns = [column.clone().requires_grad_() for column in x.unbind(-1)]
        total = 0.0
        for field in net(torch.stack(columns, -1)).unbind(-1):
            for name in derivatives:
                value = field
                for letter in name:
                    axis = columns[coordinates.index(letter)]
                    (value,) = torch.autograd.grad(value.sum(), axis, create_graph=True)
                total = total + value.square().sum()
        return total

    def operations(loss):
        with FlopCounterMode(display=False) as counter:
            loss().backward()
        return counter.get_total_flops()

    assert float(nested().detach()) == pytest.approx(float(by_jets().detach()), rel=1e-4)
    streams = len(closure(derivatives))
    assert operations(by_jets) <= streams * operations(lambda: net(x).sum())
    assert operations(by_jets) <= share * operations(nested)
