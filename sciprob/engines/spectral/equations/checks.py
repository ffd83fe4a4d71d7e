"""Checks that several equations share."""

from __future__ import annotations

from torch import Tensor

from sciprob.errors import DataError


def refuse_negative(value: Tensor, name: str) -> None:
    """A coefficient of diffusion, `(B,)`, should be 0 or more.

    Raises:
        DataError: Names the first sample.
    """
    bad = ~(value >= 0)
    if bool(bad.any()):
        sample = int(bad.nonzero()[0, 0])
        message = (
            f"`{name}` of sample {sample} should be 0 or more, got {float(value[sample]):g}; "
            "a parameter that must be positive wants a positive prior (a log-normal one, say)."
        )
        raise DataError(message)
