"""Diffusion priors: denoisers, noise levels, samplers, networks and their training."""
