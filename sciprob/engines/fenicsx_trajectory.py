"""The states of one run of a march: those of every k-th step, and the segment that is in use."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sciprob.spaces.mesh import Floats


@dataclass
class Trajectory:
    """What is kept of one run. `March` fills it and completes it where steps are missing.

    Args:
        sample: Number of the sample, for messages.
        m: The unknown, flat.
        key: Its hash.
        kept: States by step number.
        segment: Further states that were computed again.
        outputs: States of the output steps.
    """

    sample: int
    m: Floats
    key: bytes
    kept: dict[int, Floats] = field(default_factory=dict)
    segment: dict[int, Floats] = field(default_factory=dict)
    outputs: Floats = field(default_factory=lambda: np.zeros(0))

    def get(self, n: int) -> Floats | None:
        """U_n if it is here."""
        return self.kept[n] if n in self.kept else self.segment.get(n)
