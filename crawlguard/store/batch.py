"""The store of many hosts for very large sites: no request is a call, each process tells the server what it did a few times a second.

A request is decided by what its process knows (``batch_mirror``); all that it counted goes out every ``every`` seconds in bounded portions, n
hits of a word as one operation, and the answers bring what all processes counted. While the server is away, each process goes on by itself.

How far a limit is exceeded. Let W processes count, let h be the most requests of one key that one process admits between the first of them
and the answer to the flush that tells of it: at most those that reach it within ``every`` and the time of two flushes, and at most the limit's own burst (and
what is refilled meanwhile). What was admitted counts on the server in full, over the limit too. A process admits only what the answer heard
last allows, with its own since; so whenever it admits, all that was counted up to the latest answer that anybody has acted on is within the
limit, and what is not in that answer are the unheard hits of the other W - 1. Hence in any span of T seconds, whoever sends what:

    admitted <= limit + T * limit / within + (W - 1) * h

The last term is paid back: a key that got more waits for longer, so that the rate over a long time is the limit's. Two windows keep their
bounds each. With ``block_for`` the server begins the term when the sum is over the limit, so a client is kept out after the same excess. Profiles
and swarms are as they were heard last, so they let through what reaches W processes between two answers. An offence that several processes see
within one flush counts once: all but the first take theirs back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any

from ..decision import Decision
from ..request import RequestView
from ..signals.conduct import Conduct
from ..signals.swarm import Swarm
from . import script as op
from .batch_mirror import Mirror
from .breaker import Unreachable
from .remote import PORTION, Evaluate, RemoteStore, _forget
from .script import Answer, Asked, Script, swarm_of

if TYPE_CHECKING:
    from . import RateStore

PATIENCE = 0.5
"""Seconds that a flush waits for each of its calls: no request waits for it, and in a busy process its thread gets its turn late."""


class BatchStore(RemoteStore):
    """See RemoteStore. ``every``: seconds between two flushes. ``lost`` counts operations that were not told, too.

    One kind of request waits for the server, ``patience`` seconds at most: that of a stranger to this process in a group which is a swarm. He is
    refused by what the server says of him and never on hearsay, and let through while it says nothing. So is the asset by which he shows that he is
    none of them: his next request may come before a flush, and to another process.
    """

    def __init__(self, url: str, local: RateStore, site: str, every: float, clock: Callable[[], int] = monotonic_ns) -> None:
        """``clock``: nanoseconds, as of the guard. Raises ConfigError."""
        self._every, self._clock = every, clock
        self._running, self._flushing = False, threading.Lock()
        super().__init__(url, local, site)
        self.patience = self.link.limit
        self.link.limit = PATIENCE

    def _take(self, seed: bytes) -> None:
        super()._take(seed)
        self.mirror = Mirror(seed, self._clock)  # keys under another seed are other keys

    # ---- whole requests

    def decide(self, view: RequestView, evaluate: Evaluate) -> Decision:
        """The decision that ``evaluate`` comes to on what this process knows."""
        found = self._tried(view, evaluate)
        if not isinstance(found, Twice):
            return found
        with suppress(Unreachable):
            found.hear(self.link.run(self._sent(found.asked), monotonic() + self.patience))
        return evaluate(found)

    async def adecide(self, view: RequestView, evaluate: Evaluate) -> Decision:
        """``decide`` for asynchronous callers."""
        found = self._tried(view, evaluate)
        if not isinstance(found, Twice):
            return found
        with suppress(Unreachable):
            found.hear(await self.link.arun(self._sent(found.asked), monotonic() + self.patience))
        return evaluate(found)

    def _tried(self, view: RequestView, evaluate: Evaluate) -> Decision | Twice:
        """The decision, or an attempt that has met with what the server has to be asked."""
        self.asked += 1
        mirror = self._ready()
        if mirror is None:
            return self._alone(view, evaluate)
        if not mirror.suspects:
            return evaluate(mirror)
        twice = Twice(mirror)
        try:
            return evaluate(twice)
        except InDoubt:
            _forget(view)
            return twice

    def _ready(self) -> Mirror | None:
        """What this process knows; None before it has heard of the common seed."""
        if not self._running:
            self._running = True
            self.threads.start("batch", self._keep_telling)
        return self.mirror if self.joined else None

    # ---- what no request waits for

    def _keep_telling(self) -> None:
        with suppress(Unreachable):  # a process that has just been forked has no connection, and loses nothing for it
            self.link.ask(seed := f"cg:{{{self.site}}}:seed", "GET", seed)
        while not self._closed.wait(self._every):
            try:
                self._reachable()
            except Unreachable:
                continue
            self.flush()

    def flush(self, until: float = inf) -> None:
        """Tell the server what has been gathered, by ``until`` (``monotonic``), and hear what it knows; what cannot be told is lost, and counted."""
        super().flush(until)
        if not self._flushing.acquire(timeout=-1 if until == inf else max(0.0, until - monotonic())):
            return
        try:
            mirror = self.mirror
            asked = mirror.take()
            self.lost += mirror.lost
            mirror.lost = 0
            for start in range(0, len(asked), PORTION):
                portion = asked[start : start + PORTION]
                try:
                    answers = self._in_time([_calm(one) for one in portion], until)
                except Unreachable:
                    self.lost += len(portion)
                else:
                    mirror.hear(portion, answers)
        finally:
            self._flushing.release()

    def forget(self, key: int) -> None:
        """See RateStore."""
        super().forget(key)
        self.mirror.let_go([key])

    def forget_all(self, keys: Sequence[int]) -> None:
        """See RemoteStore."""
        super().forget_all(keys)
        self.mirror.let_go(keys)

    def held(self, words: Sequence[tuple[int, int, int, int]]) -> list[int]:
        """See RemoteStore: after all that this process has begun."""
        self.flush()
        return super().held(words)

    def forked(self) -> None:
        """See RemoteStore. What the parent has gathered is its own to tell."""
        super().forked()
        self._running, self._flushing = False, threading.Lock()
        self.mirror.renew()


class InDoubt(Exception):  # noqa: N818 - it is no error
    """What the server has to be asked before a request can be decided. It ends the first attempt: nothing that comes after it is counted then."""


class Twice(Script):
    """A mirror by which one request can be worked out a second time: it raises InDoubt once, and then gives the same answers as before."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(mirror.mark)
        self._mirror = mirror
        self._said: list[Any] = []
        self._now = 0

    def _once(self, call: Callable[..., Any], *args: Any) -> Any:
        at = self._at
        self._at += 1
        if at == len(self._said):
            self._said.append(call(*args))
        return self._said[at]

    def hear(self, answers: Sequence[Answer]) -> None:
        """What the server said of the one in doubt. While it says nothing the mirror answers, and tells it later."""
        if answers and answers[0]:
            found = swarm_of(answers[0])
            self._mirror.hear_swarm(self.asked[0], found, self._now)
            self._said.append(found)

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """See RateStore."""
        found: int = self._once(self._mirror.hit, key, now, interval, tolerance, hold)
        return found

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """See RateStore."""
        found: int = self._once(self._mirror.peek, key, now, interval, tolerance, hold)
        return found

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """See RateStore."""
        found: Conduct = self._once(self._mirror.conduct, key, now, within, kind, mark, dry, limit)
        return found

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        """See RateStore. Raises InDoubt."""
        if not (self.asked or dry) and self._mirror.doubts(key, member, now, kind, clients, times):
            self.asked, self._now, self._at = [op.swarm(key, member, within, kind, mark, dry, clients, times)], now, 0
            raise InDoubt
        found: Swarm = self._once(self._mirror.swarm, key, member, now, within, kind, mark, dry, clients, times)
        return found

    def forget(self, key: int) -> None:
        """See RateStore."""
        self._once(self._mirror.forget, key)


def _calm(asked: Asked) -> Asked:
    """An operation that strikes nobody: what does would end the portion."""
    return asked if asked.code != op.SWARM else asked._replace(numbers=(*asked.numbers[:7], 0, 0))
