"""What a call's own time limit is worth: how long it took, not counting what the machine took from the process, and whether that was in time."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from crawlguard.store.links import LIMIT

SLACK = 0.08
"""Seconds that a call may take beyond its limit: a thread waits for the interpreter's lock, 5 ms for each other one. One call in fifty may meet with
more than that."""
FAR = 0.4
"""Seconds that no call may take, as each that waits for a connection to be made would (half a second), but for one: the machine itself may stand still."""
HUNG = 2.0
"""... and that no call whatever may take, as each would that waits for a server without a bound."""


class Stopwatch:
    """Call it for the seconds since it was made, without those in which threads of this process were ready and no processor was free."""

    def __init__(self) -> None:
        self._waited, self._begin = _waited(), monotonic()

    def __call__(self) -> float:
        took = monotonic() - self._begin
        before = self._waited
        # Each thread's waiting may have been this one's: it may have held the interpreter's lock.
        return took - sum(now - before.get(thread, 0.0) for thread, now in _waited().items())


def _waited() -> dict[str, float]:
    """Seconds that each thread has been ready to run and did not (Linux, Documentation/scheduler/sched-stats)."""
    found: dict[str, float] = {}
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError):  # it has ended
                found[thread] = int(_read(f"/proc/self/task/{thread}/schedstat").split()[1]) / 1e9
    return found


def _read(path: str) -> bytes:
    """A small file, for a fifth of what a file object costs: dozens are read for each request that is timed."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 100)
    finally:
        os.close(file)


def young_heap() -> None:
    """As in a site's worker: here, what a thousand other tests have left in memory would be looked through by the garbage collector, half a second long."""
    gc.collect()
    gc.freeze()


def assert_in_time(took: Sequence[float]) -> None:
    """No call of many waited longer than a store's limit, as well as a busy machine can tell."""
    *others, longest = sorted(took)
    assert longest < HUNG
    assert not others or others[-1] < FAR
    assert sum(one > LIMIT + SLACK for one in took) <= len(took) / 50
