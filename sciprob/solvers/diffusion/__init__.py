"""Posterior ensembles under diffusion priors."""
