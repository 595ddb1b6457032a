"""Chunks are parsed and rolled up on two cores, in bounded memory, to the same whoever was first.

Threads parse while this one reads: polars lets go of the interpreter. ``FOLD`` chunks that follow each other become one block; which chunks
share a block depends on nothing but their order. In memory are at any time: WORKERS + 2 chunks, plain copies
of WORKERS of them while they are cut, the marks of FOLD chunks (32 bytes a request for the clients' rollup, and each address and User-Agent of
a chunk once), two blocks, those that one of the threads is joining, and what the caller keeps.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast, runtime_checkable

import polars as pl

from .formats import Format
from .marks import Numbered, numbered
from .parsed import Reject
from .shards import fold
from .spilling import Held, frames
from .streams import KEPT
from .threads import WORKERS, parsers

FOLD: Final = 8
"""Chunks of a block: as many as a shard has, so that a cluster comes to the same."""


class Collector(Protocol):
    """One rollup: made of rows by a call, and of several by ``merge``."""

    def __call__(self, rows: pl.DataFrame, /) -> pl.DataFrame: ...
    def merge(self, parts: Iterable[pl.DataFrame], /) -> pl.DataFrame: ...


@runtime_checkable
class Folding(Protocol):
    """A collector that wants many chunks at once: what it needs of each, and the rollup of those that follow each other.

    ``uas``: the User-Agents of the rows, which are numbered once for all collectors.
    """

    def mark(self, rows: pl.DataFrame, uas: Numbered, /) -> Any: ...
    def fold(self, parts: Sequence[Any], /) -> pl.DataFrame: ...


@runtime_checkable
class Spilling(Protocol):
    """A collector whose rollups may be larger than memory: it merges those that are held elsewhere, and what it makes of them may be so."""

    def together(self, parts: Iterable[pl.DataFrame | Held], /) -> pl.DataFrame | Held: ...


@dataclass(frozen=True, slots=True)
class Block:
    """What some chunks come to. ``rollups`` in the order of the collectors, each a DataFrame or (of a collector that is Spilling, or while
    it waits) Held; ``rows`` + all ``unparsed`` (by reason) are the lines; ``rejects`` the first KEPT lines that are no rows; ``first`` and
    ``last`` seconds, None without rows.
    """

    rollups: tuple[Any, ...]
    rows: int
    unparsed: Counter[str]
    rejects: tuple[Reject, ...]
    first: int | None
    last: int | None

    @property
    def lines(self) -> int:
        return self.rows + self.unparsed.total()


@dataclass(frozen=True, slots=True)
class _Part:
    """One chunk: what each collector took of it, and its numbers."""

    taken: tuple[Any, ...]
    rows: int
    rejects: list[Reject]
    size: int
    first: int | None
    last: int | None


def blocks(chunks: Iterable[bytes], format: Format, collectors: Sequence[Collector]) -> Generator[Block]:
    """The chunks of one log, block by block, in order. When the caller stops early or is interrupted, no thread goes on."""
    with parsers() as pool:
        yield from _blocks(chunks, format, collectors, pool)


def _blocks(
    chunks: Iterable[bytes],
    format: Format,
    collectors: Sequence[Collector],
    pool: Executor,
    progress: Callable[[int], None] | None = None,
    rejects: Callable[[list[Reject]], None] | None = None,
) -> Generator[Block]:
    parsing: deque[Future[_Part]] = deque()
    folding: deque[Future[Block]] = deque()
    parts: list[_Part] = []
    done, current = 0, format

    def take() -> None:
        nonlocal done, parts
        part = parsing.popleft().result()
        done += part.size
        if rejects and part.rejects:
            rejects(part.rejects)
        if progress:
            progress(done)
        parts.append(part)
        if len(parts) == FOLD:
            folding.append(pool.submit(_folded, parts, collectors))
            parts = []

    for chunk in chunks:
        parsing.append(pool.submit(_parsed, chunk, current, collectors))
        current = current.after(chunk)
        if len(parsing) > WORKERS:
            take()
        if len(folding) > 1:
            yield folding.popleft().result()
    while parsing:
        take()
    if parts:
        folding.append(pool.submit(_folded, parts, collectors))
    while folding:
        yield folding.popleft().result()


def run(
    chunks: Iterable[bytes],
    format: Format,
    collectors: Sequence[Collector],
    *,
    progress: Callable[[int], None] | None = None,
    rejects: Callable[[list[Reject]], None] | None = None,
) -> Block:
    """All chunks of one log as one block: see ``blocks``.

    ``progress`` is told how many bytes are parsed in all; ``rejects`` gets every line that is no row, in the order of the file. Both are
    called in this thread.
    """
    with parsers() as pool:
        found = _blocks(chunks, format, collectors, pool, progress, rejects)
        return fold(found, lambda some: merged(some, collectors), pool) or merged([], collectors)


def merged(found: Sequence[Block], collectors: Sequence[Collector]) -> Block:
    """Blocks that follow each other as one."""
    unparsed: Counter[str] = Counter()
    for block in found:
        unparsed.update(block.unparsed)
    return Block(
        joined(collectors, [block.rollups for block in found]),
        sum(block.rows for block in found),
        unparsed,
        tuple(reject for block in found for reject in block.rejects)[:KEPT],
        min((block.first for block in found if block.first is not None), default=None),
        max((block.last for block in found if block.last is not None), default=None),
    )


def joined(collectors: Sequence[Collector], rollups: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The rollups of what follows each other, merged for each of the collectors."""
    found = []
    for number, one in enumerate(collectors):
        parts = [some[number] for some in rollups]
        found.append(one.together(parts) if isinstance(one, Spilling) else one.merge(frame for part in parts for frame in frames(part)))
    return tuple(found)


def _parsed(chunk: bytes, format: Format, collectors: Sequence[Collector]) -> _Part:
    rows, rejects, _ = format.parse(chunk)
    uas = numbered(rows["ua"])
    return _Part(
        tuple(one.mark(rows, uas) if isinstance(one, Folding) else one(rows) for one in collectors),
        rows.height,
        rejects,
        len(chunk),
        cast("int | None", rows["time"].min()),
        cast("int | None", rows["time"].max()),
    )


def _folded(parts: Sequence[_Part], collectors: Sequence[Collector]) -> Block:
    rollups = []
    for number, one in enumerate(collectors):
        taken = [part.taken[number] for part in parts]
        rollups.append(one.fold(taken) if isinstance(one, Folding) else one.merge(taken))
    rejects = [reject for part in parts for reject in part.rejects]
    return Block(
        tuple(rollups),
        sum(part.rows for part in parts),
        Counter(reject.reason for reject in rejects),
        tuple(rejects[:KEPT]),
        min((part.first for part in parts if part.first is not None), default=None),
        max((part.last for part in parts if part.last is not None), default=None),
    )
