"""Jets: the value of a field and its named partial derivatives at points, with their calculus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Any, overload

import torch
from torch import Tensor

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.pde import elementwise, jet_rules
from sciprob.pde.derivative_names import Known, canonical, common, multiplicative, ordered
from sciprob.spaces.shapes import broadcast_shapes

Number = int | float
Index = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]


class Jet:
    """Derivatives of a field at points: `u.value`, `u.x`, `u.xx`, `u.xy`, `u.t`, ..., each `(*batch, n)`.

    Arithmetic (`+ - * / **`) and the smooth elementwise torch functions (`torch.exp(u)`,
    `torch.tanh(u)`, ... listed in `jet_functions`) act on jets by the product and chain rules, so
    that a nonlinear coefficient or a hard condition is written as plain arithmetic. A tensor or
    number that meets a jet counts as constant in space and time; what varies must be a jet itself
    (`coordinate_jets`). dtype and device are those of the entries.

    A jet knows a set of derivatives. Those that it knows and does not store are zero; asking for any
    other is an error. Linear operations work on any set, also one without the value, as kernels
    need. Products and functions know every derivative of which all lower ones are known.

    Args:
        entries: Tensors that broadcast to `(*batch, n)`, by name; `""` or `"value"` is the value.
        names: The known derivatives; by default those stored.

    Raises:
        ShapeError: If there is no entry, or the entries do not broadcast.

    Example:
        >>> x = coordinate_jets({"x": torch.tensor([0.0, 1.0])}, ["xx"])["x"]
        >>> (x**3 + 1).xx
        tensor([0., 6.])
    """

    __slots__ = ("_shape", "entries", "known")

    entries: dict[str, Tensor]
    known: Known

    def __init__(self, entries: Mapping[str, Tensor], names: Iterable[str] | None = None) -> None:
        if not entries:
            message = "a jet needs at least one entry, such as its value; got none."
            raise ShapeError(message)
        self.entries = {canonical(name): entry for name, entry in entries.items()}
        self.known = frozenset(map(canonical, names or ())) | frozenset(self.entries)
        self._shape: torch.Size | None = None

    @classmethod
    def constant(cls, value: Tensor) -> Jet:
        """A function that does not depend on the coordinates: every derivative is known, and zero."""
        jet = cls({"": value})
        jet.known = None
        return jet

    @property
    def shape(self) -> torch.Size:
        """Common shape of the entries, `(*batch, n)`."""
        if self._shape is None:
            try:
                self._shape = broadcast_shapes(*(entry.shape for entry in self.entries.values()))
            except ShapeError as error:
                shapes = {name or "value": tuple(entry.shape) for name, entry in self.entries.items()}
                message = f"the entries of a jet should broadcast to one shape, got {shapes}."
                raise ShapeError(message) from error
        return self._shape

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        return self.zero.dtype

    @property
    def device(self) -> torch.device:
        """Where the entries are."""
        return self.zero.device

    @property
    def names(self) -> tuple[str, ...]:
        """The known derivatives by rising order; of a constant only the value, though all are known."""
        return ordered(self.known or frozenset(self.entries))

    @property
    def value(self) -> Tensor:
        """The field itself."""
        return self[""]

    @overload
    def __getitem__(self, name: str) -> Tensor: ...

    @overload
    def __getitem__(self, name: Index) -> Jet: ...

    def __getitem__(self, name: str | Index) -> Tensor | Jet:
        """The derivative called `name`; with an index instead, that part of every entry, as a jet.

        Raises:
            UnsupportedProblemError: If the derivative is not known.
        """
        if not isinstance(name, str):
            index = name
            return self.map(lambda entry: entry[index])
        key = canonical(name)
        if key in self.entries:
            return self.entries[key].expand(self.shape)
        if self.knows(key):
            return self.zero.expand(self.shape)
        known = [item or "value" for item in self.names]
        message = f"this jet knows the derivatives {known}, not `{name or 'value'}`; ask for it where the jet is made."
        raise UnsupportedProblemError(message)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or not name.isalpha():
            raise AttributeError(name)
        try:
            return self[name]
        except UnsupportedProblemError as error:
            message = str(error)
            if len(name) > 1 and hasattr(Tensor, name):
                message = f"jets have no attribute `{name}`; functions are written `torch.{name}(u)`."
            raise AttributeError(message) from error

    def knows(self, name: str) -> bool:
        """Whether the derivative `name` can be read."""
        return self.known is None or canonical(name) in self.known

    @property
    def zero(self) -> Tensor:
        """Zero, 0-dimensional, in dtype and on the device of the entries."""
        return next(iter(self.entries.values())).new_zeros(())

    def derivative(self, coordinate: str) -> Jet:
        """The jet of a first derivative; it knows `xt` where this one knows `xxt`, for the coordinate x.

        Divergence forms read off it: `(k * u.derivative("x")).x` is `(k u_x)_x`.
        """
        names = dict.fromkeys(self.known or ())
        known = None if self.known is None else frozenset(jet_rules.differentiate(names, coordinate))
        if known is not None and not known:
            message = f"this jet knows no derivative along `{coordinate}`, only {list(self.names)}; ask for it."
            raise UnsupportedProblemError(message)
        return make_jet(jet_rules.differentiate(self.entries, coordinate), known, self)

    def laplacian(self, coordinates: Iterable[str]) -> Tensor:
        """Sum of the second derivatives along the named coordinates."""
        terms = [self[2 * name] for name in coordinates]
        return sum(terms[1:], start=terms[0])

    def map(self, function: Callable[[Tensor], Tensor]) -> Jet:
        """Apply a linear function to every entry, broadcast to the full shape first."""
        return self.with_entries({name: function(entry.expand(self.shape)) for name, entry in self.entries.items()})

    def apply(self, function: Callable[[Tensor], Tensor]) -> Jet:
        """f(u) for any smooth elementwise torch function; its derivatives come from nested forward mode."""
        return self.compose(lambda u, order: elementwise.by_forward_mode(function, u, order))

    def compose(self, derivatives: Callable[[Tensor, int], Sequence[Tensor | None]]) -> Jet:
        """f(u) by the chain rule.

        Args:
            derivatives: `(u, k)` -> `[f(u), f'(u), ..., f^(k)(u)]`; None stands for zero.
        """
        known = None if self.known is None else multiplicative(self.known)
        names = ordered(known or frozenset({""}))
        f = derivatives(self.value, len(names[-1]))
        return make_jet(jet_rules.compose(names, f, self.entries), known, self)

    def with_entries(self, entries: dict[str, Tensor]) -> Jet:
        """A jet that knows the same derivatives."""
        return make_jet(entries, self.known, self)

    def __neg__(self) -> Jet:
        return self.with_entries({name: -entry for name, entry in self.entries.items()})

    def __add__(self, other: Jet | Tensor | Number) -> Jet:
        other = as_jet(other, self)
        known = common(self.known, other.known)
        names = dict.fromkeys((*self.entries, *other.entries))
        names_known = [name for name in names if known is None or name in known]
        return make_jet(jet_rules.add(names_known, self.entries, other.entries), known, self)

    def __mul__(self, other: Jet | Tensor | Number) -> Jet:
        if isinstance(other, int | float):
            return self.with_entries({name: other * entry for name, entry in self.entries.items()})
        other = as_jet(other, self)
        if self.known is None and other.known is not None:
            return other * self
        if self.known is None or other.known is None:
            return self.with_entries({name: entry * other.entries[""] for name, entry in self.entries.items()})
        known = multiplicative(self.known & other.known)
        entries = jet_rules.multiply(ordered(known), self.entries, other.entries)
        return make_jet(entries, known, self)

    def __matmul__(self, matrix: Tensor) -> Jet:
        from sciprob.pde.jet_functions import rule_of

        return rule_of(torch.matmul)(self, matrix)

    def __pow__(self, exponent: Number | Jet | Tensor) -> Jet:
        if isinstance(exponent, Jet | Tensor):
            message = "the exponent of a jet should be a number, got a jet or tensor; use exp(exponent * log(u))."
            raise UnsupportedProblemError(message)
        return self.compose(lambda u, order: elementwise.power(u, exponent, order))

    def __sub__(self, other: Jet | Tensor | Number) -> Jet:
        return self + (-other)

    def __rsub__(self, other: Number) -> Jet:
        return -self + other

    def __truediv__(self, other: Jet | Tensor | Number) -> Jet:
        return self * (1.0 / other if isinstance(other, int | float) else other**-1)

    def __rtruediv__(self, other: Number) -> Jet:
        return self**-1 * other

    __radd__ = __add__
    __rmul__ = __mul__

    @classmethod
    def __torch_function__(cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from sciprob.pde.jet_functions import rule_of

        return rule_of(function)(*args, **(kwargs or {}))

    def __repr__(self) -> str:
        return f"Jet({[name or 'value' for name in self.names]}, shape={tuple(self.shape)})"


def as_jet(x: Jet | Tensor | Number, like: Jet | Tensor) -> Jet:
    """A jet as it is; a tensor or number as a constant, numbers in dtype and on the device of `like`."""
    if isinstance(x, Jet):
        return x
    if isinstance(x, Tensor):
        return Jet.constant(x)
    zero = like.zero if isinstance(like, Jet) else like.new_zeros(())
    return Jet.constant(zero + x)


def make_jet(entries: dict[str, Tensor], known: Known, like: Jet) -> Jet:
    """A jet from canonical names; if all entries vanish, a zero of the shape of `like` is stored."""
    jet = Jet.__new__(Jet)
    jet.entries = entries or {"" if known is None else ordered(known)[0]: like.zero.expand(like.shape)}
    jet.known = known
    jet._shape = None
    return jet
