"""One row per client of a log: who it says it is, what it did, what that is worth as evidence, and the class that follows.

The table's shape is VERSION's; what reads it may rely on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from crawlguard import catalogue
from crawlguard.loader import load_policy
from crawlguard.policy.model import Policy

from .adding import run_sums
from .agents import Registry, identity
from .browsers import kinds
from .classify import DEFAULT, Weights, classes, load_weights, scored
from .features import Site, features, site_of
from .houses import housed, spread
from .marks import numbered
from .rollup import AGENTS, HIGH, PATHS
from .swarms import ASKED, swarms
from .threads import mapped

CLIENTS_VERSION = 1

_SUMS = (
    "requests", "documents", "assets", "styles", "referred", "ok", "errors", "missing", "heads", "robots", "favicons", "http10", "http11",
    "feeds", "bytes", "gaps", "long_gaps", "gap_sum", "gap_squares", "trapped", "spent",
)  # fmt: skip
"""What is needed of a rollup's sums."""
_OF_CLIENT = (
    "client", "class", "score", "agent", "category", "operator", "identity", "swarm", "requests", "documents", "assets", "bytes", "spent",
    "first", "last", "days", "subnet", "asn", "country", "ua",
)  # fmt: skip
"""Columns of the table of clients, before those of features."""
_SKETCHES = (("paths", PATHS, "distinct"), ("uas", AGENTS, "names"))
"""Columns of least hashes, their sizes, and what the numbers are called that they stand for."""
_AT_ONCE = 100_000
"""Rows of a rollup, more or less, that are added up at once, in each of two threads: what that needs beside its result is small."""


@dataclass(frozen=True, slots=True)
class Context:
    """What clients are judged by. Make it with ``context``."""

    registry: Registry
    weights: Weights
    threshold: float


class Sums(NamedTuple):
    """Totals (see ``totals``) of all clients, with the addresses of one /64 as one, and of those addresses each (``own``, None when there are
    none); ``homes`` says which they are, see ``houses``.
    """

    each: pl.DataFrame
    homes: pl.DataFrame
    own: pl.DataFrame | None


def context(
    policy: Policy | None = None,
    *,
    asn: str | None = None,
    country: str | None = None,
    weights: Path = DEFAULT,
    threshold: float | None = None,
) -> Context:
    """For a policy's agents and networks (None: the bundled default's). ``asn`` and ``country``: mmdb files, else the policy's.

    Raises DataError for a database that cannot be used, ConfigError for weights that cannot, PolicyError for a broken catalogue.
    """
    policy = load_policy(policy)
    networks = {**catalogue.networks(), **policy.networks}
    table = load_weights(weights)
    registry = Registry(policy, networks, asn or policy.asn, country or policy.country)
    return Context(registry, table, table.threshold if threshold is None else threshold)


def clients(rollup: pl.DataFrame, context: Context) -> pl.DataFrame:
    """The clients of a merged rollup (see ``rollup.SCHEMA``), in the order of their requests, most first, then of their first.

    Columns: client, class, score, agent, category, operator, identity, swarm, requests, documents, assets, bytes, spent, first, last,
    days, subnet, asn, country, ua, then each feature and its points. Addresses of one IPv6 /64 are one client (see ``houses``): each has its class,
    score and features, and requests of its own. ``spent``: microseconds that the server took, 0 where the log does not say.
    """
    return judged(summed([rollup]), context)


def summed(shares: Iterable[pl.DataFrame]) -> Sums:
    """All of a rollup that ``judged`` needs: the rollup itself, which is several times as large, need not be kept.

    ``shares``: the rollup, whole or in shares that have no client and no /64 in common (see ``spilling``).
    """
    each, homes, own = [], [], []
    for rollup in shares:
        gathered, found = housed(rollup)
        each.append(_added_up(gathered))
        if found.height:
            homes.append(found)
            own.append(_added_up(rollup.join(found, left_on="ip", right_on="client", how="semi")))
    return Sums(_ordered(each), pl.concat(homes) if homes else found, _ordered(own) if own else None)


