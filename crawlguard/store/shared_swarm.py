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

_MAGIC = b"CGSWARM5"
NEIGHBOURHOOD = 8
"""Groups that a key may lie in. A full one forgets the group with fewest documents, and among those the first."""
_HEAD, _MAP = 8, BITS // 64
_GROUP = _HEAD + 2 * _MAP
_WIDTH = BITS // 8
_unpack = struct.Struct(f"@{_HEAD}Q").unpack_from
_ALL = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15

_Window = tuple[int, int, int, int, int]
"""A group's window as a process remembers it: where the group lies, from when and until when the window counts (us), the byte at which the bitmap of
clients begins, and the salt."""
_REMEMBERED = 512
"""Windows that are remembered at most."""
_OVER: _Window = 0, 0, 0, 0, 0

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
        self._windows: dict[int, _Window] = {}
        self._ever = 0  # the most residents that were read: they never become fewer
        self._closing = weakref.finalize(self, let_go, self._words, self._bytes, self._map)

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        """Count one request of a member; see RateStore."""
        if dry:
            return self._look(key, member, now, within, kind, mark)
        words = self._words
        at, since, until, start, salt = self._windows.get(key, _OVER)
        if not since <= now < until or words[at + 1] != until or words[at] != key:
            at, since, until, start, salt = self._window(key, now, within)
        ever = self._ever
        if ever < EVIDENCE:
            self._ever = ever = words[EVER]
        if ever:
            people = self._people
            slot, pattern = people.first + (member >> people.shift << 1), people.patterns[member & MASK]
            if words[slot] & pattern == pattern or words[slot + 1] & pattern == pattern:  # people.has, without the call
                return self._resident(at, member, now, kind, mark, clients, ever)
        if kind != DOCUMENT:
            return self._settle(at, member, now, kind, mark, clients)
        octets, low = self._bytes, member & LOW
        mine, bit = start + (low >> 3), 1 << (low & 7)
        eight, bare = octets[mine], words[at + 3]
        new = not eight & bit
        if new:
            bare += 1
            octets[mine], words[at + 3] = eight | bit, bare
        if mark:
            low = mark & LOW
            its, bit = start + _WIDTH + (low >> 3), 1 << (low & 7)
            eight = octets[its]
            if not eight & bit:
                octets[its] = eight | bit
                words[at + 4] += 1
        words[at + 2] = documents = words[at + 2] + 1
        if not documents & 63:
            words[at + 3], words[at + 4] = bare, _ = self._ones(start), self._ones(start + _WIDTH)
        if clients and ever < EVIDENCE:
            if new:
                self._seen.note(member ^ salt)
            return UNSETTLED
        crowd = not clients or estimate(bare) >= clients
        seen = self._seen.note(member ^ salt) if new or crowd else False
        if clients and not (crowd and hot(estimate(bare), documents, estimate(words[at + 4]), words[at + 6] >> 8, clients, times)):
            return CALM  # as nearly every group
        return self._told(at, now, False, seen, mark > 0 and self._people.has(mark ^ _ALL))

    def _window(self, key: int, now: int, within: int) -> _Window:
        """A group's running window, begun where it has to be: found once, as long as the words of its slot say that it is still there."""
        at = self._first + (key * self._odd >> self._shift & self._mask) * _GROUP
        at, until, _ = self._group(key, at, now, within, False)
        if len(self._windows) >= _REMEMBERED:
            self._windows.clear()
        found = self._windows[key] = at, until - within - AHEAD, until, at + _HEAD << 3, self._salt(key, until)
        return found

    def _resident(self, at: int, member: int, now: int, kind: int, mark: int, clients: int, ever: int) -> Swarm:
        """Count a request of a resident, whose documents make their paths known."""
        words, people = self._words, self._people
        words[at + 5] += 1
        known = mark > 0 and (people.has(mark ^ _ALL) if kind == ASSET else people.note(mark ^ _ALL))
        if clients:
            return CALM if ever >= EVIDENCE or words[EVER] >= EVIDENCE else UNSETTLED
        return self._told(at, now, True, self._seen.has(member ^ words[at + 7]), known)

    def _settle(self, at: int, member: int, now: int, kind: int, mark: int, clients: int) -> Swarm:
        """Count what is no document, of whom is no resident: by an asset he becomes one."""
        words, people, seen, known = self._words, self._people, False, False
        if kind == ASSET:
            words[at + 5] += 1
            seen = self._seen.has(member ^ words[at + 7])
            known = mark > 0 and (people.note(mark ^ _ALL) if seen else people.has(mark ^ _ALL))
            if seen:  # neither the client nor the page that the asset belongs to is bare
                mine, bit = (at + _HEAD << 3) + ((member & LOW) >> 3), 1 << (member & 7)
                eight = self._bytes[mine]
                words[at + 2], words[at + 3] = max(0, words[at + 2] - 1), max(0, words[at + 3] - (eight & bit > 0))
                self._bytes[mine] = eight & ~bit
            people.note(member)
        if clients:  # nobody is struck for these
            return CALM if words[EVER] >= EVIDENCE else UNSETTLED
        return self._told(at, now, False, seen, known)

    def _told(self, at: int, now: int, resident: bool, seen: bool, known: bool) -> Swarm:
        """All that there is to say of a group and a member."""
        _, until, documents, bare, paths, residents, usual, _ = _unpack(self._bytes, at << 3)
        numbers = estimate(bare), documents, estimate(paths), residents, usual >> 8, until - now, self._words[EVER]
        return _new(Swarm, (*numbers, resident, seen, known))

    def _look(self, key: int, member: int, now: int, within: int, kind: int, mark: int) -> Swarm:
        """What ``swarm`` would say of a request, without counting it."""
        at = self._first + (key * self._odd >> self._shift & self._mask) * _GROUP
        at, until, usual = self._group(key, at, now, within, True)
        _, _, documents, bare, paths, residents, _, salt = _unpack(self._bytes, at << 3)
        resident, seen, known = self._people.has(member), self._seen.has(member ^ salt), mark > 0 and self._people.has(mark ^ _ALL)
        there = self._has(at + _HEAD << 3, member)
        if resident or kind == ASSET:
            residents += 1
        if not resident and kind == DOCUMENT:
            bare, documents = bare + (not there), documents + 1
            paths += mark > 0 and not self._has((at + _HEAD << 3) + _WIDTH, mark)
        elif seen and not resident and kind == ASSET:
            bare, documents = max(0, bare - there), max(0, documents - 1)
        numbers = estimate(bare), documents, estimate(paths), residents, usual >> 8, until - now, self._words[EVER]
        return _new(Swarm, (*numbers, resident, seen, known))

    def _has(self, start: int, number: int) -> bool:
        """Whether a number has set its bit in the bitmap that begins at a byte."""
        return self._bytes[start + ((number & LOW) >> 3)] & 1 << (number & 7) > 0

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
        words[at + 1], words[at + 6], words[at + 7] = until, usual, self._salt(key, until)
        words[at] = key
        return at

    def _salt(self, key: int, until: int) -> int:
        """By which who was seen in this window is told from who was seen in others."""
        return (key * self._odd ^ until * _GOLDEN) & _ALL

    def _ones(self, start: int) -> int:
        return int.from_bytes(self._bytes[start : start + _WIDTH], "little").bit_count()

    def close(self) -> None:
        """Let go of the file; it stays for the other workers."""
        self._closing()
