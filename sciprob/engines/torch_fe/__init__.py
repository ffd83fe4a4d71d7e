"""Elliptic problems on triangles and tetrahedra in torch: batched, differentiable, on any device.

The same problems, arguments and numbers as `sciprob.engines.fenicsx`, which takes over where meshes
are distributed over processes.
"""

from sciprob.engines.torch_fe.elliptic import EllipticOperator, elliptic_operator
from sciprob.engines.torch_fe.source import SourceMap, source_operator
from sciprob.engines.torch_fe.system import LinearSolver

__all__ = ["EllipticOperator", "LinearSolver", "SourceMap", "elliptic_operator", "source_operator"]
