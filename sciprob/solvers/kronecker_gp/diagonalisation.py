"""Fast diagonalisation: operators with constant coefficients on a box with Dirichlet sides, for ranks of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.pde.functionals import Functionals
from sciprob.priors.kernels import StationaryKernel
from sciprob.solvers.kronecker_gp.axis_modes import AxisModes
from sciprob.solvers.kronecker_gp.columns import contract
from sciprob.solvers.kronecker_gp.dirichlet import DirichletBox
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.modal import ModalConditional, modal_evidence
from sciprob.solvers.kronecker_gp.modal_operator import ModalOperator
from sciprob.solvers.kronecker_gp.preconditioned import VariableOperator, solve_by_conjugate_gradients
from sciprob.spaces.shapes import broadcast_shapes


def condition_modes(
    kernels: Sequence[StationaryKernel],
    functionals: Sequence[Functionals],
    cut: float,
    null_space: Sequence[int],
    *,
    iterative: bool,
) -> ModalConditional:
    r"""Condition a process in the modes of the second derivative, O(sum_j r_j^3 + N sum_j r_j).

    With boundary values exact, u = lift + v and v = 0 on all sides. In the modes of the axes
    (`AxisModes`) L v = f - L lift is diagonal if L has constant coefficients; the posterior of each
    amplitude y_i with prior variance g_i is then y_i = g_i d_i F_i / (g_i d_i^2 + s_i^2). With variable
    coefficients the means are found by conjugate gradients, preconditioned by the averaged
    coefficients, and the standard deviations are those of the averages.

    Against `method="factors"`: boundary data have no noise, and modes are independent a priori.
    Where the equation determines the solution, means agree to the accuracy of both.

    Args:
        kernels: One per coordinate.
        functionals: One equation on a tensor grid, Dirichlet data on all sides.
        cut: As in `condition`.
        null_space: Number of polynomials per axis.
        iterative: Whether coefficients may vary and other derivatives occur.

    Raises:
        UnsupportedProblemError: If the functionals have another form, or the modes are not real.
        ConvergenceError: If the iteration does not converge.
    """
    box = DirichletBox.of(functionals)
    equation = box.equation
    constant = has_constant_symbol(equation)
    if not (iterative or constant):
        message = (
            f"fast diagonalisation needs constant coefficients of u, u_xx, u_yy, ..., `{equation.name}` has others or "
            f"derivatives {sorted(equation.terms)}; use method='conjugate-gradients' or 'factors'."
        )
        raise UnsupportedProblemError(message)
    with torch.no_grad():
        orders = [{0, 2} | {equation.orders(name)[j] for name in equation.terms} for j in range(len(kernels))]
        modes = tuple(
            AxisModes.of(AxisFactors.of(kernel, line, sorted(p), cut, count), line, cut)
            for kernel, line, p, count in zip(kernels, box.lines, orders, null_space, strict=True)
        )
        batch = broadcast_shapes(*(f.values.shape[: f.values.ndim - len(f.shape)] for f in functionals))
        lift = box.lift(modes, batch)
        data = _projected_data(equation, modes, lift, batch)
        average = ModalOperator.of(equation, modes)
        amplitudes = average.to_modes(data)
        if constant:
            inside = average.from_modes(average.gain * amplitudes)
        else:
            inside = solve_by_conjugate_gradients(VariableOperator.of(equation, modes), average, data)
        coefficients = lift + contract(inside, [m.basis for m in modes])
        evidence, chi_square = modal_evidence(amplitudes, average.total)
    return ModalConditional(
        equation.coordinates,
        evidence.reshape(batch),
        chi_square.reshape(batch),
        average.total.numel(),
        batch,
        modes,
        coefficients,
        average.spread,
    )


def _projected_data(equation: Functionals, modes: Sequence[AxisModes], lift: Tensor, batch: torch.Size) -> Tensor:
    """F - L lift on the grid, in modes: `(B, m_1, ..., m_d)`."""
    values = equation.values.expand(*batch, *equation.shape).reshape(batch.numel(), *equation.shape)
    for name, coefficient in equation.terms.items():
        rows = [m.factors.at(m.line, p) for m, p in zip(modes, equation.orders(name), strict=True)]
        values = values - coefficient * contract(lift, rows)
    return contract(values, [m.projection for m in modes])


def has_constant_symbol(equation: Functionals) -> bool:
    """Whether an equation has constant coefficients of u, u_xx, u_yy, ... only."""
    diagonal = {"", *(2 * name for name in equation.coordinates)}
    return all(name in diagonal and _is_constant(c) for name, c in equation.terms.items())


def _is_constant(coefficient: Tensor) -> bool:
    return coefficient.numel() > 0 and bool((coefficient == coefficient.reshape(-1)[0]).all())
