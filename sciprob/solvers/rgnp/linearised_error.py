r"""How large the error of one member is, from its own residual: one linearised correction, no reference solution.

With g = du / dtheta and J = dr / dtheta at a member of the family, theta ~ N(theta*, S), the weights for which
the residual would vanish at M points are, to first order,

    delta = -S^{1/2} V a,   a = argmin |L^{-1/2} (r - A a)|^2 + |a|^2,   A = J S^{1/2} V,

and g delta is an estimate of u - u*. V are the leading directions of the field's variance; what the others do to the
residual counts as noise of variance L, which random directions outside of V estimate. Only the size of g delta is
used: X, its root mean square over the domain.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.jacobian import sample_jacobian
from sciprob.solvers.rgnp.laplace import CHUNK, Directions, sample_rows
from sciprob.solvers.rgnp.network import PointNetwork
from sciprob.solvers.rgnp.residuals import weighted_residuals
from sciprob.solvers.rgnp.sampling import Collocation

_FEWEST, _MOST = 64, 1536  # residuals: 64 points on a line, sixteen times as many with each dimension
_SIZED = 128  # points over which sizes are averaged
_SHARE = 0.02  # of the other directions' variance that counts as noise: all of it would shrink large corrections
_FLOOR = 1e-6  # of the residual's variance; noise where nothing is left out


def expected_errors(
    family: ProblemFamily, network: PointNetwork, directions: Directions, z: Tensor, w: Tensor
) -> tuple[Tensor, Tensor]:
    """X `(b, fields)`, and Laplace's sd at points that stand for the domain `(b, m, fields)`.

    For z `(b, dz)` and w `(b, dw)`. Both are smooth in z, as the points are the same for all members. X is no bound:
    it is good as far as the network can represent the correction and the equation is nearly linear over the error.
    """
    points = member_points(family).to(z)
    rows = len(points) * len(family.equations) * len(directions.leading)
    step = max(1, CHUNK // rows)
    parts = [
        _sizes(family, network, directions, points, z[i : i + step], w[i : i + step]) for i in range(0, len(z), step)
    ]
    none = z.new_zeros(0, family.n_fields)
    if not parts:
        return none, none.unsqueeze(1)
    return torch.cat([x for x, _ in parts]), torch.cat([s for _, s in parts])


def member_points(family: ProblemFamily) -> Tensor:
    """The collocation points `(M, d)`, float64: Sobol points of the domain's measure."""
    d = family.domain.unit_size
    n = min(_FEWEST * 16 ** (d - 1), _MOST // len(family.equations))
    engine = torch.quasirandom.SobolEngine(d, scramble=True, seed=1)
    return family.domain.from_unit(engine.draw(n, dtype=torch.float64))


def correction(residuals: Tensor, leading: Tensor, rest: Tensor) -> Tensor:
    """The minimiser -a of the module's least squares, `(b, k)`.

    Args:
        residuals: r `(b, M, equations)`.
        leading: A `(b, M, equations, k)`.
        rest: The same for directions outside of V, `(b, M, equations, j)`; their squares add up to the variance there.
    """
    noise = residual_noise(leading, rest)
    rows = (leading / noise.unsqueeze(-1)).flatten(-3, -2)
    gram = rows.mT @ rows
    gram.diagonal(dim1=-2, dim2=-1).add_(1.0)
    pulled = rows.mT @ (residuals / noise).flatten(-2).unsqueeze(-1)
    return -torch.cholesky_solve(pulled, torch.linalg.cholesky(gram)).squeeze(-1)


def residual_noise(leading: Tensor, rest: Tensor) -> Tensor:
    """Standard deviations L^{1/2} of the residual for what V leaves out, `(*batch, M, equations)`; as `correction`."""
    floor = _FLOOR * leading.square().sum(-1).mean(-2, keepdim=True)
    return (_SHARE * rest.square().sum(-1) + floor).clamp_min(torch.finfo(leading.dtype).tiny).sqrt()


def _sizes(
    family: ProblemFamily, network: PointNetwork, directions: Directions, points: Tensor, z: Tensor, w: Tensor
) -> tuple[Tensor, Tensor]:
    b = len(z)
    batch = _pairs(points, z, w)
    residuals, jacobian = sample_jacobian(network, lambda: weighted_residuals(family, network, batch))
    residuals = residuals.reshape(b, len(points), -1)
    leading, rest = ((jacobian @ part).reshape(*residuals.shape, -1) for part in (directions.leading, directions.rest))
    a = correction(residuals, leading, rest)
    some = _pairs(points[:_SIZED], z, w)
    fields = sample_rows(family, network, some, directions.leading).reshape(b, -1, family.n_fields, a.shape[-1])
    error = torch.einsum("bmfk,bk->bmf", fields, a)
    return error.square().mean(1).sqrt(), torch.linalg.vector_norm(fields, dim=-1)


def _pairs(points: Tensor, z: Tensor, w: Tensor) -> Collocation:
    """Every member with every point, by member and then by point."""
    m = len(points)
    return Collocation(points.repeat(len(z), 1), z.repeat_interleave(m, dim=0), w.repeat_interleave(m, dim=0))
