"""A fit: the conditioned process, how well it does between the nodes, and the factor of its standard deviations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sciprob.pde.jet import Jet
from sciprob.priors.kernels import StationaryKernel
from sciprob.solvers.kronecker_gp.candidates import Packed, pack
from sciprob.solvers.kronecker_gp.factored import FactoredConditional
from sciprob.solvers.kronecker_gp.held_out import held_out, relative_std
from sciprob.solvers.kronecker_gp.held_out import spread as spread_of
from sciprob.solvers.kronecker_gp.hyperparameters import evidence_of_data
from sciprob.solvers.kronecker_gp.newton import LinearAlgebra
from sciprob.solvers.kronecker_gp.rows_of_problem import ProblemRows
from sciprob.solvers.kronecker_gp.storing import describe_conditional, restore_conditional


@dataclass
class Fit:
    """A conditioned process as plain numbers and tensors, and its scores.

    Attributes:
        label: Which kernel.
        kernels: Its parameters.
        score: The smaller the better: `expected_error`, or minus `evidence_of_data`.
        expected_error: Root mean square of the scaled std over that of the mean.
        held_out: Relative residual between the nodes; None where it is not known.
        at_nodes: Relative residual of the equation at the nodes.
        log_evidence: Of all rows.
        amplitude: sqrt(y^T (G + S)^-1 y / n).
        spread: Root mean square of standardised residuals between the nodes; None where it is not known.
        std_factor: What standard deviations are multiplied by.
        rank: Coefficients.
        frequencies: Largest frequency of each axis, in cycles per unit.
        settled: Whether a nonlinear iteration has converged.
        settings: Of the process.
        tensors: Of the process.
    """

    label: str
    kernels: Packed
    score: float
    expected_error: float
    held_out: float | None
    at_nodes: float | None
    log_evidence: float
    amplitude: float
    spread: float | None
    std_factor: float
    rank: int
    frequencies: list[float]
    settled: bool
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def progress(self) -> dict[str, float]:
        """For the log."""
        held = {} if self.held_out is None else {"held_out": self.held_out}
        return {"expected_error": self.expected_error, **held, "rank": float(self.rank)}

    def figures(self) -> dict[str, Any]:
        """For `metrics.json`."""
        found = {
            "expected_error": self.expected_error,
            "held_out_residual": self.held_out,
            "residual_at_nodes": self.at_nodes,
            "log_evidence": self.log_evidence,
            "amplitude": self.amplitude,
            "held_out_spread": self.spread,
            "std_factor": self.std_factor,
            "rank": self.rank,
            "largest_frequency": max(self.frequencies),
        }
        return {name: value for name, value in found.items() if value is not None}

    def line(self) -> str:
        """One line for the list of tried kernels."""
        held = "unknown" if self.held_out is None else f"{self.held_out:.2g}"
        return f"{self.label}: expected error {self.expected_error:.2g}, residual between the nodes {held}"


def fit(
    algebra: LinearAlgebra,
    rows: ProblemRows,
    kernels: Sequence[StationaryKernel],
    u: Jet | None,
    label: str,
    choice: str,
    *,
    settled: bool,
) -> Fit:
    """Condition on all rows, linearised at `u`, and score."""
    functionals = rows.at(kernels, u)
    process = algebra.condition(kernels, functionals)
    held = held_out(process, rows.collocation) if rows.known_between else None
    amplitude = math.sqrt(float(process.chi_square))
    spread = None
    if held is not None and not rows.noisy:
        own = functionals[1 : 1 + len(rows.collocation.conditions)]
        spread = spread_of(process, rows.collocation, [float(row.std.amax()) for row in own])
    evidence, factor = float(process.log_evidence), 1.0 if rows.noisy else max(amplitude, spread or 0.0)
    expected = factor * relative_std(process, rows.collocation)
    score = expected
    if choice == "evidence":
        with torch.no_grad():
            score = -float(evidence_of_data(algebra, kernels, functionals))
    settings, tensors = describe_conditional(process)
    return Fit(
        label,
        pack(kernels),
        score,
        expected,
        None if held is None else held.between,
        None if held is None else held.at_nodes,
        evidence,
        amplitude,
        spread,
        factor,
        process.rank,
        [float(k.frequencies.detach().abs().max()) for k in kernels],
        settled,
        settings,
        {name: tensor.detach().clone() for name, tensor in tensors.items()},
    )


def restore(fit: Fit) -> FactoredConditional:
    """The process of a fit."""
    return restore_conditional(fit.settings, fit.tensors)
