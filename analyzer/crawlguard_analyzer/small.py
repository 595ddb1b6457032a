"""Logs so small that to count one costs more than its lines: those that follow each other are counted together, as if they were one.

What a log costs beside its lines (it is parsed, marked and rolled up by some hundred calls of polars) is 80 ms of CPU, whatever its size: 1,500
hosts' logs of a few lines took minutes. Who is counted together depends on the files alone, so that a cluster comes to the same as one machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from .combined_exact import BOM
from .formats import Format, Json, Known, fits
from .source import CHUNK, File, Source

PART = 16
"""A log is small when this many fit into a chunk: of 1 MiB and less."""

T = TypeVar("T")


def batches(sources: Iterable[Source], size: int = CHUNK) -> Iterator[list[Source]]:
    """The sources in their order: small files that follow each other together, up to ``size`` bytes (as they lie on disk), others alone.

    A log with header lines is alone, too: they are in force to its end only.
    """
    held: list[Source] = []
    height = 0
    for source in sources:
        total = source.total or 0
        small = isinstance(source, File) and total * PART <= size and not source.start.startswith((b"#", BOM))
        if held and (not small or height + total > size):
            yield held
            held, height = [], 0
        if small:
            held.append(source)
            height += total
        else:
            yield [source]
    if held:
        yield held


def groups(batch: Iterable[tuple[T, Format | None, bool]]) -> Iterator[tuple[Format | None, list[T]]]:
    """Those of a batch that follow each other and are of one format. ``batch``: each with its format, and whether it is to be alone."""
    held: list[T] = []
    before: Format | None = None
    apart = False
    for item, log, alone in batch:
        if held and (alone or apart or not _alike(log, before)):
            yield before, held
            held = []
        if not held:
            before, apart = log, alone
        held.append(item)
    if held:
        yield before, held


def alone(name: str, log: Format | None, source: Source) -> bool:
    """Whether a log, which a user has said to be of the format ``name`` ("" for not), is looked at by itself: its first lines are of another one."""
    return bool(name) and log is not None and not fits(log, source.sample())


def _alike(one: Format | None, other: Format | None) -> bool:
    """Whether a line means the same in both. Of formats that were made twice this is known of the most common alone."""
    if one is other:
        return True
    if isinstance(one, Known) and isinstance(other, Known):
        return (one.variant, one.name, one.tail) == (other.variant, other.name, other.tail)
    return (
        isinstance(one, Json)
        and isinstance(other, Json)
        and (one.describe(), one.ways, one.lists) == (other.describe(), other.ways, other.lists)
    )


def as_one(logs: Iterable[Iterable[bytes]], size: int = CHUNK) -> Iterator[bytes]:
    """The chunks of several logs as chunks of about ``size`` bytes, each line with its end."""
    held: list[bytes] = []
    height = 0
    for chunks in logs:
        for chunk in chunks:
            held.append(chunk if chunk.endswith(b"\n") else chunk + b"\n")
            height += len(held[-1])
            if height >= size:
                yield b"".join(held)
                held, height = [], 0
    if held:
        yield b"".join(held)
