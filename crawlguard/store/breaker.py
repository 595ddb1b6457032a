"""When to ask a server and when not: a circuit breaker. It knows failures and times, and no network.

starting ──probe──▶ closed ──a hard failure, or LATE timeouts in a row──▶ open ──probe──▶ trial ──one real call──▶ closed
                                                                          ▲                └──failed──▶ open, for longer
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress

from ..log import own

CLOSED, OPEN, TRIAL = "closed", "open", "trial"

LATE = 3
"""Timeouts in a row that open it: one alone may be this host's own scheduling. What a server says or refuses opens it at once."""
DOUBT = 0.25
"""What a timeout counts that a busy event loop noticed too late."""
FIRST, MOST = 0.05, 3.0
"""Seconds between probes at first, and in the end; doubled each time, and jittered so that a hundred hosts do not come back at once."""
RARELY = 10
"""How many times as long it waits where only an operator can help (a wrong password): asking often looks like an attack."""
STEADY = 10.0
"""Seconds that it has to stay closed to begin with short pauses again."""


class Unreachable(Exception):  # noqa: N818 - it is a state of the world that callers handle, not a mistake
    """The server did not answer this call, or not in time. The only thing that a link raises; never shown to a visitor.

    ``late``: it may only have been slow; ``doubtful``: or this process was. ``blame``: it is the server's fault at all. ``cure``: what an operator can
    do, "" when it is to wait.
    """

    def __init__(self, what: str, *, cure: str = "", late: bool = False, blame: bool = True, doubtful: bool = False) -> None:
        super().__init__(what)
        self.cure, self.late, self.blame, self.doubtful = cure, late, blame, doubtful


class Breaker:
    """The state of one link; safe for threads. ``wake`` is called when a probe is wanted earlier than was said.

    Counters: ``opened`` and ``closed`` (transitions), ``failed`` (calls that failed), ``refused`` (calls that were not tried), ``busy`` (no free
    connection in time).
    """

    def __init__(self, name: str, clock: Callable[[], float], wake: Callable[[], None], first: float = FIRST, most: float = MOST) -> None:
        self.state = OPEN
        self.opened = self.closed = self.failed = self.refused = self.busy = 0
        self._name, self._clock, self._wake = name, clock, wake
        self._first, self._most = first, most
        self.renew()

    def renew(self) -> None:
        """Begin again, as a process that has just been forked has to: nobody holds its lock, and it has no connection."""
        self._lock = threading.Lock()
        self._pause, self._due, self._since, self._row = 0.0, 0.0, self._clock(), 0.0
        self._told, self._trying = "", False
        self._starting = True
        self.state = OPEN

    def admit(self) -> None:
        """Whether to ask the server now. Raises Unreachable when not."""
        if self.state is CLOSED:
            return
        with self._lock:
            if self.state is CLOSED:
                return
            if self.state is TRIAL and not self._trying:
                self._trying = True
                return
            self.refused += 1
        raise Unreachable("waiting for the server to answer again", blame=False)

    def worked(self) -> None:
        """A real call was answered."""
        if self.state is CLOSED and not self._row:
            return
        with self._lock:
            self._row, self._trying = 0, False
            said = self._close() if self.state is TRIAL else ""
        self._say(said)

    def failure(self, error: Unreachable) -> None:
        """A real call failed."""
        with self._lock:
            trial, self._trying = self._trying, False
            if not error.blame:
                self.busy += 1
                return
            self.failed += 1
            self._row += DOUBT if error.doubtful else 1
            if self.state is OPEN or (self.state is CLOSED and error.late and self._row < LATE):
                return
            if self.state is TRIAL and not trial:
                return  # a call from before
            said = self._open(error)
        self._say(said)
        self._wake()

    def shut(self) -> None:
        """Admit nothing any more, and say nothing of it."""
        with self._lock:
            self.state, self._due = OPEN, float("inf")

    def released(self) -> None:
        """A real call was given up by its caller; nothing is known."""
        with self._lock:
            self._trying = False

    def due(self) -> float:
        """Seconds until a probe is wanted; a large number when none is."""
        return max(0.0, self._due - self._clock()) if self.state is OPEN else 3600.0

    def probed(self, error: Unreachable | None) -> None:
        """What a probe found."""
        with self._lock:
            if self.state is not OPEN:
                return
            said = ""
            if error is not None:
                said = self._open(error)
            elif self._starting:
                self._starting, self.state, self._since, self._pause = False, CLOSED, self._clock(), 0.0
            elif not self._told:
                self.state, self._row = CLOSED, 0
            else:
                self.state, self._row, self._trying = TRIAL, 0, False
        self._say(said)

    def _say(self, said: str) -> None:
        """Log a transition, without the lock: the site's own handlers may take their time, and other requests do not wait for them.

        One that raises stops neither a request nor the thread that looks for the server.
        """
        if said:
            with suppress(Exception):
                own.warning("%s: %s", self._name, said)

    def _open(self, error: Unreachable) -> str:
        now = self._clock()
        if self.state is CLOSED and now - self._since > STEADY:
            self._pause = 0.0
        pause = self._pause
        self._pause = min(self._most, max(self._first, pause * 2))
        self._due = now + pause * random.uniform(0.5, 1.0) * (RARELY if error.cure else 1)  # noqa: S311
        if error.cure and not pause:
            self._due = now + self._first * RARELY
        if not self._told:
            self.opened += 1
            self._since = now
        said = ""
        if not self._told or (error.cure and error.cure != self._told):
            self._told = error.cure or "told"
            cure = f" ({error.cure})" if error.cure else ""
            said = f"{error}; rates are counted by this host alone until it answers{cure}"
        self.state, self._starting = OPEN, False
        return said

    def _close(self) -> str:
        now = self._clock()
        said = f"answers again after {now - self._since:.1f} s"
        self.state, self._told, self._since = CLOSED, "", now
        self.closed += 1
        return said
