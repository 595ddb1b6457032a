"""The threads beside a store on another machine: begun once in each process, and begun again by those that are forked from it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from ..forks import threads_run
from ..log import own

AGAIN = 5.0
"""Seconds after which a thread that has failed begins again."""


class Threads:
    """Daemon threads by name. ``awake``: whether those that each process is to have run in this one. There is no lock that a fork could leave locked."""

    def __init__(self, whose: str, closed: threading.Event) -> None:
        """``whose``: the store, in words. ``closed``: set when the threads are to end, which they see to themselves."""
        self.awake = True
        self._whose, self._closed = whose, closed
        self._standing: dict[str, Callable[[], None]] = {}
        self._running: dict[str, threading.Thread] = {}

    def stand(self, name: str, work: Callable[[], None]) -> None:
        """Have a thread do ``work`` in this process, and in each that is forked from it once that is ``woken``.

        Not from the fork on: gunicorn's gevent workers make threads and sockets cooperative only after it.
        """
        self._standing[name] = work
        self.start(name, work)

    def wake(self) -> None:
        """Start what each process is to have."""
        self.awake = True
        for name, work in self._standing.items():
            self.start(name, work)

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Have a thread of this process do it, if none is at it."""
        if name in self._running or self._closed.is_set() or not threads_run():
            return
        thread = threading.Thread(target=self._outlive, args=(work,), name=f"crawlguard-{name}", daemon=True)
        if self._running.setdefault(name, thread) is thread:
            thread.start()

    def renew(self) -> None:
        """In a process that has just been forked: the parent's are not ours."""
        self.awake, self._running = False, {}

    def _outlive(self, work: Callable[[], None]) -> None:
        """Do it again some time after it has failed, whatever it ran into: without it this process would count alone for good."""
        while not self._closed.is_set():
            try:
                work()
            except Exception:
                with suppress(Exception):  # a logging handler's
                    own.exception("%s: a thread of the store has failed, and begins again", self._whose)
                self._closed.wait(AGAIN)
            else:
                break
