"""What a user names becomes ordered sources of whole lines: files of any compression, directories, globs, stdin and URLs, each read once.

    sources = open_sources(["/var/log/nginx/access.log*"], positions)
    for source in sources:
        for chunk in source.chunks():
            ...
    positions = positions_after(sources, positions)

Rotated files and several URLs come oldest first; the objects that one pattern in a bucket names, in the order of the alphabet. With the positions of an earlier run only what is new is read; a last line that is not finished is left
for the next run, unless the file is one that nobody writes to any more.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path

from crawlguard.errors import DataError

from . import remote
from .looks import binary, first_time
from .positions import Position, begins, claim, merged, relatives, rotation
from .source import File, Remote, Source, Stream, told

__all__ = ["Source", "open_sources", "positions_after"]


def open_sources(inputs: Sequence[str], positions: dict[str, Position] | None = None) -> list[Source]:
    """Paths, globs, directories, "-" and URLs as sources, in the order of time. With ``positions`` each goes on where it stood.

    Raises DataError for what is not there, cannot be read, or holds no log.
    """
    files: dict[tuple[int, int], File] = {}
    others: dict[str, Source] = {}
    for name in inputs:
        if name == "-":
            others.setdefault(name, Stream("standard input", sys.stdin.buffer))
        elif remote.is_remote(name):
            others.setdefault(name, _remote(name, positions))
        else:
            for path, found in _paths(name.removeprefix("file://")):
                _add(path, found, files, others, positions is None)
    _without_copies(files)
    if positions is not None:
        _resume(files, positions)
    urls = [source for source in others.values() if isinstance(source, Remote)]
    if len(urls) > 1:
        urls.sort(key=_begins)
    return [*sorted(files.values(), key=_order), *(s for s in others.values() if not isinstance(s, Remote)), *urls]


def positions_after(sources: Iterable[Source], before: dict[str, Position]) -> dict[str, Position]:
    """What the next run is to be given, once all chunks of all sources have been read."""
    sources = list(sources)
    told = [one for source in sources if (one := source.position())]
    return merged(before, (source.claimed for source in sources), dict(told))


def _remote(url: str, positions: dict[str, Position] | None) -> Remote:
    source = Remote(url)
    if positions is not None:
        if remote.is_many(url):
            raise DataError(
                f"{url}: which of its objects an earlier run has read cannot be told; name them one by one, or leave --state away"
            )
        before = positions.get(url)
        if before and begins(before, source.sample()):
            source.skip, source.claimed, source.header = before["offset"], url, before.get("header", "").encode("latin-1")
    return source


def _add(path: Path, found: bool, files: dict[tuple[int, int], File], others: dict[str, Source], final: bool) -> None:
    with told(path):
        about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        if str(path) not in others:
            with told(path):
                others[str(path)] = Stream(str(path), path.open("rb"))
        return
    if (about.st_dev, about.st_ino) in files:
        return
    one = File(path, found=found, final=final)
    if not (found and (not one.start or binary(one.start))):
        files[about.st_dev, about.st_ino] = one


def _without_copies(files: dict[tuple[int, int], File]) -> None:
    """A log that is being compressed lies there twice for a while (gzip takes the original away when it is done): only the original counts."""
    plain = {one.path: one for one in files.values() if one.how is None}
    for key, one in list(files.items()):
        original = plain.get(one.path.with_suffix("")) if one.how else None
        if original and original.start.startswith(one.start):
            del files[key]


def _resume(files: dict[tuple[int, int], File], positions: dict[str, Position]) -> None:
    _claim(list(files.values()), positions)
    claimed = {one.claimed for one in files.values()}
    for named in list(files.values()):
        key = os.path.abspath(named.path)
        if key in positions and key not in claimed:  # another file has taken its place: where is the one that was read?
            for path in relatives(named.path):
                if path.is_file():
                    about = path.stat()
                    if (about.st_dev, about.st_ino) not in files:
                        one = File(path, found=True)
                        _claim([one], {key: positions[key]})
                        if one.claimed:
                            files[about.st_dev, about.st_ino] = one
                            break


def _claim(files: list[File], positions: dict[str, Position]) -> None:
    for file, name in zip(files, claim([file.seen() for file in files], positions), strict=True):
        if name is not None:
            file.resume(name, positions[name])


def _order(file: File) -> tuple[float, int, str]:
    time = file.first_time()
    return file.stat.st_mtime if time is None else time, -rotation(file.path.name), file.name


def _begins(url: Remote) -> float:
    """When it begins; where that cannot be told it comes last."""
    time = first_time(url.sample())
    return inf if time is None else time


_NOT_ACCESS = re.compile(r"error|\.(pid|sock|conf|swp|tmp|html?|db|sqlite3?)$", re.IGNORECASE)


def _paths(name: str) -> list[tuple[Path, bool]]:
    """The files that a name stands for, and whether they were found in a directory."""
    path = Path(name)
    if path.is_dir():
        with told(path):
            inside = [Path(top) / one for top, _, names in os.walk(path, onerror=_raise) for one in sorted(names)]
        kept = [one for one in inside if not one.name.startswith(".") and not _NOT_ACCESS.search(one.name) and one.is_file()]
        if not any(one.stat().st_size for one in kept):
            raise DataError(f"{name}: no logs in this directory; name the files, or the directory that your web server writes to")
        return [(one, True) for one in kept]
    if not os.path.lexists(path) and glob.has_magic(name):
        found = [Path(one) for one in sorted(glob.glob(name, recursive=True))]
        if not found:
            raise DataError(f"{name}: no such files; see `ls {name}`")
        return [(one, False) for one in found if not one.is_dir()]
    return [(path, False)]


def _raise(error: OSError) -> None:
    raise error
