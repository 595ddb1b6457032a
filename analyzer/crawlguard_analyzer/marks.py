"""What a request is, in 32 bytes: numbers for its address and User-Agent, its second, a hash of its target, a code of all that it is.

Marks are made of a chunk as soon as it is parsed, so that many chunks are rolled up at once without their text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import polars as pl

from .traps import NO_TRAPS, Traps, ends

HIGH: Final = 1 << 32
MOST_BYTES: Final = 1 << 40
"""An answer of more than a TiB counts as one, so that no sum overflows."""

ASSETS: Final = (
    "css", "js", "mjs", "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "bmp", "woff", "woff2", "ttf", "otf", "eot", "map",
    "mp4", "webm", "mp3", "ogg", "m4a", "wasm",
)  # fmt: skip
"""Extensions of what a browser loads by itself for a page."""
STYLES: Final = ("css", "js", "mjs", "woff", "woff2")
"""Those without which a page does not look as it should."""
IMAGES: Final = ("png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "bmp")
FEEDS: Final = ("/feed", "/feed/", "/rss", "/rss/", ".rss", ".atom", "/feed.xml", "/rss.xml", "/atom.xml", "/index.xml")
"""How a feed's path ends."""

_END = 6
"""Bytes of a path's end that tell what it is: a dot and the longest of the extensions."""
_PROBING = ends(_END)
_DOCUMENT, _OTHER, _STYLE, _IMAGE, _FEED, _XML = range(6)


class Mark(NamedTuple):
    """One thing that a request is or is not, as a bit of its code."""

    name: str
    holds: pl.Expr


_PATH, _STATUS, _KIND = pl.col("path"), pl.col("status"), pl.col("kind")
MARKS: Final = (
    Mark("assets", _KIND.is_between(_OTHER, _IMAGE)),
    Mark("styles", _KIND == _STYLE),
    Mark("images", _KIND == _IMAGE),
    Mark("feeds", _KIND == _FEED),
    Mark("referred", ~_KIND.is_between(_OTHER, _IMAGE) & (pl.col("referrer").str.len_bytes() > 0) & (pl.col("referrer") != "-")),
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
    Mark("http10", pl.col("protocol") == "HTTP/1.0"),
    Mark("http11", pl.col("protocol") == "HTTP/1.1"),
)
BITS: Final = 1 << len(MARKS)
_CODE: Final = pl.sum_horizontal(mark.holds.cast(pl.UInt32) * (1 << bit) for bit, mark in enumerate(MARKS))


class Marked(NamedTuple):
    """The requests of a shard: ``time`` Int64, ``bytes`` Int64, ``target`` UInt32 (hash), ``code`` UInt32 (the bits of MARKS; above them the
    slashes of a document's path), ``ip`` and ``ua`` UInt32: places in the two lists of names; where there are any, ``spent`` Int32 (microseconds) and ``trap`` UInt8 (see ``traps``).
    """

    requests: pl.DataFrame
    ips: pl.Series
    uas: pl.Series


class Numbered(NamedTuple):
    """A number for each of some texts, and the different ones by their numbers."""

    numbers: pl.Series
    names: pl.Series


