"""Swarms of all workers of a host, in one mapped file of fixed size: groups with two bitmaps each, and two generations of residents.

    group = key, until, documents, bits of clients, bits of paths, residents, usual, salt; 8,192 bits of clients, 8,192 bits of paths
    residents, and who was seen in which group's window = filters in two generations (``filters``)

Words are read and written whole. Two workers that meet lose one count, and what they count twice is corrected when the bits are counted again.
"""

from __future__ import annotations

import struct
import weakref
from hashlib import blake2b
from pathlib import Path

from ..signals.conduct import AHEAD, ASSET, DOCUMENT, running
from ..signals.sketch import BITS, LOW, estimate
from ..signals.swarm import CALM, EVIDENCE, UNSETTLED, Swarm, hot, learnt
from .filters import EVER, MASK, Filter, room
from .mapped import PAGE, let_go, map_table, open_table

_MAGIC = b"CGSWARM2"
NEIGHBOURHOOD = 8
"""Groups that a key may lie in. A full one forgets the group with fewest documents, and among those the first."""
_HEAD, _MAP = 8, BITS // 64
_GROUP = _HEAD + 2 * _MAP
_WIDTH = BITS // 8
_unpack = struct.Struct(f"@{_HEAD}Q").unpack_from
_ALL = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15

_new = tuple.__new__  # a third of what Swarm() costs


