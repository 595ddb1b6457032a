"""One row per client of a log: who it says it is, what it did, what that is worth as evidence, and the class that follows.

The table's shape is VERSION's; what reads it may rely on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from crawlguard import catalogue
from crawlguard.loader import load_policy
from crawlguard.policy.model import Policy

from .agents import Registry, identity
from .browsers import kinds
from .classify import DEFAULT, Weights, classes, load_weights, scored
from .features import Site, features, site_of
from .rollup import AGENTS, HIGH, PATHS, SCHEMA
from .swarms import swarms

CLIENTS_VERSION = 1

_NOT_SUMS = ("day", "ip", "ua", "ua_requests", "first", "last", "burst_10", "burst_60", "hours", "paths", "uas")
_SUMS = tuple(name for name in SCHEMA if name not in _NOT_SUMS)


@dataclass(frozen=True, slots=True)
class Context:
    """What clients are judged by. Make it with ``context``."""

    registry: Registry
    weights: Weights
    threshold: float


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
    """The clients of a merged rollup (see ``rollup.SCHEMA``), in the order of their requests, most first.

    Columns: client, class, score, agent, category, operator, identity, swarm, requests, documents, assets, bytes, first, last, days,
    subnet, asn, country, ua, then each feature and its points.
    """
    known = described(rollup, context)
    site = site_of(known)
    found = features(site)
    judged = scored(known, found, context.weights).with_columns(classes(context.weights, context.threshold).alias("class"))
    names = [name for feature in found for name in (feature.name, f"{feature.name}_points")]
    return swarms(judged, site, context.weights).select(
        "client", "class", "score", "agent", "category", "operator", "identity", "swarm", "requests", "documents", "assets", "bytes",
        "first", "last", "days", "subnet", "asn", "country", "ua", *names,
    ).sort("requests", "client", descending=[True, False])  # fmt: skip


def site(rollup: pl.DataFrame, context: Context) -> Site:
    """What is usual on the site of this rollup."""
    return site_of(described(rollup, context))


def described(rollup: pl.DataFrame, context: Context) -> pl.DataFrame:
    """The clients' sums with what their names and addresses say, before any judgement."""
    sums = totals(rollup)
    names = context.registry.names(sums["ua"])
    named = sums.join(names.join(kinds(names["ua"]), on="ua"), on="ua", how="left", maintain_order="left")
    places = context.registry.addresses(named["client"]).drop("client")
    return pl.concat([named, places], how="horizontal").with_columns(identity(pl.col("last"), context.registry.dates).alias("identity"))


def totals(rollup: pl.DataFrame) -> pl.DataFrame:
    """The days of each client added up, as ``client`` and

    ``ua`` (that of its busiest day), ``first``, ``last``, ``days``, the sums of ``rollup.SCHEMA``, the largest bursts, ``hours_active``
    (hours of the day with a request, mean of its days), ``cells`` (their sum), ``clock`` (hours of the day with a request on any day),
    ``distinct`` targets, ``names`` (distinct User-Agents), ``asked`` (documents that differ, without robots.txt) and ``clients`` (1).
    """
    # Numbers for the addresses: to group by text takes ten times as long.
    key = rollup["ip"].cast(pl.Categorical(pl.Categories.random())).to_physical().alias("key")
    hours = pl.col("hours").bitwise_count_ones()
    order = pl.int_range(pl.len(), dtype=pl.Int64)
    daily = rollup.select(
        key, "first", "last", "burst_10", "burst_60", "hours", *_SUMS,
        hours.cast(pl.Int64).alias("active"),
        (pl.col("requests") * HIGH + HIGH - 1 - order).alias("busiest"),
    )  # fmt: skip
    added = daily.group_by("key").agg(
        pl.col("first").min(),
        pl.col("last", "burst_10", "burst_60", "busiest").max(),
        pl.len().cast(pl.Int32).alias("days"),
        pl.col(*_SUMS).sum(),
        pl.col("active").sum().alias("cells"),
        pl.col("hours").bitwise_or().bitwise_count_ones().cast(pl.Int64).alias("clock"),
    )
    rows = HIGH - 1 - added["busiest"] % HIGH
    return (
        added.with_columns(
            rollup["ip"].gather(rows).alias("client"),
            rollup["ua"].gather(rows).alias("ua"),
            (pl.col("cells") / pl.col("days")).alias("hours_active"),
            pl.lit(1).alias("clients"),
        )
        .join(_distinct(key, rollup["paths"], PATHS), on="key")
        .join(_distinct(key, rollup["uas"], AGENTS).rename({"distinct": "names"}), on="key")
        .with_columns(pl.min_horizontal(pl.col("documents") - pl.col("robots"), "distinct").clip(lower_bound=0).alias("asked"))
        .drop("key", "busiest")
    )


def _distinct(key: pl.Series, sketches: pl.Series, size: int) -> pl.DataFrame:
    """How many different values the sketches of a key stand for together: exactly below ``size``, and from the least ones above."""
    each = pl.DataFrame({"key": key, "value": sketches}).explode("value", keep_nulls=False, empty_as_null=False)
    packed = each.select((pl.col("key").cast(pl.UInt64) * HIGH + pl.col("value")).alias("at"))["at"].unique().sort()
    groups = (
        pl.DataFrame({"key": (packed // HIGH).cast(pl.UInt32)})
        .with_row_index("start")
        .group_by("key")
        .agg(pl.col("start").min(), pl.len().cast(pl.Float64).alias("count"))
    )
    largest = packed.gather(pl.Series(groups["start"]) + size - 1, null_on_oob=True) % HIGH
    return groups.select(
        "key",
        pl.when(pl.col("count") < size).then("count").otherwise((size - 1) * 2.0**32 / (largest + 1.0)).alias("distinct"),
    )
