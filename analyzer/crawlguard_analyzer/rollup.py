"""Requests become one row per client and day, and rows of one client add up: days, hosts and shards merge, in any order, to the same.

Nothing here touches a request in Python: all is whole columns. What is counted exactly adds exactly. Bursts and gaps are those inside one
shard (a burst that a shard's end cuts counts as its larger half); distinct paths are a sketch, see PATHS.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import polars as pl

DAY = 86_400
SESSION = 300
"""Seconds of silence that end a session (arXiv 2505.21733 uses the same for crawlers)."""
WINDOWS = (10, 60)
"""Seconds in which the most requests are looked for."""
PATHS = 64
"""Least hashes of paths that are kept of a client (k minimum values, Bar-Yossef et al. 2002): up to 64 different paths are counted
exactly, more with a standard error of 1/sqrt(62) = 13%."""
AGENTS = 8
"""The same for User-Agents: 8 exactly, and beyond that it does not matter how many there are."""

ASSETS = (
    "css", "js", "mjs", "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "bmp", "woff", "woff2", "ttf", "otf", "eot", "map",
    "mp4", "webm", "mp3", "ogg", "m4a", "wasm",
)  # fmt: skip
"""Extensions of what a browser loads by itself for a page."""
STYLES = ("css", "js", "mjs", "woff", "woff2")
"""Those without which a page does not look as it should."""

HIGH = 1 << 32

_SUMS = (
    "requests", "documents", "assets", "styles", "referred", "queries", "ok", "redirects", "errors", "missing", "broken", "heads", "posts",
    "robots", "favicons", "depth", "bytes", "gaps", "long_gaps", "gap_sum", "gap_squares",
)  # fmt: skip
_MAXIMA = ("last", *(f"burst_{w}" for w in WINDOWS))
_LISTS = {"paths": PATHS, "uas": AGENTS}

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "day": pl.Int32,
    "ip": pl.String,
    "ua": pl.String,
    "first": pl.Int64,
    "last": pl.Int64,
    **dict.fromkeys(_SUMS, pl.Int64),
    **{f"burst_{w}": pl.Int64 for w in WINDOWS},
    "hours": pl.Int64,
    "paths": pl.List(pl.UInt32),
    "uas": pl.List(pl.UInt32),
}
"""One row: the day (since 1970, UTC), the address as logged, the User-Agent of its first request, its first and last second, then sums.

