"""Counting what is expensive."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class SolveCounter:
    """Solves of an operator since it was built; PDE methods are compared by these.

    Attributes:
        forward: Forward solves, one per sample.
        tangent: Linearised solves, one per direction.
        adjoint: Adjoint solves, one per co-vector.
        factorisations: Matrix factorisations.
        bytes_moved: Bytes copied between an accelerator and the host.
    """

    forward: int = 0
    tangent: int = 0
    adjoint: int = 0
    factorisations: int = 0
    bytes_moved: int = 0

    def __add__(self, other: SolveCounter) -> SolveCounter:
        mine, theirs = asdict(self), asdict(other)
        return SolveCounter(**{key: mine[key] + theirs[key] for key in mine})

    def __sub__(self, other: SolveCounter) -> SolveCounter:
        mine, theirs = asdict(self), asdict(other)
        return SolveCounter(**{key: mine[key] - theirs[key] for key in mine})

    def as_dict(self) -> dict[str, int]:
        """Plain numbers by name."""
        return asdict(self)
