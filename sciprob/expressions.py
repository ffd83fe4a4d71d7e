"""Formulas in problem files, e.g. `sin(pi*x)*y`: a whitelisted parser, never `eval`.

Grammar: numbers, the coordinates (x, y, z unless others are given), the constants pi and e, `+ - * / **`,
unary signs, parentheses and the functions in `FUNCTIONS`. Everything else is an error that shows the place.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError, ShapeError

FUNCTIONS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "sin": (1, torch.sin),
    "cos": (1, torch.cos),
    "tan": (1, torch.tan),
    "exp": (1, torch.exp),
    "log": (1, torch.log),
    "sqrt": (1, torch.sqrt),
    "tanh": (1, torch.tanh),
    "abs": (1, torch.abs),
    "sign": (1, torch.sign),
    "step": (1, lambda x: (x > 0).to(x.dtype)),
    "atan2": (2, torch.atan2),
    "min": (2, torch.minimum),
    "max": (2, torch.maximum),
}
CONSTANTS = {"pi": math.pi, "e": math.e}
COORDINATES = ("x", "y", "z")
SMOOTH = ("sin", "cos", "tan", "exp", "log", "sqrt", "tanh")  # what can be differentiated, in formulas of jets


def _power(base: Any, exponent: Any) -> Any:
    """A power; of jets with a constant exponent as such, because x**2 has no logarithm at x < 0."""
    if isinstance(base, Tensor) and isinstance(exponent, Tensor):
        return base**exponent
    if isinstance(exponent, Tensor) and exponent.ndim == 0:
        power = float(exponent)
        return base ** (int(power) if power.is_integer() else power)
    return torch.exp(exponent * torch.log(base))


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: lambda value: value}

Term = Callable[[Mapping[str, Any]], Any]  # columns are tensors, or jets that carry derivatives along


class Expression:
    """A scalar function of position, read from text.

    Args:
        text: The formula.
        coordinates: Names that stand for the columns of the points, in their order.

    Raises:
        ConfigError: If the text is not a formula of the grammar; shows position and nearest name.

    Example:
        >>> Expression("x**2 + y")(torch.tensor([[2.0, 1.0]]))
        tensor([5.])
    """

    def __init__(self, text: str, coordinates: tuple[str, ...] = COORDINATES) -> None:
        self.text = text.strip()
        self.coordinates = coordinates
        try:
            tree = ast.parse(self.text, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self._fail("is not a formula", (getattr(error, "offset", None) or 1) - 1)
        self.names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)) & set(coordinates)
        self._evaluate = self._compile(tree.body)

    def __call__(self, points: Tensor) -> Tensor:
        """Values `(*batch, n)` at `points (*batch, n, d)`, in their dtype and on their device.

        Raises:
            ShapeError: If the formula uses a coordinate that the points do not have.
        """
        columns = dict(zip(self.coordinates, points.unbind(-1), strict=False))
        missing = sorted(self.names - set(columns))
        if missing:
            message = f"`{self.text}` uses `{missing[0]}`, but the points have {points.shape[-1]} coordinates."
            raise ShapeError(message)
        values: Tensor = self._evaluate({**columns, "": points[..., 0]}).expand(points.shape[:-1])
        return values

    def on(self, columns: Mapping[str, Any]) -> Any:
        """The formula of named coordinates, tensors `(n,)` or jets (`sciprob.pde.coordinate_jets`).

        Returns:
            A tensor or jet; 0-dimensional for a constant formula.

        Raises:
            ShapeError: If the formula uses a coordinate that is not there.
            ConfigError: If a jet meets a function without derivatives, such as `abs`.
        """
        missing = sorted(self.names - set(columns))
        if missing:
            message = f"`{self.text}` uses `{missing[0]}`, but the coordinates are {', '.join(columns)}."
            raise ShapeError(message)
        first = next(iter(columns.values()))
        return self._evaluate({**columns, "": first if isinstance(first, Tensor) else first.value})

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def _compile(self, node: ast.expr) -> Term:
        """A function of the coordinate columns; the column named by the empty string sets dtype and device."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return self._constant(float(node.value))
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            binary, left, right = _BINARY[type(node.op)], self._compile(node.left), self._compile(node.right)
            return lambda columns: binary(left(columns), right(columns))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            unary, operand = _UNARY[type(node.op)], self._compile(node.operand)
            return lambda columns: unary(operand(columns))
        if isinstance(node, ast.Call):
            return self._call(node)
        hint = "; powers are written **" if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor) else ""
        column = node.left.end_col_offset if hint and isinstance(node, ast.BinOp) else node.col_offset
        return self._fail(f"uses {type(node).__name__}, which is not part of formulas{hint}", column or 0)

    @staticmethod
    def _constant(value: float) -> Term:
        return lambda columns: columns[""].new_tensor(value)

    def _name(self, node: ast.Name) -> Term:
        name = node.id
        if name in CONSTANTS:
            return self._constant(CONSTANTS[name])
        if name in self.coordinates:
            return lambda columns: columns[name]
        hint = did_you_mean(name, (*CONSTANTS, *self.coordinates, *FUNCTIONS)).rstrip(".")
        return self._fail(f"has the unknown name `{name}`; {hint}", node.col_offset)

    def _call(self, node: ast.Call) -> Term:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if name not in FUNCTIONS:
            hint = did_you_mean(name, FUNCTIONS).rstrip(".")
            return self._fail(f"calls the unknown function `{name}`; {hint}", node.col_offset)
        arity, function = FUNCTIONS[name]
        if len(node.args) != arity or node.keywords:
            return self._fail(f"gives `{name}` {len(node.args)} arguments instead of {arity}", node.col_offset)
        arguments = [self._compile(argument) for argument in node.args]

        def call(columns: Mapping[str, Any]) -> Any:
            given = [argument(columns) for argument in arguments]
            if name not in SMOOTH and not all(isinstance(value, Tensor) for value in given):
                self._fail(
                    f"is differentiated, and `{name}` has no derivative everywhere; write it smooth", node.col_offset
                )
            if name == "tan" and not isinstance(given[0], Tensor):
                return torch.sin(given[0]) / torch.cos(given[0])
            return function(*given)

        return call

    def _fail(self, what: str, column: int) -> NoReturn:
        message = f"formula `{self.text}` {what} (at character {column + 1})."
        raise ConfigError(message.replace("\n", " "))
