"""Distinct counts by linear counting: how many different things set so many bits of a bitmap of fixed size.

Linear counting (Whang, Vander-Zanden and Taylor, ACM TODS 15(2), 1990): n things hashed into m bits leave about m * exp(-n / m) of them
unset. The standard error of the estimate is sqrt(m * (exp(t) - t - 1)) / n with t = n / m: for 8,192 bits 1.0% at 10,000 things and 2.5% at
40,000, where the language ends: beyond, too few bits are left to tell.
"""

from __future__ import annotations

from functools import cache
from math import log
from typing import Final

BITS: Final = 8192
"""Bits of a bitmap: 1 KiB."""
LOW: Final = BITS - 1
FEW: Final = 4
"""Different things that are remembered one by one before a bitmap is worth its room: most clients never ask for more."""
MOST: Final = 40_000
"""The largest count that is still told to 5% (two standard errors)."""


@cache  # there are only BITS + 1 answers
def estimate(ones: int) -> int:
    """How many different things have set ``ones`` bits, rounded; a full bitmap says BITS * ln(BITS), about 74,000."""
    return round(BITS * log(BITS / max(1, BITS - ones)))


class Sketch:
    """A bitmap in memory of its own. ``add`` takes keyed 64-bit hashes, so that nobody outside can choose what collides."""

    __slots__ = ("_bits", "ones")

    def __init__(self) -> None:
        self._bits = bytearray(BITS // 8)
        self.ones = 0

    def add(self, mark: int) -> None:
        """Count a thing by its hash; a second time changes nothing."""
        at, bit = (mark & LOW) >> 3, 1 << (mark & 7)
        if not self._bits[at] & bit:
            self._bits[at] |= bit
            self.ones += 1

    def drop(self, mark: int) -> None:
        """Take a thing back, and with it others that share its bit."""
        if self.holds(mark):
            self._bits[(mark & LOW) >> 3] ^= 1 << (mark & 7)
            self.ones -= 1

    def holds(self, mark: int) -> bool:
        """Whether a thing, or another with the same bit, was counted."""
        return bool(self._bits[(mark & LOW) >> 3] & 1 << (mark & 7))
