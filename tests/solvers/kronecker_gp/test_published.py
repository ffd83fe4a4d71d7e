"""The published trainer: its objective, optimiser, closed form, and independent runs of the authors' code."""

import dataclasses
import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from sciprob import load_posterior
from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.pde import PDE
from sciprob.pde.collocation import Collocation
from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.pde.poisson import Poisson
from sciprob.pde.side_conditions import SideCondition
from sciprob.priors.kernels import covariance
from sciprob.solvers.kronecker_gp.conditioning import condition
from sciprob.solvers.kronecker_gp.published import PublishedModel
from sciprob.solvers.kronecker_gp.published_posterior import published_conditional, published_posterior

WEIGHT, JITTER = 30.0, 1e-6


class Reaction(PDE):
    """u'' + u (u^2 - 1) = f."""

    coordinates = ("x",)
    fields = {"u": ("xx",)}  # noqa: RUF012
    equations = ("reaction",)
    parameters = ("f",)

    def residual(self, x, u, p):
        field = u["u"]
        return {"reaction": field.xx + field.value * (field.value**2 - 1) - p["f"]}


class Skew(PDE):
    """-u_xx - u_yy - 0.7 u_xy - f = 0."""

    coordinates = ("x", "y")
    fields = {"u": ("xx", "yy", "xy")}  # noqa: RUF012
    equations = ("skew",)
    parameters = ("f",)
    linear = True

    def residual(self, x, u, p):
        return {"skew": -u["u"].xx - u["u"].yy - 0.7 * u["u"].xy - p["f"]}


def line(n=24, source=None, pde=None):
    """Dirichlet at one end, Robin at the other."""
    conditions = (SideCondition.dirichlet("x_lower", 0.3), SideCondition.robin("x_upper", 2.0, -0.4))
    name = "f" if pde else "forcing"
    source = source or (lambda x: torch.sin(9 * x["x"]))
    return Collocation(pde or Poisson("x"), (0.0,), (1.5,), (n,), {name: source}, conditions)


def plane(shape=(6, 7)):
    """Dirichlet on three sides; the fourth is free."""
    sides = ("x_lower", "x_upper", "y_lower")
    conditions = tuple(SideCondition.dirichlet(side, lambda x: torch.cos(x["x"] - 2 * x["y"])) for side in sides)
    forcing = {"f": lambda x: torch.sin(3 * x["x"]) * x["y"]}
    return Collocation(Skew(), (0.0, -1.0), (1.0, 1.0), shape, forcing, conditions)


def trained_a_little(collocation, kernel="student-mixture", steps=3):
    """A state with no special values in any parameter."""
    model = PublishedModel(collocation, 3.0, kernel, 4, boundary_weight=WEIGHT, jitter=JITTER)
    state = model.init()
    generator = torch.Generator().manual_seed(1)
    for name, value in state.parameters.items():
        noise = torch.randn(value.shape, dtype=value.dtype, generator=generator)
        state.parameters[name] = value + (0.3 * noise if name != "values" else noise)
    return model, state


def dense(model, state):
    """C, and the matrices of equation and conditions acting on vec U, by Kronecker products."""
    kernels, lines = model.kernels(state), model.collocation.points().lines
    plain = [
        covariance(k, x, x) + JITTER * torch.eye(len(x), dtype=x.dtype) for k, x in zip(kernels, lines, strict=True)
    ]

    def along(p):
        mats = [
            torch.linalg.solve(c, covariance(k, x, x, order).T).T if order else torch.eye(len(x), dtype=x.dtype)
            for k, x, c, order in zip(kernels, lines, plain, p, strict=True)
        ]
        return mats[0] if len(mats) == 1 else torch.kron(mats[0], mats[1])

    c = plain[0] if len(plain) == 1 else torch.kron(plain[0], plain[1])
    if len(lines) == 1:
        value, slope = along((0,)), along((1,))
        boundary = torch.stack([value[0], slope[-1] + 2 * value[-1]])
        return c, -along((2,)), boundary, torch.tensor([0.3, -0.4], dtype=c.dtype)
    n, m = len(lines[0]), len(lines[1])
    index = torch.arange(n * m).reshape(n, m)
    rows = torch.cat([index[0], index[-1], index[:, 0]])
    x, y = (g.flatten() for g in torch.meshgrid(*lines, indexing="ij"))
    operator = -along((2, 0)) - along((0, 2)) - 0.7 * along((1, 1))
    return c, operator, torch.eye(n * m, dtype=c.dtype)[rows], torch.cos(x - 2 * y)[rows]


def source_of(model):
    return -model.collocation.residual(model.collocation.zero_jet(model.collocation.points())).flatten()


