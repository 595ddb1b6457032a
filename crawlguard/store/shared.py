"""Rates of all workers of a host, in one mapped file of fixed size. No server, no memory that grows, and hardly ever a lock.

After a header page the file is slots of two 8-byte words: the key, and its state. Words are read and written whole (an
aligned 8-byte copy), so a reader sees an old word or a new one, never half of each.

    state = time in us << 16 | held << 15 | contended << 14 | writer << 9 | key & 0x1FF

Time is the TAT (see ``signals/rate``), or for a held key the time at which it is let in again. A time further ahead than the rule
allows comes from another boot of the machine, and counts as fresh. The key's bits tell a state that belongs to the key which lay
here a moment ago.

There is no compare-and-swap in plain Python, so a worker looks before and after it writes whether another one wrote in between.
When it did, the key is marked as contended, and from then on, until it has been idle, whoever counts it takes a lock on its slot
(of the operating system's, which lets go when a process dies): 1 us more, for those few keys alone.

That holds in memory (/dev/shm). On a disk the system stops a writer while the page goes out, between that look and the write, and what others count
in those milliseconds is lost: now and then a limit is admitted twice.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..forks import in_child
from ..log import own
from ..signals.conduct import Conduct
from ..signals.rate import Keyer, refilled
from ..signals.swarm import Swarm
from .mapped import PAGE as _PAGE
from .mapped import map_table, open_table
from .memory_conduct import MemoryConduct
from .memory_swarm import MemorySwarm
from .shared_conduct import SharedConduct
from .shared_swarm import SharedSwarm

if TYPE_CHECKING:
    from ..policy.terms import Ask, Test

try:
    import fcntl
except ImportError:  # Windows: no locks, so contended keys admit a few too many
    fcntl = None  # type: ignore[assignment]

_MAGIC = b"CGRATES2"
NEIGHBOURHOOD = 8
"""Slots that a key may lie in, from its own on. At half load (500k keys in 16 MiB) fewer than 1 key in 1,000 is pushed out."""

# Native words, so that each is copied whole.
_NEIGHBOURS = struct.Struct(f"{2 * NEIGHBOURHOOD}Q")
_HELD = 0x8000
_CONTENDED = 0x4000
_MARK = 0x1FF

_COMMON = slice(2048, 2080)
"""Where in the header's page the seed lies that a RemoteStore's hosts have in common; zeros where none has been heard of."""

SLACK = 60_000_000
"""Microseconds by which another worker's clock reading may be ahead of ours: it was taken later, or we were stopped since."""
LONGEST = 31 * 86_400_000_000 + SLACK
"""The longest time that a policy can name, in us; what lies further ahead is another boot's."""
LOCK_WAIT = 0.02
"""Seconds that a request waits for a contended key at most."""


