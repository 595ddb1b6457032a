"""How far a reading has come: a line with rate and time left on a terminal's stderr, and nothing anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

SLOW = 1.0
"""Seconds from which on a person wants to see that something happens."""

Show = Callable[[int, float], str]
"""What is said after so much of the work and so many seconds."""


@contextmanager
def bytes_line(totals: Sequence[int | None], quiet: bool) -> Iterator[Callable[[int], None]]:
    """Is told how many bytes have been read in all. Where a total is not known (a pipe, a URL) no time left is shown."""
    known = [total for total in totals if total is not None]
    total = sum(known) if len(known) == len(totals) else 0

    def show(done: int, seconds: float) -> str:
        rate = done / seconds
        text = f"{done / 1e6:,.0f} MB, {rate / 1e6:,.0f} MB/s"
        return (
            f"{min(100, 100 * done // total)}% of {total / 1e6:,.0f} MB, {rate / 1e6:,.0f} MB/s, {_left((total - done) / rate)} left"
            if total and rate
            else text
        )

    with _line(show, quiet) as tell:
        yield tell


@contextmanager
def shards_line(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Is told how many shards are done, and how many there are."""
    of = 0
    with _line(lambda done, seconds: f"{done} of {of} shards, {_left((of - done) * seconds / max(done, 1))} left", quiet) as tell:

        def progress(done: int, total: int) -> None:
            nonlocal of
            of = total
            tell(done)

        yield progress


def _left(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


@contextmanager
def _line(show: Show, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    started, shown = time.monotonic(), 0.0

    def tell(done: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - started >= SLOW and now - shown >= SLOW / 5:
            shown = now
            click.echo(f"\r\x1b[Kreading: {show(done, now - started)}", nl=False, err=True)

    try:
        yield tell
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)
