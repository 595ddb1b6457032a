"""Who is kept out of a site, in words: a mapped file of fixed size beside the shared table, whose keys are hashes.

After a header page comes a page whose first word counts the changes made by hand, and then the records, each of 256 bytes:

    key, client, since, until, times << 16 | size << 8 | prefix, seal; who, rule, reason: UTF-8, filled up with zeros

Records are written when a ban begins and when it is lifted, one writer at a time. A reader takes no lock: the seal (a keyed hash of the rest)
tells a whole record from two halves and from damage, and a record without its seal says nothing. Where all are taken that a ban may
lie in, the one that ends first makes room; one that was added by hand makes room only for another such one.
"""

from __future__ import annotations

import os
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Protocol

from ..errors import DataError
from ..forks import in_child
from .mapped import _HEADER, PAGE, boot_id, let_go, map_table, open_table
from .shared import _MAGIC as _RATES
from .shared import NEIGHBOURHOOD as _RATES_MORE

try:
    import fcntl
except ImportError:  # Windows: no locks, so of two bans that begin at once one may not be listed
    fcntl = None  # type: ignore[assignment]

_MAGIC = b"CGBANNE1"
RECORDS = 4096
NEIGHBOURHOOD = 32
"""Records that a rule's ban may lie in, from its key's own on; one by hand may lie anywhere."""
_RECORD = struct.Struct("@6Q64s64s80s")
_WORDS = _RECORD.size // 8
_FIRST = 2 * PAGE
_BY_HAND = 0xFF00
WHO, RULE, REASON = 64, 64, 80
"""Bytes of the texts of a record; what is longer is cut."""
SAME = 2_000_000
"""Microseconds by which two workers' notes of one ban may end apart: they look at it one after the other."""
LOCK_WAIT = 0.02
"""Seconds that a request waits for another writer at most; then its ban is in force and is not listed."""


class Record(NamedTuple):
    """One ban. Times in us of the store's clock.

    By a rule: ``key`` is the key that the rule counts, and ``client`` that of the address or neighbourhood that it contains, 0 without.
    By hand (``size`` > 0): ``key`` is the keyed hash of the network (see ``network_key``), of ``size`` bytes and ``prefix`` bits.
    """

    key: int
    client: int
    since: int
    until: int
    times: int
    size: int
    prefix: int
    who: str
    rule: str
    reason: str

    @property
    def by_hand(self) -> bool:
        """Whether an operator added it."""
        return self.size > 0


class Bans(Protocol):
    """A record of bans, wherever it is kept. ``changes[0]`` is another number after each change made by hand."""

    changes: memoryview | list[int]

    @property
    def seed(self) -> bytes:
        """The secret under which networks are hashed: that of the store beside."""

    def all(self, by_hand: bool = False) -> list[Record]:
        """Every record, or those by hand; of bans that are over too. Those by hand are what a request asks for: it never waits for a server."""

    def put(self, record: Record, now: int, patience: float = LOCK_WAIT) -> bool:
        """Write a ban, over the record of the same key and rule if there is one (and count it there); False when that could not be done.

        Of a rule's ban that ends when the one in the record does, nothing is written: another worker has noted it.
        """

    def drop(self, records: list[Record], patience: float = LOCK_WAIT) -> int:
        """Take records out, those whose key and rule are still the same; how many."""


