"""Posterior sampling with diffusion priors: weighted ensembles, and the methods they are compared with."""
