"""Spaces: what a tensor means."""

from sciprob.spaces.grid import GridSpace
from sciprob.spaces.product import ProductSpace
from sciprob.spaces.space import Space

__all__ = ["GridSpace", "ProductSpace", "Space"]
