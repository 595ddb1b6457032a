"""Swarms of all workers of a host, in one mapped file of fixed size: groups with two bitmaps each, and two generations of residents.

    group = key, until, documents, bits of clients, bits of paths, residents, usual, 0; 8,192 bits of clients, 8,192 bits of paths
    residents, and who was seen in which group's window = Bloom filters in two generations

Words are read and written whole. Two workers that meet lose one count, and what they count twice is corrected when the bits are counted again.
"""

from __future__ import annotations

import struct
import weakref
from hashlib import blake2b
from pathlib import Path

from ..signals.conduct import ASSET, DOCUMENT, running
from ..signals.rate import mix
from ..signals.sketch import BITS, LOW, estimate
from ..signals.swarm import Swarm, learnt
from .mapped import PAGE, let_go, map_table, open_table

_MAGIC = b"CGSWARM1"
NEIGHBOURHOOD = 8
"""Groups that a key may lie in. A full one forgets the group with fewest documents, and among those the first."""
_GROUP, _MAP = 8 + 2 * BITS // 64, BITS // 64
_HEAD = struct.Struct("@5Q")
_ALL = (1 << 64) - 1
_YOUNG, _HELD, _EVER = 0, 1, 2
"""The words before a filter: which generation is the young one, how many it holds, and how many there have ever been."""
ROOM = 16
"""Bits for each number of a full filter, of which it sets 3: 0.5% of strangers are taken for one of them in each generation."""


