"""Coefficients of the linear part: the operator of linear equations, the derivative of others."""

import torch

from sciprob.pde import Jet, columns, coordinate_jets
from sciprob.pde.autodiff_jets import autodiff_jets
from sciprob.pde.burgers import Burgers
from sciprob.pde.linearise import linearised
from sciprob.pde.navier_stokes import NavierStokes
from sciprob.pde.poisson import NonlinearPoisson, Poisson


def setting(pde, n=6):
    generator = torch.Generator().manual_seed(0)
    x = columns(torch.rand(n, len(pde.coordinates), dtype=torch.float64, generator=generator), pde.coordinates)

    def fields():
        return {
            field: Jet({k: torch.randn(n, dtype=torch.float64, generator=generator) for k in ("", *names)})
            for field, names in pde.fields.items()
        }

    return x, fields


def test_operator_of_darcys_law():
    """-k Laplace u - grad k . grad u, and -r(0) is the source."""
    pde = Poisson("xy")
    x, fields = setting(pde)
    c = coordinate_jets(x, pde.derivatives)
    conductivity, source = torch.exp(c["x"] * c["y"]), x["x"] + 1
    zero = {"u": 0.0 * fields()["u"]}
    r, terms = linearised(pde, x, zero, {"conductivity": conductivity, "forcing": source})
    terms = terms["poisson"]["u"]
    k = torch.exp(x["x"] * x["y"])
    assert set(terms) == {"x", "y", "xx", "yy"}
    assert torch.equal(-r["poisson"], source)
    for name, expected in {"xx": -k, "yy": -k, "x": -x["y"] * k, "y": -x["x"] * k}.items():
        assert (terms[name] - expected).abs().max() < 1e-14, name


def test_derivative_of_burgers_equation():
    pde = Burgers()
    x, fields = setting(pde)
    u = fields()
    _, terms = linearised(pde, x, u, {"viscosity": 0.3})
    terms = terms["momentum"]["u"]
    assert torch.equal(terms["x"], u["u"].value)
    assert torch.equal(terms[""], u["u"].x)
    assert set(terms) == {"", "x", "xx", "t"}
    assert (terms["xx"] + 0.3).abs().max() < 1e-16


def test_remainder_is_of_second_order():
    """Taylor test of systems and of a coefficient that depends on the field."""
    z = {f"z{i}": 0.3 * (-1) ** i for i in range(5)}
    for pde, p in ((NavierStokes("xyz"), {"viscosity": 0.2}), (NonlinearPoisson(), z | {"forcing": 1.0})):
        x, fields = setting(pde)
        u, v = fields(), fields()
        r, terms = linearised(pde, x, u, p)
        errors = []
        for h in (2.0**-6, 2.0**-7, 2.0**-8):
            moved = pde(x, {name: u[name] + h * v[name] for name in u}, p)
            error = 0.0
            for equation, by_field in terms.items():
                change = sum(c * v[f][name] for f, inner in by_field.items() for name, c in inner.items())
                error += float((moved[equation] - r[equation] - h * change).norm())
            errors.append(error)
        assert 3.8 < errors[0] / errors[1] < 4.2, errors
        assert 3.9 < errors[1] / errors[2] < 4.1, errors


def test_coefficients_are_differentiable_in_the_field():
    pde = Burgers()
    x, fields = setting(pde)
    u = fields()
    entries = {k: v.requires_grad_() for k, v in u["u"].entries.items()}
    _, terms = linearised(pde, x, {"u": Jet(entries)}, {"viscosity": 0.3})
    (slope,) = torch.autograd.grad(terms["momentum"]["u"]["x"].sum(), entries[""])
    assert slope.eq(1).all()


def test_gram_blocks_of_a_gaussian_process_come_from_the_residual():
    """cov(L u, L u) by applying the residual to kernel jets in both arguments; against coefficients and autodiff."""
    pde, n = Poisson("x"), 5
    points = torch.linspace(0.1, 0.9, n, dtype=torch.float64)

    def kernel(q):
        return torch.exp(-2.0 * (q[..., 0] - q[..., 1]) ** 2)

    def conductivity(x):
        return torch.exp(coordinate_jets({"x": x}, ("x",))["x"])

    def operator(jet):  # -r(0) is the source, which has no part in covariances
        return pde({"x": points}, {"u": jet}, {"conductivity": conductivity(points), "forcing": 0.0})["poisson"]

    # First argument x along the last axis, second argument (called y) along the axis before.
    pairs = torch.stack(torch.meshgrid(points, points, indexing="ij")[::-1], dim=-1)
    k = autodiff_jets(kernel, pairs, "xy", ("xxyy",))
    once = {b: operator(Jet({"x": k["x" + b], "xx": k["xx" + b]})) for b in ("", "y", "yy")}
    gram = operator(Jet({"x": once["y"].mT, "xx": once["yy"].mT}))

    _, terms = linearised(
        pde,
        {"x": points},
        {"u": Jet({"": points, "x": points, "xx": points})},
        {"conductivity": conductivity(points), "forcing": 0.0},
    )
    c = terms["poisson"]["u"]
    by_terms = sum(c[a][:, None] * c[b][None, :] * k[a + "y" * len(b)].mT for a in c for b in c)
    assert (gram - by_terms).abs().max() < 1e-12

    def twice(q):
        """-(e^x (k_x))_x in x, then the same in y, by nested differentiation."""

        def flux(f, axis):
            unit = torch.eye(2, dtype=torch.float64)[axis]
            slope = lambda p: torch.func.jvp(f, (p,), (unit,))[1]  # noqa: E731
            divergence = lambda p: torch.func.jvp(lambda r: torch.exp(r[axis]) * slope(r), (p,), (unit,))[1]  # noqa: E731
            return lambda p: -divergence(p)

        return flux(flux(kernel, 0), 1)(q)

    reference = torch.stack([torch.stack([twice(q) for q in row]) for row in pairs.transpose(0, 1)])
    assert (gram - reference).abs().max() < 1e-11
    assert torch.linalg.eigvalsh(gram).min() > 0
    assert (gram - gram.mT).abs().max() < 1e-12