def judged(sums: Sums, context: Context) -> pl.DataFrame:
    """See ``clients``. If the caller keeps no ``sums``, they go as soon as they are not needed."""
    each, homes, own = sums
    del sums
    known = _named(each, context)
    del each
    site = site_of(known)
    found = features(site)
    known = scored(known, found, context.weights).with_columns(classes(context.weights, context.threshold).alias("class"))
    columns = [*_OF_CLIENT, *(name for feature in found for name in (feature.name, f"{feature.name}_points"))]
    known = known.select(*(name for name in columns if name != "swarm"), *ASKED)
    table = swarms(known, site, context.weights).select(columns)
    return table if own is None else spread(table, own, homes)


def site(rollup: pl.DataFrame, context: Context) -> Site:
    """What is usual on the site of this rollup."""
    return site_of(described(housed(rollup)[0], context))


def described(rollup: pl.DataFrame, context: Context) -> pl.DataFrame:
    """The clients' sums with what their names and addresses say, before any judgement."""
    return _named(totals(rollup), context)


def _named(sums: pl.DataFrame, context: Context) -> pl.DataFrame:
    names = context.registry.names(sums["ua"])
    named = sums.join(names.join(kinds(names["ua"]), on="ua"), on="ua", how="left", maintain_order="left")
    places = context.registry.addresses(named["client"]).drop("client")
    return pl.concat([named, places], how="horizontal").with_columns(identity(pl.col("last"), context.registry.dates).alias("identity"))


def totals(rollup: pl.DataFrame) -> pl.DataFrame:
    """The days of each client added up, those of most requests first, as ``client`` and

    ``ua`` (that of its busiest day), ``first``, ``last``, ``days``, the sums, ``burst_60``, ``hours_active`` (hours of the day with a
    request, mean of its days), ``cells`` (their sum), ``clock`` (hours of the day with a request on any day), ``distinct`` targets, ``names``
    (distinct User-Agents), ``traps`` (bits of those touched), ``asked`` (documents that differ, without robots.txt) and ``clients`` (1).
    """
    return _ordered([_added_up(rollup)])


