"""Profiles of all workers of a host, in one mapped file of fixed size: slots of 64 bytes, and bitmaps for whoever asks for many pages.

    slot = key, until, counts, last, mean, spread, few, seal            bitmap = key, until, ones, 0; 8,192 bits

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

from ..signals.conduct import DOCUMENT, FRESH, Conduct, conduct_of, step, weight
from ..signals.sketch import BITS, FEW, LOW, estimate
from .mapped import PAGE, let_go, map_table, open_table

_MAGIC = b"CGCONDU1"
NEIGHBOURHOOD = 8
"""Slots, and bitmaps, that a key may lie in."""
SLOTS_PER_SKETCH = 16
"""Profiles for each bitmap: about as much room for the ones as for the others."""

_SLOT = struct.Struct("@4Q2d2Q")
_WORDS, _HEAD, _MAP = 8, 4, BITS // 64
_ALL = (1 << 64) - 1
_SPREAD = 1 << 63
"""In ``few``: the paths are in a bitmap. Below it, 14 bits for each of the first few paths: 1 + the bit that it sets."""
_EMPTY = bytes(BITS // 8)


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
        self._heads = (slots + NEIGHBOURHOOD) * _WORDS
        self._maps = self._heads + (sketches + NEIGHBOURHOOD) * _HEAD
        length = PAGE + (self._maps + (sketches + NEIGHBOURHOOD) * _MAP) * 8
        with open_table(path, _MAGIC, length, slots, seed) as file:
            self._map, _ = map_table(file, path, _MAGIC, length, slots)
        self._words = memoryview(self._map)[PAGE:].cast("Q")
        self._odd = int.from_bytes(blake2b(seed, digest_size=8, person=b"conduct").digest(), "little") | 1
        self._shift, self._sketch_shift = 65 - slots.bit_length(), 65 - sketches.bit_length()
        self._closing = weakref.finalize(self, let_go, self._words, self._map)

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False) -> Conduct:
        """Count one request; see RateStore."""
        words = self._words
        first = at = ((key * self._odd & _ALL) >> self._shift) << 3
        there = words[at]
        if there != key:
            at = self._find(key, at) if there else -1  # in a slot that was never used a key is new
        state, few = FRESH, 0
        if at >= 0:
            found, until, counts, last, mean, spread, paths, seal = _SLOT.unpack_from(self._map, PAGE + at * 8)
            if found == key and seal == key ^ until ^ counts ^ last ^ paths:
                state, few = (until, counts, last, mean, spread), paths
        elif not dry:
            at = self._take(first, now)
        began, state = state[0], step(state, now, within, kind)
        if state[0] != began:  # another window
            few = 0
        if few & _SPREAD or (mark and kind == DOCUMENT):
            few, distinct = self._path(key, now, state[0], few, (mark & LOW) + 1 if mark and kind == DOCUMENT else 0, dry)
        else:
            distinct = (few.bit_length() + 13) // 14
        if not dry:
            until, counts, last, mean, spread = state
            seal = key ^ until ^ counts ^ last ^ few
            _SLOT.pack_into(self._map, PAGE + at * 8, key, until, counts, last, mean, spread, few, seal)
        return conduct_of(state, now, distinct)

    def _find(self, key: int, first: int) -> int:
        words = self._words
        for at in range(first + _WORDS, first + NEIGHBOURHOOD * _WORDS, _WORDS):
            if words[at] == key:
                return at
        return -1

    def _take(self, first: int, now: int) -> int:
        """A slot for a new key: one that is free or whose window is over, else that of whoever asked least, then first."""
        words, best, least = self._words, first, 1 << 128
        for at in range(first, first + NEIGHBOURHOOD * _WORDS, _WORDS):
            until = words[at + 1]
            if until <= now:
                return at
            load = weight(words[at + 2]) << 64 | until
            if load < least:
                best, least = at, load
        return best

    # ---- paths

    def _path(self, key: int, now: int, until: int, few: int, entry: int, dry: bool) -> tuple[int, int]:
        """Count a path (0: none) among the first few or in the key's bitmap; what to remember, and how many different ones there are."""
        if not few & _SPREAD:
            filled = (few.bit_length() + 13) // 14
            held = [few >> 14 * n & 0x3FFF for n in range(filled)]
            if entry in held:
                return few, filled
            if filled < FEW:
                return few | entry << 14 * filled, filled + 1
            if dry:
                return few, filled + 1
            return _SPREAD, self._spread(key, now, until, [*held, entry])
        head = self._sketch(key, until)
        if head < 0:  # pushed out by others: begin again
            return few, self._spread(key, now, until, [entry] if entry else []) if not dry else int(entry > 0)
        words = self._words
        ones = words[head + 2]
        if entry:
            at, bit = self._bit(head, entry)
            if not words[at] & bit:
                ones += 1
                if not dry:
                    words[at] |= bit
                    words[head + 2] = ones = self._ones(head) if ones & 63 == 0 else ones
        return few, estimate(ones)

    def _sketch(self, key: int, until: int) -> int:
        """Where the head of a key's bitmap for the window is, -1 when it has none."""
        words = self._words
        first = self._heads + ((key * self._odd & _ALL) >> self._sketch_shift) * _HEAD
        for head in range(first, first + NEIGHBOURHOOD * _HEAD, _HEAD):
            if words[head] == key and words[head + 1] == until:
                return head
        return -1

    def _spread(self, key: int, now: int, until: int, entries: Sequence[int]) -> int:
        """Give a key a bitmap (a free one, else that of whoever has asked for fewest paths) and set its first bits; how many were set."""
        words = self._words
        first = self._heads + ((key * self._odd & _ALL) >> self._sketch_shift) * _HEAD
        head, least = first, 1 << 128
        for one in range(first, first + NEIGHBOURHOOD * _HEAD, _HEAD):
            if words[one + 1] <= now or words[one] == key:
                head = one
                break
            load = words[one + 2] << 64 | words[one + 1]
            if load < least:
                head, least = one, load
        words[head] = 0  # nobody's while it is being cleared
        start = PAGE + self._bit(head, 1)[0] * 8
        self._map[start : start + len(_EMPTY)] = _EMPTY
        for entry in entries:
            at, bit = self._bit(head, entry)
            words[at] |= bit
        words[head + 1], words[head + 2], words[head] = until, len(entries), key
        return len(entries)

    def _bit(self, head: int, entry: int) -> tuple[int, int]:
        """The word and the bit in it of a path's entry (1 to BITS)."""
        bit = entry - 1
        return self._maps + (head - self._heads) // _HEAD * _MAP + (bit >> 6), 1 << (bit & 63)

    def _ones(self, head: int) -> int:
        """The bits that are set, counted: now and then, as writers that met may have counted one twice."""
        start = PAGE + self._bit(head, 1)[0] * 8
        return int.from_bytes(self._map[start : start + len(_EMPTY)], "little").bit_count()

    def forget(self, key: int) -> None:
        """Let a key's window be over: the next request begins another."""
        first = ((key * self._odd & _ALL) >> self._shift) << 3
        at = first if self._words[first] == key else self._find(key, first)
        if at >= 0:
            self._words[at + 1] = 0  # which breaks the seal, too

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        self._closing()
