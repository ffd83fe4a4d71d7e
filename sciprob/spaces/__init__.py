"""Spaces: what a tensor means."""

from sciprob.spaces.box import box_mesh
from sciprob.spaces.fe import FESpace
from sciprob.spaces.grid import GridSpace
from sciprob.spaces.mesh import Mesh
from sciprob.spaces.product import ProductSpace
from sciprob.spaces.space import Space

__all__ = ["FESpace", "GridSpace", "Mesh", "ProductSpace", "Space", "box_mesh"]