def _ordered(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The totals of several shares in their order; the list is emptied."""
    keys = pl.concat(part.select("requests", "first", "key") for part in parts)
    order = keys.select(pl.arg_sort_by("requests", "first", "key", descending=[True, False, False])).to_series()
    columns = [part.drop("key").get_columns() for part in parts]
    parts.clear()
    # One column after the other, so that they are not all there twice.
    found = [pl.concat([some.pop() for some in columns], rechunk=True).gather(order) for _ in range(len(columns[0]))]
    ordered = pl.DataFrame(found[::-1])
    return ordered.with_columns(_once(ordered["ua"]))


def _once(texts: pl.Series) -> pl.Series:
    """The same texts, each different one in memory once, and nothing else of where they are from."""
    numbers, names = numbered(texts)
    return names.gather(numbers).alias(texts.name)


def _added_up(rollup: pl.DataFrame) -> pl.DataFrame:
    """See ``totals``; in any order, with a number for the client's name as ``key``."""
    keys = rollup["ip"].hash(seed=3).alias("key")  # to group by text takes ten times as long
    parts = rollup.height // _AT_ONCE + 1
    table = rollup.select(
        *_SUMS, "first", "last", "burst_60", "hours", "traps", keys,
        *(_estimate(pl.col(column).list.len(), pl.col(column).list.last(), size).alias(name) for column, size, name in _SKETCHES),
    ).with_row_index("row")  # fmt: skip
    mine, sketches = keys % parts, rollup.select(column for column, _, _ in _SKETCHES)
    added = pl.concat(mapped(lambda part: _each_added(table.filter(mine == part), sketches), range(parts)))
    return added.with_columns(
        pl.concat_str(rollup["ip"].gather(added["row"]), pl.lit("")).alias("client"),
        _once(rollup["ua"].gather(added["row"])),
        (pl.col("cells") / pl.col("days")).alias("hours_active"),
        pl.min_horizontal(pl.col("documents") - pl.col("robots"), "distinct").clip(lower_bound=0).alias("asked"),
        pl.lit(1).alias("clients"),
    ).drop("row")


def _each_added(table: pl.DataFrame, sketches: pl.DataFrame) -> pl.DataFrame:
    """The clients of some rows, which are all of these clients' rows. ``sketches``: those of the whole rollup."""
    table = table[table["key"].arg_sort()]
    new = table["key"].ne_missing(table["key"].shift(1))
    alone = new & new.shift(-1, fill_value=True)
    table = table.with_columns(
        pl.col("row", *_SUMS, "burst_60").cast(pl.Int64),
        pl.col("hours").bitwise_count_ones().cast(pl.Int64).alias("cells"),
    )
    once = table.filter(alone).select(
        "key", "row", *_SUMS, "first", "last", "burst_60", "cells", "traps",
        pl.lit(1, pl.Int32).alias("days"), pl.col("cells").alias("clock"), "distinct", "names",
    )  # fmt: skip
    several = table.filter(~alone).drop("distinct", "names")
    several = several.hstack(sketches[several["row"].cast(pl.get_index_type())])  # few of the lists are copied
    return pl.concat([once, _added(several, new.filter(~alone)).select(once.columns)])


def _added(table: pl.DataFrame, new: pl.Series) -> pl.DataFrame:
    """The clients with several rows, which follow each other; ``new``: where a client's begin. ``row`` is that of the busiest, of several such
    the first in the rollup.
    """
    busiest = pl.col("requests") * HIGH + HIGH - 1 - pl.col("row")
    table = table.with_columns((new.cum_sum().cast(pl.UInt32) - 1).set_sorted().alias("owner"))
    each = table.group_by("owner", maintain_order=True).agg(
        pl.col("key").first(),
        pl.col("first").min(),
        pl.col("last", "burst_60").max(),
        pl.len().cast(pl.Int32).alias("days"),
        (HIGH - 1 - busiest.max() % HIGH).alias("row"),
        pl.col("hours").bitwise_or().bitwise_count_ones().cast(pl.Int64).alias("clock"),
        pl.col("traps").bitwise_or(),
    )
    for column, size, name in _SKETCHES:
        each = each.join(_distinct(table, column, size).rename({column: name}), on="owner", how="left", maintain_order="left")
    return each.hstack(run_sums(table.select(*_SUMS, "cells"), new))


def _distinct(table: pl.DataFrame, column: str, size: int) -> pl.DataFrame:
    """How many different values the sketches of an owner stand for together."""
    each = table.select("owner", column).explode(column, keep_nulls=False, empty_as_null=False)
    packed = each.select((pl.col("owner").cast(pl.UInt64) * HIGH + pl.col(column)).sort().alias("at"))["at"]
    packed = packed.filter((packed != packed.shift(1)).fill_null(True))
    groups = (
        pl.DataFrame({"owner": (packed // HIGH).cast(pl.UInt32).set_sorted()})
        .with_row_index("start")
        .group_by("owner", maintain_order=True)
        .agg(pl.col("start").min(), pl.len().alias("count"))
    )
    largest = pl.lit(packed).gather(pl.col("start") + size - 1, null_on_oob=True) % HIGH
    return groups.select("owner", _estimate(pl.col("count"), largest, size).alias(column))


def _estimate(count: pl.Expr, largest: pl.Expr, size: int) -> pl.Expr:
    """What a sketch of the ``size`` least hashes says (see ``rollup.PATHS``): their number, or what the largest of a full one stands for."""
    return pl.when(count < size).then(count).otherwise((size - 1) * 2.0**32 / (largest + 1.0)).cast(pl.Float64)
