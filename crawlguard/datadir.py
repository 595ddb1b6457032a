"""Where updated lists and catalogues lie, and how they are read and written: whole or not at all, and only where nobody else writes.

A file is a line with its version and a digest of the rest, then the rest as one JSON object. So what was cut off, edited or left by
another release is known before anything of it is used; such a file is passed over with one warning, and the bundled data stand.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .errors import DataError
from .log import own
from .paths import look, unsafe

RANGES = "ranges.json"
"""``{"lists": {KEY: {"checked": ISO date, "parts": [{"url", "etag", "modified", "created", "cidrs"}]}}}``; KEY: a network's URLs, joined."""
CATALOGUE = "catalogue.json"
"""``{"date": ISO date, "agents": [...], "networks": [...], "url", "etag", "modified"}``; rows in the catalogue's compiled form."""
FILES = (RANGES, CATALOGUE)

VERSION = 1
MAX_BYTES = 64 << 20
"""The largest data file that is read: every list of the catalogue, and people's relays, have a tenth of it."""
SYSTEM = Path("/var/lib/crawlguard")
"""The directory of a whole host (Filesystem Hierarchy Standard 5.8). Only root makes one there, so whoever owns it has root's word."""
LOCK_WAIT = 30.0
"""Seconds that one update waits for another to put its file in place, which takes milliseconds."""


def _own() -> Path | None:
    base = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA")
    path = Path(base) / "crawlguard" if base else Path(os.path.expanduser("~/.local/share/crawlguard"))
    return path if path.is_absolute() else None  # an account without a home keeps its "~"


def directories() -> list[Path]:
    """Where data are looked for: CRAWLGUARD_DATA_DIR alone when it is set, else the user's own directory and the host's."""
    named = os.environ.get("CRAWLGUARD_DATA_DIR")
    if named:
        return [Path(named)]
    own = _own()
    return [own, SYSTEM] if own else [SYSTEM]


def files() -> tuple[str, ...]:
    """Every file that is looked for, there or not: what a running guard has to watch."""
    return tuple(os.path.abspath(directory / name) for directory in directories() for name in FILES)


def stamp() -> tuple[object, ...]:
    """What the files look like from outside: changes when one of them does."""
    return tuple(map(look, files()))


def load(name: str) -> list[dict[str, Any]]:
    """What the files of this name say, one object for each that can be trusted. Never raises: the others are warned of, once."""
    found = []
    for directory in directories():
        try:
            found.append(_read(directory, name))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            _complain(f"{directory / name} is not used: {getattr(error, 'strerror', None) or error}")
    return found


def _read(directory: Path, name: str) -> dict[str, Any]:
    home = os.stat(directory)
    if hasattr(os, "getuid"):
        if home.st_mode & 0o022:
            raise ValueError(f"other users can write to its directory; run chmod go-w {directory}")
        if directory == _own() and home.st_uid not in (os.getuid(), 0):
            raise ValueError(f"its directory belongs to user {home.st_uid}; run chown {os.getuid()} {directory}")
    descriptor = os.open(directory / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no file; remove it")
        if hasattr(os, "getuid") and (found.st_uid not in (home.st_uid, 0) or found.st_mode & 0o022):
            raise ValueError(f"somebody else can write to it; remove it, and run crawlguard update as user {home.st_uid}")
        if found.st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB; remove it, and run crawlguard update")
        head, _, body = file.read(MAX_BYTES + 1).partition(b"\n")
    return _checked(head, body)


def _checked(head: bytes, body: bytes) -> dict[str, Any]:
    try:
        line = json.loads(head)
        good = line["version"] == VERSION and line["digest"] == _digest(body)
    except (ValueError, TypeError, KeyError, RecursionError):
        good = False
    if not good:
        raise ValueError("it is damaged, or of another release; run crawlguard update")
    value = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("it holds no object; run crawlguard update")
    return value


def _digest(body: bytes) -> str:
    return blake2b(body, digest_size=16).hexdigest()


def forget(name: str, why: str) -> None:
    """Say once that what a file holds makes no sense, although it is whole."""
    _complain(f"{name} in {' or '.join(map(str, directories()))} is not used: {why}; run crawlguard update")


@cache
def _complain(text: str) -> None:
    own.warning("%s", text)


# ---- writing


def target() -> Path:
    """The directory that an update writes to, made if need be: CRAWLGUARD_DATA_DIR, for root the host's, else the user's own.

    Raises DataError, with the cure, when it cannot be used or other users could write to it.
    """
    named = os.environ.get("CRAWLGUARD_DATA_DIR")
    root = hasattr(os, "getuid") and os.getuid() == 0
    path = Path(named) if named else SYSTEM if root else _own()
    if path is None:
        raise DataError("this account has no home to keep updated data in; set CRAWLGUARD_DATA_DIR to a directory of its own")
    with suppress(OSError):  # if it fails, the next line says why
        path.mkdir(mode=0o755, parents=True, exist_ok=True)  # public data, and the site's own account has to read them
    complaint = unsafe(path)
    if complaint:
        raise DataError(f"{path}: cannot keep updated data: {complaint}")
    return path


def current(directory: Path, name: str) -> dict[str, Any]:
    """What a file says that an update is about to change; {} when it is not there or cannot be used: then it begins anew."""
    try:
        return _read(directory, name)
    except (OSError, ValueError):
        return {}


def replace(directory: Path, name: str, value: dict[str, Any]) -> None:
    """Put a file in place at once and for good: readers see the old one or the new one. For whoever holds the lock.

    Raises DataError when it cannot be written.
    """
    body = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    head = json.dumps({"version": VERSION, "digest": _digest(body)}).encode()
    partial = directory / f".{name}.new"
    try:
        try:
            partial.unlink(missing_ok=True)  # left by an update that was killed: the lock is ours
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o644)
            with os.fdopen(descriptor, "wb") as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(descriptor, 0o644)  # whatever the umask: the site's own account reads it
                file.write(head + b"\n" + body)
                file.flush()
                os.fsync(descriptor)
            os.replace(partial, directory / name)
            _sync(directory)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{directory / name}: cannot be written ({error.strerror}); the old data stay") from None


def _sync(directory: Path) -> None:
    with suppress(OSError):  # not every file system can; then the new name may be lost with the power, and the old one is there
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: what is read, changed and written inside is not changed by another update meanwhile.

    Raises DataError when another process keeps it for LOCK_WAIT seconds.
    """
    try:
        import fcntl
    except ImportError:  # no such locks here: files are still replaced whole, and the last update wins
        yield
        return
    try:
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataError(f"{directory / '.lock'}: cannot be opened ({error.strerror}); remove it") from None
    try:
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise DataError(f"{directory}: another update has held its lock for {LOCK_WAIT:.0f} s; look what it does") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
