"""Profiles of all workers of a host, in one mapped file of fixed size: slots of 64 bytes, and bitmaps for whoever asks for many pages.

    slot = key, until, counts, last, mean, spread, few, seal            bitmap = key, until, ones, 0, 8,192 bits

A slot is written in one go but not in one instant. Its seal tells a whole one from two halves, so that nobody is ever judged by another's
requests: a slot with a broken seal counts as fresh. Two workers that count one key in the same instant count it once.

Where a key lies is decided by a secret multiplication (multiply-shift hashing, Dietzfelbinger et al., J. Algorithms 25, 1997), so that
not even keys which a client can choose (a fingerprint) can be aimed at one place. A full neighbourhood forgets whoever asked least, and
among those whoever came first: a million clients of one request each push out one another.
"""

from __future__ import annotations

import struct
import weakref
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from ..signals.conduct import AHEAD, DOCUMENT, DOCUMENTS, Conduct, conduct_of, running, step, weight
from ..signals.sketch import BITS, FEW, LOW, estimate
from .mapped import PAGE, let_go, map_table, open_table

_MAGIC = b"CGCONDU2"
NEIGHBOURHOOD = 8
"""Slots, and bitmaps, that a key may lie in."""
SLOTS_PER_SKETCH = 16
"""Profiles for each bitmap: about as much room for the ones as for the others."""

_FOLD = SLOTS_PER_SKETCH.bit_length() - 1
_SLOT, _HEAD = 8, 4
_SKETCH = _HEAD + BITS // 64
"""Words of a slot, of a bitmap's head, and of a bitmap with its head."""
_WHOLE, _REST = struct.Struct("@4Q2d2Q"), struct.Struct("@2Q2d2Q")
_unpack, _pack, _pack_rest = _WHOLE.unpack_from, _WHOLE.pack_into, _REST.pack_into
"""A slot, and a slot from its counts on."""
_SPREAD = 1 << 63
"""In ``few``: the paths are in a bitmap. Below it, 14 bits for each of the first few paths: 1 + the bit that it sets."""

_new = tuple.__new__


