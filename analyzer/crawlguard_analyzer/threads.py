"""Work of a few equal pieces in as many threads as parse: polars lets go of the interpreter, and uses one processor for most of what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

WORKERS: Final = 2

A = TypeVar("A")
B = TypeVar("B")


def mapped(work: Callable[[A], B], pieces: Sequence[A]) -> list[B]:
    """What each piece comes to, in their order; WORKERS of them are worked on at a time. Raises what the first that fails raises."""
    if len(pieces) < 2:
        return [work(piece) for piece in pieces]
    with ThreadPoolExecutor(WORKERS, "map") as pool:
        return list(pool.map(work, pieces))


@contextmanager
def parsers() -> Iterator[Executor]:
    """The threads that parse. When this ends early, they begin nothing more."""
    pool = ThreadPoolExecutor(WORKERS, "parse")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
