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
from .rollup import PATHS, SCHEMA
from .swarms import swarms

CLIENTS_VERSION = 1

_SUMS = tuple(
    name for name in SCHEMA if name not in ("day", "ip", "ua", "first", "last", "hours", "paths", "uas") and not name.startswith("burst")
)


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
    return swarms(judged, site, context.weights).sort("requests", "client", descending=[True, False]).select(
        "client", "class", "score", "agent", "category", "operator", "identity", "swarm", "requests", "documents", "assets", "bytes",
        "first", "last", "days", "subnet", "asn", "country", "ua", *names,
    )  # fmt: skip


def site(rollup: pl.DataFrame, context: Context) -> Site:
    """What is usual on the site of this rollup."""
    return site_of(described(rollup, context))


def described(rollup: pl.DataFrame, context: Context) -> pl.DataFrame:
    """The clients' sums with what their names and addresses say, before any judgement."""
    sums = totals(rollup)
    names = context.registry.names(sums["ua"])
    kind = kinds(names["ua"])
    known = (
        sums.join(names, on="ua", how="left").join(kind, on="ua", how="left").join(context.registry.addresses(sums["client"]), on="client")
    )
    return known.with_columns(identity(pl.col("last"), context.registry.dates).alias("identity"))


def totals(rollup: pl.DataFrame) -> pl.DataFrame:
    """The days of each client added up: its sums, and client, ua, first, last, days, bursts, hours_active, distinct and names."""
    daily = rollup.with_columns(
        pl.col("hours").bitwise_count_ones().alias("active"),
        **{name: pl.lit(0, pl.Int64) for name in ("http10", "http11", "images", "feeds") if name not in rollup.columns},
    )
    return (
        daily.sort("requests", descending=True)
        .group_by(pl.col("ip").alias("client"))
        .agg(
            pl.col("ua").first(),  # that of its busiest day
            pl.col("first").min(),
            pl.col("last").max(),
            pl.len().cast(pl.Int32).alias("days"),
            pl.lit(1).alias("clients"),
            pl.col(*_SUMS, *(n for n in ("http10", "http11", "images", "feeds") if n not in _SUMS)).sum(),
            pl.col("burst_10", "burst_60").max(),
            pl.col("active").mean().alias("hours_active"),
            pl.col("active").sum().alias("cells"),
            pl.col("hours").bitwise_or().bitwise_count_ones().alias("clock"),
        )
        .join(_distinct(rollup, "paths").rename({"paths": "distinct"}), on="client")
        .join(_distinct(rollup, "uas").rename({"uas": "names"}), on="client")
        .with_columns(pl.min_horizontal(pl.col("documents") - pl.col("robots"), "distinct").clip(lower_bound=0).alias("asked"))
    )


def _distinct(rollup: pl.DataFrame, column: str) -> pl.DataFrame:
    """How many different values a client's sketches of all its days stand for together."""
    each = rollup.select(pl.col("ip").alias("client"), column).explode(column).unique()
    kept = each.sort(column).group_by("client", maintain_order=True).agg(pl.col(column).head(PATHS))
    count = pl.col(column).list.len()
    estimate = (PATHS - 1) * 2.0**32 / (pl.col(column).list.last() + 1.0)
    return kept.select("client", pl.when(count < PATHS).then(count).otherwise(estimate).cast(pl.Float64).alias(column))