class SharedBans:
    """The mapped file. Raises OSError when it cannot be made, DataError when the file is not one of ours.

    ``seed``: that of the table beside it; a file with another seed is made anew.
    """

    def __init__(self, path: Path, seed: bytes) -> None:
        length = _FIRST + RECORDS * _RECORD.size
        with open_table(path, _MAGIC, length, RECORDS, seed) as file:
            self._fd = os.dup(file.fileno())
            self._map, self.seed = map_table(file, path, _MAGIC, length, RECORDS)
        self.path = path
        self.changes: memoryview | list[int] = memoryview(self._map)[PAGE:].cast("Q")
        self._words = memoryview(self._map)[_FIRST:].cast("Q")
        self._thread = threading.Lock()
        self._closing = weakref.finalize(self, _close, self._fd, self._words, self.changes, self._map)
        _open.add(self)

    def all(self, by_hand: bool = False) -> list[Record]:
        """Every record, or those by hand; of bans that are over too."""
        untils, kinds = self._words[3::_WORDS].tolist(), self._words[4::_WORDS].tolist()
        found = (self._read(n) for n, until in enumerate(untils) if until and (not by_hand or kinds[n] & _BY_HAND))
        return [one for one in found if one is not None and (one.by_hand or not by_hand)]

    def put(self, record: Record, now: int, patience: float = LOCK_WAIT) -> bool:
        """Write a ban; see Bans."""
        with self._locked(patience) as locked:
            if not locked:
                return False
            number, times, until = self._place(record, now)
            if number < 0:
                return False
            if not record.by_hand and abs(until - record.until) < SAME:
                return True
            self._write(number, record._replace(times=times + 1))
            if record.by_hand:
                self._changed()
        return True

    def drop(self, records: list[Record], patience: float = LOCK_WAIT) -> int:
        """Take records out; see Bans."""
        with self._locked(patience) as locked:
            if not locked:
                raise DataError(f"{self.path}: another process keeps writing to it; try again, and end that process if it has been stopped")
            wanted, dropped = {(r.key, r.rule) for r in records}, 0
            for number, until in enumerate(self._words[3::_WORDS].tolist()):
                found = self._read(number) if until else None
                if found is not None and (found.key, found.rule) in wanted:
                    self._map[_FIRST + number * _RECORD.size : _FIRST + (number + 1) * _RECORD.size] = bytes(_RECORD.size)
                    dropped += 1
            self._changed()
        return dropped

    def _place(self, record: Record, now: int) -> tuple[int, int, int]:
        """Where a record goes (-1: nowhere), how often it has been there before, and until when."""
        # A request pays for a neighbourhood only: whoever makes bans begin by the thousand must not cost more than that.
        first, number = (0, RECORDS) if record.by_hand else (record.key % (RECORDS - NEIGHBOURHOOD + 1), NEIGHBOURHOOD)
        words = self._words[first * _WORDS : (first + number) * _WORDS]
        keys = words[0::_WORDS].tolist()
        at = -1
        for _ in range(keys.count(record.key)):
            at = keys.index(record.key, at + 1)
            found = self._read(first + at)
            if found is not None and found.rule == record.rule:
                return first + at, found.times, found.until
        untils = words[3::_WORDS].tolist()
        least = min(untils)
        if least <= now:
            return first + untils.index(least), 0, 0
        kinds = words[4::_WORDS].tolist()
        ends = min(range(number), key=lambda n: (kinds[n] & _BY_HAND > 0, untils[n]))
        return (-1 if kinds[ends] & _BY_HAND and not record.by_hand else first + ends), 0, 0

    def _read(self, number: int) -> Record | None:
        raw = bytes(self._map[_FIRST + number * _RECORD.size : _FIRST + (number + 1) * _RECORD.size])
        key, client, since, until, kind, seal, *texts = _RECORD.unpack(raw)
        if seal != self._seal(raw):
            return None
        who, rule, reason = (text.rstrip(b"\0").decode("utf-8", "ignore") for text in texts)
        return Record(key, client, since, until, kind >> 16, kind >> 8 & 0xFF, kind & 0xFF, who, rule, reason)

    def _write(self, number: int, one: Record) -> None:
        kind = min(one.times, 1 << 40) << 16 | one.size << 8 | one.prefix
        texts = (cut(one.who, WHO), cut(one.rule, RULE), cut(one.reason, REASON))
        raw = bytearray(_RECORD.pack(one.key, one.client, one.since, one.until, kind, 0, *texts))
        struct.pack_into("@Q", raw, 40, self._seal(raw))
        self._map[_FIRST + number * _RECORD.size : _FIRST + (number + 1) * _RECORD.size] = bytes(raw)

    def _seal(self, raw: bytes | bytearray) -> int:
        return int.from_bytes(blake2b(raw[:40] + raw[48:], key=self.seed, digest_size=8).digest(), "little")

    def _changed(self) -> None:
        self.changes[0] = self.changes[0] + 1 & (1 << 63) - 1

    @contextmanager
    def _locked(self, patience: float) -> Iterator[bool]:
        """One writer at a time, of all threads of all processes; False when another one takes longer than that many seconds."""
        if not self._thread.acquire(timeout=patience):
            yield False
            return
        try:
            locked = self._lock(monotonic() + patience)
            try:
                yield locked
            finally:
                if locked and fcntl is not None:
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 8, PAGE)
        finally:
            self._thread.release()

    def _lock(self, until: float) -> bool:
        while fcntl is not None:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 8, PAGE)
                break
            except OSError:
                if monotonic() > until:
                    return False
                os.sched_yield()
        return True

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        self._closing()


def size_of(path: Path) -> int:
    """The ``size`` of the rate table that workers of this boot have made in a file, 0 when there is none: a look that makes nothing."""
    try:
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            kind, slots, _, boot = _HEADER.unpack(file.read(_HEADER.size))
            whole = os.fstat(file.fileno()).st_size == PAGE + (slots + _RATES_MORE) * 16
    except (OSError, struct.error):
        return 0
    return int(slots) * 16 if whole and kind == _RATES and boot == boot_id() else 0


def network_key(seed: bytes, network: bytes, prefix: int) -> int:
    """The keyed hash of a network: its packed first address, and its prefix in bits."""
    return int.from_bytes(blake2b(network + bytes((prefix,)), key=seed[:64], digest_size=8, person=b"ban").digest(), "little") or 1


def cut(text: str, most: int) -> bytes:
    """The UTF-8 of a text, no longer than ``most`` bytes and never half of a character."""
    raw = text.encode("utf-8", "replace")
    return raw if len(raw) <= most else raw[:most].decode("utf-8", "ignore").encode()


def _close(fd: int, words: memoryview, changes: memoryview, mapped: object) -> None:
    os.close(fd)
    changes.release()
    let_go(words, mapped)  # type: ignore[arg-type]


_open: weakref.WeakSet[SharedBans] = weakref.WeakSet()


def _after_fork() -> None:
    for bans in _open:
        bans._thread = threading.Lock()  # a thread of the parent may have held it


in_child(_after_fork)
