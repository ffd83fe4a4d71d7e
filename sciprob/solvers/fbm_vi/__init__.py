"""Variational inference for equations driven by fractional noise, the solver `fbm-vi`."""