@pytest.mark.parametrize("kernel", ["student-mixture", "gaussian-mixture"])
@pytest.mark.parametrize("make", [line, plane])
def test_the_gradient_in_u_vanishes_at_the_closed_form(make, kernel):
    model, state = trained_a_little(make(), kernel)
    c, operator, boundary, g = dense(model, state)
    tau_1, tau_2 = (state.parameters[name].exp() for name in ("log_tau_1", "log_tau_2"))
    precision = torch.linalg.inv(c) + WEIGHT * tau_1 * boundary.T @ boundary + tau_2 * operator.T @ operator
    rhs = WEIGHT * tau_1 * boundary.T @ g + tau_2 * operator.T @ source_of(model)
    best = torch.linalg.solve(precision, rhs).reshape(model.collocation.shape)

    def gradient(u):
        u = u.clone().requires_grad_()
        return torch.autograd.grad(model.loss({**state.parameters, "values": u}), u)[0]

    scale = gradient(torch.zeros_like(best)).norm()
    assert gradient(best).norm() < 1e-8 * scale
    assert gradient(best * 1.01).norm() > 1e-4 * scale


@pytest.mark.parametrize("make", [line, plane])
def test_the_objective_is_a_sum_of_normal_densities(make):
    model, state = trained_a_little(make())
    c, operator, boundary, g = dense(model, state)
    u, n = state.parameters["values"].flatten(), c.shape[0]
    std_1, std_2 = ((-0.5 * state.parameters[name]).exp() for name in ("log_tau_1", "log_tau_2"))
    prior = MultivariateNormal(torch.zeros_like(u), c).log_prob(u)
    conditions = Normal(boundary @ u, std_1).log_prob(g).sum()
    equation = Normal(operator @ u, std_2).log_prob(source_of(model)).sum()
    constants = 0.5 * math.log(2 * math.pi) * (2 * n + WEIGHT * len(g))
    expected = -(prior + WEIGHT * conditions + equation) - constants
    torch.testing.assert_close(model.loss(state.parameters), expected, rtol=1e-9, atol=0)


def test_a_nonlinear_residual_has_the_matrices_in_place_of_derivatives():
    model, state = trained_a_little(line(pde=Reaction()))
    _, operator, _, _ = dense(model, state)
    u = state.parameters["values"]
    f = torch.sin(9 * model.collocation.points().lines[0])
    residual = -operator @ u + u * (u**2 - 1) - f
    by_precision = torch.func.grad(lambda t: model.loss({**state.parameters, "log_tau_2": t}))
    tau_2 = state.parameters["log_tau_2"].exp()
    expected = 0.5 * tau_2 * residual.square().sum() - 0.5 * len(u)
    torch.testing.assert_close(by_precision(state.parameters["log_tau_2"]), expected, rtol=1e-9, atol=0)


def test_steps_are_those_of_torch_adam_and_leave_the_state_alone():
    model, state = trained_a_little(plane())
    leaves = {name: value.clone().requires_grad_() for name, value in state.parameters.items()}
    before = state.parameters["values"].clone()
    optimiser = torch.optim.Adam(list(leaves.values()), lr=1e-2)
    new = state
    for _ in range(5):
        optimiser.zero_grad()
        model.loss(leaves).backward()
        optimiser.step()
        new, figures = model.step(new)
    assert new.steps == 5
    assert math.isfinite(figures["loss"])
    torch.testing.assert_close(state.parameters["values"], before, rtol=0, atol=0)
    for name, leaf in leaves.items():
        torch.testing.assert_close(new.parameters[name], leaf.detach(), rtol=1e-9, atol=1e-11)


