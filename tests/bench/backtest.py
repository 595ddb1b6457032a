"""How fast a log is decided about: by the bundled default policy, with all look-ups, from parsed rows and from the file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from crawlguard_analyzer.backtest import Backtest
from crawlguard_analyzer.cli_backtest import Log
from crawlguard_analyzer.counting import AS_TOLD

from crawlguard import load_policy

from . import logs
from .table import Row

SIZE = 128 << 20
"""Bytes of the log: six chunks."""
ROUNDS = 5


def backtest() -> Iterator[Row]:
    """The default policy on a generated log; microseconds for a line."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "access.log"
        logs.write(path, SIZE)
        policy = load_policy()
        shards = list(Log([str(path)], AS_TOLD).shards())
        lines = sum(rows.height + unparsed for rows, unparsed in shards)

        def decided() -> None:
            test = Backtest(policy)
            for rows, unparsed in shards:
                test.feed(rows, unparsed)
            test.result()

        def read_and_decided() -> None:
            test = Backtest(policy)
            for rows, unparsed in Log([str(path)], AS_TOLD).shards():
                test.feed(rows, unparsed)
            test.result()

        for what, work, must, aim in (("of parsed rows", decided, 2.0, 1.0), ("with reading", read_and_decided, None, None)):
            spent = median(_seconds(work) for _ in range(ROUNDS)) * 1e6 / lines
            yield Row(f"backtest of the default policy, a line, {what}", spent, "us", must, aim, f"{1e6 / spent:,.0f} lines/s of {lines:,}")


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started
