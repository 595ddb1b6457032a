"""Requests become one row per client and day; see ``adding`` for what is in a row, and how rows of shards, days and hosts become one.

Nothing here touches a request in Python, and nothing is looked up in a hash table: a shard's requests are sorted once by client, day and
second, as one column of numbers, and what a client comes to is the difference of running sums at its ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final, cast

import polars as pl

from .adding import AGENTS, DAY, PATHS, SCHEMA, SESSION, WINDOWS, distinct, least, merge, narrowed
from .marks import ASSETS, BITS, HIGH, MARKS, STYLES, Marked, Numbered, joined, marked
from .spilling import Held, Rollup, together
from .traps import MOST_TOUCHED, NO_TRAPS, Traps

__all__ = ["AGENTS", "ASSETS", "DAY", "HIGH", "PATHS", "SCHEMA", "SESSION", "STYLES", "WINDOWS", "Clients", "distinct", "merge", "rollup"]

ROWS_BITS: Final = 21
MOST_ROWS: Final = (1 << ROWS_BITS) - 1
"""Requests that are rolled up at once: their places, and each of their sums, fit into ROWS_BITS."""
_SECOND_BITS: Final = 17
_CLIENT_BITS: Final = 64 - ROWS_BITS - _SECOND_BITS
_FIELD: Final = 1 << ROWS_BITS
_PACKED: Final = tuple(range(n, min(n + 3, len(MARKS))) for n in range(0, len(MARKS), 3))
"""Bits of marks that are summed as the three parts of one number."""


class Clients:
    """The rollup of clients, as the pipeline wants it: chunks are marked one by one, and many are rolled up at once."""

    def __init__(self, traps: Traps = NO_TRAPS) -> None:
        self._traps = traps

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rollup(rows, self._traps)

    def mark(self, rows: pl.DataFrame, uas: Numbered | None = None) -> Marked:
        """One chunk, and its User-Agents' numbers."""
        return marked(rows, self._traps, uas)

    def fold(self, parts: Sequence[Marked]) -> pl.DataFrame:
        """The rollup of chunks that follow each other."""
        return merge(_rolled(joined(group)) for group in _groups(parts))

    def merge(self, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
        """See the function."""
        return merge(parts)

    def together(self, parts: Iterable[pl.DataFrame | Held]) -> Rollup:
        """The same of parts that may lie on disk, as the result may."""
        return together(parts)


def rollup(rows: pl.DataFrame, traps: Traps = NO_TRAPS) -> pl.DataFrame:
    """The rows of one shard (see ``rows.ROWS``), one row per client and day, by SCHEMA."""
    return merge(_rolled(marked(rows.slice(start, MOST_ROWS), traps)) for start in range(0, rows.height, MOST_ROWS))


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
    """The rollup of no more than MOST_ROWS requests, by SCHEMA, sorted as ``merge`` wants it."""
    requests = shard.requests
    days = requests["time"] // DAY
    first, several = cast(int, days.min()), cast(int, days.max()) - cast(int, days.min()) + 1
    ips, rank = _ranked(shard.ips)
    client = (days - first).cast(pl.UInt64) * ips.len() + rank.gather(requests["ip"])
    numbers = None
    if ips.len() * several >= 1 << _CLIENT_BITS:  # a log of many days and addresses: number those that are there
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
    day = (told // ips.len()).cast(pl.Int32) + first
    found = pl.DataFrame([day.alias("day"), ips.gather(told % ips.len()).alias("ip")]).hstack(
        [
            *_agents(client, requests["ua"], shard.uas),
            *_counts(requests.select("code", "bytes")[(key % _FIELD).cast(pl.UInt32)], ends),
            *_times(at, owner, starts, ends),
            least(client * HIGH + requests["target"], PATHS).alias("paths"),
            *_trapped(requests, client, owners),
            _spent(requests, (key % _FIELD).cast(pl.UInt32), ends),
        ]
    )
    midnight = pl.col("day").cast(pl.Int64) * DAY
    found = found.with_columns(
        pl.col("first") + midnight, pl.col("last") + midnight, (pl.col("requests") - pl.col("assets")).alias("documents")
    )
    return narrowed(found)


def _ranked(names: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Different names in the order of the alphabet, and the place in it of each: what is sorted by that is sorted by name."""
    order = names.arg_sort()
    return names.gather(order), order.arg_sort()


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


def _trapped(requests: pl.DataFrame, client: pl.Series, owners: pl.Series) -> list[pl.Series]:
    """Requests of each client (``owners``, in order) that touched a trap, and which; few do."""
    trapped, traps = (pl.zeros(owners.len(), dtype=pl.Int64, eager=True).alias(name) for name in ("trapped", "traps"))
    if "trap" not in requests.columns:
        return [trapped, traps]
    touched = (requests["trap"] > 0).fill_null(False)
    bit = pl.lit(pl.Series([1 << n for n in range(62)], dtype=pl.Int64)).gather(pl.col("trap") - 1)
    mine = pl.DataFrame({"owner": owners.search_sorted(client.filter(touched)), "trap": requests["trap"].filter(touched)})
    found = mine.group_by("owner").agg(
        (pl.col("trap") <= MOST_TOUCHED).sum().cast(pl.Int64).alias("trapped"), bit.bitwise_or().alias("traps")
    )
    return [trapped.scatter(found["owner"], found["trapped"]), traps.scatter(found["owner"], found["traps"])]


def _spent(requests: pl.DataFrame, order: pl.Series, ends: pl.Series) -> pl.Series:
    """Microseconds that each client's requests took."""
    if "spent" not in requests.columns:
        return pl.zeros(ends.len(), dtype=pl.Int64, eager=True).alias("spent")
    return _sums(requests["spent"].fill_null(0).cast(pl.Int64)[order], ends)


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
    names, rank = _ranked(names)
    key = (client * _FIELD + rank.gather(ua)).sort()
    first = key.ne_missing(key.shift(1)).arg_true().cast(pl.Int64)
    pair, count = key.gather(first), first.shift(-1, fill_value=key.len()) - first
    owner, name = (pair // _FIELD).set_sorted(), (pair % _FIELD).cast(pl.Int64)
    most = pl.DataFrame({"owner": owner, "most": count * _FIELD + MOST_ROWS - name}).group_by("owner", maintain_order=True).max()["most"]
    return [
        names.gather(MOST_ROWS - most % _FIELD).alias("ua"),
        (most // _FIELD).alias("ua_requests"),
        least(owner * HIGH + (names.hash(seed=1) // HIGH).gather(name), AGENTS).alias("uas"),
    ]
