"""Equations for the spectral engine; import each from its module."""
