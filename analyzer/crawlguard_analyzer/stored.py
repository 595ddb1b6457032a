"""Rollups as Parquet files: read some rows at a time, and written in the order of day and name, however large they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import polars as pl
from polars.io.plugins import register_io_source

from .adding import SCHEMA, narrowed
from .spilling import AT_ONCE, PIECE, Joined, Rollup, Spilled

LEAST: Final = PIECE // 4
"""Rows of a share from which on no more of it are fetched while shares become one file."""


class Stored:
    """A rollup file: a path, or a URL with the ``options`` of its store. ``told`` is around every look at it, to say what was wrong."""

    def __init__(
        self, place: str, options: dict[str, str] | None = None, told: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._told = told
        with told():
            self._scan = pl.scan_parquet(place, storage_options=options, glob=False)
            self.height = int(self._scan.select(pl.len()).collect().item())

    def frames(self) -> Iterator[pl.DataFrame]:
        """Its rows, AT_ONCE of them at a time."""
        for start in range(0, self.height, AT_ONCE):
            with self._told():
                rows = narrowed(self._scan.slice(start, AT_ONCE).select(*SCHEMA).collect())
            yield rows


def write(rollup: Rollup, target: str | Path, **options: Any) -> None:
    """One Parquet file. ``options``: those of ``polars.DataFrame.write_parquet``."""
    if isinstance(rollup, pl.DataFrame):
        rollup.write_parquet(target, **options)
        return
    settled = rollup.settled() if isinstance(rollup, Joined) else rollup
    register_io_source(lambda *_: ordered(settled), schema=SCHEMA).sink_parquet(target, **options)


def ordered(rollup: Spilled) -> Iterator[pl.DataFrame]:
    """The rollup's rows sorted by day and name, in frames of no fixed height."""
    shares = [rollup.pieces(number) for number in range(rollup.shares)]
    held = [pl.DataFrame(schema=SCHEMA)] * rollup.shares
    while True:
        for number, share in enumerate(shares):
            if held[number].height < LEAST and (piece := next(share, None)) is not None:
                held[number] = pl.concat([held[number], piece])
        # Nothing that is still on disk comes before the first of these.
        ends = [rows.select("day", "ip").row(-1) for rows in held if rows.height]
        if not ends:
            return
        day, ip = min(ends)
        upto = (pl.col("day") < day) | ((pl.col("day") == day) & (pl.col("ip") <= ip))
        counts = [int(rows.select(upto.sum()).item()) for rows in held]
        yield pl.concat([rows.head(count) for rows, count in zip(held, counts, strict=True)]).sort("day", "ip")
        held = [rows.slice(count) for rows, count in zip(held, counts, strict=True)]
