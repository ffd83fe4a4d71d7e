"""Kernels to try, and kernels as plain tensors for a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from sciprob.pde.jet import Jet
from sciprob.priors.kernels import GaussianMixture, StationaryKernel, StudentMixture
from sciprob.problems.collocation_prior import initial_kernels

if TYPE_CHECKING:
    from sciprob.problems.collocation_operator import CollocationOperator

Packed = dict[str, Any]
"""`kind`, and per axis the kernel's parameters by name."""


@dataclass(frozen=True)
class Candidate:
    """A family of mixtures with frequencies from the data of the problem.

    Attributes:
        kind: `"gaussian"` or `"student"`; `"prior"` for the kernels of the problem's own prior.
        scale: Envelopes per length of an axis: larger ones let amplitudes vary faster.
        fallback: Whether it is tried only if those before it did badly.
    """

    kind: str
    scale: float = 1.0
    fallback: bool = False

    def kernels(
        self, operator: CollocationOperator, components: int, u: Jet | None = None
    ) -> tuple[StationaryKernel, ...]:
        """One mixture per coordinate; `u` are the jets at which a nonlinear equation is linearised."""
        if self.kind == "prior":
            return tuple(cast(StationaryKernel, axis.kernel) for axis in operator.axes)
        return initial_kernels(operator.collocation, self.kind, components, scale=self.scale, u=u)

    @property
    def label(self) -> str:
        """For reports."""
        if self.kind == "prior":
            return "kernels of the prior"
        return f"{self.kind}-mixture, envelopes of length L / {self.scale:g}"


_PRIOR = Candidate("prior")
_GAUSSIAN = (Candidate("gaussian", 2.0), Candidate("gaussian", 1.0), Candidate("gaussian", 4.0, fallback=True))
_STUDENT = (Candidate("student", 0.5), Candidate("student", 1.0), Candidate("student", 4.0, fallback=True))


def candidates(kernel: str, axes: int, *, noisy: bool) -> tuple[Candidate, ...]:
    """Kernels in the order in which they are tried.

    Noisy data, which show no spectrum, are left to the prior of the problem. Matern envelopes are not tried by
    themselves in several dimensions, where their ranks multiply.
    """
    if kernel == "prior" or (kernel == "auto" and noisy):
        return (_PRIOR,)
    if kernel == "gaussian-mixture" or (kernel == "auto" and axes > 1):
        return _GAUSSIAN
    if kernel == "student-mixture":
        return _STUDENT
    return (*_GAUSSIAN[:2], *_STUDENT[:2], _GAUSSIAN[2], _STUDENT[2])


def pack(kernels: Sequence[StationaryKernel]) -> Packed:
    """Mixtures as tensors."""
    kind = "student" if isinstance(kernels[0], StudentMixture) else "gaussian"
    return {"kind": kind, "axes": [{n: p.detach().clone() for n, p in k.named_parameters()} for k in kernels]}


def unpack(packed: Packed) -> tuple[StationaryKernel, ...]:
    """The mixtures again."""
    return tuple(_mixture(packed["kind"], axis) for axis in packed["axes"])


def _mixture(kind: str, axis: dict[str, Tensor]) -> StationaryKernel:
    last = "log_inverse_lengths" if kind == "student" else "log_decay"
    make = StudentMixture if kind == "student" else GaussianMixture
    weights, frequencies = axis["log_weights"], axis["frequencies"]
    mixture = make(weights.exp(), frequencies, axis[last].exp())
    mixture.load_state_dict(axis)  # the logarithms themselves, bit for bit
    return mixture