def tables(size: int) -> tuple[int, int]:
    """Slots and bitmaps beside a table of words of ``size`` bytes: both powers of two, about half of its size in all."""
    slots = 1 << max(256, size // 256).bit_length() - 1
    return slots, slots // SLOTS_PER_SKETCH


class SharedConduct:
    """The mapped table. Raises OSError when it cannot be made, DataError when the file is not one of ours.

    ``size``: bytes of the table of words beside it. ``seed``: that of its keys; a table of another seed is made anew.
    """

    def __init__(self, path: Path, size: int, seed: bytes) -> None:
        slots, sketches = tables(size)
        # The last neighbourhoods run past the last slot and the last bitmap instead of wrapping around.
        self._heads = (slots + NEIGHBOURHOOD) * _SLOT
        length = PAGE + (self._heads + (sketches + NEIGHBOURHOOD) * _SKETCH) * 8
        with open_table(path, _MAGIC, length, slots, seed) as file:
            self._map, _ = map_table(file, path, _MAGIC, length, slots)
        self._bytes = memoryview(self._map)[PAGE:]
        self._words = self._bytes.cast("Q")
        self._odd = int.from_bytes(blake2b(seed, digest_size=8, person=b"conduct").digest(), "little") | 1
        self._shift, self._mask = 65 - slots.bit_length(), slots - 1
        self._closing = weakref.finalize(self, let_go, self._words, self._bytes, self._map)

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """Count one request; see RateStore."""
        octets, number = self._bytes, key * self._odd >> self._shift & self._mask
        at = number << 6
        found, until, counts, last, mean, spread, few, seal = _unpack(octets, at)
        sealed = key ^ until ^ few
        known = found == key and seal == sealed ^ counts ^ last and now < until <= now + within + AHEAD
        if not known:
            at, until, counts, last, mean, spread, few = self._elsewhere(key, number, now, within, dry)
        counts, last, mean, spread = step(counts, last, mean, spread, now, kind)
        path = mark & LOW if mark and kind == DOCUMENT else -1
        if few != _SPREAD:
            distinct = (few.bit_length() + 13) // 14
            if path >= 0:
                few, distinct = self._few(key, number, now, until, few, path + 1, dry)
                sealed = key ^ until ^ few
        else:
            words, head = self._words, self._heads + (number >> _FOLD) * _SKETCH
            if words[head] == key and words[head + 1] == until and path >= 0 and not dry:
                ones, eighth, bit = words[head + 2], (head + _HEAD << 3) + (path >> 3), 1 << (path & 7)
                eight = octets[eighth]
                if not eight & bit:
                    octets[eighth], ones = eight | bit, ones + 1
                    words[head + 2] = ones = self._ones(head) if ones & 63 == 0 else ones
                distinct = estimate(ones)
            else:
                distinct = self._spread(key, number, now, until, path, dry)
        if known:
            if not dry:
                _pack_rest(octets, at + 16, counts, last, mean, spread, few, sealed ^ counts ^ last)
            if limit and distinct <= limit:
                documents = counts >> DOCUMENTS
                return _new(Conduct, (documents, documents, 0, 0, distinct, 0, 0, 0, until - now))
        elif not dry:
            _pack(octets, at, key, until, counts, last, mean, spread, few, key ^ until ^ few ^ counts ^ last)
        return conduct_of((until, counts, last, mean, spread), now, distinct)

    def _elsewhere(self, key: int, number: int, now: int, within: int, dry: bool) -> tuple[int, int, int, int, float, float, int]:
        """Where a key's slot is (in bytes) when its first one does not hold it whole and running, and what is in it: a new window, if need be."""
        words, first = self._words, number * _SLOT
        if words[first]:  # in a slot that was never used a key is new
            for at in range(first, first + NEIGHBOURHOOD * _SLOT, _SLOT):
                if words[at] != key:
                    continue
                _, until, counts, last, mean, spread, few, seal = _unpack(self._bytes, at << 3)
                if seal == key ^ until ^ counts ^ last ^ few and running(until, now, within):
                    return at << 3, until, counts, last, mean, spread, few
                return at << 3, now + within, 0, 0, 0.0, 0.0, 0
        return (0 if dry else self._take(first, now)) << 3, now + within, 0, 0, 0.0, 0.0, 0

    def _take(self, first: int, now: int) -> int:
        """A slot for a new key: one that is free or whose window is over, else that of whoever asked least, then first."""
        words, best, least = self._words, first, 1 << 128
        for at in range(first, first + NEIGHBOURHOOD * _SLOT, _SLOT):
            until = words[at + 1]
            if until <= now:
                return at
            load = weight(words[at + 2]) << 64 | until
            if load < least:
                best, least = at, load
        return best

    # ---- paths

    def _few(self, key: int, number: int, now: int, until: int, few: int, entry: int, dry: bool) -> tuple[int, int]:
        """Count a path among the first few: what to remember, and how many different ones there are."""
        filled = (few.bit_length() + 13) // 14
        held = [few >> 14 * n & 0x3FFF for n in range(filled)]
        if entry in held:
            return few, filled
        if filled < FEW:
            return few | entry << 14 * filled, filled + 1
        if not dry:
            self._begin(key, number, now, until, [*held, entry])
        return _SPREAD, filled + 1

    def _spread(self, key: int, number: int, now: int, until: int, path: int, dry: bool) -> int:
        """Count a path (-1: none) in the key's bitmap: how many different ones there are."""
        words, head = self._words, self._heads + (number >> _FOLD) * _SKETCH
        if words[head] != key or words[head + 1] != until:
            head = self._head(key, head, until)
            if head < 0:  # pushed out by others: begin again
                return int(path >= 0) if dry else self._begin(key, number, now, until, [path + 1] if path >= 0 else [])
        ones = words[head + 2]
        if path >= 0:
            octets, at, bit = self._bytes, (head + _HEAD << 3) + (path >> 3), 1 << (path & 7)
            eight = octets[at]
            if not eight & bit:
                ones += 1
                if not dry:
                    octets[at] = eight | bit
                    words[head + 2] = ones = self._ones(head) if ones & 63 == 0 else ones
        return estimate(ones)

    def _head(self, key: int, first: int, until: int) -> int:
        """Where a key's bitmap for the window is, -1 when it has none."""
        words = self._words
        for head in range(first, first + NEIGHBOURHOOD * _SKETCH, _SKETCH):
            if words[head] == key and words[head + 1] == until:
                return head
        return -1

    def _begin(self, key: int, number: int, now: int, until: int, entries: Sequence[int]) -> int:
        """Give a key a bitmap (a free one, else that of whoever has asked for fewest paths) and set its first bits; how many were set."""
        words, octets = self._words, self._bytes
        first = head = self._heads + (number >> _FOLD) * _SKETCH
        least = 1 << 128
        for one in range(first, first + NEIGHBOURHOOD * _SKETCH, _SKETCH):
            if words[one + 1] <= now or words[one] == key:
                head = one
                break
            load = words[one + 2] << 64 | words[one + 1]
            if load < least:
                head, least = one, load
        words[head] = 0  # nobody's while it is being cleared
        bits = bytearray(BITS // 8)
        for entry in entries:
            bits[entry - 1 >> 3] |= 1 << (entry - 1 & 7)
        octets[head + _HEAD << 3 : head + _SKETCH << 3] = bits
        words[head + 1], words[head + 2], words[head] = until, len(entries), key
        return len(entries)

    def _ones(self, head: int) -> int:
        """The bits that are set, counted: now and then, as writers that met may have counted one twice."""
        return int.from_bytes(self._bytes[head + _HEAD << 3 : head + _SKETCH << 3], "little").bit_count()

    def forget(self, key: int) -> None:
        """Let a key's window be over: the next request begins another."""
        words, first = self._words, (key * self._odd >> self._shift & self._mask) * _SLOT
        for at in range(first, first + NEIGHBOURHOOD * _SLOT, _SLOT):
            if words[at] == key:
                words[at + 1] = 0  # which breaks the seal, too

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        self._closing()
