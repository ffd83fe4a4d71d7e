"""Hyper-parameters by maximal evidence: a few careful steps from a good start."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sciprob.pde.functionals import Functionals
from sciprob.pde.jet import Jet
from sciprob.priors.kernels import StationaryKernel
from sciprob.solvers.kronecker_gp.candidates import pack, unpack
from sciprob.solvers.kronecker_gp.evidence import log_evidence
from sciprob.solvers.kronecker_gp.newton import LinearAlgebra
from sciprob.solvers.kronecker_gp.rows_of_problem import ProblemRows
from sciprob.solvers.kronecker_gp.scales import prior_std

_REACH = 0.5  # of 1 / L: the evidence has about one maximum per 1 / L in a frequency, so a round stays at its own
_LOGARITHMS = 3.0  # a round changes weights and widths by at most this factor of e
_ITERATIONS = 10
CUT = 1e-13  # of eigenvalues, for the evidence: below, its derivative is round-off
_SOFT = 1e-6  # of a row's prior std, see `softened`


def evidence_of_data(
    algebra: LinearAlgebra, kernels: Sequence[StationaryKernel], functionals: Sequence[Functionals]
) -> Tensor:
    """Log evidence of all rows; of an equation without a source, that of the others given all rows that are zero.

    Zeros of such an equation are probable under stiff and small kernels. Their own evidence would prefer those to
    kernels that explain the data.
    """
    cut, null_space = max(algebra.cut, CUT), algebra.null_space
    value = log_evidence(kernels, functionals, cut=cut, null_space=null_space).sum()
    zeros = [row for row in functionals if not bool(row.values.any())]
    if not bool(functionals[0].values.any()) and len(zeros) < len(functionals):  # the equation comes first
        value = value - log_evidence(kernels, zeros, cut=cut, null_space=null_space).sum()
    return value


def softened(kernels: Sequence[StationaryKernel], functionals: Sequence[Functionals]) -> list[Functionals]:
    """Rows whose std is at least 1e-6 of their prior std, for gradients of the evidence.

    Their round-off is divided by the square of the smallest relative std: with 1e-9 nothing is left of them.
    """
    return [replace(f, std=f.std.clamp_min(_SOFT * float(prior_std(kernels, f).amax()))) for f in functionals]


def climb(
    algebra: LinearAlgebra, rows: ProblemRows, kernels: Sequence[StationaryKernel], u: Jet | None
) -> tuple[StationaryKernel, ...]:
    """The kernels after at most 10 L-BFGS iterations on the log evidence; the best point met.

    Parameters are theta_0 + reach tanh(z): frequencies move by less than 0.5 / L, logarithms of weights and widths by
    less than 3. Errors of exact rows stay as at the start, else the evidence would reward a larger prior for them.
    """
    functionals = softened(kernels, rows.at(kernels, u))
    start = unpack(pack(kernels))
    bounds = zip(rows.collocation.lower, rows.collocation.upper, strict=True)
    parameters = [
        (p, (_REACH / (b - a) if name == "frequencies" else _LOGARITHMS))
        for kernel, (a, b) in zip(start, bounds, strict=True)
        for name, p in kernel.named_parameters()
    ]
    origins = [p.detach().clone() for p, _ in parameters]
    best: tuple[float, list[Tensor]] = (-float("inf"), origins)
    moves = [torch.zeros_like(p, requires_grad=True) for p, _ in parameters]
    optimiser = torch.optim.LBFGS(moves, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        nonlocal best
        optimiser.zero_grad()
        with torch.no_grad():
            for (p, reach), origin, z in zip(parameters, origins, moves, strict=True):
                p.copy_(origin + reach * torch.tanh(z))
                p.grad = None
        value = evidence_of_data(algebra, start, functionals)
        value.backward()
        if float(value.detach()) > best[0]:
            best = float(value.detach()), [p.detach().clone() for p, _ in parameters]
        for (p, reach), z in zip(parameters, moves, strict=True):
            slope = torch.zeros_like(p) if p.grad is None else p.grad
            z.grad = -slope * reach * (1 - torch.tanh(z.detach()).square())
        return -value.detach()

    # a kernel too close to singular ends the round
    with contextlib.suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        optimiser.step(closure)
    with torch.no_grad():
        for (p, _), value in zip(parameters, best[1], strict=True):
            p.copy_(value)
    return start
