"""When a run stops early: time budget and Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from sciprob.errors import ConfigError

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_budget(budget: str | float | None) -> float | None:
    """Seconds from `60`, `"60s"`, `"5m"`, `"2h"`; None is no limit.

    Raises:
        ConfigError: If it is not a positive time.
    """
    if budget is None:
        return None
    text = str(budget).strip().lower()
    number = text.rstrip("smhin ")
    unit = text[len(number) :].strip() or "s"
    try:
        seconds = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        message = f"the budget should be a positive time such as `60s`, `5m` or `2h`, got {budget!r}."
        raise ConfigError(message)
    return seconds


class Clock:
    """Wall-clock time of a run.

    Args:
        before: Seconds spent by earlier parts of a resumed run.
        budget: Seconds allowed to this part, or None.
    """

    def __init__(self, before: float = 0.0, budget: float | None = None) -> None:
        self._before = before
        self._budget = budget
        self._start = time.perf_counter()

    @property
    def part(self) -> float:
        """Seconds of this part."""
        return time.perf_counter() - self._start

    @property
    def seconds(self) -> float:
        """Seconds of all parts together."""
        return self._before + self.part

    @property
    def exhausted(self) -> bool:
        """Whether the budget is used up."""
        return self._budget is not None and self.part >= self._budget


class Interrupts:
    """Turns the first Ctrl-C (or SIGTERM, as batch systems send it) into a request to stop after the step.

    Steps may change their state in place, so that only between steps there is something to save.
    The second Ctrl-C interrupts at once. Does nothing outside the main thread or where the program
    has its own handlers.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
            for number, default in defaults.items():
                if signal.getsignal(number) == default:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
