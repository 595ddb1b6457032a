"""Logs are cut into shards at places that depend on the files alone, and their counts are joined in one fixed tree: whoever counts, here or
on a cluster, in whatever order, comes to the same bytes.

Bursts and gaps are those inside one chunk, so which lines share a chunk is settled here: a shard of a plain file is CHUNKS of the chunks that
``Source.chunks`` gives. A compressed file, an object in a store and a log with header lines is one shard each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

from crawlguard.errors import ConfigError, DataError

from .packing import packed, unpacked
from .positions import head_of
from .small import batches
from .source import CHUNK, SAMPLE, File, Remote, Source, Stream, told
from .sources import open_sources
from .streams import Lines

ARITY = 8
"""Counts that are joined at once: so many of each level of the tree, and no more, are in the memory of one place."""
CHUNKS = ARITY
"""Chunks of a shard: 192 MiB, a second or two of work: a lost one costs little, and a log of a GB keeps many workers busy. A power of ARITY, so
that the joined chunks of a shard are the joined chunks that they are in the whole file's tree."""

T = TypeVar("T")


class Shard(NamedTuple):
    """A part of one log. ``ends``: where the chunks before its last one end, in bytes of the file; ``stop``: where it ends, None for all of a
    log that is read from its start only. ``mark``: size and beginning of the file as it was when the shards were cut, None for a URL.
    ``more``: whole small logs that are counted with it, see ``small``.
    """

    name: str
    start: int = 0
    ends: tuple[int, ...] = ()
    stop: int | None = None
    mark: tuple[int, tuple[int, str]] | None = None
    more: tuple[Shard, ...] = ()

    @property
    def place(self) -> str:
        return self.name if self.stop is None else f"{self.name} (from byte {self.start})"


def shards(inputs: Sequence[str], size: int = CHUNK) -> list[list[Shard]]:
    """What to count: the shards of each log, in the order of time. ``size``: bytes of a chunk; another one gives other bursts and gaps.

    Raises DataError as ``open_sources`` does, and ConfigError for standard input and pipes, which have no place to be opened at.
    """
    found = []
    for source, *small in batches(open_sources(inputs), size):
        if isinstance(source, Stream):
            raise ConfigError(f"{source.name}: cannot be cut into shards; write it to a file first, or read it without --cluster")
        if not isinstance(source, File):
            found.append([Shard(source.name)])
        elif small:
            first, *more = (one for file in (source, *small) if isinstance(file, File) for one in _of(file, size))
            found.append([first._replace(more=tuple(more))])
        else:
            found.append(list(_of(source, size)))
    return found


def _of(file: File, size: int) -> Iterator[Shard]:
    name, mark = os.path.abspath(file.path), (file.stat.st_size, head_of(file.start))
    if file.how or file.sample().startswith(b"#"):
        yield Shard(name, mark=mark)
        return
    ends = [0, *_ends(file, size), file.stat.st_size]
    for first in range(0, len(ends) - 1, CHUNKS):
        start, *inner, stop = ends[first : first + CHUNKS + 1]
        yield Shard(name, start, tuple(inner), stop, mark)


def _ends(file: File, size: int) -> Iterator[int]:
    """Where ``Source.chunks`` ends its chunks, by a look at the last lines of each; without the last one's, and without those that follow a
    line of unusual length.
    """
    at = 0
    with told(file.path), file.path.open("rb") as opened:
        while file.stat.st_size - at > size:
            opened.seek(before := at + size - min(size, SAMPLE))
            cut = opened.read(at + size - before).rfind(b"\n") + 1
            if not cut:
                return
            yield (at := before + cut)


def opened(shard: Shard) -> Source:
    """The log that the shard is a part of. Raises DataError when it is not the one that was cut."""
    if shard.mark is None:
        return Remote(shard.name)
    file = File(Path(shard.name))
    size, head = shard.mark
    if head_of(file.start[: head[0]]) != head or file.stat.st_size < size:
        raise DataError(
            f"{shard.name}: not the file that was there when the work was shared out; "
            "mount the same logs at the same path on every worker, and do not rotate them meanwhile"
        )
    return file


def chunks(shard: Shard, source: Source, size: int = CHUNK) -> tuple[Iterator[bytes], Lines]:
    """The shard's chunks of whole lines, and what will hold the lines that were too long."""
    if shard.stop is None:
        return source.chunks(size), source._lines
    lines = Lines()
    return _plain(shard, shard.stop, lines, size), lines


def _plain(shard: Shard, stop: int, lines: Lines, size: int) -> Iterator[bytes]:
    with told(Path(shard.name)), open(shard.name, "rb") as file:
        file.seek(shard.start)
        for start, end in pairwise((shard.start, *shard.ends)):
            if chunk := lines.without_long(file.read(end - start)):
                yield chunk
        left = stop - file.tell()
        pieces = iter(lambda: file.read(min(1 << 20, stop - file.tell())), b"")
        yield from lines.cut(pieces if left else (), size)
        if rest := lines.finish():
            yield rest


def fold(items: Iterable[T], join: Callable[[list[T]], T], pool: Executor | None = None) -> T | None:
    """Items joined in the order they come, ARITY at once, then ARITY of the results, and so on; None of none.

    Who joins what depends on how many there are and on nothing else, and no more than ARITY items of each level are held, those that are
    joined ones packed (see ``packing``): ``join`` gets them so. In a ``pool`` it runs beside whatever makes the items, one call at a time.
    """
    levels: list[list[T | Future[T]]] = []
    last: Future[T] | None = None
    for fresh in items:
        item: T | Future[T] = fresh
        for level in levels:
            level.append(item)
            if len(level) < ARITY:
                break
            if pool is None:
                item = _joined(join, level)
            else:
                if last is not None and item is not last:
                    last.result()
                item = last = pool.submit(_joined, join, level.copy())
            level.clear()
        else:
            levels.append([item])
    left: list[T | Future[T]] = []
    while levels:
        left = [*levels.pop(0), *left]
        if len(left) > 1:
            left = [join(_there(left))]
    return unpacked(_there(left)[0]) if left else None


def _joined(join: Callable[[list[T]], T], items: list[T | Future[T]]) -> T:
    return packed(join(_there(items)))


def _there(items: list[T | Future[T]]) -> list[T]:
    return [item.result() if isinstance(item, Future) else item for item in items]


def tree(work: Iterable[Iterable[Shard]], count: Callable[[Shard], T], join: Callable[[list[T]], T]) -> T | None:
    """The counts of each log's shards joined, and those of the logs; None without any."""
    return fold((one for log in work if (one := fold(map(count, log), join)) is not None), join)
