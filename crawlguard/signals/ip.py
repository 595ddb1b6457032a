"""The look-up of an address in a compiled table of ranges.

This file does not know where a table came from: ``ipdb`` builds the bytes, this reads them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

SMALL = 4096
"""IPv4 ranges up to which bisection alone is quicker: they stay in the CPU's cache, which the index of all /16 does not."""


class RangeTable:
    """Sorted, disjoint address ranges, each with a small number: look-up by bisection, no object per range.

    ``v4`` holds range starts as 32-bit numbers and ``v4_ids`` the number that holds from each start on (0: nothing
    known); ``v4_index[h]`` is the count of starts below ``h << 16``, so that only one /16 is searched.
    ``v6_high`` and ``v6_low`` are the two halves of the 128-bit starts. All may be views into a mapped file.
    """

    __slots__ = ("_small", "v4", "v4_ids", "v4_index", "v6_high", "v6_ids", "v6_low")

    def __init__(
        self,
        v4: Sequence[int],
        v4_ids: Sequence[int],
        v4_index: Sequence[int],
        v6_high: Sequence[int],
        v6_low: Sequence[int],
        v6_ids: Sequence[int],
    ) -> None:
        self.v4, self.v4_ids, self.v4_index = v4, v4_ids, v4_index
        self._small = len(v4) <= SMALL
        self.v6_high, self.v6_low, self.v6_ids = v6_high, v6_low, v6_ids

    def lookup(self, packed: bytes) -> int:
        """The number of the range that holds the packed address; 0 when no range does."""
        if len(packed) == 4:
            value = int.from_bytes(packed, "big")
            if self._small:
                at = bisect_right(self.v4, value)
            else:
                index, block = self.v4_index, value >> 16
                at = bisect_right(self.v4, value, index[block], index[block + 1])
            return self.v4_ids[at - 1] if at else 0
        high, highs = int.from_bytes(packed[:8], "big"), self.v6_high
        at = bisect_right(highs, high)
        if at and highs[at - 1] == high:  # ranges that start inside this /64: the low half decides among them
            first = bisect_right(highs, high - 1, 0, at) if high else 0
            at = bisect_right(self.v6_low, int.from_bytes(packed[8:], "big"), first, at)
        return self.v6_ids[at - 1] if at else 0
