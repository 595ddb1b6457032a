"""The C library's share of memory: Python's, and so the chunks of a log. (What polars has is jemalloc's: see ``commands.ALLOCATOR``.)

glibc gives each thread an arena of its own and keeps what was freed there, 150 MB after a large log, on top of which all comes that
follows. One arena for all can be trimmed; threads that parse ask it for little else than whole chunks, and do not wait for each other.
A chunk's memory is taken from that arena and stays in it until it is trimmed: to fetch it anew from the system for each chunk, page by
page, takes 2% of all CPU time.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""M_ARENA_MAX and the like of glibc's malloc.h."""
_LARGEST: Final = 32 << 20
"""Bytes: the most that glibc takes for M_MMAP_THRESHOLD, and more than a chunk of a log."""


def _glibc(name: str, *arguments: int) -> None:
    """Call one of its functions; elsewhere there is none."""
    try:
        function: Any = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return
    function(*arguments)


def share() -> None:
    """Let all threads that begin from now on share one arena, and let that keep what is freed."""
    _glibc("mallopt", _ARENA_MAX, 1)
    _glibc("mallopt", _MMAP_THRESHOLD, _LARGEST)
    _glibc("mallopt", _TRIM_THRESHOLD, (1 << 31) - 1)


def give_back() -> None:
    """Let the system have what has been freed. Takes milliseconds: for once in a while."""
    _glibc("malloc_trim", 0)