def _tat(state: int, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
    """The TAT of a key as a slot's state has it, ``now`` at least; for a held key the opposite of the time at which it is let in again."""
    tat = state >> 16
    if (state ^ key) & _MARK:
        return now
    if state & _HELD:
        if now < tat <= now + hold + SLACK:
            return -tat
        tat = refilled(tat, now, interval, tolerance, hold)
    return tat if now < tat <= now + tolerance + SLACK else now


class SharedStore:
    """The mapped table. Raises OSError when it cannot be made, DataError when the file is not one of ours."""

    name = "shared"

    def __init__(self, path: str | Path, size: int = 16 << 20) -> None:
        self.path = Path(path)
        slots = 1 << (size // 16).bit_length() - 1
        # The last neighbourhood runs past the last slot instead of wrapping around; the header page hides in the rest.
        length = _PAGE + (slots + NEIGHBOURHOOD) * 16
        with open_table(self.path, _MAGIC, length, slots) as file:
            self._fd = os.dup(file.fileno())  # for the locks; the mapping holds on by itself
            self._closing = weakref.finalize(self, os.close, self._fd)
            self._map, self.seed = map_table(file, self.path, _MAGIC, length, slots)
        self._words = memoryview(self._map)[_PAGE:].cast("Q")
        self._keys, self._states = self._words[::2], self._words[1::2]
        self._size = size
        self._profiles: SharedConduct | MemoryConduct | None = None
        self._swarms: SharedSwarm | MemorySwarm | None = None
        self._tables: dict[str, Any] = {}
        self.conduct: Callable[..., Conduct] = self._first_conduct
        self.swarm: Callable[..., Swarm] = self._first_swarm
        self._keyer = Keyer(self.seed)
        self.mark = self._keyer.text
        self._slot_mask = slots - 1
        self._writer = 0
        self._name_writer()
        _stores.add(self)

    def _name_writer(self) -> None:
        self._writer = (os.getpid() & 31) << 9

    @property
    def common(self) -> bytes:
        """The seed that this host shares with others (see RemoteStore), 32 bytes; b"" while no worker has heard of one. Not that of this table."""
        return self._map[_COMMON].strip(b"\0") and self._map[_COMMON]

    @common.setter
    def common(self, seed: bytes) -> None:
        self._map[_COMMON] = seed

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """Count one request; see RateStore."""
        states = self._states
        at = key >> 16 & self._slot_mask
        if self._keys[at] == key:
            state, mark = states[at], key & 0x1FF
            if state & 0xC1FF == mark:  # the key's own, not held, not contended
                tat = state >> 16
                due = now + interval
                if tat > now:
                    due = tat + interval
                    if due - now > tolerance:
                        return self._hit(2 * at, key, now, interval, tolerance, hold)
                new = due << 16 | self._writer | mark
                if states[at] == state:
                    states[at] = new
                    if states[at] == new:
                        return 0
                return self._careful(2 * at + 1, key, now, interval, tolerance, hold)
        return self._hit(2 * at, key, now, interval, tolerance, hold)

    def _hit(self, at: int, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """``hit`` for whoever is new, lies elsewhere, is over the limit, held or contended."""
        words = self._words
        there = words[at]
        if there != key:
            # In a slot that was never used a key is new: slots fill up from a key's own, so it lies nowhere else.
            found = self._find(key, at) if there else -1
            if found < 0:
                if there:
                    at = self._take(at, now)
                before, new = words[at + 1], (now + interval) << 16 | self._writer | key & 0x1FF
                words[at] = key  # on a disk the first write to a page takes milliseconds, in which others count the key
                if words[at + 1] == before:
                    words[at + 1] = new
                    if words[at + 1] == new:
                        return 0
            else:
                at = found
        at += 1
        state = words[at]
        if state & 0x4000:
            return self._careful(at, key, now, interval, tolerance, hold)
        tat, mark = _tat(state, key, now, interval, tolerance, hold), key & 0x1FF
        if tat < 0:
            return -tat - now
        wait = tat + interval - now - tolerance
        if wait > 0:
            if hold:
                words[at] = (now + hold) << 16 | 0x8000 | mark
            return hold or wait
        new = (tat + interval) << 16 | self._writer | mark
        if words[at] == state:
            words[at] = new
            if words[at] == new:
                return 0
        return self._careful(at, key, now, interval, tolerance, hold)

    def _careful(self, at: int, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """``hit`` for a contended key: under its lock, and leaving the mark on as long as the key is in use."""
        words, locked = self._words, self._lock(at)
        try:
            tat = _tat(words[at], key, now, interval, tolerance, hold)
            if tat < 0:
                return -tat - now
            wait = tat + interval - now - tolerance
            if wait <= 0:
                words[at] = (tat + interval) << 16 | (_CONTENDED if tat > now else 0) | self._writer | key & _MARK
                return 0
            if hold:
                words[at] = (now + hold) << 16 | _HELD | key & _MARK
            return hold or wait
        finally:
            if locked:
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 8, _PAGE + at * 8)

    def _lock(self, at: int) -> bool:
        """Lock a slot; False where that cannot be done, or takes longer than a request may wait (its holder has been stopped)."""
        if fcntl is None or self._fd < 0:
            return False
        until = 0.0
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 8, _PAGE + at * 8)
                return True
            except OSError:
                if not until:
                    until = monotonic() + LOCK_WAIT
                elif monotonic() > until:
                    return False
                os.sched_yield()  # the holder needs a processor

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """What ``hit`` would return, without counting."""
        words = self._words
        first = (key >> 16 & self._slot_mask) << 1
        at = first if words[first] == key else self._find(key, first)
        if at < 0:
            return 0
        tat = _tat(words[at + 1], key, now, interval, tolerance, hold)
        return -tat - now if tat < 0 else max(0, tat + interval - now - tolerance)

    def _find(self, key: int, first: int) -> int:
        """The slot of a key in its neighbourhood, -1 when it has none."""
        keys = _NEIGHBOURS.unpack_from(self._map, _PAGE + first * 8)[::2]
        return first + 2 * keys.index(key) if key in keys else -1

    def _take(self, first: int, now: int) -> int:
        """A slot for a new key: a free or expired one, else the one whose state ends first."""
        states = _NEIGHBOURS.unpack_from(self._map, _PAGE + first * 8)[1::2]
        best, least, latest = 0, 1 << 64, now + LONGEST
        for number, state in enumerate(states):
            if not now < state >> 16 < latest:
                best = number
                break
            if state < least:
                best, least = number, state
        return first + 2 * best

    def _first_conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        return self.profiles().conduct(key, now, within, kind, mark, dry, limit)

    def together(self, asked: Sequence[tuple[Test, Ask]]) -> Test | None:
        """One test for several rules that are asked of this store; see ``store.together``. None where that cannot be made."""
        from .together import together  # most policies have too few rules for it

        return together(self, asked)

    def profiles(self) -> SharedConduct | MemoryConduct:
        """The table of profiles, a file of its own that is made when a policy first asks for one; in memory where that cannot be done."""
        if self._profiles is None:
            made: SharedConduct | MemoryConduct
            try:
                made = SharedConduct(self.path.with_name(f"{self.path.name}.conduct"), self._size, self.seed)
            except (OSError, DataError) as error:
                own.warning("conduct is counted by each process alone: %s", error)
                made = MemoryConduct()
            self._profiles = self._tables.setdefault("profiles", made)  # of threads that come here at once the first one's is everybody's
            self.conduct = self._profiles.conduct  # from now on without a call in between
        return self._profiles

    def _first_swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        return self.swarms().swarm(key, member, now, within, kind, mark, dry, clients, times)

    def swarms(self) -> SharedSwarm | MemorySwarm:
        """The table of swarms, like that of profiles."""
        if self._swarms is None:
            made: SharedSwarm | MemorySwarm
            try:
                made = SharedSwarm(self.path.with_name(f"{self.path.name}.swarm"), self._size, self.seed)
            except (OSError, DataError) as error:
                own.warning("swarms are counted by each process alone: %s", error)
                made = MemorySwarm()
            self._swarms = self._tables.setdefault("swarms", made)
            self.swarm = self._swarms.swarm
        return self._swarms

    def forget(self, key: int) -> None:
        """Let a key begin afresh, as one that was never seen: its word, and its profile."""
        first = (key >> 16 & self._slot_mask) << 1
        at = first if self._words[first] == key else self._find(key, first)
        if at >= 0:
            locked = self._lock(at + 1)
            try:
                self._words[at + 1] = 0
            finally:
                if locked:
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 8, _PAGE + (at + 1) * 8)
        if self._profiles is not None or self.path.with_name(f"{self.path.name}.conduct").exists():
            self.profiles().forget(key)

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        for table in (self._profiles, self._swarms):
            if isinstance(table, SharedConduct | SharedSwarm):
                table.close()
        self._closing()
        self._fd = -1
        for view in (self._keys, self._states, self._words):
            view.release()
        self._map.close()


_stores: weakref.WeakSet[SharedStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in _stores:
        store._name_writer()  # a forked worker is a writer of its own


in_child(_after_fork)
