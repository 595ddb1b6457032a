"""Many clients that behave as one: too few requests each to tell, but together they lack what as many people would have left behind.

Clients are looked at together by KEYS. Who stands out as a person is counted among them, so that a provider's customers, and the people
whose browser a crawler claims, speak for each other; and whoever shows a trace of a person is never called a member.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from .classify import Weights
from .features import Site, features

VOICE = 20
"""Requests with which one client can count in its group: a swarm is many, not one that is loud."""
PEOPLE = 2
"""A group that holds more clients that stand out as people is no swarm, however many others it has: a crawler may take any browser's
name, and people with that browser must not pay for it."""
OLD = 1
"""Years after which a browser's User-Agent may be the mark of a swarm: that of a current one is everybody's."""


class Key(NamedTuple):
    """By what clients are looked at together; ``members`` and ``subnets``: how many of them make a group."""

    name: str
    value: pl.Expr
    members: int = 3
    subnets: int = 1


BY_HUNDREDS = pl.col("client").str.extract(r"^([0-9]+\.[0-9]+)\.") + ".0.0/16"
"""The /16 of an IPv4 address."""
KEYS = (
    Key("subnet", pl.col("subnet")),
    Key("wide", pl.when(pl.col("cloud") > 0).then(BY_HUNDREDS)),  # a rented swarm has addresses all over its cloud
    Key("system", pl.when(pl.col("cloud") > 0).then("AS" + pl.col("asn").cast(pl.String))),
    Key("look", pl.when((pl.col("ancient") >= OLD) | (pl.col("impossible") > 0)).then(pl.col("ua")), members=20, subnets=10),
)

# How far each habit of people shows: a page with ten assets shows it as well as one with two (as ``features.site_of`` counts).
_SHOWN = {
    "assets": pl.min_horizontal("assets", "asked"),
    "styles": pl.min_horizontal("styles", "asked"),
    "referred": pl.min_horizontal("referred", "asked"),
    "favicons": pl.col("favicons").clip(upper_bound=1),
    "robots": pl.col("robots"),
    "documents": pl.col("documents"),
    "asked": pl.col("asked"),
}
_SHARES = ("published", "near", "cloud", "exit")
ASKED = ("kind", "styles", "favicons", "referred", "asked")
"""What is asked of clients besides the columns of their table."""


def swarms(clients: pl.DataFrame, site: Site, weights: Weights) -> pl.DataFrame:
    """The scored and classed clients, with ``swarm`` (its name, null for none) and the class "swarm" for members."""
    keyed = clients.with_columns(key.value.alias(f"_{key.name}") for key in KEYS)
    heard = pl.col("agent").is_null() & (pl.col("kind") != "text")
    bare = pl.all_horizontal(pl.col(name) == 0 for name in ("styles", "favicons", "referred"))
    # Images alone, without a page, are also what mail providers fetch for their readers.
    quiet = bare & ((pl.col("assets") == 0) | ((pl.col("cloud") > 0) & (pl.col("asked") > 0)))
    voice = (VOICE / pl.col("requests")).clip(upper_bound=1.0)
    traces = keyed.lazy().filter(heard).select(
        *(_hash(key).alias(key.name) for key in KEYS),  # to group by text takes ten times as long
        pl.col("subnet").hash().alias("place"),
        (pl.col("class") == "person").alias("people"),
        *((shown * voice).alias(name) for name, shown in _SHOWN.items()),
        *(pl.col(name).cast(pl.Float64) for name in _SHARES),
    ).collect()  # fmt: skip
    hits = [_hash(key).is_in(_swarms(traces, key, site, weights).implode()) for key in KEYS]
    named = pl.coalesce(pl.when(hit).then(pl.col(f"_{key.name}")) for hit, key in zip(hits, KEYS, strict=True))
    member = heard & (pl.col("class") == "unknown") & quiet
    return (
        keyed.with_columns(pl.when(member).then(named).alias("swarm"))
        .with_columns(pl.when(pl.col("swarm").is_not_null()).then(pl.lit("swarm")).otherwise(pl.col("class")).alias("class"))
        .drop(f"_{key.name}" for key in KEYS)
    )


def _hash(key: Key) -> pl.Expr:
    text = pl.col(f"_{key.name}")
    return pl.when(text.is_not_null()).then(text.hash())


def _swarms(traces: pl.DataFrame, key: Key, site: Site, weights: Weights) -> pl.Series:
    """The groups by a key that are swarms, as hashes of their names."""
    many = traces.filter(pl.col(key.name).is_not_null() & pl.col(key.name).is_duplicated())
    groups = (
        many.group_by(pl.col(key.name).alias("swarm"))
        .agg(
            pl.len().alias("clients"),
            pl.col("place").n_unique().alias("subnets"),
            pl.col("people", *_SHOWN).sum(),
            pl.col(*_SHARES).mean(),
        )
        .filter((pl.col("clients") >= key.members) & (pl.col("subnets") >= key.subnets) & (pl.col("people") <= PEOPLE))
        .with_columns(pl.col("near") > 0.5, pl.col("published") > 0.5, pl.lit("browser").alias("kind"))
    )
    asked = [feature for feature in features(site) if feature.name in weights.swarm]
    points = [weights.swarm[feature.name].of(feature.value.cast(pl.Float64).fill_nan(None)) for feature in asked]
    return groups.filter(pl.sum_horizontal(points) >= weights.swarm_threshold)["swarm"]
