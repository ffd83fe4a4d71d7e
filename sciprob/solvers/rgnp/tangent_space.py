"""Fields of one member that differ from the trained one by tangents of the network: their jets and residuals.

n(x) + sum_k a_k g_k(x), g_k the derivative of the network along the k-th direction of its weights. The field is
linear in a, so that all jets are formed once, and the residual of any a costs no pass through the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.pde.jet import Jet
from sciprob.pde.network_jets import network_jets
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.jacobian import sample_jacobian
from sciprob.solvers.rgnp.laplace import CHUNK, Directions
from sciprob.solvers.rgnp.network import PointNetwork
from sciprob.solvers.rgnp.residuals import unit_parameters

Entry = tuple[str, str]  # a field, and one of its derivatives


@dataclass(frozen=True)
class TangentSpace:
    """Jets of n, of its tangents along leading directions, and along those that stand for the rest.

    Args:
        family: Equation and domain.
        points: `(M, d)`.
        z: `(dz,)`.
        w: `(dw,)`.
        entries: What the E entries of the jets are.
        values: `(M, E)`.
        leading: `(M, E, k)`.
        rest: `(M, E, j)`.
    """

    family: ProblemFamily
    points: Tensor
    z: Tensor
    w: Tensor
    entries: tuple[Entry, ...]
    values: Tensor
    leading: Tensor
    rest: Tensor

    @classmethod
    def of(
        cls, family: ProblemFamily, network: PointNetwork, directions: Directions, points: Tensor, z: Tensor, w: Tensor
    ) -> TangentSpace:
        """At points, for one z and w, float64; in chunks."""
        entries = _entries(family, network, points[:1], z, w)
        both = torch.cat([directions.leading, directions.rest], dim=-1)
        step = max(1, CHUNK // (len(both) * len(entries)))

        def columns(part: Tensor) -> tuple[Tensor, Tensor]:
            return sample_jacobian(network, lambda: _columns(family, network, part, z, w, entries))

        values, tangents = [], []
        for part in points.split(step):
            found, jacobian = columns(part)
            values.append(found)
            tangents.append(jacobian @ both)
        k = directions.leading.shape[-1]
        leading, rest = torch.cat(tangents).split([k, both.shape[-1] - k], dim=-1)
        return cls(family, points, z, w, entries, torch.cat(values), leading, rest)

    def residuals(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted residuals of the field with coefficients a `(k,)`, and their derivatives in the jets' entries.

        Returns:
            `(M, equations)` and `(M, equations, E)`.
        """
        with torch.enable_grad():
            jets = (self.values + self.leading @ a).requires_grad_()
            found = self._residuals(jets)
            slopes = [torch.autograd.grad(column.sum(), jets, retain_graph=True)[0] for column in found.unbind(-1)]
        return found.detach(), torch.stack(slopes, dim=1)

    def _residuals(self, columns: Tensor) -> Tensor:
        parts: dict[str, dict[str, Tensor]] = {name: {} for name in self.family.fields}
        for (field, name), column in zip(self.entries, columns.unbind(-1), strict=True):
            parts[field][name] = column.unsqueeze(-1)
        jets = {field: Jet(found) for field, found in parts.items()}
        z, w = (value.expand(len(columns), -1) for value in (self.z, self.w))
        residuals = self.family.residual(self.points.unsqueeze(-2), jets, z, w)
        weights = self.family.residual_weights(z, w)
        return torch.cat([residuals[name] * weights[name] for name in self.family.equations], dim=-1)


def _entries(family: ProblemFamily, network: PointNetwork, points: Tensor, z: Tensor, w: Tensor) -> tuple[Entry, ...]:
    with torch.no_grad():
        jets = _jets(family, network, points, z, w)
    return tuple((field, name) for field, jet in jets.items() for name in jet.names)


def _columns(
    family: ProblemFamily, network: PointNetwork, points: Tensor, z: Tensor, w: Tensor, entries: tuple[Entry, ...]
) -> Tensor:
    jets = _jets(family, network, points, z, w)
    return torch.cat([jets[field][name] for field, name in entries], dim=-1)


def _jets(family: ProblemFamily, network: PointNetwork, points: Tensor, z: Tensor, w: Tensor) -> dict[str, Jet]:
    """Of the network's outputs, `(M, 1)` each."""
    parameters = unit_parameters(family, z.expand(len(points), -1), w.expand(len(points), -1))

    def at(x: Jet) -> Jet:
        jet: Jet = network(x, parameters)
        return jet

    return network_jets(at, points.unsqueeze(-2), family.pde.coordinates, family.pde.fields)
