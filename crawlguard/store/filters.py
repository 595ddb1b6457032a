"""Sets of numbers in a mapped table, of fixed size, that forget the older half as a whole: Bloom filters of one word for each number.

Each number sets 5 bits of one 64-bit word (a blocked Bloom filter: Putze, Sanders and Singler, J. Exp. Algorithmics 14, 2009), so that a
look-up reads one place of memory and not three. The words of both generations lie side by side.
"""

from __future__ import annotations

from functools import cache
from hashlib import shake_256
from typing import Final

ROOM: Final = 16
"""Bits for each number of a full generation: 0.5% of strangers are then taken for one of them, in each generation."""
EVER = 0
"""The word before a filter that says how many numbers there have ever been, and so which generation is the young one and when it is full."""
_HEAD, _SET = 8, 5
_PATTERNS: Final = 4096
MASK: Final = _PATTERNS - 1
"""The bits of a number that choose its pattern."""


def room(bits: int) -> int:
    """The words of a filter whose generations have so many bits each."""
    return _HEAD + 2 * bits // 64


@cache
def _patterns() -> tuple[int, ...]:
    """Sets of 5 bits out of 64, the same in every process."""
    drawn = shake_256(b"crawlguard filters").digest(8 * _PATTERNS)
    return tuple(sum(1 << bit for bit in list(dict.fromkeys(b & 63 for b in drawn[at : at + 8]))[:_SET]) for at in range(0, len(drawn), 8))


class Filter:
    """Numbers that were added some time ago, and few others. ``begin``: its first word; ``bits``: of a generation, a power of two from 64 on.

    The numbers are keyed 64-bit hashes, evenly spread: they are not hashed again.
    """

    __slots__ = ("_bits", "_ever", "_full", "_words", "first", "patterns", "shift")

    def __init__(self, words: memoryview, begin: int, bits: int) -> None:
        self._words, self._bits, self._ever, self.first = words, bits, begin + EVER, begin + _HEAD
        self._full = (bits // ROOM).bit_length() - 1  # its logarithm
        self.shift, self.patterns = 64 - (bits // 64).bit_length() + 1, _patterns()

    def has(self, number: int) -> bool:
        """Whether a number was added."""
        words, at, pattern = self._words, self.first + (number >> self.shift << 1), self.patterns[number & MASK]
        return words[at] & pattern == pattern or words[at + 1] & pattern == pattern

    def note(self, number: int) -> bool:
        """Add a number to the young generation, and say whether it was there already.

        A full generation becomes the old one, and the old one is emptied.
        """
        words, at, pattern = self._words, self.first + (number >> self.shift << 1), self.patterns[number & MASK]
        if words[at] & pattern == pattern or words[at + 1] & pattern == pattern:
            return True
        ever = words[self._ever]
        turns = ever >> self._full
        young = turns & 1
        if ever == turns << self._full:
            start = self.first + young
            words[start : start + 2 * self._bits // 64 : 2] = memoryview(bytes(self._bits // 8)).cast("Q")
        words[at + young] |= pattern
        words[self._ever] = ever + 1
        return False
