"""What a row of the rollup is, and how rows add up: days, hosts and shards merge, in any order, to the same.

What is counted exactly adds exactly. Bursts are those inside one shard (one that a shard's end cuts counts as its larger half); the pause
between two shards is a gap, so shards that are merged before others should be neighbours in time; distinct paths are a sketch, see PATHS;
``ua`` is the User-Agent that had the most requests of the client in any one shard.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import polars as pl

from .marks import HIGH, MARKS
from .threads import mapped

DAY: Final = 86_400
SESSION: Final = 300
"""Seconds of silence that end a session (arXiv 2505.21733 uses the same for crawlers)."""
WINDOWS: Final = (10, 60)
"""Seconds in which the most requests are looked for."""
PATHS: Final = 64
"""Least hashes of paths that are kept of a client (k minimum values, Bar-Yossef et al. 2002): up to 64 different paths are counted
exactly, more with a standard error of 1/sqrt(62) = 13%."""
AGENTS: Final = 8
"""The same for User-Agents: 8 exactly, and beyond that it does not matter how many there are."""

_SUMS: Final = (
    "requests",
    "documents",
    *(mark.name for mark in MARKS),
    "depth",
    "bytes",
    "gaps",
    "long_gaps",
    "gap_sum",
    "gap_squares",
    "trapped",
    "spent",
)
_MAXIMA: Final = ("last", *(f"burst_{w}" for w in WINDOWS))
_BITS: Final = ("hours", "traps")
_LISTS: Final = {"paths": PATHS, "uas": AGENTS}
_WIDE: Final = ("bytes", "gap_squares", "spent")
"""Sums that one client's day may well take beyond MOST."""
MOST: Final = (1 << 31) - 1
"""What a narrow number says of itself and of all above. Sums of shards that stop there add up to the same in any order."""

SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "day": pl.Int32,
    "ip": pl.String,
    "ua": pl.String,
    "ua_requests": pl.Int32,
    "first": pl.Int64,
    "last": pl.Int64,
    **{name: pl.Int64 if name in _WIDE else pl.Int32 for name in _SUMS},
    **{f"burst_{w}": pl.Int32 for w in WINDOWS},
    "hours": pl.Int32,
    "traps": pl.Int64,
    "paths": pl.List(pl.UInt32),
    "uas": pl.List(pl.UInt32),
}
"""One row: the day (since 1970, UTC), the address as logged, the User-Agent of the most requests in one shard (of several the first in the
alphabet) and how many those were, its first and last second, then sums.

``documents`` are requests that are no asset; ``styles`` those for CSS, JavaScript and fonts, ``images`` and ``feeds`` by the path's end;
``referred`` documents with a referrer; ``ok redirects errors missing broken`` answers 2xx, 3xx, 4xx but 404, 404, 5xx; ``http10`` and
``http11`` requests of that protocol; ``depth`` slashes of documents' paths; ``gaps`` seconds of pause between two requests that follow each
other, as ``gap_sum`` and ``gap_squares``, and how many are longer than SESSION; ``hours`` a bit for each hour of the day (UTC) with a
request; ``trapped`` requests that touched a trap, and ``traps`` a bit for each trap (see ``traps``); ``spent`` microseconds that the server took
for the requests, as far as the log says (0 where it does not); ``paths`` and ``uas`` sketches. Numbers are as narrow as one day of one
client needs, for there are many rows: who adds up several of them casts to Int64 before.
"""

_FULL: Final = pl.Schema(SCHEMA)
_STEP: Final = 50_000
"""Rows of whole days that are merged at once, by each of two threads."""


