"""What `kronecker_gp.py` compares with: Chebyshev and Fourier collocation, in numpy and scipy alone.

Each solves a case with as many nodes per axis as the Gaussian process and returns the solution on the test lines.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from _kronecker_cases import Case


def chebyshev(case: Case) -> np.ndarray:
    """Chebyshev collocation: dense in 1-D, a Sylvester equation in 2-D, Newton's method for Allen-Cahn."""
    x = case.upper * (1 - np.cos(np.pi * np.arange(case.nodes) / (case.nodes - 1))) / 2
    d = _differentiation(x)
    if case.equation == "advection":
        u = _advection(case, x, d)
    elif case.dims == 1:
        u = _line(case, x, d @ d)
    else:
        u = _square(case, x, d @ d)
    for axis, points in enumerate(case.test_lines()):
        u = np.moveaxis(np.tensordot(_interpolation(x, points), u, (1, axis)), 0, axis)
    return u


def _differentiation(x: np.ndarray) -> np.ndarray:
    """First derivative at Chebyshev points; the diagonal from the row sums, which keeps the digits."""
    n = len(x)
    c = np.where((np.arange(n) == 0) | (np.arange(n) == n - 1), 2.0, 1.0) * (-1.0) ** np.arange(n)
    d = np.outer(c, 1 / c) / (x[:, None] - x + np.eye(n))
    return d - np.diag(d.sum(1))


def _interpolation(x: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Barycentric formula: values at Chebyshev points -> values anywhere."""
    weights = (-1.0) ** np.arange(len(x))
    weights[[0, -1]] /= 2
    gap = points[:, None] - x
    hit = gap == 0
    quotient = weights / np.where(hit, 1.0, gap)
    matrix = quotient / quotient.sum(1, keepdims=True)
    rows = hit.any(1)
    matrix[rows] = hit[rows]
    return matrix


def _line(case: Case, x: np.ndarray, d2: np.ndarray) -> np.ndarray:
    u, f = case.values(x), case.source(x)
    inside = slice(1, -1)
    ends = d2[inside, :1] * u[0] + d2[inside, -1:] * u[-1]
    inner, rhs = d2[inside, inside], f[inside] - ends.sum(1)
    v = np.linalg.solve(inner, rhs)
    if case.equation == "allen-cahn":
        for _ in range(20):
            residual = inner @ v + v * (v**2 - 1) - rhs
            step = np.linalg.solve(inner + np.diag(3 * v**2 - 1), residual)
            v = v - step
            if np.linalg.norm(step) < 1e-13 * np.linalg.norm(v):
                break
    return np.concatenate([u[:1], v, u[-1:]])


def _square(case: Case, x: np.ndarray, d2: np.ndarray) -> np.ndarray:
    """Boundary values go to the right-hand side; the inner matrix is decomposed once."""
    u, f = case.values(x, x), case.source(x, x)
    inside, border = slice(1, -1), u.copy()
    border[inside, inside] = 0
    rhs = (f - d2 @ border - border @ d2.T)[inside, inside]
    schur, q = scipy.linalg.schur(d2[inside, inside])
    schur_t, q_t = scipy.linalg.schur(d2[inside, inside].T)
    trsyl = scipy.linalg.get_lapack_funcs("trsyl", (schur, schur_t))

    def inverse(g: np.ndarray) -> np.ndarray:  # of A v + v A^T
        y, scale, _ = trsyl(schur, schur_t, q.T @ g @ q_t)
        return q @ (y / scale) @ q_t.T

    v = inverse(rhs)
    if case.equation == "allen-cahn":
        inner = d2[inside, inside]
        for _ in range(20):
            residual = inner @ v + v @ inner.T + v * (v**2 - 1) - rhs
            step = _newton_step(inverse, 3 * v**2 - 1, residual)
            v = v - step
            if np.linalg.norm(step) < 1e-11 * np.linalg.norm(v):
                break
    border[inside, inside] = v
    return border


def _newton_step(inverse, slope: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """(Delta + slope)^-1 residual by GMRES on I + Delta^-1 slope."""
    shape, size = residual.shape, residual.size
    operator = scipy.sparse.linalg.LinearOperator(
        (size, size), matvec=lambda v: v.ravel() + inverse(slope * v.reshape(shape)).ravel(), dtype=float
    )
    step, _ = scipy.sparse.linalg.gmres(operator, inverse(residual).ravel(), rtol=1e-8, restart=60, maxiter=2)
    return step.reshape(shape)


def _advection(case: Case, x: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Solve speed D u + u D^T = 0 with the first row (inflow) and the first column (t = 0) known."""
    u = case.values(x, x)
    u[1:, 1:] = 0
    known = case.speed * d @ u + u @ d.T
    u[1:, 1:] = scipy.linalg.solve_sylvester(case.speed * d[1:, 1:], d[1:, 1:].T, -known[1:, 1:])
    return u


def fourier(case: Case) -> np.ndarray | None:
    """Fourier collocation for the Poisson equation; in 1-D with an affine part that meets the boundary values.

    Exact where the solution, less that part, has the box as its period; None for other equations and for 3-D.
    """
    if case.equation != "poisson" or case.dims > 2:
        return None
    x = np.arange(case.nodes) * case.upper / case.nodes
    lines = (x,) * case.dims
    waves = np.meshgrid(*([np.fft.fftfreq(case.nodes) * case.nodes] * case.dims), indexing="ij")
    symbol = -sum((2 * np.pi * k / case.upper) ** 2 for k in waves)
    symbol.flat[0] = np.inf  # the mean of f is in the affine part, or lost
    u_hat = np.fft.fftn(case.source(*lines)) / symbol
    tests = case.test_lines()
    u = u_hat / case.nodes**case.dims
    for axis, points in enumerate(tests):
        frequencies = 2j * np.pi / case.upper * np.fft.fftfreq(case.nodes) * case.nodes
        u = np.moveaxis(np.tensordot(np.exp(np.outer(points, frequencies)), u, (1, axis)), 0, axis)
    u = u.real
    truth = case.values(*tests)
    if case.dims == 1:
        gap = truth[[0, -1]] - u[[0, -1]]
        return u + gap[0] + (gap[1] - gap[0]) * tests[0] / case.upper
    return u + (truth - u)[0].mean()  # one constant, from one side
