"""Linear maps: adjoint, Gram map, dense form, and the bridge to `linear_operator`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.base import AnySpace, ForwardOperator, event_space
from sciprob.operators.store import storable
from sciprob.spaces import Space

if TYPE_CHECKING:
    from linear_operator.operators import LinearOperator


class LinearMap(ForwardOperator):
    """A linear forward operator.

    The adjoint is the Euclidean transpose. Unless a subclass implements `_adjoint_batched`, it is
    the vector-Jacobian product at zero, so no second formula can drift from the first.
    """

    linear: ClassVar[bool] = True

    def _adjoint_batched(self, y: Any) -> Any:
        """Transpose on one leading batch axis: `(B, *codomain)` -> `(B, *domain)`."""
        b = len(self.codomain.merge(y))
        zero = y.new_zeros(b, *self.domain.shape)
        _, pullback = torch.func.vjp(self._apply_batched, zero)  # type: ignore[misc]
        return pullback(y)[0]

    def linearise(self, m: Tensor) -> tuple[Any, LinearMap]:
        """The value and, without batch axes, the map itself."""
        if self.domain.batch_shape(m):
            return super().linearise(m)
        return self(m), self

    @property
    def adjoint(self) -> LinearMap:
        """The transpose, from `codomain` to `domain`."""
        return AdjointMap(self)

    @property
    def T(self) -> LinearMap:
        """Short for `adjoint`."""
        return self.adjoint

    def gram(self, weight: LinearMap | None = None) -> LinearMap:
        """`A^T W A` on the domain; `W` defaults to the identity."""
        inner = self if weight is None else weight @ self
        return cast(LinearMap, self.T @ inner)

    def solve(self, y: Tensor) -> Tensor:
        """`A^{-1} y` for square maps that know their inverse.

        Raises:
            UnsupportedProblemError: If no inverse is known.
        """
        message = f"{type(self).__name__} has no direct inverse; use an iterative solver on its Gram map."
        raise UnsupportedProblemError(message)

    def log_abs_det(self) -> Tensor:
        """`log |det A|` for square maps that know it.

        Raises:
            UnsupportedProblemError: If it is not known.
        """
        message = f"{type(self).__name__} does not know its determinant."
        raise UnsupportedProblemError(message)

    def to_dense(self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """Matrix `(codomain.size, domain.size)`, by acting on the identity."""
        basis = torch.eye(self.domain.size, dtype=dtype, device=device).reshape(-1, *self.domain.shape)
        columns: Tensor = self(basis).reshape(self.domain.size, self.codomain.size)
        return columns.T

    def to_linear_operator(
        self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> LinearOperator:
        """A `linear_operator` object for GPyTorch; subclasses keep their structure.

        `dtype` and `device` are those of the vectors it will meet, and ignored where the map
        holds tensors of its own.
        """
        from sciprob.operators.views import MatrixFreeLinearOperator

        return MatrixFreeLinearOperator(linear_map=self, dtype=dtype, device=torch.device(device))


class AdjointMap(LinearMap):
    """The transpose of a linear map; its own transpose is the original."""

    def __init__(self, original: LinearMap) -> None:
        super().__init__(original.codomain, original.domain)
        self.original = original

    def _apply_batched(self, m: Any) -> Any:
        return self.original._adjoint_batched(m)

    def _adjoint_batched(self, y: Any) -> Any:
        return self.original._apply_batched(y)

    @property
    def adjoint(self) -> LinearMap:
        """The original map."""
        return self.original

    def solve(self, y: Tensor) -> Tensor:
        """`A^{-T} y`, the vector-Jacobian product of the original's solve, so that no second formula is needed."""
        batch = self.codomain.batch_shape(y)
        zero = y.new_zeros(*batch, *self.original.codomain.shape)
        _, pullback = torch.func.vjp(self.original.solve, zero)  # type: ignore[misc]
        solution: Tensor = pullback(y)[0]
        return solution

    def log_abs_det(self) -> Tensor:
        """That of the original."""
        return self.original.log_abs_det()


class ExplicitLinearMap(LinearMap):
    """A linear map given by two plain functions that autograd need not see through.

    Subclasses implement `_matvec` and `_rmatvec` on one leading batch axis (sparse matrices, host
    solves, compiled kernels). Reverse and forward mode and `vmap` follow, of any order, because
    each is the derivative of the other.
    """

    def _matvec(self, x: Tensor) -> Tensor:
        """`(B, *domain)` -> `(B, *codomain)`."""
        raise NotImplementedError

    def _rmatvec(self, y: Tensor) -> Tensor:
        """`(B, *codomain)` -> `(B, *domain)`."""
        raise NotImplementedError

    def _apply_batched(self, m: Any) -> Any:
        return _Action.apply(m, self, False)

    def _adjoint_batched(self, y: Any) -> Any:
        return _Action.apply(y, self, True)


class _Action(torch.autograd.Function):
    """`A x` or `A^T x` as one differentiable function of x."""

    @staticmethod
    def forward(x: Tensor, op: ExplicitLinearMap, transpose: bool) -> Tensor:
        return op._rmatvec(x) if transpose else op._matvec(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.op, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Any:
        return _Action.apply(grad[0], ctx.op, not ctx.transpose), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Action.apply(tangents[0], ctx.op, ctx.transpose)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, op: ExplicitLinearMap, transpose: bool) -> Any:
        x = x.movedim(in_dims[0], 0)
        result = _Action.apply(x.flatten(0, 1), op, transpose)
        return result.unflatten(0, x.shape[:2]), 0