def merge(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Rollups of the same log's shards, of several days or hosts, each sorted by day and name, as one that is. The order of the parts does
    not matter.
    """
    found = [narrowed(part.select(*SCHEMA)) for part in parts if part.height]
    if not found:
        return pl.DataFrame(schema=SCHEMA)
    # Some days at a time, so that what a merge needs beside its result is small; days that only one part has are not copied.
    found = [part if part["day"].is_sorted() else part.sort("day") for part in found]
    return pl.concat(mapped(lambda step: _merged([_span(part, *step) for part in found]), _steps(found)))


def _span(part: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    start, end = part["day"].search_sorted(first, side="left"), part["day"].search_sorted(last, side="right")
    return part.slice(start, end - start)


def _steps(parts: list[pl.DataFrame]) -> list[tuple[int, int]]:
    """The days of all parts as spans: those of one part alone, and of several parts no more than _STEP rows or one day."""
    days = pl.concat([part["day"].value_counts().with_columns(pl.lit(number).alias("part")) for number, part in enumerate(parts)])
    days = days.group_by("day").agg(pl.col("part").first(), pl.len().alias("parts"), pl.col("count").sum()).sort("day")
    steps: list[tuple[int, int]] = []
    owner, rows = None, 0
    for day, part, several, count in days.iter_rows():
        mine = part if several == 1 else None
        rows += count
        if steps and mine == owner and (mine is not None or rows <= _STEP):
            steps[-1] = steps[-1][0], day
        else:
            steps.append((day, day))
            rows = count
        owner = mine
    return steps


def _merged(parts: list[pl.DataFrame]) -> pl.DataFrame:
    found = [part for part in parts if part.height]
    return found[0] if len(found) == 1 else renamed(pl.concat(found))


def narrowed(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows by SCHEMA, whatever their numbers' types were; what is too large becomes MOST."""
    if rows.schema == _FULL:
        return rows
    return rows.select(
        (pl.col(name).clip(upper_bound=MOST) if kind == pl.Int32 and rows.schema[name] != kind else pl.col(name)).cast(kind)
        for name, kind in SCHEMA.items()
    )


def renamed(rows: pl.DataFrame) -> pl.DataFrame:
    """A rollup whose clients have got other names: those of one day that have the same become one. Sorted by day and name."""
    rows = narrowed(rows)
    order = rows.select("day", "ip", "first", "last").with_row_index("at").sort("day", "ip", "first", "last")
    new = order["day"].ne_missing(order["day"].shift(1)) | order["ip"].ne_missing(order["ip"].shift(1))
    at, alone = order["at"], new & new.shift(-1, fill_value=True)
    del order
    if alone.all():
        return rows[at]
    together = _added(rows[at.filter(~alone)], new.filter(~alone))
    # One gather of all puts them in order: nothing but the result is copied.
    places = pl.int_range(rows.height, rows.height + together.height, dtype=pl.get_index_type(), eager=True)
    return pl.concat([rows, together])[at.filter(new).scatter((~alone).filter(new).arg_true(), places)]


def _added(rows: pl.DataFrame, new: pl.Series) -> pl.DataFrame:
    """Rows in the order of clients and times, those of each client as one; `new`: where a client's begin."""
    between = pl.when(new).then(0).otherwise((pl.col("first") - pl.col("last").shift(1)).clip(lower_bound=0))
    owner = (new.cum_sum().cast(pl.Int64) - 1).set_sorted().alias("owner")
    rows = rows.with_columns(pl.col(*_SUMS).cast(pl.Int64)).with_columns(
        owner,
        pl.col("gaps") + ~new,
        pl.col("long_gaps") + (between > SESSION),
        pl.col("gap_sum") + between,
        pl.col("gap_squares") + between**2,
    )
    added = rows.group_by("owner", maintain_order=True).agg(
        pl.col("day", "ip").first(),
        pl.col("first").min(),
        pl.col(*_MAXIMA, "ua_requests").max(),
        pl.col(*_BITS).bitwise_or(),
    )
    top = rows.filter(pl.col("ua_requests") == added["ua_requests"].gather(owner)).sort("owner", "ua")
    lists = [
        least(each["owner"].cast(pl.UInt64) * HIGH + each[name], k).alias(name)
        for name, k in _LISTS.items()
        for each in [rows.select("owner", name).explode(name)]
    ]
    sums = run_sums(rows.select(_SUMS), new)
    return narrowed(added.hstack([*sums, top["ua"].filter(top["owner"].ne_missing(top["owner"].shift(1))), *lists]))


def run_sums(rows: pl.DataFrame, new: pl.Series) -> pl.DataFrame:
    """The sums of rows (Int64) that follow each other; `new`: where such begin. Differences of running sums take a fifth of what groups do."""
    sums = rows.select(pl.all().cum_sum())[new.shift(-1, fill_value=True).arg_true()]
    return sums.select(pl.all() - pl.all().shift(1, fill_value=0))


def distinct(column: str, k: int) -> pl.Expr:
    """How many different values a sketch of k least hashes stands for."""
    kept = pl.col(column).list.len()
    return pl.when(kept < k).then(kept).otherwise((k - 1) * 2.0**32 / (pl.col(column).list.last() + 1.0)).cast(pl.Float64)


def least(pairs: pl.Series, k: int) -> pl.Series:
    """The k least of the different hashes of each client; a pair is its number and a hash."""
    pairs = pairs.sort()
    pairs = pairs.filter(pairs.ne_missing(pairs.shift(1)))
    owner = pairs // HIGH
    among = owner.ne_missing(owner.shift(k))  # the k-th before it is another client's
    kept = pl.DataFrame({"owner": owner.filter(among), "hash": (pairs.filter(among) % HIGH).cast(pl.UInt32)})
    return kept.with_columns(pl.col("owner").set_sorted()).group_by("owner", maintain_order=True).agg("hash")["hash"]