def tables(size: int) -> tuple[int, int]:
    """Groups, and bits in a generation of residents, beside a table of words of ``size`` bytes: both powers of two, about a third of it in all."""
    return 1 << max(16, size // 8192).bit_length() - 1, 1 << max(4096, size // 8).bit_length() - 1


class SharedSwarm:
    """The mapped table; see SharedConduct for what it raises and takes."""

    def __init__(self, path: Path, size: int, seed: bytes) -> None:
        groups, bits = tables(size)
        self._first = 2 * room(bits)
        self._none = self._first + (groups + NEIGHBOURHOOD) * _GROUP  # one that always stays empty
        length = PAGE + (self._none + _GROUP) * 8
        with open_table(path, _MAGIC, length, groups, seed) as file:
            self._map, _ = map_table(file, path, _MAGIC, length, groups)
        self._bytes = memoryview(self._map)[PAGE:]
        self._words = self._bytes.cast("Q")
        self._odd = int.from_bytes(blake2b(seed, digest_size=8, person=b"swarm").digest(), "little") | 1
        self._shift, self._mask = 65 - groups.bit_length(), groups - 1
        self._people, self._seen = Filter(self._words, 0, bits), Filter(self._words, room(bits), bits)
        self._closing = weakref.finalize(self, let_go, self._words, self._bytes, self._map)

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        """Count one request of a member; see RateStore."""
        words, octets, odd, people = self._words, self._bytes, self._odd, self._people
        at = self._first + (key * odd >> self._shift & self._mask) * _GROUP
        found, until, documents, bare, paths, residents, usual, salt = _unpack(octets, at << 3)
        if found != key or not now < until <= now + within + AHEAD:
            at, until, usual = self._group(key, at, now, within, dry)
            _, _, documents, bare, paths, residents, _, salt = _unpack(octets, at << 3)
        number = member * odd & _ALL
        resident = seen = known = False
        slot, pattern = people.first + (number >> people.shift << 1), people.patterns[number & MASK]  # people.has, without the call
        if words[slot] & pattern == pattern or words[slot + 1] & pattern == pattern:
            resident, residents = True, residents + 1
            if not dry:
                words[at + 5] = residents
            if mark:
                path = (mark ^ _ALL) * odd & _ALL
                known = people.has(path) if dry or kind == ASSET else people.note(path)
            if clients:
                return CALM if words[EVER] >= EVIDENCE else UNSETTLED
            seen = self._seen.has(number ^ salt)
        elif kind == DOCUMENT:
            low, start, documents = member & LOW, at + _HEAD << 3, documents + 1
            mine, bit = start + (low >> 3), 1 << (low & 7)
            eight = octets[mine]
            there = eight & bit
            if not there:
                bare += 1
                if not dry:
                    octets[mine], words[at + 3] = eight | bit, bare
            if mark:
                low = mark & LOW
                its, bit = start + _WIDTH + (low >> 3), 1 << (low & 7)
                eight = octets[its]
                if not eight & bit:
                    paths += 1
                    if not dry:
                        octets[its], words[at + 4] = eight | bit, paths
            if not dry:
                words[at + 2] = documents
                if documents & 63 == 0:
                    words[at + 3], words[at + 4] = bare, paths = self._ones(start), self._ones(start + _WIDTH)
            if not there or estimate(bare) >= clients:
                seen = self._seen.has(number ^ salt) if dry else self._seen.note(number ^ salt)
        elif kind == ASSET:
            residents += 1
            seen, known, bare, documents = self._settle(at, number, salt, member, mark, bare, documents, residents, dry)
        settled, many = words[EVER], estimate(bare)
        if clients and settled < EVIDENCE:
            return UNSETTLED
        # Nearly every group is small, which is told first.
        if many < clients or (clients and not hot(many, documents, estimate(paths), usual >> 8, clients, times)):
            return CALM
        if mark and kind == DOCUMENT and not resident:
            known = people.has((mark ^ _ALL) * odd & _ALL)
        return _new(Swarm, (many, documents, estimate(paths), residents, usual >> 8, until - now, settled, resident, seen, known))

    def _settle(
        self, at: int, number: int, salt: int, member: int, mark: int, bare: int, documents: int, residents: int, dry: bool
    ) -> tuple[bool, bool, int, int]:
        """Make a member a resident: whether it was seen as a bare client, whether its page was known, and how many bare clients and documents are left."""
        words, seen = self._words, self._seen.has(number ^ salt)
        page = (mark ^ _ALL) * self._odd & _ALL
        known = mark > 0 and (self._people.note(page) if seen and not dry else self._people.has(page))
        if seen:  # neither the client nor the page that the asset belongs to is bare
            mine, bit = (at + _HEAD << 3) + ((member & LOW) >> 3), 1 << (member & 7)
            eight = self._bytes[mine]
            bare, documents = max(0, bare - (eight & bit > 0)), max(0, documents - 1)
            if not dry:
                self._bytes[mine] = eight & ~bit
        if not dry:
            self._people.note(number)
            words[at + 2], words[at + 3], words[at + 5] = documents, bare, residents
        return seen, known, bare, documents

    def _group(self, key: int, first: int, now: int, within: int, dry: bool) -> tuple[int, int, int]:
        """Where a group lies, its window begun where it has to be; when that ends, and its usual number. For a dry run it may be the empty one."""
        words = self._words
        best, least, usual = first, 1 << 130, 0
        for at in range(first, first + NEIGHBOURHOOD * _GROUP, _GROUP):
            if words[at] == key:
                if running(words[at + 1], now, within):
                    return at, words[at + 1], words[at + 6]
                best, usual = at, learnt(words[at + 6], words[at + 3], words[at + 1], now, within)
                break
            # What is over is worth less than what runs, and among each the group with fewest documents goes first.
            load = (words[at + 1] > now) << 129 | words[at + 2] << 64 | words[at + 1]
            if load < least:
                best, least = at, load
        until = now + within
        return (self._none if dry else self._begin(best, key, until, usual)), until, usual

    def _begin(self, at: int, key: int, until: int, usual: int) -> int:
        words = self._words
        words[at] = 0  # nobody's while it is being cleared
        self._bytes[(at + 1) * 8 : (at + _GROUP) * 8] = bytes((_GROUP - 1) * 8)
        # The salt: who was seen in this window is told from who was seen in others.
        words[at + 1], words[at + 6], words[at + 7] = until, usual, (key * self._odd ^ until * _GOLDEN) & _ALL
        words[at] = key
        return at

    def _ones(self, start: int) -> int:
        return int.from_bytes(self._bytes[start : start + _WIDTH], "little").bit_count()

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        self._closing()