def marked(rows: pl.DataFrame, traps: Traps = NO_TRAPS, uas: Numbered | None = None) -> Marked:
    """The marks of some rows. ``uas``: their User-Agents, if somebody has numbered them."""
    timed = "spent" in rows.columns and (rows["spent"] > 0).any()
    rows = rows.select("time", "ip", "method", "target", "protocol", "status", "bytes", "referrer", "ua", *["spent"] * timed)
    query = pl.col("target").str.find("?", literal=True).fill_null(HIGH - 1)  # counts bytes
    # In one thread, here and below: the other chunks are for the others.
    rows = rows.with_columns_seq(pl.col("target").cast(pl.Binary).bin.head(query).cast(pl.String).alias("path"))
    kinds, probing = _kinds(rows["path"])
    trapped = traps.touched(rows, probing)
    pages = (~kinds.is_between(_OTHER, _IMAGE)).arg_true()
    depth = rows["path"].gather(pages).str.count_matches("/", literal=True).clip(0, HIGH // BITS - 1)
    slashes = pl.zeros(rows.height, dtype=pl.UInt32, eager=True).scatter(pages, depth)
    rows = rows.hstack([kinds.alias("kind"), slashes.alias("slashes")])
    numbers = {"ip": numbered(rows["ip"]), "ua": uas or numbered(rows["ua"])}
    requests = rows.select_seq(
        "time",
        pl.col("bytes").clip(0, MOST_BYTES),
        (pl.col("target").hash(seed=1) // HIGH).cast(pl.UInt32),
        (_CODE + pl.col("slashes") * BITS).cast(pl.UInt32).alias("code"),
        *(number.alias(name) for name, (number, _) in numbers.items()),
    )
    if timed:
        requests = requests.with_columns(rows["spent"].clip(lower_bound=0))
    if trapped is not None:
        requests = requests.with_columns(trapped.alias("trap"))
    return Marked(requests, numbers["ip"].names, numbers["ua"].names)


def joined(parts: Sequence[Marked]) -> Marked:
    """Several shards as one."""
    if len(parts) == 1:
        return parts[0]
    requests = pl.concat([part.requests for part in parts], how="diagonal")  # few chunks have a trap, few logs say what was spent
    found = []
    for name, lists in (("ip", [part.ips for part in parts]), ("ua", [part.uas for part in parts])):
        number, names = numbered(pl.concat(lists))
        starts = [0]
        for one in lists[:-1]:
            starts.append(starts[-1] + one.len())
        places = pl.concat([part.requests[name] + start for part, start in zip(parts, starts, strict=True)])
        requests = requests.with_columns(number.gather(places).alias(name))
        found.append(names)
    return Marked(requests, *found)


def numbered(values: pl.Series) -> Numbered:
    """Texts as numbers. The names are copies: a slice of a text holds the whole of it in memory."""
    # Categories of our own: those of the whole process would grow with every log.
    kind = pl.Categorical(pl.Categories.random())
    held = values.cast(kind)  # as long as it lives, so do the categories
    numbers = held.to_physical()
    size = 1 + cast(int, numbers.max()) if numbers.len() else 0
    names = pl.int_range(size, dtype=pl.UInt32, eager=True).to_frame("name").select(pl.col("name").cat.to(kind).cast(pl.String))
    return Numbered(numbers, names.to_series())


def _kinds(path: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    """What a path is, by its end, of which there are few different ones; and which may be probes, None when none is."""
    numbers, last = numbered(path.str.tail(_END))
    same, ends = numbered(last.str.strip_chars_start("0123456789"))  # most of the different ones are items' numbers
    telling = ends.str.contains_any([".", *FEEDS]).arg_true()
    suffix = pl.col("end").str.to_lowercase().str.extract(r"\.([a-z0-9]+)$").fill_null("")
    short = [end for end in FEEDS if len(end) <= _END]
    kind = (
        pl.when(pl.any_horizontal(pl.col("end").str.ends_with(end) for end in short)).then(_FEED)
        .when(suffix == "xml").then(_XML)
        .when(suffix.is_in(STYLES)).then(_STYLE)
        .when(suffix.is_in(IMAGES)).then(_IMAGE)
        .when(suffix.is_in(ASSETS)).then(_OTHER)
        .otherwise(_DOCUMENT)
    )  # fmt: skip
    told = ends.gather(telling).to_frame("end").select_seq(kind.cast(pl.UInt8)).to_series()
    kinds = pl.repeat(_DOCUMENT, ends.len(), dtype=pl.UInt8, eager=True).scatter(telling, told).gather(same.gather(numbers)).alias("kind")
    probing = last.is_in(_PROBING)
    may = probing.gather(numbers) if probing.any() else None
    if not (kinds == _XML).any():
        return kinds, may
    fed = pl.any_horizontal(pl.lit(path).str.ends_with(end) for end in FEEDS)
    found = pl.when(pl.lit(kinds) != _XML).then(pl.lit(kinds)).when(fed).then(_FEED).otherwise(_DOCUMENT)
    return pl.select(found.cast(pl.UInt8)).to_series(), may
