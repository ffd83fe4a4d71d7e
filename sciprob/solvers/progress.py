"""Progress of a run: a bar on a terminal, a line now and then elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

_LINE_EVERY = 10.0  # seconds between lines in a log file


class Progress:
    """Shows steps and figures on stderr.

    Args:
        label: What runs.
        total: Number of steps.
        start: Steps made by earlier parts.
        show: False for silence.
    """

    def __init__(self, label: str, total: int, start: int = 0, *, show: bool = True) -> None:
        self._label, self._total = label, total
        self._show = show
        self._bar = None
        self._last = time.perf_counter()
        if show and total > 1 and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, desc=label, leave=False, dynamic_ncols=True)

    def update(self, step: int, info: Mapping[str, float]) -> None:
        """Show that `step` steps are made."""
        if self._bar is not None:
            self._bar.set_postfix_str(_figures(info), refresh=False)
            self._bar.update(step - self._bar.n)
        elif self._show and time.perf_counter() - self._last >= _LINE_EVERY:
            self._last = time.perf_counter()
            self.note(f"{self._label}: step {step} of {self._total}  {_figures(info)}".rstrip())

    def note(self, text: str) -> None:
        """Show a line."""
        if not self._show:
            return
        if self._bar is not None:
            self._bar.clear()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def _figures(info: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in info.items())
