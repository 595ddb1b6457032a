"""How fast this machine is beside the one that the budgets were set on.

The budgets in microseconds come from measurements on one machine. These calls of the standard library took so long there (medians of
CPU time, CPython 3.11), so what they take here tells how many times slower this machine is, at this moment: a busy or a virtual one
changes from minute to minute. Ratios (x) need none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import digest
from ipaddress import ip_address
from socket import AF_INET, inet_pton
from statistics import median
from time import monotonic, process_time_ns

CALLS = 2000


def _clock() -> None:
    for _ in range(CALLS):
        monotonic()


def _address() -> None:
    whole = int.from_bytes
    for _ in range(CALLS):
        whole(inet_pton(AF_INET, "203.0.113.9"), "big")


def _parsed() -> None:
    for _ in range(CALLS // 10):
        ip_address("203.0.113.9")


def _keyed() -> None:
    for _ in range(CALLS // 10):
        digest(b"k" * 32, b"x" * 64, "sha256")


THERE = ((_clock, 56, CALLS), (_address, 128, CALLS), (_parsed, 1600, CALLS // 10), (_keyed, 1324, CALLS // 10))
"""Work, the nanoseconds of one call of it on the budgets' machine, and the calls."""


def slowness() -> float:
    """How many times longer this machine takes now: the median over the kinds of work of the medians of 15 rounds each."""
    return median(median(_took(work) for _ in range(15)) / calls / there for work, there, calls in THERE)


_noted: list[float] = []


def note(slow: float) -> None:
    """Say how many times longer the machine took for what has just been measured, for whoever looked at the clock meanwhile."""
    _noted.append(slow)


def noted() -> list[float]:
    """What was said since somebody last asked."""
    found = _noted.copy()
    _noted.clear()
    return found


def _took(work: Callable[[], None]) -> int:
    started = process_time_ns()
    work()
    return process_time_ns() - started