``documents`` are requests that are no asset; ``styles`` those for CSS, JavaScript and fonts; ``referred`` documents with a referrer;
``ok redirects errors missing broken`` answers 2xx, 3xx, 4xx but 404, 404, 5xx; ``depth`` slashes of documents' paths; ``gaps`` seconds of
pause between two requests that follow each other, as ``gap_sum`` and ``gap_squares``, and how many are longer than SESSION;
``hours`` a bit for each hour of the day (UTC) with a request; ``paths`` and ``uas`` sketches.
"""


def rollup(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of one shard (see ``formats``: time, ip, method, target, status, bytes, referrer, ua), one row per client and day, by SCHEMA."""
    if not rows.height:
        return pl.DataFrame(schema=SCHEMA)
    marked = _marked(rows)
    seen = marked["client"].arg_unique()
    joined = pl.DataFrame({"client": marked["client"], "day": rows["time"] // DAY, "ip": rows["ip"], "ua": rows["ua"]})[seen]
    for part in (_counts(marked), _times(marked), _least(marked, "target", "paths"), _least(marked, "ua", "uas")):
        joined = joined.join(part, on="client", how="left")
    return _ordered(joined)


def merge(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Rollups of the same log's shards, of several days or hosts, as one. The order of the parts does not matter."""
    rows = pl.concat([part.select(*SCHEMA) for part in parts if part.height] or [pl.DataFrame(schema=SCHEMA)]).sort(
        "day", "ip", "first", "last", *_SUMS
    )
    between = (pl.col("first") - pl.col("last").shift(1).over("day", "ip")).clip(lower_bound=0)
    rows = rows.with_columns(
        (pl.col("gaps") + between.is_not_null()).alias("gaps"),
        (pl.col("long_gaps") + (between > SESSION).fill_null(False)).alias("long_gaps"),
        (pl.col("gap_sum") + between.fill_null(0)).alias("gap_sum"),
        (pl.col("gap_squares") + between.fill_null(0) ** 2).alias("gap_squares"),
    )
    return _ordered(
        rows.group_by("day", "ip").agg(
            pl.col("ua", "first").first(),
            pl.col(*_MAXIMA).max(),
            pl.col(*_SUMS).sum(),
            pl.col("hours").bitwise_or(),
            *(pl.col(name).explode().unique().sort().head(k) for name, k in _LISTS.items()),
        )
    )


def distinct(column: str, k: int) -> pl.Expr:
    """How many different values a sketch of k least hashes stands for."""
    kept = pl.col(column).list.len()
    return pl.when(kept < k).then(kept).otherwise((k - 1) * 2.0**32 / (pl.col(column).list.last() + 1.0)).cast(pl.Float64)


def _ordered(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items()).sort("day", "ip")


class Mark(NamedTuple):
    """One thing that a request is or is not, as a bit of its code."""

    name: str
    holds: pl.Expr


_PATH, _STATUS = pl.col("path"), pl.col("status")
_MARKS = (
    Mark("assets", pl.col("kind") > 0),
    Mark("styles", pl.col("kind") > 1),
    Mark("referred", (pl.col("kind") == 0) & ~pl.col("referrer").is_in(("", "-"))),
    Mark("queries", pl.col("target").str.len_bytes() > _PATH.str.len_bytes()),
    Mark("ok", _STATUS.is_between(200, 299)),
    Mark("redirects", _STATUS.is_between(300, 399)),
    Mark("errors", _STATUS.is_between(400, 499) & (_STATUS != 404)),
    Mark("missing", _STATUS == 404),
    Mark("broken", _STATUS >= 500),
    Mark("heads", pl.col("method") == "HEAD"),
    Mark("posts", pl.col("method") == "POST"),
    Mark("robots", _PATH == "/robots.txt"),
    Mark("favicons", _PATH == "/favicon.ico"),
)


def _marked(rows: pl.DataFrame) -> pl.DataFrame:
    """The requests with their client's number, and a code of all that each of them is: there are few codes, and many requests."""
    days = rows["time"] // DAY
    first, several = days.min(), cast(int, days.max()) - cast(int, days.min()) + 1
    # Categories of our own: those of the whole process would grow with every log.
    numbers = rows["ip"].cast(pl.Categorical(pl.Categories.random())).to_physical().cast(pl.Int64)
    path = rows.select(pl.col("target").str.splitn("?", 2).struct.field("field_0").alias("path"))["path"]
    marked = rows.with_columns((numbers * several + (days - first)).alias("client"), path, _kinds(path).alias("kind"))
    code = pl.sum_horizontal(mark.holds.cast(pl.Int64) * (1 << bit) for bit, mark in enumerate(_MARKS))
    return marked.select(
        "client", "time", "target", "ua",
        (pl.col("client") * (1 << len(_MARKS)) + code).alias("code"),
        pl.when(pl.col("kind") == 0).then(_PATH.str.count_matches("/", literal=True)).otherwise(0).alias("depth"),
        pl.col("bytes").clip(lower_bound=0),
    )  # fmt: skip


def _kinds(path: pl.Series) -> pl.Series:
    """0 for a document, 1 for an asset, 2 for a style or script; by the path's end, of which there are few."""
    ends = path.str.slice(-6).cast(pl.Categorical(pl.Categories.random()))
    names = ends.unique(maintain_order=True).cast(pl.String)  # in the order of their numbers, as the categories are our own
    suffix = pl.col("end").str.to_lowercase().str.extract(r"\.([a-z0-9]+)$")
    kind = suffix.is_in(ASSETS).cast(pl.UInt8) + suffix.is_in(STYLES).cast(pl.UInt8)
    return pl.DataFrame({"end": names}).select(kind.fill_null(0).alias("kind"))["kind"].gather(ends.to_physical())


def _counts(marked: pl.DataFrame) -> pl.DataFrame:
    """The sums of each client, by way of its different codes."""
    codes = marked.group_by("code").agg(pl.len().cast(pl.Int64).alias("requests"), pl.col("depth", "bytes").cast(pl.Int64).sum())
    code = pl.col("code")
    return (
        codes.with_columns(
            (code // (1 << len(_MARKS))).alias("client"),
            *(((code // (1 << bit)) % 2 * pl.col("requests")).alias(mark.name) for bit, mark in enumerate(_MARKS)),
        )
        .group_by("client")
        .agg(pl.col("requests", "depth", "bytes", *(mark.name for mark in _MARKS)).sum())
        .with_columns((pl.col("requests") - pl.col("assets")).alias("documents"))
    )


def _times(marked: pl.DataFrame) -> pl.DataFrame:
    """First, last, hours, gaps and bursts of each client: its requests in the order of time, as one sorted column of numbers."""
    longest = max(WINDOWS)
    start = cast(int, marked["time"].min()) - longest  # so that a window never reaches below a client's numbers
    at = (marked["client"] * HIGH + (marked["time"] - start)).sort().alias("at")
    order = pl.int_range(1, at.len() + 1, dtype=pl.Int64, eager=True)
    client = pl.col("at") // HIGH
    time = pl.col("at") % HIGH + start
    gap = pl.when(client == client.shift(1)).then(pl.col("at") - pl.col("at").shift(1))
    hour = pl.lit(2, pl.Int64).pow(time // 3600 % 24)
    bursts = [(order - at.search_sorted(at - w, side="right").cast(pl.Int64)).alias(f"burst_{w}") for w in WINDOWS]
    return (
        pl.DataFrame([at, *bursts])
        .select(client.alias("client"), time.alias("time"), gap.alias("gap"), hour.alias("hour"), *(b.name for b in bursts))
        .group_by("client")
        .agg(
            pl.col("time").min().alias("first"),
            pl.col("time").max().alias("last"),
            pl.col("hour").bitwise_or().alias("hours"),
            pl.col("gap").count().alias("gaps"),
            (pl.col("gap") > SESSION).sum().alias("long_gaps"),
            pl.col("gap").sum().alias("gap_sum"),
            (pl.col("gap") ** 2).sum().alias("gap_squares"),
            pl.col(*(b.name for b in bursts)).max(),
        )
    )


def _least(marked: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    """The least hashes of a column's values, for each client."""
    hashed = (marked["client"].cast(pl.UInt64) * HIGH + marked[column].hash(seed=1) // HIGH).unique().sort().alias("at")
    split = pl.DataFrame(hashed).select(
        (pl.col("at") // HIGH).cast(pl.Int64).alias("client"), (pl.col("at") % HIGH).cast(pl.UInt32).alias(name)
    )
    return split.group_by("client", maintain_order=True).agg(pl.col(name).head(_LISTS[name]))
