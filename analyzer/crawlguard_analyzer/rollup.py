"""Requests become one row per client and day, and rows of one client add up: days, hosts and shards merge, in any order, to the same.

Nothing here touches a request in Python, and nothing is looked up in a hash table: a shard's requests are sorted once by client, day and
second, as one column of numbers, and what a client comes to is the difference of running sums at its ends. What is counted exactly adds
exactly. Bursts and gaps are those inside one shard (a burst that a shard's end cuts counts as its larger half); distinct paths are a sketch,
see PATHS; ``ua`` is the User-Agent that had the most requests of the client in any one shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final, cast

import polars as pl

from .marks import ASSETS, BITS, HIGH, MARKS, STYLES, Marked, joined, marked

__all__ = ["AGENTS", "ASSETS", "DAY", "HIGH", "PATHS", "SCHEMA", "SESSION", "STYLES", "WINDOWS", "Clients", "distinct", "merge", "rollup"]

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

_SUMS: Final = ("requests", "documents", *(mark.name for mark in MARKS), "depth", "bytes", "gaps", "long_gaps", "gap_sum", "gap_squares")
_MAXIMA: Final = ("last", *(f"burst_{w}" for w in WINDOWS))
_LISTS: Final = {"paths": PATHS, "uas": AGENTS}
_WIDE: Final = ("first", "last", "bytes", "gap_squares")

SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "day": pl.Int32,
    "ip": pl.String,
    "ua": pl.String,
    "ua_requests": pl.Int64,
    "first": pl.Int64,
    "last": pl.Int64,
    **dict.fromkeys(_SUMS, pl.Int64),
    **{f"burst_{w}": pl.Int64 for w in WINDOWS},
    "hours": pl.Int64,
    "paths": pl.List(pl.UInt32),
    "uas": pl.List(pl.UInt32),
}
"""One row: the day (since 1970, UTC), the address as logged, the User-Agent of the most requests in one shard (of several the first in the
alphabet) and how many those were, its first and last second, then sums.

``documents`` are requests that are no asset; ``styles`` those for CSS, JavaScript and fonts, ``images`` and ``feeds`` by the path's end;
``referred`` documents with a referrer; ``ok redirects errors missing broken`` answers 2xx, 3xx, 4xx but 404, 404, 5xx; ``http10`` and
``http11`` requests of that protocol; ``depth`` slashes of documents' paths; ``gaps`` seconds of pause between two requests that follow each
other, as ``gap_sum`` and ``gap_squares``, and how many are longer than SESSION; ``hours`` a bit for each hour of the day (UTC) with a
request; ``paths`` and ``uas`` sketches.
"""

ROWS_BITS: Final = 21
MOST_ROWS: Final = (1 << ROWS_BITS) - 1
"""Requests that are rolled up at once: their places, and each of their sums, fit into ROWS_BITS."""
_SECOND_BITS: Final = 17
_CLIENT_BITS: Final = 64 - ROWS_BITS - _SECOND_BITS
_FIELD: Final = 1 << ROWS_BITS
_PACKED: Final = tuple(range(n, min(n + 3, len(MARKS))) for n in range(0, len(MARKS), 3))
"""Bits of marks that are summed as the three parts of one number."""
_FULL: Final = pl.Schema(SCHEMA)
_NARROW: Final = {name: pl.Int32 if kind == pl.Int64 and name not in _WIDE else kind for name, kind in SCHEMA.items()}
"""What one shard needs of SCHEMA."""


class Clients:
    """The rollup of clients, as the pipeline wants it: chunks are marked one by one, and many are rolled up at once."""

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rollup(rows)

    def mark(self, rows: pl.DataFrame) -> Marked:
        """One chunk."""
        return marked(rows)

    def fold(self, parts: Sequence[Marked]) -> pl.DataFrame:
        """The rollup of chunks that follow each other."""
        return merge(_rolled(joined(group)) for group in _groups(parts))

    def merge(self, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
        """See the function."""
        return merge(parts)


def rollup(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of one shard (see ``rows.ROWS``), one row per client and day, by SCHEMA."""
    return merge(_rolled(marked(rows.slice(start, MOST_ROWS))) for start in range(0, rows.height, MOST_ROWS))