def tables(size: int) -> tuple[int, int]:
    """Groups, and bits in a generation of residents, beside a table of words of ``size`` bytes: both powers of two, about a third of it in all."""
    return 1 << max(16, size // 8192).bit_length() - 1, 1 << max(4096, size // 8).bit_length() - 1


class Filter:
    """A Bloom filter in two generations: numbers that were added some time ago, and few others. Begins at a word of a mapped table."""

    def __init__(self, words: memoryview, begin: int, bits: int, odd: int) -> None:
        self._words, self._begin, self._bits, self._odd = words, begin, bits, odd
        self._olds = (begin + 8, begin + 8 + bits // 64)

    def _places(self, number: int) -> tuple[int, int, int]:
        mixed, mask = number * self._odd & _ALL, self._bits - 1
        return mixed >> 43 & mask, mixed >> 22 & mask, mixed & mask

    def has(self, number: int) -> bool:
        """Whether a number was added."""
        words, (a, b, c) = self._words, self._places(number)
        for base in self._olds:  # a stranger is known by its first bit
            if words[base + (a >> 6)] >> (a & 63) & 1 and words[base + (b >> 6)] >> (b & 63) & words[base + (c >> 6)] >> (c & 63) & 1:
                return True
        return False

    def add(self, number: int) -> None:
        """Add a number to the young generation; a full one becomes the old one, and the old one is emptied."""
        words, begin = self._words, self._begin
        if words[begin + _HELD] >= self._bits // ROOM:
            words[begin + _HELD], words[begin + _YOUNG] = 0, 1 - (words[begin + _YOUNG] & 1)
            start = self._olds[words[begin + _YOUNG]]
            words[start : start + self._bits // 64] = memoryview(bytes(self._bits // 8)).cast("Q")
        base = self._olds[words[begin + _YOUNG] & 1]
        for bit in self._places(number):
            words[base + (bit >> 6)] |= 1 << (bit & 63)
        words[begin + _HELD] += 1
        words[begin + _EVER] += 1


class SharedSwarm:
    """The mapped table; see SharedConduct for what it raises and takes."""

    def __init__(self, path: Path, size: int, seed: bytes) -> None:
        groups, bits = tables(size)
        each = 8 + 2 * bits // 64
        self._first = 2 * each
        length = PAGE + (self._first + (groups + NEIGHBOURHOOD) * _GROUP) * 8
        with open_table(path, _MAGIC, length, groups, seed) as file:
            self._map, _ = map_table(file, path, _MAGIC, length, groups)
        self._words = memoryview(self._map)[PAGE:].cast("Q")
        self._odd = int.from_bytes(blake2b(seed, digest_size=8, person=b"swarm").digest(), "little") | 1
        self._shift = 65 - groups.bit_length()
        self._people, self._seen = Filter(self._words, 0, bits, self._odd), Filter(self._words, each, bits, self._odd)
        self._closing = weakref.finalize(self, let_go, self._words, self._map)

    def swarm(self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False) -> Swarm:
        """Count one request of a member; see RateStore."""
        words = self._words
        at, usual = self._group(key, now, within, dry)
        if at < 0:
            until, documents, clients, paths, residents = now + within, 0, 0, 0, 0
        else:
            until, documents, clients, paths, residents = _HEAD.unpack_from(self._map, PAGE + (at + 1) * 8)
        low, path = member & LOW, mark & LOW
        mine, its = at + 8 + (low >> 6), at + 8 + _MAP + (path >> 6)
        there = at >= 0 and bool(words[mine] >> (low & 63) & 1)
        once = mix((key, member, until))
        resident, seen, known = self._people.has(member), self._seen.has(once), bool(mark) and self._people.has(~mark & _ALL)
        if kind == ASSET:
            residents += 1
            if seen and not resident:  # neither the client nor the page that the asset belongs to is bare
                clients, documents = clients - (there and clients > 0), documents - (documents > 0)
        elif resident:
            residents += 1
        elif kind == DOCUMENT:
            fresh = bool(mark) and (at < 0 or not words[its] >> (path & 63) & 1)
            clients, documents, paths = clients + (not there), documents + 1, paths + fresh
            if not dry:
                if not seen:
                    self._seen.add(once)
                words[mine] |= 1 << (low & 63)
                if fresh:
                    words[its] |= 1 << (path & 63)
        if not dry:
            if kind == ASSET:
                if seen and not resident:
                    words[mine] &= _ALL ^ 1 << (low & 63)
                if not resident:
                    self._people.add(member)
            elif resident and mark and not known:
                self._people.add(~mark & _ALL)
            if kind == DOCUMENT and not resident and documents & 63 == 0:
                clients, paths = self._ones(at + 8), self._ones(at + 8 + _MAP)
            words[at + 2], words[at + 3], words[at + 4], words[at + 5] = documents, clients, paths, residents
        return Swarm(estimate(clients), documents, estimate(paths), residents, usual >> 8, until - now, words[_EVER], resident, seen, known)

    def _group(self, key: int, now: int, within: int, dry: bool) -> tuple[int, int]:
        """Where a group lies, its window begun where it has to be, and its usual number; -1 when it has no running one and is not to get one."""
        words = self._words
        first = self._first + ((key * self._odd & _ALL) >> self._shift) * _GROUP
        best, least = first, 1 << 130
        for at in range(first, first + NEIGHBOURHOOD * _GROUP, _GROUP):
            if words[at] == key:
                if running(words[at + 1], now, within):
                    return at, words[at + 6]
                usual = learnt(words[at + 6], words[at + 3], words[at + 1], now, within)
                return (-1 if dry else self._begin(at, key, now + within, usual)), usual
            # What is over is worth less than what runs, and among each the group with fewest documents goes first.
            load = (words[at + 1] > now) << 129 | words[at + 2] << 64 | words[at + 1]
            if load < least:
                best, least = at, load
        return (-1 if dry else self._begin(best, key, now + within, 0)), 0

    def _begin(self, at: int, key: int, until: int, usual: int) -> int:
        words = self._words
        words[at] = 0  # nobody's while it is being cleared
        start = PAGE + (at + 1) * 8
        self._map[start : start + (_GROUP - 1) * 8] = bytes((_GROUP - 1) * 8)
        words[at + 1], words[at + 6], words[at] = until, usual, key
        return at

    def _ones(self, start: int) -> int:
        begin = PAGE + start * 8
        return int.from_bytes(self._map[begin : begin + BITS // 8], "little").bit_count()

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        self._closing()
