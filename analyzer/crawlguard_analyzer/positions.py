"""How far a log was read, so that the next run goes on there: by what the file is (device, inode) and how it begins, never by its name.

A rotated file is found again under its new name, and, by its beginning, as a copy or compressed. A file that is shorter than what was
read of it, or begins differently, is another one: it is read from its start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

HEAD = 1024
"""Bytes of a file's beginning that it is known by: several lines with their times and addresses."""
WEAK = 32
"""Fewer of them tell two files apart only together with the inode."""
MOST = 4096
"""Files that are remembered; the ones seen longest ago are forgotten first."""


class Position(TypedDict, total=False):
    """JSON-able. ``offset``: bytes of the content (decompressed) that were read, in whole lines; of remote files, lines.

    ``head``: how many bytes of the content are hashed, and the hash. ``stamp``: size and mtime (ns) of a compressed file, which is not
    opened again while it has the same. ``header``: the last header line before the offset, of formats that have some.
    """

    device: int
    inode: int
    offset: int
    head: tuple[int, str]
    stamp: tuple[int, int]
    header: str


def head_of(start: bytes) -> tuple[int, str]:
    """The mark of a file that begins so."""
    start = start[:HEAD]
    return len(start), blake2b(start, digest_size=16).hexdigest()


def begins(position: Position, start: bytes) -> bool:
    """Whether a file that begins with ``start`` (HEAD bytes, or all) begins as the one that was read."""
    length, mark = position["head"]
    return len(start) >= length and head_of(start[:length])[1] == mark


class Seen(NamedTuple):
    """A file as it is now."""

    device: int
    inode: int
    size: int | None
    """Bytes of content; None when only reading all of it would tell."""
    start: bytes


def claim(files: Iterable[Seen], positions: dict[str, Position]) -> list[str | None]:
    """For each file the name under which it was read before. No position is given to two files; the inode speaks first."""
    seen = list(files)
    found: list[str | None] = [None] * len(seen)
    free = dict(positions)
    for by_inode in (True, False):
        for number, file in enumerate(seen):
            if found[number] is None:
                found[number] = next((name for name, one in free.items() if _is(file, one, by_inode)), None)
                free.pop(found[number] or "", None)
    return found


def _is(file: Seen, one: Position, by_inode: bool) -> bool:
    if file.size is not None and file.size < one["offset"]:
        return False
    if by_inode:
        return (file.device, file.inode) == (one.get("device"), one.get("inode")) and begins(one, file.start)
    return one["head"][0] >= WEAK and begins(one, file.start)


_ROTATED = re.compile(
    r"[.-](\d{1,3}|\d{6,14}(?:[.-]\d{1,10})?)(?=(\.[a-z]+)?(\.(gz|zst|bz2|xz))?$)|\.(gz|zst|bz2|xz)$|\.old$", re.IGNORECASE
)


def rotation(name: str) -> int:
    """0 for a file that is still written; else its number, or 1 where it has none or a date."""
    found = _ROTATED.search(name)
    return 0 if found is None else int(found[1]) if found[1] and len(found[1]) <= 3 else 1


def relatives(path: Path) -> Iterator[Path]:
    """Files beside it that may be what it was before it was rotated: access.log.1, access.log-20261101.gz, access-20261101.log."""
    stem = path.name.removesuffix(path.suffix) or path.name
    for one in sorted(path.parent.iterdir()):
        if one != path and one.name.startswith(stem) and one.name[len(stem) : len(stem) + 1] in (".", "-") and rotation(one.name):
            yield one


def merged(before: dict[str, Position], claimed: Iterable[str | None], now: dict[str, Position]) -> dict[str, Position]:
    """What to remember after a run: what it has read, and of before what it has not met."""
    gone = {*claimed, *now}
    kept: dict[str, Any] = {name: one for name, one in before.items() if name not in gone}
    kept.update(now)
    return dict(list(kept.items())[-MOST:])
