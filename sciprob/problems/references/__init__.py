"""Accurate solutions of the families, by methods that share nothing with those that are trained or scored."""
