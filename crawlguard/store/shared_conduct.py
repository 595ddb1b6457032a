"""Profiles of all workers of a host, in one mapped file of fixed size: slots of 64 bytes, and bitmaps for whoever asks for many pages.

    slot = key, until, counts, few, last, mean, spread, seal            bitmap = key ^ until, until, ones, 0, 8,192 bits

Words are read and written whole. Whoever takes a slot over writes its key last, and all that is counted in it bears a mark of the key that it
belongs to: what a worker writes that was stopped while its slot went to somebody else counts as nothing, so that nobody is judged by another's
requests. Two workers that count one key in the same instant count it once.

Where a key lies is decided by a secret multiplication (multiply-shift hashing, Dietzfelbinger et al., J. Algorithms 25, 1997), so that
not even keys which a client can choose (a fingerprint) can be aimed at one place. Their halves are mixed before, as the keys of a network's
clients are evenly spaced (``Keyer.address``), and a multiplication would leave them so: one secret in twenty would pile them up. A full neighbourhood forgets whoever asked least, and
among those whoever came first: a million clients of one request each push out one another.
"""

from __future__ import annotations

import struct
import weakref
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from ..signals.conduct import (
    AHEAD,
    DOCUMENT,
    DOCUMENTS,
    EVIDENCE,
    FULL,
    NONE_PACED,
    ONE,
    UNDER,
    Conduct,
    Paces,
    conduct_of,
    counted,
    paced,
    running,
    weight,
)
from ..signals.sketch import BITS, FEW, LOW, estimate
from .mapped import PAGE, let_go, map_table, open_table

_MAGIC = b"CGCONDU7"
NEIGHBOURHOOD = 8
"""Slots, and bitmaps, that a key may lie in."""
SLOTS_PER_SKETCH = 16
"""Profiles for each bitmap: about as much room for the ones as for the others."""

_SLOT, _HEAD = 8, 4
_SKETCH = _HEAD + BITS // 64
"""Words of a slot, of a bitmap's head, and of a bitmap with its head."""
_OWNER = 0x3FFF
"""The bits of counts that are those of ``key ^ until``."""
_LISTED = 1 << 63
"""In ``few``: the lowest 56 bits are 14 for each of the first few paths (1 + the bit that it sets), and the next those of the key. Else the paths are in a
bitmap, and it says at which word that begins."""
_MARKED, _MARK, _ENTRIES = 56, 0x7F, (1 << 56) - 1
_ENOUGH = EVIDENCE << DOCUMENTS
_early, _calm = UNDER

