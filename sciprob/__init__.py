"""Probabilistic scientific computing: prior x forward operator x likelihood -> posterior."""

__version__ = "0.1.0"
