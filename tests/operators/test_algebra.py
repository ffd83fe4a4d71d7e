"""The algebra of operators against dense matrices."""

import pytest
import torch

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.operators import DenseMap, DiagonalMap, ForwardOperator, LinearMap, Partial, stack
from sciprob.spaces import ProductSpace, Space


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A, B, C = DenseMap(normal(3, 4)), DenseMap(normal(4, 5, seed=1)), DenseMap(normal(3, 4, seed=2))

WEIGHT = torch.arange(1.0, 4.0).double()


class Square(ForwardOperator):
    def __init__(self, n=4):
        super().__init__(Space((n,)), Space((n,)))

    def _apply_batched(self, m):
        return m**2


def test_linear_nodes_stay_linear():
    for node in (A @ B, A + C, 2.0 * A, A - C, -A, A.T, A.gram(), stack(a=A, c=C)):
        assert isinstance(node, LinearMap)
    assert not isinstance(A @ Square(), LinearMap)


@pytest.mark.parametrize(
    ("node", "matrix"),
    [
        (A @ B, A.matrix @ B.matrix),
        ((A @ B).T, B.matrix.T @ A.matrix.T),
        (A + C, A.matrix + C.matrix),
        (A - C, A.matrix - C.matrix),
        ((A + C) @ B, A.matrix @ B.matrix + C.matrix @ B.matrix),
        (3.0 * A, 3 * A.matrix),
        (
            A.gram(DiagonalMap(torch.arange(1.0, 4.0).double())),
            A.matrix.T @ torch.diag(torch.arange(1.0, 4.0).double()) @ A.matrix,
        ),
    ],
)
def test_dense_forms(node, matrix):
    torch.testing.assert_close(node.to_dense(), matrix, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(node.T.to_dense(), matrix.T, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(node.to_linear_operator().to_dense(), matrix, rtol=1e-13, atol=1e-13)


def test_stack_gives_a_dictionary_and_its_adjoint_adds_up():
    both = stack(a=A, c=C)
    assert isinstance(both.codomain, ProductSpace)
    m, y = normal(2, 4), {"a": normal(2, 3), "c": normal(2, 3, seed=5)}
    torch.testing.assert_close(both(m)["c"], C(m))
    torch.testing.assert_close(both.T(y), A.T(y["a"]) + C.T(y["c"]))
    torch.testing.assert_close(both.codomain.inner(both(m), y), both.domain.inner(m, both.T(y)))
    nonlinear = stack(a=A, s=Square())
    _, gradient = nonlinear.vjp(m, {"a": y["a"], "s": torch.ones(2, 4).double()})
    torch.testing.assert_close(gradient, A.T(y["a"]) + 2 * m)


def test_product_space_round_trip_and_errors():
    space = ProductSpace({"a": Space((2,)), "b": Space((3, 1))})
    x = {"a": normal(4, 2), "b": normal(4, 3, 1)}
    again = space.unflatten(space.flatten(x))
    assert all(torch.equal(again[key], x[key]) for key in x)
    assert space.size == 5
    with pytest.raises(ShapeError, match="keys"):
        space.batch_shape({"a": x["a"]})
    with pytest.raises(ShapeError, match="share"):
        space.batch_shape({"a": x["a"], "b": x["b"][:2]})


def test_partial_fixes_a_factor():
    class Times(ForwardOperator):
        def __init__(self):
            super().__init__(ProductSpace({"a": Space((3,)), "b": Space((3,))}), Space((3,)))

        def _apply_batched(self, m):
            return m["a"] * m["b"]

    fixed = Partial(Times(), b=torch.arange(3.0).double())
    m = normal(2, 3)
    torch.testing.assert_close(fixed(m), m * torch.arange(3.0).double())
    with pytest.raises(ShapeError, match="partial"):
        Partial(Times(), z=torch.zeros(3))


def test_mismatched_spaces_name_both_shapes():
    with pytest.raises(ShapeError, match=r"\(4,\).*\(3,\)"):
        A @ C
    with pytest.raises(ShapeError, match="equal spaces"):
        A + B
    with pytest.raises(ShapeError, match="common domain"):
        stack(a=A, b=B)


def test_inverse_and_determinant():
    square = DenseMap(normal(4, 4)) @ DiagonalMap(torch.arange(1.0, 5.0).double())
    y = normal(2, 4)
    torch.testing.assert_close(square(square.solve(y)), y)
    torch.testing.assert_close(square.log_abs_det(), torch.linalg.slogdet(square.to_dense())[1])
    torch.testing.assert_close((2.0 * square)((2.0 * square).solve(y)), y)
    with pytest.raises(UnsupportedProblemError, match="inverse"):
        A.T.gram().solve(normal(3))


def test_linearising_a_batch_keeps_the_batch_in_the_event():
    m = normal(2, 3, 4)
    y, derivative = (A @ Square()).linearise(m)
    assert y.shape == (2, 3, 3)
    dm = normal(7, 2, 3, 4)
    torch.testing.assert_close(derivative(dm), A(2 * m * dm))
    v = normal(7, 2, 3, 3)
    torch.testing.assert_close(derivative.T(v), 2 * m * A.T(v))
    assert derivative(dm[:0]).shape == (0, 2, 3, 3)


def test_solves_are_counted_once_per_sub_operator():
    first, second = Square(), Square()
    first._stats.forward, second._stats.forward = 2, 3
    composed = first @ second
    assert composed.stats.forward == 5
    _, derivative = composed.linearise(normal(4))
    assert derivative.stats.forward == 0
