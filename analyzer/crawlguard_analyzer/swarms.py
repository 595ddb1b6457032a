"""Many clients that behave as one: too few requests each to tell, but together they lack what as many people would have left behind.

Clients are looked at together by subnet, by system (where an ASN database says), and in clouds by the wider network too. Who stands out
as a person is counted among them, so that a provider's customers speak for each other; and is never called a member.
"""

from __future__ import annotations

import polars as pl

from .classify import Weights
from .features import Site, features

MEMBERS = 3
"""Clients that make a group."""
VOICE = 20
"""Requests with which one client can count in its group: a swarm is many, not one that is loud."""

_COUNTED = ("documents", "asked", "assets", "styles", "referred", "favicons", "robots")
_SHARES = ("published", "near", "cloud", "exit")


def swarms(clients: pl.DataFrame, site: Site, weights: Weights) -> pl.DataFrame:
    """The scored and classed clients, with ``swarm`` (its name, null for none) and the class "swarm" for members."""
    wide = pl.when(pl.col("cloud") > 0).then(pl.col("client").str.extract(r"^([0-9]+\.[0-9]+)\.") + ".0.0/16")
    keyed = clients.with_columns(wide.alias("wide"), ("AS" + pl.col("asn").cast(pl.String)).alias("system"))
    unnamed = keyed.filter(pl.col("agent").is_null())
    found = pl.concat([_groups(unnamed, key, site, weights) for key in ("subnet", "wide", "system")])
    for key in ("subnet", "wide", "system"):
        keyed = keyed.join(found.rename({"swarm": key, "swarm_score": f"{key}_swarm"}), on=key, how="left")
    named = pl.coalesce(pl.when(pl.col(f"{key}_swarm").is_not_null()).then(pl.col(key)) for key in ("subnet", "wide", "system"))
    member = pl.col("agent").is_null() & (pl.col("class") == "unknown") & (pl.col("favicons") == 0) & (pl.col("referred") == 0)
    return keyed.with_columns(pl.when(member).then(named).alias("swarm")).with_columns(
        pl.when(pl.col("swarm").is_not_null()).then(pl.lit("swarm")).otherwise(pl.col("class")).alias("class")
    )


def _groups(clients: pl.DataFrame, key: str, site: Site, weights: Weights) -> pl.DataFrame:
    """The groups by a key that are swarms, with their score."""
    voice = (VOICE / pl.col("requests")).clip(upper_bound=1.0)
    sums = (
        clients.filter(pl.col(key).is_not_null())
        .group_by(pl.col(key).alias("swarm"))
        .agg(pl.len().alias("clients"), *((pl.col(n) * voice).sum() for n in _COUNTED), *(pl.col(n).mean() for n in _SHARES))
        .filter(pl.col("clients") >= MEMBERS)
    )
    near, published = pl.col("near") > 0.5, pl.col("published") > 0.5
    sums = sums.with_columns(near & ~published, published)
    asked = [f for f in features(site) if f.name in weights.swarm]
    points = [weights.swarm[f.name].of(f.value.cast(pl.Float64).fill_nan(None)) for f in asked]
    return sums.select("swarm", pl.sum_horizontal(points).alias("swarm_score")).filter(pl.col("swarm_score") >= weights.swarm_threshold)
