"""Directories of our own, safe to use on a host with other users: made 0700, and refused when somebody else owns them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 32 << 20
"""The largest policy or address list that is read."""


def _candidates(kind: str) -> Iterator[Path]:
    named = os.environ.get("CRAWLGUARD_STATE_DIR")
    if named:
        yield Path(named)
    own = f"crawlguard-{os.getuid()}" if hasattr(os, "getuid") else "crawlguard"
    if kind == "rates" and os.path.isdir("/dev/shm"):  # noqa: S108 - memory, never a disk; our directory in it is 0700
        yield Path("/dev/shm", own)  # noqa: S108
    if kind == "cache":
        base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
        cache = Path(base) / "crawlguard" if base else Path(os.path.expanduser("~/.cache/crawlguard"))
        if cache.is_absolute():  # an account without a home keeps its "~"
            yield cache
    import tempfile  # drags in random and shutil, for the last resort only

    yield Path(tempfile.gettempdir(), own)


def private_dir(kind: str) -> Path | None:
    """A writable directory of ours for ``kind`` ("rates" or "cache"); None when there is nowhere to write.

    CRAWLGUARD_STATE_DIR comes first; rates prefer /dev/shm, the cache ~/.cache/crawlguard; last the temporary directory.
    """
    for path in _candidates(kind):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode):
                continue
            if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
                continue  # somebody else could put a file of theirs in our way
            if os.access(path, os.W_OK | os.X_OK):
                return path
        except OSError:
            continue
    return None
