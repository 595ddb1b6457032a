"""Lines that no column can be made of as they stand, because they hold escapes, 8-bit bytes or what no text has, are found among the bytes of a chunk.

A log has few of them. With an empty line in place of each, all others are plain ASCII and need not be looked at for what they are not: the
search takes less than half of what that takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

MOST: Final = 1 << 13
"""One such line in so many bytes is few."""
_ODD: Final = (b"\\", b"\0", b"\r")
_EIGHT_BIT: Final = re.compile(rb"[\x80-\xff]")
_BLOCK, _PART = 1 << 16, 1 << 10
"""Bytes that are looked at together, and, where some have 8 bits, then."""


def emptied(chunk: bytes) -> bytes | None:
    """The chunk with an empty line in place of each odd one; None when there are many."""
    most = 1 + len(chunk) // MOST
    lines: dict[int, int] = {}
    for start, end in _odd_lines(chunk):
        lines[start] = end
        if len(lines) > most:
            return None
    view, pieces, last = memoryview(chunk), [], 0
    for start in sorted(lines):
        pieces.append(view[last:start])
        last = lines[start]
    if lines and last == len(chunk):
        return b"".join([*pieces, b"\n"])  # a last line without an end would not be there at all
    return b"".join([*pieces, view[last:]]) if lines else chunk


def _odd_lines(chunk: bytes) -> Iterator[tuple[int, int]]:
    """Where odd lines begin and end, some of them twice."""
    for first in range(0, len(chunk), _BLOCK):
        block, stop = chunk[first : first + _BLOCK], first + _BLOCK
        for odd in _ODD:
            at = first + block.find(odd) if odd in block else -1
            while at >= 0:
                start, end = _line(chunk, at)
                yield start, end
                at = chunk.find(odd, end, stop)
        if not block.isascii():
            yield from _eight_bit(chunk, first, stop)


def _eight_bit(chunk: bytes, first: int, stop: int) -> Iterator[tuple[int, int]]:
    done = 0
    for part in range(first, stop, _PART):
        if not chunk[part : part + _PART].isascii():
            while found := _EIGHT_BIT.search(chunk, max(part, done), part + _PART):
                start, done = _line(chunk, found.start())
                yield start, done


def _line(chunk: bytes, at: int) -> tuple[int, int]:
    end = chunk.find(b"\n", at)
    return chunk.rfind(b"\n", 0, at) + 1, end if end >= 0 else len(chunk)