_PACES = struct.Struct("@Q2dQ")
_unpack, _pack = _PACES.unpack_from, _PACES.pack_into
_NOTED, _SEAL = 40, (1 << 40) - 1
"""``seal``: how many documents' times were noted, and 40 bits of ``key ^ until ^ last``."""


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
        self._shift, self._mask = 62 - slots.bit_length(), (slots - 1) * _SLOT  # of the words of a slot
        self._closing = weakref.finalize(self, let_go, self._words, self._bytes, self._map)

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """Count one request; see RateStore. This is the way of whoever has asked for some pages already; the others' is ``_count``."""
        words, at = self._words, (key ^ key >> 32) * self._odd >> self._shift & self._mask
        head = words[at + 3]
        if head and head < _LISTED and limit and kind == DOCUMENT and mark and not dry:
            until, counts = words[at + 1], words[at + 2]
            own = key ^ until
            # Whose the slot is need not be asked: nobody else's leads to a bitmap that is this key's in this window.
            if now < until <= now + within + AHEAD and words[head] == own and not (counts ^ own) & _OWNER and counts < FULL:
                path, octets, ones = mark & LOW, self._bytes, words[head + 2]
                eighth, bit = (head + _HEAD << 3) + (path >> 3), 1 << (path & 7)
                eight = octets[eighth]
                if not eight & bit:
                    octets[eighth], ones = eight | bit, ones + 1
                    words[head + 2] = ones = ones if ones & 63 else self._ones(head)
                words[at + 2] = counts = counts + ONE
                distinct = estimate(ones)
                if distinct <= limit:
                    return _calm if counts >= _ENOUGH else _early
                return conduct_of(counts, NONE_PACED, distinct, until - now)
        return self._count(key, at, now, within, kind, mark, dry, limit)

    def _count(self, key: int, first: int, now: int, within: int, kind: int, mark: int, dry: bool, limit: int) -> Conduct:
        words = self._words
        at, known = self._slot(key, first, now, within)
        until = words[at + 1] if known else now + within
        owner = (key ^ until) & _OWNER
        counts, few = (words[at + 2], words[at + 3]) if known else (owner, _LISTED)
        listed = few >= _LISTED
        if listed:
            few = few & _ENTRIES if few >> _MARKED & _MARK == key & _MARK else 0
        counts = counted(counts, kind)
        paces = NONE_PACED if limit else self._paces(key, at, until, now, kind, known, dry)
        path = mark & LOW if mark and kind == DOCUMENT else -1
        if listed:
            few, distinct = self._few(key, first, now, until, few, path + 1, dry)
        else:
            few, distinct = self._spread(key, first, now, until, few, path, dry)
        if not dry:
            if not known:
                words[at], words[at + 1] = 0, until  # nobody's while it is being written
            words[at + 2], words[at + 3] = counts, few
            if not known:
                words[at] = key
        if limit and distinct <= limit:
            return _calm if counts >= _ENOUGH else _early
        return conduct_of(counts, paces, distinct, until - now)

    def _slot(self, key: int, first: int, now: int, within: int) -> tuple[int, bool]:
        """Where a key's slot is, and whether its window runs; else where it may begin one: the free or finished slot, or that of whoever asked least."""
        words = self._words
        for at in range(first, first + NEIGHBOURHOOD * _SLOT, _SLOT):
            if words[at] == key:
                until = words[at + 1]
                return at, running(until, now, within) and not (words[at + 2] ^ key ^ until) & _OWNER
            if at == first and not words[at]:  # in a slot that was never used a key is new
                return at, False
        return self._take(first, now), False

    def _paces(self, key: int, at: int, until: int, now: int, kind: int, known: bool, dry: bool) -> Paces:
        """The paces of a key, after one more document."""
        place = at + 4 << 3
        last, mean, spread, seal = _unpack(self._bytes, place)
        own = (key ^ until) & _SEAL
        paces = (seal >> _NOTED, last, mean, spread) if known and not (seal ^ own ^ last) & _SEAL else NONE_PACED
        if kind == DOCUMENT:
            paces = noted, last, mean, spread = paced(paces, now)
            if not dry:
                _pack(self._bytes, place, last, mean, spread, noted << _NOTED | (own ^ last) & _SEAL)
        return paces

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

    def _few(self, key: int, first: int, now: int, until: int, few: int, entry: int, dry: bool) -> tuple[int, int]:
        """Count a path (0: none) among the first few: what to remember, and how many different ones there are."""
        filled, its = (few.bit_length() + 13) // 14, _LISTED | (key & _MARK) << _MARKED
        held = [few >> 14 * n & 0x3FFF for n in range(filled)]
        if not entry or entry in held:
            return its | few, filled
        if filled < FEW:
            return its | few | entry << 14 * filled, filled + 1
        return (few if dry else self._begin(key, first, now, until, [*held, entry])), filled + 1

    def _spread(self, key: int, first: int, now: int, until: int, head: int, path: int, dry: bool) -> tuple[int, int]:
        """Count a path (-1: none) in the key's bitmap: where that is, and how many different ones there are."""
        words, octets = self._words, self._bytes
        if words[head] != key ^ until:  # pushed out by others: begin again
            there = int(path >= 0)
            return (head if dry else self._begin(key, first, now, until, [path + 1] if there else [])), there
        ones = words[head + 2]
        if path >= 0:
            at, bit = (head + _HEAD << 3) + (path >> 3), 1 << (path & 7)
            eight = octets[at]
            if not eight & bit:
                ones += 1
                if not dry:
                    octets[at] = eight | bit
                    words[head + 2] = ones = ones if ones & 63 else self._ones(head)
        return head, estimate(ones)

    def _begin(self, key: int, slot: int, now: int, until: int, entries: Sequence[int]) -> int:
        """Give a key a bitmap (a free one, else that of whoever has asked for fewest paths) and set its first bits: what ``few`` says of it."""
        words, octets = self._words, self._bytes
        first = head = self._heads + (slot // (_SLOT * SLOTS_PER_SKETCH)) * _SKETCH
        least = 1 << 128
        for one in range(first, first + NEIGHBOURHOOD * _SKETCH, _SKETCH):
            if words[one + 1] <= now or words[one] == key ^ words[one + 1]:
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
        words[head + 1], words[head + 2], words[head] = until, len(entries), key ^ until
        return head

    def _ones(self, head: int) -> int:
        """The bits that are set, counted: now and then, as writers that met may have counted one twice."""
        return int.from_bytes(self._bytes[head + _HEAD << 3 : head + _SKETCH << 3], "little").bit_count()

    def forget(self, key: int) -> None:
        """Let a key's window be over: the next request begins another."""
        words, first = self._words, (key ^ key >> 32) * self._odd >> self._shift & self._mask
        for at in range(first, first + NEIGHBOURHOOD * _SLOT, _SLOT):
            if words[at] == key:
                words[at + 1] = 0  # which breaks the seal, too

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        self._closing()