class FunctionMap(LinearMap):
    """A linear map given by a function and its transpose, both on one leading batch axis."""

    def __init__(
        self,
        domain: AnySpace,
        codomain: AnySpace,
        apply: Callable[[Tensor], Tensor],
        transpose: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(domain, codomain)
        self._apply_function = apply
        self._transpose_function = transpose

    def _apply_batched(self, m: Any) -> Any:
        return self._apply_function(m)

    def _adjoint_batched(self, y: Any) -> Any:
        return self._transpose_function(y)


class Linearisation(LinearMap):
    """Derivative of an operator at one point.

    `J^T v` reuses the forward pass recorded at `m`; `J dm` runs it once per call, whatever the
    number of directions.
    """

    def __init__(self, operator: ForwardOperator, m: Tensor, domain: Space, codomain: Space) -> None:
        super().__init__(domain, codomain)
        self._point = m
        self._function = operator.forward  # not the module, so that its counters are not added twice
        self.value, self._pullback = torch.func.vjp(operator.forward, m)  # type: ignore[misc]

    @classmethod
    def at(cls, operator: ForwardOperator, m: Tensor) -> tuple[Tensor, LinearMap]:
        """Linearise `operator` at `m`."""
        batch = operator.domain.batch_shape(m)
        domain, codomain = event_space(operator.domain, batch), event_space(operator.codomain, batch)
        linearisation = cls(operator, m.detach(), domain, codomain)
        return linearisation.value.detach(), linearisation

    def _apply_batched(self, m: Any) -> Any:
        if len(m) == 0:
            return m.new_zeros(0, *self.codomain.shape)
        return torch.func.vmap(lambda dm: torch.func.jvp(self._function, (self._point,), (dm,))[1])(m)

    def _adjoint_batched(self, y: Any) -> Any:
        if len(y) == 0:
            return y.new_zeros(0, *self.domain.shape)
        return torch.func.vmap(lambda v: self._pullback(v)[0])(y)


@storable("dense")
class DenseMap(LinearMap):
    """A matrix between flat events, `(codomain.size, domain.size)`."""

    matrix: Tensor

    def __init__(self, matrix: Tensor, domain: Space | None = None, codomain: Space | None = None) -> None:
        rows, columns = matrix.shape
        super().__init__(domain or Space((columns,), name="x"), codomain or Space((rows,), name="y"))
        self.register_buffer("matrix", matrix)

    def _apply_batched(self, m: Any) -> Any:
        y = m.reshape(len(m), self.domain.size) @ self.matrix.to(m.dtype).T
        return y.reshape(len(m), *self.codomain.shape)

    def _adjoint_batched(self, y: Any) -> Any:
        m: Tensor = y.reshape(len(y), self.codomain.size) @ self.matrix.to(y.dtype)
        return m.reshape(len(y), *self.domain.shape)

    def solve(self, y: Tensor) -> Tensor:
        """Dense solve with the square matrix."""
        if self.matrix.shape[0] != self.matrix.shape[1]:
            return super().solve(y)
        batch = self.codomain.batch_shape(y)
        x: Tensor = torch.linalg.solve(self.matrix.to(y.dtype), y.reshape(-1, self.codomain.size).T).T
        return x.reshape(*batch, *self.domain.shape)

    def log_abs_det(self) -> Tensor:
        """From an LU factorisation."""
        log_abs_det: Tensor = torch.linalg.slogdet(self.matrix)[1]
        return log_abs_det

    def to_dense(self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """The matrix itself."""
        return self.matrix.to(dtype=dtype, device=device)

    def to_linear_operator(
        self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> LinearOperator:
        """A dense `linear_operator`, keeping the matrix' dtype and device."""
        from linear_operator.operators import DenseLinearOperator

        return cast("LinearOperator", DenseLinearOperator(self.matrix))

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Shapes and matrix, for `restore`."""
        return {"domain": list(self.domain.shape), "codomain": list(self.codomain.shape)}, {"matrix": self.matrix}

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the map again, on plain spaces of the same shapes."""
        domain, codomain = tuple(settings["domain"]), tuple(settings["codomain"])
        return cls(tensors["matrix"], Space(domain, name="x"), Space(codomain, name="y"))


@storable("diagonal")
class DiagonalMap(LinearMap):
    """Elementwise multiplication with `diagonal (*domain.shape)`."""

    diagonal: Tensor

    def __init__(self, diagonal: Tensor, domain: Space | None = None) -> None:
        space = domain or Space(tuple(diagonal.shape), name="x")
        super().__init__(space, space)
        self.register_buffer("diagonal", diagonal)

    def _apply_batched(self, m: Any) -> Any:
        return m * self.diagonal.to(m.dtype)

    def _adjoint_batched(self, y: Any) -> Any:
        return self._apply_batched(y)

    def solve(self, y: Tensor) -> Tensor:
        """Elementwise division."""
        return y / self.diagonal.to(y.dtype)

    def log_abs_det(self) -> Tensor:
        """Sum of logarithms."""
        return self.diagonal.abs().log().sum()

    def to_linear_operator(
        self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> LinearOperator:
        """A diagonal `linear_operator`, keeping the diagonal's dtype and device."""
        from linear_operator.operators import DiagLinearOperator

        return cast("LinearOperator", DiagLinearOperator(self.diagonal.reshape(-1)))

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Shape and diagonal, for `restore`."""
        return {"shape": list(self.domain.shape)}, {"diagonal": self.diagonal}

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the map again, on a plain space of the same shape."""
        return cls(tensors["diagonal"], Space(tuple(settings["shape"]), name="x"))