def test_a_batch_trains_each_right_hand_side_for_itself():
    sources = [lambda x: torch.sin(9 * x["x"]), lambda x: 3 * torch.cos(4 * x["x"])]
    both = PublishedModel(line(source=lambda x: torch.stack([f(x) for f in sources])), 3.0, components=4)
    states = [both.init()] + [PublishedModel(line(source=f), 3.0, components=4).init() for f in sources]
    models = [both] + [PublishedModel(line(source=f), 3.0, components=4) for f in sources]
    for _ in range(4):
        states = [model.step(state)[0] for model, state in zip(models, states, strict=True)]
    points = ScatteredPoints(torch.linspace(0.01, 1.49, 9, dtype=torch.float64)[:, None])
    together = both.predict(states[0], points, "x")
    assert together.shape == (2, 9)
    alone = torch.stack([m.predict(s, points, "x") for m, s in zip(models[1:], states[1:], strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-10)


def test_the_start_of_the_authors_run_is_met():
    """`poisson_1d-single_sin` of the authors' code, unmodified: after 96 steps error 0.27562065 in their stored log."""
    exact = lambda x: torch.sin(100 * x)  # noqa: E731
    ends = tuple(SideCondition.dirichlet(side, lambda x: exact(x["x"])) for side in ("x_lower", "x_upper"))
    forcing = {"forcing": lambda x: 1e4 * exact(x["x"])}
    model = PublishedModel(Collocation(Poisson("x"), (0.0,), (2 * math.pi,), (400,), forcing, ends), 20.0)
    state = model.init()
    for _ in range(96):
        state, figures = model.step(state)
    test = TensorPoints((torch.linspace(0, 2 * math.pi, 300, dtype=torch.float64),))
    truth = exact(test.lines[0])
    error = (model.predict(state, test) - truth).norm() / truth.norm()
    assert error == pytest.approx(0.27562065, rel=1e-6)
    assert figures["loss"] == pytest.approx(4.13449e8, rel=2e-6)


@pytest.mark.parametrize("make", [line, plane])
def test_the_band_is_the_gaussian_of_u_given_the_kernels(make):
    model, state = trained_a_little(make())
    c, operator, boundary, g = dense(model, state)
    tau_1, tau_2 = (state.parameters[name].exp() for name in ("log_tau_1", "log_tau_2"))
    precision = torch.linalg.inv(c) + WEIGHT * tau_1 * boundary.T @ boundary + tau_2 * operator.T @ operator
    cov = torch.linalg.inv(precision)
    rhs = WEIGHT * tau_1 * boundary.T @ g + tau_2 * operator.T @ source_of(model)
    conditional, grid = published_conditional(model, state), model.collocation.points()
    shape = model.collocation.shape
    torch.testing.assert_close(conditional.gaussian.mean(grid).flatten(), cov @ rhs, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(conditional.std(grid).flatten(), cov.diagonal().sqrt(), rtol=1e-6, atol=1e-9)
    mean = conditional.mean(grid)  # k (k + eps)^-1 U
    torch.testing.assert_close(mean, model.predict(state, grid), rtol=0, atol=0)
    draws = conditional.sample(grid, 2000, torch.Generator().manual_seed(2))
    assert draws.shape == (2000, *shape)
    z = (draws.mean(0) - mean) / conditional.std(grid) * math.sqrt(2000)
    assert z.abs().max() < 5


def test_the_band_is_a_posterior_that_can_be_saved(tmp_path):
    model, state = trained_a_little(plane())
    conditional = published_conditional(model, state)
    posterior, points = published_posterior(model, state), model.collocation.points()
    torch.testing.assert_close(posterior.mean, model.predict(state, points), rtol=0, atol=0)
    torch.testing.assert_close(posterior.std, conditional.std(points), rtol=1e-12, atol=0)
    posterior.save(tmp_path / "posterior")
    again = load_posterior(tmp_path / "posterior")
    torch.testing.assert_close(again.mean, posterior.mean, rtol=0, atol=0)
    torch.testing.assert_close(again.std, posterior.std, rtol=1e-12, atol=0)


def test_the_band_is_narrower_than_exact_conditioning():
    """The derivatives between nodes are uncertain; to ignore that is to trust the equation more."""
    model, state = trained_a_little(line(n=9))
    conditional = published_conditional(model, state)
    std_1 = (WEIGHT * state.parameters["log_tau_1"].exp()) ** -0.5
    std_2 = (-0.5 * state.parameters["log_tau_2"]).exp()
    rows = [dataclasses.replace(model.collocation.equations(), std=std_2)]
    rows += [dataclasses.replace(f, std=std_1) for f in model.collocation.conditions_at()]
    grid = model.collocation.points()
    exact = condition(model.kernels(state), rows).std(grid)
    assert (conditional.std(grid) <= exact * (1 + 1e-5)).all()
    assert (conditional.std(grid) < 0.7 * exact).any()


def test_what_the_method_does_not_have_is_refused():
    points = ScatteredPoints(torch.tensor([[0.5]], dtype=torch.float64))
    one = torch.ones(1, dtype=torch.float64)
    sensors = Functionals("sensors", ("x",), points, {"": one}, one, 0.1 * one)
    with pytest.raises(UnsupportedProblemError, match="sensors"):
        PublishedModel(dataclasses.replace(line(), sensors=(sensors,)), 3.0)
    with pytest.raises(ConfigError, match="components"):
        PublishedModel(line(), 3.0, components=0)
    batch = PublishedModel(line(source=lambda x: torch.stack([x["x"], -x["x"]])), 3.0, components=3)
    with pytest.raises(UnsupportedProblemError, match="batch"):
        published_conditional(batch, batch.init())
