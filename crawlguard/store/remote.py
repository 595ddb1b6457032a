"""The store of many hosts: a Valkey or Redis server (or a cluster of them) that all of them count in, and the host's own store while it is away.

What a client costs there: a word about 100 bytes, a profile 200, and 1 KiB more once it has asked for more than a few pages; a swarm's
group 3 KiB, each of its members 100 bytes for the window and each resident and page of theirs 100 for a day. All of it has a time to
live, and ``maxmemory`` with an eviction policy (volatile-ttl) bounds it whoever comes: what is evicted under-counts.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from ..decision import Decision
from ..forks import in_child
from ..policy.urls import LinkSpec, parse_url
from ..request import RequestView
from ..signals.conduct import Conduct
from ..signals.rate import Keyer
from ..signals.swarm import Swarm
from . import script as op
from .breaker import Unreachable
from .links import open_link
from .ops import Op
from .script import CALLS, CHARGE, Answer, Asked, Script, conduct_of, sent, swarm_of
from .shared import SharedStore
from .threads import Threads

if TYPE_CHECKING:
    from . import RateStore

PAUSE = 0.1
"""Seconds for which what no request waits for (charges for responses, refunds) is gathered."""
AGAIN = 5.0
"""Seconds after which a worker sees whether the server still has the seed: one that was restarted or emptied has lost it, and workers that start
would get another and count apart from all others."""
HELD = 8192
"""Operations that are gathered at most; more than that are lost, and counted."""
PARTS = 256
"""Hash tags over which a site's keys are spread in a cluster."""
LAST = 1.0
"""Seconds for which a process that ends tells the servers what they have not heard of yet."""
PORTION = 256
"""Operations that are sent in one call."""

Evaluate = Callable[["RateStore | Script"], Decision]


