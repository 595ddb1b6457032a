"""Whether a server answers: a circuit breaker that is asked by every request and closed again by a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

log = logging.getLogger("crawlguard")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds between two tries while a server does not answer: doubled each time, and shaken, so that workers do not come all at once."""

CURES = (
    (("WRONGPASS", "NOAUTH", "invalid username-password", "Authentication required", "AUTH"), "check the user and the password of the store's URL or password_env"),
    (("NOPERM",), "the user needs +@read +@write +@scripting +time on the keys cg:*"),
    (("OOM",), "give the server more memory, or set maxmemory-policy volatile-ttl: every key has a time to live"),
    (("READONLY", "replica"), "name the master, or let sentinels find it: valkey+sentinel://..."),
    (("CLUSTER", "MOVED", "CROSSSLOT"), "write valkey+cluster:// for a cluster"),
)  # fmt: skip


class UnreachableError(Exception):
    """The store did not answer in time, or not as it should: the request is decided without it."""


class Health:
    """``down``: nobody is to ask. ``attempt`` connects and does one whole call; it raises what went wrong.

    After a failure a daemon thread tries again until the store answers; then whoever comes next asks it. Told once each: that it has gone,
    when the first try fails too, and that it is back. ``failures`` and ``outages`` are counted for metrics.
    """

    def __init__(self, shown: str, attempt: Callable[[], None]) -> None:
        self.down = False
        self.failures = self.outages = 0
        self._shown, self._attempt = shown, attempt
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def failed(self) -> None:
        """A call failed: nobody asks any more until a try succeeds."""
        with self._lock:
            self.failures += 1
            self.down = True
        self.mend()

    def mend(self) -> None:
        """Have the thread connect, if it is not at it already."""
        with self._lock:
            if self._closed.is_set() or self._thread is not None:
                return
            self._thread = threading.Thread(target=self._mend, name="crawlguard-store", daemon=True)
            self._thread.start()

    def _mend(self) -> None:
        pause, since, told = FIRST_PAUSE, time.monotonic(), False
        while not self._closed.is_set():
            try:
                self._attempt()
            except Exception as error:
                self.down = True
                self.failures += 1
                if not told:
                    self.outages += 1
                    told = True
                    log.warning("%s does not answer, rates are counted by each host alone: %s%s", self._shown, said(error), cure(error))
                self._closed.wait(pause * random.uniform(0.7, 1.3))  # noqa: S311
                pause = min(LONGEST_PAUSE, 2 * pause)
                continue
            with self._lock:  # a failure from now on finds no thread, and starts another
                self.down, self._thread = False, None
            if told:
                log.warning("%s answers again, after %.1f s", self._shown, time.monotonic() - since)
            return

    def close(self) -> None:
        """Stop trying."""
        self._closed.set()


def said(error: BaseException) -> str:
    """An error in one line, of which a log can make nothing else."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)


def cure(error: BaseException) -> str:
    """What to do about it, "" when nobody knows."""
    text = str(error)
    return next((f"; {advice}" for words, advice in CURES if any(word in text for word in words)), "")
