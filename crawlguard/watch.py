"""Who notices that a policy's files have changed: one thread for each process, off the request path."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from queue import Empty, SimpleQueue
from typing import Protocol

from .forks import in_child, threads_run
from .log import own

WATCH_EVERY = 1.0
"""Seconds between looks at the policies' files."""


class Watched(Protocol):
    """What a guard does for its watcher."""

    def poll(self) -> bool | None: ...
    def reload(self) -> bool: ...
    def forget_locks(self) -> None: ...


class Watcher:
    """One daemon thread for each process that looks at every guard's files once a second, off the request path.

    Threads do not survive a fork, so a worker of a preloading server starts its own. SIGHUP asks for a reload at once where
    nobody else wants the signal and no terminal can send it by hanging up.
    """

    guards: weakref.WeakSet[Watched] = weakref.WeakSet()
    wake: SimpleQueue[None] = SimpleQueue()  # the one thing of the threading family that a signal handler may touch
    thread: threading.Thread | None = None

    @classmethod
    def start(cls, guard: Watched) -> None:
        """Look after a guard from now on, for as long as it lives."""
        cls.guards.add(guard)
        cls._run()
        cls._signal()

    @classmethod
    def _run(cls) -> None:
        if (cls.thread is None or not cls.thread.is_alive()) and threads_run():
            cls.thread = threading.Thread(target=cls._loop, name="crawlguard-watch", daemon=True)
            cls.thread.start()

    @classmethod
    def _loop(cls) -> None:
        while True:
            asked = False
            try:
                cls.wake.get(timeout=WATCH_EVERY)
                asked = True
                while True:  # many signals are one reload
                    cls.wake.get_nowait()
            except Empty:
                pass
            for guard in list(cls.guards):
                try:
                    guard.reload() if asked else guard.poll()
                except Exception:  # the watch must outlive whatever one look runs into
                    own.exception("looking for changes of the policy failed")

    @classmethod
    def after_fork(cls) -> None:
        if cls.thread is not None:
            cls.wake, cls.thread = SimpleQueue(), None
            for guard in list(cls.guards):
                guard.forget_locks()
            cls._run()

    @classmethod
    def _signal(cls) -> None:
        hup = getattr(signal, "SIGHUP", None)
        if hup is None or threading.current_thread() is not threading.main_thread() or signal.getsignal(hup) is not signal.SIG_DFL:
            return
        try:
            os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        except OSError:  # no terminal: SIGHUP can only mean "read your configuration again"
            signal.signal(hup, lambda *_: cls.wake.put(None))


in_child(Watcher.after_fork)
