"""Roots of covariances that are a low-rank update of a prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.linear import LinearMap
from sciprob.operators.store import describe, restore, storable

_CHUNK = 1 << 22  # numbers held at once while variances are summed


@storable("low-rank-root")
class LowRankRoot(LinearMap):
    r"""R = L (I - V^T diag(1 - (1 + lam)^{-1/2}) V), so that R R^T = L (I + V^T diag(lam) V)^{-1} L^T.

    With the rows of V orthonormal eigenvectors of the prior-preconditioned data Hessian and `lam`
    its eigenvalues, R R^T is the posterior covariance of a linear Gaussian problem; it is exact if
    V holds all eigenvectors with lam > 0, and too large by at most the factor 1 + lam_{r+1} if not.

    Args:
        prior_root: L, from the white space onto the space of m.
        vectors: V `(r, *white.shape)`, orthonormal rows.
        eigenvalues: lam `(r,)`, >= 0.

    Raises:
        ShapeError: If `vectors` does not live on the white space, or `eigenvalues` is not `(r,)`.

    Source: Bui-Thanh, Ghattas, Martin, Stadler, SIAM J. Sci. Comput. 35 (2013).
    """

    vectors: Tensor
    eigenvalues: Tensor

    def __init__(self, prior_root: LinearMap, vectors: Tensor, eigenvalues: Tensor) -> None:
        super().__init__(prior_root.domain, prior_root.codomain)
        batch = prior_root.domain.batch_shape(vectors, "vectors")
        if len(batch) != 1 or tuple(eigenvalues.shape) != tuple(batch):
            message = f"`eigenvalues` should be (r,) for {tuple(batch)} `vectors`, got {tuple(eigenvalues.shape)}."
            raise ShapeError(message)
        self.prior_root = prior_root
        self.register_buffer("vectors", vectors.detach())
        self.register_buffer("eigenvalues", eigenvalues.detach())

    def _apply_batched(self, m: Any) -> Any:
        return self.prior_root(self._shrink(m, (1 + self.eigenvalues).rsqrt() - 1))

    def _adjoint_batched(self, y: Any) -> Any:
        return self._shrink(self.prior_root.T(y), (1 + self.eigenvalues).rsqrt() - 1)

    def solve(self, y: Tensor) -> Tensor:
        """R^{-1} y, where L knows its inverse."""
        return self._shrink(self.prior_root.solve(y), (1 + self.eigenvalues).sqrt() - 1)

    def log_abs_det(self) -> Tensor:
        """Log |det L| - sum log(1 + lam) / 2."""
        return self.prior_root.log_abs_det() - 0.5 * self.eigenvalues.log1p().sum()

    def variance(self, prior_variance: Tensor) -> Tensor:
        """Diagonal of R R^T, `(*codomain.shape)`: the prior's minus sum (L v)^2 lam / (1 + lam)."""
        share = self.eigenvalues / (1 + self.eigenvalues)
        variance = prior_variance.to(share)
        step = max(1, _CHUNK // max(self.domain.size, self.codomain.size))
        for start in range(0, len(share), step):
            modes = self.prior_root(self.vectors[start : start + step])
            variance = variance - torch.tensordot(share[start : start + step], modes.square(), dims=1)
        return variance.clamp_min(0)

    def _shrink(self, x: Tensor, factor: Tensor) -> Tensor:
        """Apply I + V^T diag(factor) V, for any leading batch axes."""
        flat, v = x.reshape(*self.domain.batch_shape(x), self.domain.size), self.vectors.flatten(1).to(x.dtype)
        return x + (((flat @ v.T) * factor.to(x.dtype)) @ v).reshape(x.shape)

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Settings and tensors for `restore`; those of the prior root are nested."""
        kind, settings, tensors = describe(self.prior_root)
        nested = {f"prior_root.{name}": tensor for name, tensor in tensors.items()}
        own = {"vectors": self.vectors, "eigenvalues": self.eigenvalues}
        return {"prior_root": {"kind": kind, "settings": settings}}, own | nested

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the root again."""
        prefix, inner = "prior_root.", settings["prior_root"]
        nested = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        root = restore(inner["kind"], inner["settings"], nested)
        return cls(root, tensors["vectors"], tensors["eigenvalues"])
