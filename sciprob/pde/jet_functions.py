"""What torch functions do to jets: elementwise ones by the chain rule, linear ones entry by entry.

`torch.tanh(jet)`, and so a whole `nn.Module` called with a jet, arrives here through
`__torch_function__`. That makes a forward Taylor mode of plain torch code: one pass carries the
value and all derivatives asked for. Its graph is of first order, so that the gradient with respect to
the parameters is one ordinary backward pass, and `torch.func` (`functional_call`, `vmap`, `grad`)
works through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sciprob.errors import UnsupportedProblemError
from sciprob.pde.derivative_names import common
from sciprob.pde.fused_chain import compose_elementwise
from sciprob.pde.jet import Jet, as_jet, make_jet
from sciprob.spaces.shapes import broadcast_shapes

_ELEMENTWISE = ("exp", "log", "sin", "cos", "sinh", "cosh", "tanh", "sigmoid")


def _softplus(u: Jet, beta: float = 1.0, *_threshold: float) -> Jet:
    """Without the threshold, above which torch takes u itself: a change below 2e-9."""
    return compose_elementwise("softplus", u * beta) * (1.0 / beta)


def _silu(u: Jet, **_inplace: bool) -> Jet:
    return compose_elementwise("silu", u)


def _gelu(u: Jet, approximate: str = "none") -> Jet:
    if approximate != "none":
        message = f"jets know gelu with approximate='none', got {approximate!r}; write its formula with tanh."
        raise UnsupportedProblemError(message)
    return compose_elementwise("gelu", u)


def _linear(u: Jet, weight: Tensor, bias: Tensor | None = None) -> Jet:
    """W u + b along the last axis, the bias for the value only."""
    mapped = {name: F.linear(entry, weight, None if name else bias) for name, entry in u.entries.items()}
    if bias is not None and "" not in mapped and u.knows(""):
        mapped[""] = bias
    return u.with_entries(mapped)


def _matmul(u: Jet | Tensor, matrix: Tensor | Jet) -> Jet:
    if not isinstance(u, Jet) or isinstance(matrix, Jet):
        message = "matrix products of jets have the jet on the left and a constant matrix on the right; swap them."
        raise UnsupportedProblemError(message)
    return _linear(u, matrix.mT)


def _cat(parts: Sequence[Jet | Tensor], dim: int = 0) -> Jet:
    """Join along the last axis, for example coordinates with the constant parameters of a network."""
    jets = [as_jet(part, part) for part in parts]
    if dim not in (-1, len(jets[0].shape) - 1):
        message = f"jets are joined along the last axis, got dim={dim}; use dim=-1."
        raise UnsupportedProblemError(message)
    known = reduce(common, (jet.known for jet in jets))
    names = dict.fromkeys(name for jet in jets for name in jet.entries if known is None or name in known)
    return make_jet({name: _joined(name, jets) for name in names}, known, jets[0])


def _joined(name: str, jets: Sequence[Jet]) -> Tensor:
    """One entry, zeros where a jet stores none; leading axes stay as small as they are."""
    lead = broadcast_shapes(*(jet.entries[name].shape[:-1] for jet in jets if name in jet.entries))
    return torch.cat([jet.entries.get(name, jet.zero).expand(*lead, jet.shape[-1]) for jet in jets], dim=-1)


def _stack(parts: Sequence[Jet | Tensor], dim: int = 0) -> Jet:
    """Stack jets and constants of one shape along a new last axis."""
    shape = broadcast_shapes(*(part.shape for part in parts))
    if dim not in (-1, len(shape)):
        message = f"jets are stacked along a new last axis, got dim={dim}; use dim=-1."
        raise UnsupportedProblemError(message)
    return _cat([_unsqueeze(as_jet(part, part)) for part in parts], dim=-1)


def _unsqueeze(u: Jet, dim: int = -1) -> Jet:
    return u.map(lambda entry: entry.unsqueeze(dim))


def _sum(u: Jet, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Jet:
    axes = (dim,) if isinstance(dim, int) else tuple(dim or ())
    if not axes:
        message = "a sum over all points has no derivatives; name the axes, such as dim=-1."
        raise UnsupportedProblemError(message)
    return u.map(lambda entry: entry.sum(axes, keepdim=keepdim))


_RULES: dict[str, Callable[..., Jet]] = {
    **{name: partial(compose_elementwise, name) for name in _ELEMENTWISE},
    "softplus": _softplus,
    "silu": _silu,
    "gelu": _gelu,
    "neg": lambda u: -u,
    "square": lambda u: u**2,
    "sqrt": lambda u: u**0.5,
    "reciprocal": lambda u: u**-1,
    "pow": lambda u, exponent: u**exponent,
    "add": lambda u, v: as_jet(u, v) + v,
    "sub": lambda u, v: as_jet(u, v) - v,
    "mul": lambda u, v: as_jet(u, v) * v,
    "div": lambda u, v: as_jet(u, v) / v,
    "linear": _linear,
    "matmul": _matmul,
    "cat": _cat,
    "stack": _stack,
    "sum": _sum,
    "unsqueeze": _unsqueeze,
    "squeeze": lambda u, dim: u.map(lambda entry: entry.squeeze(dim)),
}
_ALIASES = {"true_divide": "div", "multiply": "mul", "subtract": "sub", "concat": "cat", "concatenate": "cat"}
_HOLDERS = (torch, torch.Tensor, F)
_BY_FUNCTION: dict[Any, Callable[..., Jet]] = {
    getattr(holder, name): rule
    for name, rule in [*_RULES.items(), *((alias, _RULES[name]) for alias, name in _ALIASES.items())]
    for holder in _HOLDERS
    if hasattr(holder, name)
}


def rule_of(function: Callable[..., Any]) -> Callable[..., Jet]:
    """The rule of a torch function for jets.

    Raises:
        UnsupportedProblemError: If there is none; functions with a kink have none on purpose.
    """
    if function in _BY_FUNCTION:
        return _BY_FUNCTION[function]
    message = (
        f"torch function `{function.__name__}` has no derivative rule for jets; use one of {sorted(_RULES)}, "
        "`jet.apply` for a smooth elementwise function, or `autodiff_jets` for a whole network."
    )
    raise UnsupportedProblemError(message)
