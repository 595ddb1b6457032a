"""The store of many hosts under a clock that tests set, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crawlguard.signals.conduct import Conduct
from crawlguard.signals.swarm import Swarm
from crawlguard.store import MemoryStore, RateStore, SharedStore
from crawlguard.store import script as op
from crawlguard.store.remote import RemoteStore

from .valkey_server import serving

PATIENCE = 5.0
"""Seconds for a call where the question is what the server says, and not how soon."""


def remote(url: str, site: str = "test", local: RateStore | None = None) -> RemoteStore:
    """A store with time to answer on a busy machine."""
    made = RemoteStore(url, local or MemoryStore(), site)
    made.link.limit = PATIENCE
    return made


class Clocked(RemoteStore):
    """A store that goes by the times that it is given, as the local ones do, and not by its server's clock."""

    def ask(self, asked: op.Asked, now: int) -> op.Answer:
        return self.link.run(self._sent([op.Asked(op.CLOCK, asked.key, (now,)), asked]))[1]

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        return self.ask(op.hit(key, interval, tolerance, hold), now)[0]

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        return self.ask(op.peek(key, interval, tolerance, hold), now)[0]

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        return op.conduct_of(self.ask(op.conduct(key, within, kind, mark, dry, limit), now))

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        return op.swarm_of(self.ask(op.swarm(key, member, within, kind, mark, dry, clients, times), now))


@contextmanager
def each_kind(kind: str, directory: Path) -> Iterator[RateStore]:
    """A store of the kind "memory", "shared" or "valkey"."""
    if kind == "valkey":
        with serving(directory) as server:
            made = Clocked(server.url, MemoryStore(), "test")
            made.link.limit = PATIENCE
            yield made
            made.close()
        return
    store: RateStore = MemoryStore() if kind == "memory" else SharedStore(directory / "rates", 1 << 20)
    yield store
    store.close()
