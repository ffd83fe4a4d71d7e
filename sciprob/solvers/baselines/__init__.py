"""Referees: classical methods that others are compared with."""
