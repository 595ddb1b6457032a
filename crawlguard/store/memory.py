"""Rates of one process, in two generations of a dict: bounded, and what is in use survives when strangers flood it."""

from __future__ import annotations

from os import urandom

from ..signals.conduct import Conduct
from ..signals.rate import Keyer, refilled
from ..signals.swarm import Swarm
from .memory_conduct import MemoryConduct
from .memory_swarm import MemorySwarm

GENERATION = 65_536
"""Keys in a generation; two are kept, about 100 bytes a key."""


class MemoryStore:
    """A dict from key to TAT. A held key is stored as the negative of the time at which it is let in again."""

    name = "memory"

    def __init__(self, generation: int = GENERATION) -> None:
        self.seed = urandom(32)
        self.mark = Keyer(self.seed).text
        self._profiles, self._swarms = MemoryConduct(), MemorySwarm()
        self._generation = generation
        self._new: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """Count one request; see RateStore."""
        new = self._new
        tat = new.get(key)
        if tat is None:
            tat = self._old.get(key, 0)
            if len(new) >= self._generation:
                self._old, self._new = new, {}
                new = self._new
        if tat < 0:
            if now < -tat <= now + hold:
                new[key] = tat
                return -tat - now
            tat = refilled(-tat, now, interval, tolerance, hold)
        due = tat + interval if tat > now else now + interval
        wait = due - now - tolerance
        if wait <= 0:
            new[key] = due
            return 0
        new[key] = -(now + hold) if hold else tat
        return hold or wait

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """What ``hit`` would return, without counting."""
        tat = self._new.get(key)
        if tat is None:
            tat = self._old.get(key, 0)
        if tat < 0:
            if now < -tat <= now + hold:
                return -tat - now
            tat = refilled(-tat, now, interval, tolerance, hold)
        wait = (max(now, tat)) + interval - now - tolerance
        return max(0, wait)

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """Count one request into a profile; see RateStore."""
        return self._profiles.conduct(key, now, within, kind, mark, dry, limit)

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        """Count one request of a member of a group; see RateStore."""
        return self._swarms.swarm(key, member, now, within, kind, mark, dry, clients, times)

    def forget(self, key: int) -> None:
        """Let a key begin afresh; see RateStore."""
        self._new.pop(key, None)
        self._old.pop(key, None)
        self._profiles.forget(key)

    def close(self) -> None:
        """Forget everything."""
        self._swarms.forget()
        self._profiles.forget()
        self._new, self._old = {}, {}
