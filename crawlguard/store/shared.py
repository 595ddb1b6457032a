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
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import weakref
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from ..errors import DataError

try:
    import fcntl
except ImportError:  # Windows: no locks, so contended keys admit a few too many
    fcntl = None  # type: ignore[assignment]

_MAGIC = b"CGRATES2"
_HEADER = struct.Struct("<8sQ32s36s")
_PAGE = 4096
NEIGHBOURHOOD = 8
"""Slots that a key may lie in, from its own on. At half load (500k keys in 16 MiB) fewer than 1 key in 1,000 is pushed out."""

# Native words, so that each is copied whole.
_NEIGHBOURS = struct.Struct(f"{2 * NEIGHBOURHOOD}Q")
_HELD = 0x8000
_CONTENDED = 0x4000
_MARK = 0x1FF

SLACK = 60_000_000
"""Microseconds by which another worker's clock reading may be ahead of ours: it was taken later, or we were stopped since."""
LONGEST = 31 * 86_400_000_000 + SLACK
"""The longest time that a policy can name, in us; what lies further ahead is another boot's."""
LOCK_WAIT = 0.02
"""Seconds that a request waits for a contended key at most."""


class SharedStore:
    """The mapped table. Raises OSError when it cannot be made, DataError when the file is not one of ours."""

    name = "shared"

    def __init__(self, path: str | Path, size: int = 16 << 20) -> None:
        self.path = Path(path)
        slots = 1 << (size // 16).bit_length() - 1
        # The last neighbourhood runs past the last slot instead of wrapping around; the header page hides in the rest.
        length = _PAGE + (slots + NEIGHBOURHOOD) * 16
        with self._open(length, slots) as file:
            self._fd = os.dup(file.fileno())  # for the locks; the mapping holds on by itself
            self._closing = weakref.finalize(self, os.close, self._fd)
            try:
                self._map = mmap.mmap(file.fileno(), length)
            except (OSError, ValueError) as error:
                raise DataError(f"{self.path}: cannot be mapped ({error}); remove the file") from None
        magic, found, self.seed, _ = _HEADER.unpack_from(self._map)
        if magic != _MAGIC or found != slots:
            self._map.close()
            raise DataError(f"{self.path}: not a rate table of {slots} slots; remove the file, or give another path")
        self._words = memoryview(self._map)[_PAGE:].cast("Q")
        self._slot_mask = slots - 1
        self._writer = 0
        self._name_writer()
        _stores.add(self)

    def _name_writer(self) -> None:
        self._writer = (os.getpid() & 31) << 9

    def _open(self, length: int, slots: int) -> BinaryIO:
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_NONBLOCK", 0)  # a FIFO of that name must not stop the site
        for _ in range(3):
            try:
                file = os.fdopen(os.open(self.path, flags), "r+b")
            except FileNotFoundError:
                self._create(length, slots)
                continue
            status = os.fstat(file.fileno())
            head = file.read(_HEADER.size) if stat.S_ISREG(status.st_mode) else b"not a file"
            if not _MAGIC[:7].startswith(head[:7]):  # a table of another version is ours too
                file.close()
                raise DataError(f"{self.path}: not a rate table, and not overwritten; give another path")
            if status.st_size == length and head.startswith(_MAGIC) and _HEADER.unpack(head)[3] == _boot_id():
                return file
            # Another size, cut short, or of another boot, whose clock was another: start again beside it. Workers that map the old
            # one keep it.
            self._remove(file)
        raise DataError(f"{self.path}: other processes keep replacing it with a table of another size; give each site its own store path")

    def _remove(self, file: BinaryIO) -> None:
        """Take the name off an old table, unless another worker has done that already and given it to a new one."""
        with file:
            if fcntl is not None:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)  # whoever removes this very file does it under this lock
            try:
                if os.path.samestat(os.stat(self.path), os.fstat(file.fileno())):
                    self.path.unlink(missing_ok=True)
            except FileNotFoundError:
                pass

    def _create(self, length: int, slots: int) -> None:
        """Make the file complete under another name, then link it: nobody ever maps half a table."""
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            with open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as file:
                file.write(_HEADER.pack(_MAGIC, slots, os.urandom(32), _boot_id()))
                # Real blocks, not a hole: writing to a hole of a full disk kills the process (SIGBUS).
                file.write(bytes(_PAGE - _HEADER.size))
                file.writelines(bytes(65_536) for _ in range((length - _PAGE) // 65_536))
                file.write(bytes((length - _PAGE) % 65_536))
            try:
                os.link(partial, self.path)
            except FileExistsError:
                pass  # another worker was first
            except OSError:  # a file system without hard links
                os.replace(partial, self.path)
        finally:
            partial.unlink(missing_ok=True)

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """Count one request; see RateStore."""
        words = self._words
        at = (key >> 16 & self._slot_mask) << 1
        there = words[at]
        if there != key:
            # In a slot that was never used a key is new: slots fill up from a key's own, so it lies nowhere else.
            found = self._find(key, at) if there else -1
            if found < 0:
                if there:
                    at = self._take(at, now)
                words[at] = key
                words[at + 1] = (now + interval) << 16 | self._writer | key & 0x1FF
                return 0
            at = found
        at += 1
        state = words[at]
        if state & 0x4000:
            return self._careful(at, key, now, interval, tolerance, hold)
        mark = key & 0x1FF
        tat = state >> 16
        if state & 0x1FF != mark or tat <= now:
            tat = now
        elif state & 0x8000:
            if tat <= now + hold + SLACK:
                return tat - now
            tat = now
        elif tat > now + tolerance + SLACK:
            tat = now
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
            state = words[at]
            tat = state >> 16
            if (state ^ key) & _MARK or tat <= now:
                tat = now
            elif state & _HELD:
                if tat <= now + hold + SLACK:
                    return tat - now
                tat = now
            elif tat > now + tolerance + SLACK:
                tat = now
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
        state = words[at + 1]
        tat = state >> 16
        if (state ^ key) & _MARK or tat <= now:
            return 0
        if state & _HELD:
            return tat - now if tat <= now + hold + SLACK else 0
        wait = tat + interval - now - tolerance if tat <= now + tolerance + SLACK else 0
        return max(0, wait)

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

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        self._closing()
        self._fd = -1
        self._words.release()
        self._map.close()


def _boot_id() -> bytes:
    """What tells this boot of the machine from others, 36 bytes; zeros where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:36].ljust(36, b"\0")
    except OSError:
        return bytes(36)


_stores: weakref.WeakSet[SharedStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in _stores:
        store._name_writer()  # a forked worker is a writer of its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