def merge(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Rollups of the same log's shards, of several days or hosts, as one. The order of the parts does not matter."""
    found = [part.select(*SCHEMA) for part in parts if part.height]
    if not found:
        return pl.DataFrame(schema=SCHEMA)
    rows = pl.concat(found, how="vertical_relaxed", rechunk=True).sort("day", "ip", "first", "last")
    new = rows["day"].ne_missing(rows["day"].shift(1)) | rows["ip"].ne_missing(rows["ip"].shift(1))
    alone = new & new.shift(-1, fill_value=True)
    if alone.all():
        return rows.cast(_FULL)
    order = pl.concat([alone.arg_true(), (new & ~alone).arg_true()]).arg_sort()
    return pl.concat([rows.filter(alone).cast(_FULL), _added(rows.filter(~alone).cast(_FULL), new.filter(~alone))], rechunk=True)[order]


def _added(rows: pl.DataFrame, new: pl.Series) -> pl.DataFrame:
    """Rows in the order of clients and times, those of each client as one; `new`: where a client's begin."""
    between = pl.when(new).then(0).otherwise((pl.col("first") - pl.col("last").shift(1)).clip(lower_bound=0))
    owner = (new.cum_sum().cast(pl.Int64) - 1).set_sorted().alias("owner")
    rows = rows.with_columns(
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
        pl.col(*_SUMS).sum(),
        pl.col("hours").bitwise_or(),
    )
    top = rows.filter(pl.col("ua_requests") == added["ua_requests"].gather(owner)).sort("owner", "ua")
    lists = [
        _least(each["owner"].cast(pl.UInt64) * HIGH + each[name], k).alias(name)
        for name, k in _LISTS.items()
        for each in [rows.select("owner", name).explode(name)]
    ]
    return added.hstack([top["ua"].filter(top["owner"].ne_missing(top["owner"].shift(1))), *lists]).select(
        pl.col(name).cast(kind) for name, kind in SCHEMA.items()
    )


def distinct(column: str, k: int) -> pl.Expr:
    """How many different values a sketch of k least hashes stands for."""
    kept = pl.col(column).list.len()
    return pl.when(kept < k).then(kept).otherwise((k - 1) * 2.0**32 / (pl.col(column).list.last() + 1.0)).cast(pl.Float64)


def _groups(parts: Sequence[Marked]) -> list[list[Marked]]:
    """The parts in groups of no more than MOST_ROWS."""
    groups: list[list[Marked]] = []
    left = 0
    for part in parts:
        for start in range(0, part.requests.height, MOST_ROWS):
            piece = part._replace(requests=part.requests.slice(start, MOST_ROWS))
            if piece.requests.height > left:
                groups.append([])
                left = MOST_ROWS
            groups[-1].append(piece)
            left -= piece.requests.height
    return groups


def _rolled(shard: Marked) -> pl.DataFrame:
    """The rollup of no more than MOST_ROWS requests, in no order, by SCHEMA but for narrower numbers."""
    requests = shard.requests
    days = requests["time"] // DAY
    first, several = cast(int, days.min()), cast(int, days.max()) - cast(int, days.min()) + 1
    client = requests["ip"].cast(pl.UInt64) * several + (days - first).cast(pl.UInt64)
    numbers = None
    if shard.ips.len() * several >= 1 << _CLIENT_BITS:  # a log of many days and addresses: number those that are there
        numbers = client.unique().sort()
        client = numbers.search_sorted(client).cast(pl.UInt64)
    seconds = (requests["time"] - days * DAY).cast(pl.UInt64)
    place = pl.int_range(requests.height, dtype=pl.UInt64, eager=True)
    key = (((client * (1 << _SECOND_BITS)) + seconds) * _FIELD + place).sort()
    at = (key // _FIELD).cast(pl.Int64).alias("at")
    owner = at // (1 << _SECOND_BITS)
    starts = owner.ne_missing(owner.shift(1))
    ends = pl.concat([starts.arg_true()[1:] - 1, pl.Series([requests.height - 1], dtype=pl.get_index_type())])
    owners = owner.gather(ends).cast(pl.UInt64)
    told = owners if numbers is None else numbers.gather(owners)
    day = (told % several).cast(pl.Int32) + first
    found = pl.DataFrame([day.alias("day"), shard.ips.gather(told // several).alias("ip")]).hstack(
        [
            *_agents(client, requests["ua"], shard.uas),
            *_counts(requests.select("code", "bytes")[(key % _FIELD).cast(pl.UInt32)], ends),
            *_times(at, owner, starts, ends),
            _least(client * HIGH + requests["target"], PATHS).alias("paths"),
        ]
    )
    midnight = pl.col("day").cast(pl.Int64) * DAY
    found = found.with_columns(
        pl.col("first") + midnight, pl.col("last") + midnight, (pl.col("requests") - pl.col("assets")).alias("documents")
    )
    return found.select(pl.col(name).cast(_NARROW[name]) for name in SCHEMA)


def _sums(values: pl.Series, ends: pl.Series) -> pl.Series:
    """The sum of each client's values, which end at `ends`."""
    sums = values.cum_sum().gather(ends)
    return sums - sums.shift(1, fill_value=0)


@cache
def _tables() -> list[pl.Series]:
    """For each group of marks that are summed together: what a code adds."""
    code = pl.int_range(BITS, dtype=pl.Int64)
    groups = [[(code // (1 << bit)) % 2 * (1 << ROWS_BITS * part) for part, bit in enumerate(bits)] for bits in _PACKED]
    return [pl.select(pl.sum_horizontal(group)).to_series() for group in groups]


def _counts(ordered: pl.DataFrame, ends: pl.Series) -> list[pl.Series]:
    """Requests, marks, depth and bytes of each client, whose requests follow each other."""
    code = ordered["code"] % BITS
    found = [
        (ends.cast(pl.Int64) - ends.cast(pl.Int64).shift(1, fill_value=-1)).alias("requests"),
        _sums((ordered["code"] // BITS).cast(pl.Int64), ends).alias("depth"),
        _sums(ordered["bytes"], ends).alias("bytes"),
    ]
    for bits, table in zip(_PACKED, _tables(), strict=True):
        packed = _sums(table.gather(code), ends)
        found += [(packed // (1 << ROWS_BITS * part) % _FIELD).alias(MARKS[bit].name) for part, bit in enumerate(bits)]
    return found


def _times(at: pl.Series, owner: pl.Series, starts: pl.Series, ends: pl.Series) -> list[pl.Series]:
    """First, last, hours, gaps and bursts of each client; `at` is its number and the second of the day, in order."""
    frame = pl.DataFrame([at.set_sorted(), owner.set_sorted().alias("owner"), starts.alias("new")])
    second = pl.col("at") % (1 << _SECOND_BITS)
    gap = pl.when("new").then(0).otherwise(pl.col("at") - pl.col("at").shift(1))
    hour = second // 3600
    fresh = pl.col("new") | (hour != hour.shift(1))
    bit = pl.lit(pl.Series([1 << n for n in range(24)], dtype=pl.Int64)).gather(hour)
    seen = frame.select(
        second.alias("second"),
        (gap > SESSION).cast(pl.Int64).alias("long_gaps"),
        (gap * gap).alias("gap_squares"),
        pl.when(fresh).then(bit).otherwise(0).alias("hours"),
    )
    last = seen["second"].gather(ends)
    first = seen["second"].filter(starts)
    bursts = frame.select("owner").hstack(
        [frame.rolling("at", period=f"{w}i").agg(pl.len().alias(f"burst_{w}"))[f"burst_{w}"] for w in WINDOWS]
    ).group_by("owner", maintain_order=True).max()  # fmt: skip
    return [
        first.alias("first"),
        last.alias("last"),
        (last - first).alias("gap_sum"),
        (ends.cast(pl.Int64) - starts.arg_true().cast(pl.Int64)).alias("gaps"),
        *(_sums(seen[name], ends) for name in ("long_gaps", "gap_squares", "hours")),
        *(bursts[f"burst_{w}"] for w in WINDOWS),
    ]


def _agents(client: pl.Series, ua: pl.Series, names: pl.Series) -> list[pl.Series]:
    """Each client's User-Agent of most requests, how many those are, and the sketch of all."""
    order = names.arg_sort()
    names = names.gather(order)
    key = (client * _FIELD + order.arg_sort().gather(ua)).sort()
    first = key.ne_missing(key.shift(1)).arg_true().cast(pl.Int64)
    pair, count = key.gather(first), first.shift(-1, fill_value=key.len()) - first
    owner, name = (pair // _FIELD).set_sorted(), (pair % _FIELD).cast(pl.Int64)
    most = pl.DataFrame({"owner": owner, "most": count * _FIELD + MOST_ROWS - name}).group_by("owner", maintain_order=True).max()["most"]
    return [
        names.gather(MOST_ROWS - most % _FIELD).alias("ua"),
        (most // _FIELD).alias("ua_requests"),
        _least(owner * HIGH + (names.hash(seed=1) // HIGH).gather(name), AGENTS).alias("uas"),
    ]


def _least(pairs: pl.Series, k: int) -> pl.Series:
    """The k least of the different hashes of each client; a pair is its number and a hash."""
    pairs = pairs.sort()
    pairs = pairs.filter(pairs.ne_missing(pairs.shift(1)))
    owner = pairs // HIGH
    starts = owner.ne_missing(owner.shift(1))
    place = pl.int_range(pairs.len(), dtype=pl.Int64, eager=True)
    rank = place - place.filter(starts).gather(starts.cast(pl.UInt32).cum_sum() - 1)
    kept = pl.DataFrame({"owner": owner, "hash": (pairs % HIGH).cast(pl.UInt32)}).filter(rank < k)
    return kept.with_columns(pl.col("owner").set_sorted()).group_by("owner", maintain_order=True).agg("hash")["hash"]
