"""Directories of our own, safe to use on a host with other users: made 0700, and refused when somebody else owns them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cache
from glob import glob
from pathlib import Path

from .log import own

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

    CRAWLGUARD_STATE_DIR comes first, and a warning says why when it cannot be used; rates prefer /dev/shm, the cache
    ~/.cache/crawlguard; last the temporary directory.
    """
    for path in _candidates(kind):
        complaint = unsafe(path)
        if complaint is None:
            return path
        if str(path) == os.environ.get("CRAWLGUARD_STATE_DIR"):
            _complain(f"CRAWLGUARD_STATE_DIR={path} is not used: {complaint}")
    return None


def unsafe(path: Path) -> str | None:
    """None when ``path`` is a directory (made if need be) in which nobody else can put a file in our way; else what is wrong, and the cure."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        return f"it cannot be made ({error.strerror}); make it, or name another one"
    if not stat.S_ISDIR(found.st_mode):
        return "it is a symbolic link or a file; name the directory itself"
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        return f"it belongs to user {found.st_uid} and this is user {os.getuid()}; run chown {os.getuid()} {path}"
    if hasattr(os, "getuid") and found.st_mode & 0o022:
        return f"other users can write to it; run chmod go-w {path}"
    if not os.access(path, os.W_OK | os.X_OK):
        return f"it cannot be written to; run chmod u+rwx {path}"
    return None


def stamp(sources: tuple[str, ...]) -> tuple[object, ...]:
    """What the files that globs name look like from outside; a missing one counts as a change too."""
    return tuple(look(path) for source in sources for path in sorted(glob(source, recursive=True)) or [source])


def look(path: str) -> tuple[str, int, int, int]:
    """What a file looks like from outside: changes when it does."""
    try:
        found = os.stat(path)
    except OSError:
        return path, 0, 0, 0
    return path, found.st_mtime_ns, found.st_size, found.st_ino


@cache
def _complain(text: str) -> None:
    """Say it once in this process."""
    own.warning("%s", text)