class RemoteStore:
    """A RateStore whose requests are best decided by ``decide`` or ``adecide``: in one call each.

    ``local`` counts while the server does not answer: clients under the hashes of ``seed``, which is the server's once any worker of this host
    has heard of it (a SharedStore keeps it for those who start while the server is away), and until then that of ``local``. So all workers
    of a host count together, but for the tenth of a second after the first of them heard of it.
    ``asked``, ``fallen_back`` and ``lost`` count requests, those decided locally, and operations that were dropped.
    """

    name = "valkey"

    def __init__(self, url: str, local: RateStore, site: str) -> None:
        """``url``: see ``policy.urls``; ``site`` sets the sites of one server apart. Raises ConfigError."""
        self.local = local
        self.link = open_link(url, files(__package__).joinpath("valkey.lua").read_text(), probe=f"cg:{site}:probe")
        self.asked = self.fallen_back = self.lost = 0
        self.joined = False
        spec = parse_url(url)
        self._site, self._parts = site, PARTS if isinstance(spec, LinkSpec) and spec.kind == "cluster" else 1
        self._later: deque[Asked] = deque()
        self._closed = threading.Event()
        self.threads = Threads(self.link.name, self._closed)
        self._take(self._remembered())
        with suppress(Unreachable):  # the link says so
            self._join()
        self.threads.stand("join", self._keep_joined)
        _OPEN.add(self)

    def _take(self, seed: bytes) -> None:
        self.seed = seed
        self.mark = Keyer(seed).text

    def _remembered(self) -> bytes:
        """The seed to count under before the server has told its own."""
        return (self.local.common if isinstance(self.local, SharedStore) else b"") or self.local.seed

    def _join(self) -> None:
        """Take over the seed that all hosts have in common, or give the server ours where it has none any more. Raises Unreachable."""
        seed = self.link.set_once(f"cg:{{{self._site}}}:seed", os.urandom(32) if self.seed is self.local.seed else self.seed)
        if seed != self.seed:
            self._take(seed)
        if isinstance(self.local, SharedStore) and len(seed) == len(self.local.seed):
            self.local.common = seed
        self.joined = True

    def _keep_joined(self) -> None:
        while not self._closed.wait(AGAIN if self.joined else PAUSE):
            with suppress(ValueError):  # the local table has been let go of
                try:
                    self._join()
                except Unreachable:
                    if not self.joined and (seed := self._remembered()) != self.seed:
                        self._take(seed)

    def _sent(self, asked: Sequence[Asked]) -> list[Op]:
        return sent(self._site, self._parts, asked)

    # ---- whole requests

    def decide(self, view: RequestView, evaluate: Evaluate) -> Decision:
        """The decision that ``evaluate`` comes to on the store's answers, or on the local store's while there are none.

        Waits for the link's limit at most, however many calls it takes: what has not been answered by then counts as calm.
        """
        self.asked += 1
        if not self.threads.awake:
            self.threads.wake()
        script, until = Script(self.mark), monotonic() + self.link.limit
        try:
            for _ in range(CALLS):
                decision = self._run(script, view, evaluate)
                if not script.asked:
                    return self._done(script, view, decision)
                self._reachable()
                script.learn(self.link.run(self._sent(script.asked), until))
        except Unreachable:
            if not script.told:
                return self._alone(view, evaluate)
        return self._done(script, view, self._run(script, view, evaluate))

    async def adecide(self, view: RequestView, evaluate: Evaluate) -> Decision:
        """``decide`` for asynchronous callers."""
        self.asked += 1
        if not self.threads.awake:
            self.threads.wake()
        script, until = Script(self.mark), monotonic() + self.link.limit
        try:
            for _ in range(CALLS):
                decision = self._run(script, view, evaluate)
                if not script.asked:
                    return self._done(script, view, decision)
                self._reachable()
                script.learn(await self.link.arun(self._sent(script.asked), until))
        except Unreachable:
            if not script.told:
                return self._alone(view, evaluate)
        return self._done(script, view, self._run(script, view, evaluate))

    def _reachable(self) -> None:
        if not self.threads.awake:
            self.threads.wake()
        if not self.joined:
            raise Unreachable("the common seed is not known yet")

    @staticmethod
    def _run(script: Script, view: RequestView, evaluate: Evaluate) -> Decision:
        script.again()
        _forget(view)
        return evaluate(script)

    def _done(self, script: Script, view: RequestView, decision: Decision) -> Decision:
        for asked in script.unused():
            self.later(asked)
        owed = getattr(view, "owed", None)
        if owed:
            view.owed = [(charge, key, _Charges(self), now) for charge, key, _, now in owed]
        return decision

    def _alone(self, view: RequestView, evaluate: Evaluate) -> Decision:
        self.fallen_back += 1
        _forget(view)
        return evaluate(self.local)

    # ---- what no request waits for

    def later(self, asked: Asked) -> None:
        """Send an operation with the next portion."""
        if len(self._later) >= HELD:
            self.lost += 1
            return
        self._later.append(asked)
        self.threads.start("flush", self._keep_flushing)

    def _keep_flushing(self) -> None:
        while not self._closed.wait(PAUSE):
            self.flush()

    def flush(self, until: float = inf) -> None:
        """Send what has been gathered, by ``until`` (``monotonic``); what cannot be sent is lost, and counted."""
        while self._later:
            portion = [self._later.popleft() for _ in range(min(PORTION, len(self._later)))]
            try:
                self._in_time(portion, until)
            except Unreachable:
                self.lost += len(portion)

    def _in_time(self, asked: Sequence[Asked], until: float) -> list[list[int]]:
        if monotonic() >= until:
            raise Unreachable("there is no time left")  # which is not the server's fault
        return self.link.run(self._sent(asked), until)

    # ---- one at a time: explain, and a second opinion

    def _one(self, asked: Asked) -> Answer | None:
        try:
            self._reachable()
            return self.link.run(self._sent([asked]))[0]
        except Unreachable:
            return None

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """See RateStore."""
        found = self._one(op.hit(key, interval, tolerance, hold))
        return found[0] if found else self.local.hit(key, now, interval, tolerance, hold)

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """See RateStore."""
        found = self._one(op.peek(key, interval, tolerance, hold))
        return found[0] if found else self.local.peek(key, now, interval, tolerance, hold)

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """See RateStore."""
        found = self._one(op.conduct(key, within, kind, mark, dry, limit))
        return conduct_of(found) if found else self.local.conduct(key, now, within, kind, mark, dry, limit)

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        """See RateStore."""
        found = self._one(op.swarm(key, member, within, kind, mark, dry, clients, times))
        return swarm_of(found) if found else self.local.swarm(key, member, now, within, kind, mark, dry, clients, times)

    def forget(self, key: int) -> None:
        """See RateStore."""
        self._one(Asked(op.FORGET, key, ()))
        self.local.forget(key)

    # ---- many at a time: bans, for operators and for the thread that writes them down

    @property
    def site(self) -> str:
        """The name under which hosts count together."""
        return self._site

    def rest(self, seconds: float) -> bool:
        """Wait so long, or until the store is let go of; whether it has been."""
        return self._closed.wait(seconds)

    def held(self, words: Sequence[tuple[int, int, int, int]]) -> list[int]:
        """What ``peek`` says of each (key, interval, tolerance, hold). Raises Unreachable: the local store knows nothing of other hosts."""
        return [answer[0] for answer in self._many([Asked(op.HELD, key, tuple(rest)) for key, *rest in words])]

    def forget_all(self, keys: Sequence[int]) -> None:
        """``forget`` each. Raises Unreachable, when some of them may have been forgotten."""
        self._many([Asked(op.FORGET, key, ()) for key in keys])

    def _many(self, asked: Sequence[Asked]) -> list[Answer]:
        self._reachable()
        found: list[Answer] = []
        for start in range(0, len(asked), PORTION):
            portion = asked[start : start + PORTION]
            answers = self.link.run(self._sent(portion))
            if len(answers) != len(portion) or not all(answers):
                raise Unreachable("it has not answered all that was asked")
            found += answers
        return found

    def forked(self) -> None:
        """In a process that has just been forked: the parent's threads are not ours."""
        self.threads.renew()

    def close(self) -> None:
        """Send what is left, and let go of the server and of the local store."""
        self._closed.set()
        self.flush()
        self.link.close()
        self.local.close()


class _Charges:
    """Where the responses of a request are charged to: the store, some time later."""

    def __init__(self, store: RemoteStore) -> None:
        self._store = store

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        self._store.later(Asked(CHARGE, key, (interval, tolerance)))
        return 0


def _forget(view: RequestView) -> None:
    """What an earlier run wrote down of charges to come."""
    if hasattr(view, "owed"):
        del view.owed


_OPEN: weakref.WeakSet[RemoteStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_OPEN):
        store.forked()


@atexit.register
def _tell_the_rest() -> None:
    until = monotonic() + LAST
    for store in list(_OPEN):
        if not store._closed.is_set():
            store.flush(until)


in_child(_after_fork)
