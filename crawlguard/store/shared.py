"""Rates of all workers of a host, in one mapped file of fixed size. No server, no lock, no memory that grows.

After a header page the file is slots of two 8-byte words: the key, and its state. Words are read and written whole (an
aligned 8-byte copy), so a reader sees an old word or a new one, never half of each. A state carries 15 bits of its key: where
another worker has replaced the key between the two reads, the state does not fit and counts as fresh. Two workers
that count the same key in the same instant lose one count, which errs on the visitor's side.

    state = time in us << 16 | held << 15 | key & 0x7FFF

Time is the TAT (see ``signals/rate``), or for a held key the time at which it is let in again. A time further ahead than the rule
allows comes from another boot of the machine, and counts as fresh.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError

_MAGIC = b"CGRATES1"
_HEADER = struct.Struct("<8sQ32s")
_PAGE = 4096
NEIGHBOURHOOD = 8
"""Slots that a key may lie in, from its own on. At half load (500k keys in 16 MiB) fewer than 1 key in 1,000 is pushed out."""

# Native words, so that each is copied whole.
_NEIGHBOURS = struct.Struct(f"{2 * NEIGHBOURHOOD}Q")
_HELD = 0x8000
_MARK = 0x7FFF


class SharedStore:
    """The mapped table. Raises OSError when it cannot be made, DataError when the file is not one of ours."""

    name = "shared"

    def __init__(self, path: str | Path, size: int = 16 << 20) -> None:
        self.path = Path(path)
        slots = 1 << (size // 16).bit_length() - 1
        # The last neighbourhood runs past the last slot instead of wrapping around; the header page hides in the rest.
        length = _PAGE + (slots + NEIGHBOURHOOD) * 16
        with self._open(length, slots) as file:  # the mapping holds on by itself
            try:
                self._map = mmap.mmap(file.fileno(), length)
            except (OSError, ValueError) as error:
                raise DataError(f"{self.path}: cannot be mapped ({error}); remove the file") from None
        magic, found, self.seed = _HEADER.unpack_from(self._map)
        if magic != _MAGIC or found != slots:
            self._map.close()
            raise DataError(f"{self.path}: not a rate table of {slots} slots; remove the file, or give another path")
        self._words = memoryview(self._map)[_PAGE:].cast("Q")
        self._slot_mask = slots - 1

    def _open(self, length: int, slots: int) -> BinaryIO:
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_NONBLOCK", 0)  # a FIFO of that name must not stop the site
        for _ in range(3):
            try:
                file = os.fdopen(os.open(self.path, flags), "r+b")
            except FileNotFoundError:
                self._create(length, slots)
                continue
            if os.fstat(file.fileno()).st_size == length:
                return file
            status = os.fstat(file.fileno())
            ours = stat.S_ISREG(status.st_mode) and _MAGIC.startswith(file.read(len(_MAGIC)))
            file.close()
            if not ours:
                raise DataError(f"{self.path}: not a rate table, and not overwritten; give another path")
            # Another size, or cut short: start again beside it; workers that map the old one keep it.
            self.path.unlink(missing_ok=True)
        raise DataError(f"{self.path}: other processes keep replacing it with a table of another size; give each site its own store path")

    def _create(self, length: int, slots: int) -> None:
        """Make the file complete under another name, then link it: nobody ever maps half a table."""
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            with open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as file:
                file.write(_HEADER.pack(_MAGIC, slots, os.urandom(32)))
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
        if words[at] != key:
            at = self._find(key, at)
            if at < 0:
                at = self._take(key, ~at, now)
                words[at + 1] = (now + interval) << 16 | key & 0x7FFF
                return 0
        at += 1
        state = words[at]
        mark = key & 0x7FFF
        tat = state >> 16
        if state & 0x7FFF != mark or tat < now:
            tat = now
        elif state & 0x8000:
            if tat - now <= hold:
                return tat - now
            tat = now
        elif tat > now + tolerance:
            tat = now
        wait = tat + interval - now - tolerance
        if wait <= 0:
            words[at] = (tat + interval) << 16 | mark
            return 0
        if hold:
            words[at] = (now + hold) << 16 | 0x8000 | mark
            return hold
        return wait

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """What ``hit`` would return, without counting."""
        words = self._words
        first = (key >> 16 & self._slot_mask) << 1
        for at in range(first, first + 2 * NEIGHBOURHOOD, 2):
            if words[at] == key:
                state = words[at + 1]
                tat = state >> 16
                if state & _MARK != key & _MARK or tat < now:
                    return 0
                if state & _HELD:
                    return tat - now if tat - now <= hold else 0
                wait = tat + interval - now - tolerance if tat <= now + tolerance else 0
                return max(0, wait)
        return 0

    def _find(self, key: int, first: int) -> int:
        """The slot of a key in its neighbourhood; the complement of ``first`` when it has none."""
        keys = _NEIGHBOURS.unpack_from(self._map, _PAGE + first * 8)[::2]
        return first + 2 * keys.index(key) if key in keys else ~first

    def _take(self, key: int, first: int, now: int) -> int:
        """A slot for a new key: a free or expired one, else the one whose state ends first."""
        states = _NEIGHBOURS.unpack_from(self._map, _PAGE + first * 8)[1::2]
        best, least = 0, 1 << 64
        for number, state in enumerate(states):
            if state < least:
                best, least = number, state
                if state >> 16 <= now:
                    break
        at = first + 2 * best
        self._words[at + 1] = 0
        self._words[at] = key
        return at

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        self._words.release()
        self._map.close()
