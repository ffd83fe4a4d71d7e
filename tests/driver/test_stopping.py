"""Budgets are read, clocks add up, and signals ask for a stop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from sciprob.errors import ConfigError
from sciprob.solvers.stopping import Clock, Interrupts, parse_budget


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), (2, 2.0), ("60", 60.0), ("60s", 60.0), ("1.5m", 90.0), ("2 h", 7200.0)]
)
def test_budgets(text: str | float | None, seconds: float | None) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["fast", "-1s", "0", "inf", "nan", "5 days", "", "m"])
def test_bad_budgets(text: str) -> None:
    with pytest.raises(ConfigError, match="positive time such as `60s`"):
        parse_budget(text)


def test_clock_counts_earlier_parts_but_budgets_only_this_one() -> None:
    clock = Clock(before=100.0, budget=50.0)
    assert 100 <= clock.seconds < 101
    assert not clock.exhausted
    assert Clock(budget=1e-9).exhausted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_and_second_interrupts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    if number == signal.SIGINT:
        assert before == signal.default_int_handler
    with Interrupts() as interrupts:
        assert not interrupts.requested
        os.kill(os.getpid(), number)
        assert interrupts.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_other_threads_and_other_handlers_are_left_alone() -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGINT, mine)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGINT) == mine
    finally:
        signal.signal(signal.SIGINT, before)
    seen: list[object] = []

    def work() -> None:
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
