"""The tables of an Analysis, each made from the clients' table, or from it and the rollup, in whole columns."""

from __future__ import annotations

from typing import Any

import polars as pl

from .swarms import BY_HUNDREDS

MOST = 500
"""Rows of a table, those of most requests; all the clients are in ``clients``."""
MOST_DAYS = 1000
"""Days of the chart, the last ones."""
MOST_TRENDS = 40
"""Agents, clients and swarms each whose requests are kept by the day."""
REASONS = 4
"""Features that are named for one client or swarm: those that add most to its score."""
MOSTLY = 0.5
"""The share of a swarm's members that a feature must speak against to be named."""
STEPS = 60
"""Points of the curve."""

UNDECLARED = ("crawler", "swarm", "spoofed")
"""Machines that do not say so, or say that they are somebody else."""
CLASSES = ("person", "unknown", "declared", "tool", "feed", "monitor", *UNDECLARED)
"""All classes, in the order in which charts stack them."""
BY_CONDUCT = ("person", "unknown", "crawler", "swarm")
"""Classes of clients that name no agent, so that the score has a say in them."""

_CALENDAR = (0, 2_932_896)
"""Days since 1970 that have a date with four digits: a broken clock writes others."""
LOAD = ("requests", "documents", "bytes", "spent")
"""What a site spends on a client."""
_POINTS = "_points"


def daily(clients: pl.DataFrame, rollup: pl.DataFrame) -> pl.DataFrame:
    """The rollup's days and addresses with what each client is: day (Date), client, LOAD, class, agent, swarm."""
    known = clients.select("client", "class", "agent", "swarm")
    dated = rollup.filter(pl.col("day").is_between(*_CALENDAR))
    return dated.select(pl.col("day").cast(pl.Int32).cast(pl.Date), pl.col("ip").alias("client"), pl.col(*LOAD).cast(pl.Int64)).join(
        known, on="client"
    )


def days(daily: pl.DataFrame) -> pl.DataFrame:
    """The days up to the last, at most MOST_DAYS of them, by class."""
    found = daily.group_by("day", "class").agg(pl.col(*LOAD).sum(), pl.len().cast(pl.Int64).alias("clients")).sort("day", "class")
    last = found["day"].max()
    return found.filter(pl.col("day") > pl.lit(last) - pl.duration(days=MOST_DAYS)) if last is not None else found


def trend(daily: pl.DataFrame, kind: str, names: pl.Series) -> pl.DataFrame:
    """What each of the first names of a kind (a column of ``daily``) asked for on each day."""
    kept = daily.filter(pl.col(kind).is_in(names.head(MOST_TRENDS).to_list()))
    found = kept.group_by(pl.col(kind).alias("name"), "day").agg(pl.col("requests").sum()).sort("name", "day")
    return found.select(pl.lit(kind).alias("kind"), "name", "day", "requests")


_ROBOTS: dict[str, Any] = {
    "robots_fetched": pl.Int64,
    "first_robots": pl.Int64,
    "disallowed": pl.Int64,
    "obeys": pl.String,
    "examples": pl.List(pl.String),
}


def agents(clients: pl.DataFrame, compliance: pl.DataFrame | None) -> pl.DataFrame:
    """Those that name themselves, whoever they are: a spoofed name counts under the name, and is told apart.

    What is said of robots.txt is of those with the identity that is shown, so that nobody answers for who only uses the name.
    """
    columns = ("client", "agent", "operator", "category", "identity", *LOAD, "first", "last")
    named = clients.select(columns).filter(pl.col("agent").is_not_null()).sort("requests", "client", descending=[True, False])
    is_verified, is_spoofed = (pl.col("identity") == "verified").fill_null(False), (pl.col("identity") == "spoofed").fill_null(False)
    found = named.group_by("agent").agg(
        pl.col("operator", "category").drop_nulls().first(),
        pl.col("requests").filter(is_verified).sum().alias("verified"),
        pl.col("requests").filter(is_spoofed).sum().alias("spoofed"),
        pl.col(*LOAD).sum(),
        pl.len().cast(pl.Int64).alias("clients"),
        pl.col("first").min(),
        pl.col("last").max(),
    )
    empty = pl.DataFrame(schema={"agent": pl.String, "identity": pl.String, **_ROBOTS})
    told = empty if compliance is None else compliance.select("agent", "identity", *_ROBOTS)
    identity = (
        pl.when(pl.col("spoofed") * 2 > pl.col("requests"))
        .then(pl.lit("spoofed"))
        .when(pl.col("verified") * 2 > pl.col("requests"))
        .then(pl.lit("verified"))
        .otherwise(pl.lit("unverified"))
    )
    return (
        found.with_columns(identity.alias("identity"))
        .join(told, on=("agent", "identity"), how="left")
        .with_columns(pl.col("obeys").fill_null("unknown"))
        .select(
            "agent", "operator", "category", "identity", *LOAD, "clients", "verified", "spoofed", "first", "last",
            *(pl.col(name).cast(kind) for name, kind in _ROBOTS.items()),
        )
        .sort("requests", "agent", descending=[True, False])
        .head(MOST)
    )  # fmt: skip


def _features(clients: pl.DataFrame) -> list[str]:
    return [name.removesuffix(_POINTS) for name in clients.columns if name.endswith(_POINTS)]


def undeclared(clients: pl.DataFrame) -> pl.DataFrame:
    """Crawlers and false names, each by itself, with what speaks most against it."""
    features = _features(clients)
    alone = clients.filter(pl.col("class").is_in(("crawler", "spoofed"))).sort("requests", "client", descending=[True, False]).head(MOST)
    columns = (
        "client", "class", "agent", "score", *LOAD, "assets", "first", "last", "days", "subnet", "asn", "country", "ua",
    )  # fmt: skip
    return _with_reasons(alone, features).select(*columns, "reasons", "values", "points")


def swarms(clients: pl.DataFrame) -> pl.DataFrame:
    """The members of each swarm together, with what speaks against most of them; ``beside``: crawlers of the same network or User-Agent that
    are busy enough to be told each by itself, and are no members. So a swarm may have a single member.
    """
    features = _features(clients)
    members = clients.filter((pl.col("class") == "swarm") & pl.col("swarm").is_not_null())
    found = members.sort("requests", "client", descending=[True, False]).group_by("swarm").agg(
        pl.len().cast(pl.Int64).alias("clients"),
        pl.col("subnet").n_unique().cast(pl.Int64).alias("subnets"),
        pl.col(*LOAD, "assets").sum(),
        pl.col("first").min(),
        pl.col("last").max(),
        pl.col("ua").mode(maintain_order=True).first(),
        *((pl.col(name + _POINTS) > 0).mean().alias(name) for name in features),
        *(pl.col(name + _POINTS).mean() for name in features),
    )  # fmt: skip
    top = found.sort("requests", "swarm", descending=[True, False]).head(MOST)
    top = top.join(_beside(clients, top["swarm"]), on="swarm", how="left", maintain_order="left").with_columns(
        pl.col("beside").fill_null(0)
    )
    columns = ("swarm", "clients", "beside", "subnets", *LOAD, "assets", "first", "last", "ua")
    return _with_reasons(top, features, least=MOSTLY).select(*columns, "reasons", "values", "points")


def _beside(clients: pl.DataFrame, names: pl.Series) -> pl.DataFrame:
    """How many crawlers have what a swarm is named for (see ``swarms.KEYS``)."""
    alone = clients.filter(pl.col("class") == "crawler")
    kinds = (pl.col("subnet"), BY_HUNDREDS, pl.lit("AS") + pl.col("asn").cast(pl.String), pl.col("ua"))
    found = pl.concat([alone.select(kind.alias("swarm")) for kind in kinds]).filter(pl.col("swarm").is_in(names.implode()))
    return found.group_by("swarm").agg(pl.len().cast(pl.Int64).alias("beside"))


def _with_reasons(few: pl.DataFrame, features: list[str], least: float | None = None) -> pl.DataFrame:
    """At most MOST rows: the features that add most to each one's score, by name, value and points; none whose value is below ``least``."""
    found = []
    for row in few.iter_rows(named=True):
        told = ((row[name + _POINTS] or 0.0, name, row[name]) for name in features)
        found.append(
            sorted((one for one in told if one[0] > 0 and (least is None or one[2] >= least)), key=lambda one: (-one[0], one[1]))[:REASONS]
        )
    return few.with_columns(
        pl.Series("reasons", [[name for _, name, _ in best] for best in found], pl.List(pl.String)),
        pl.Series("values", [[value for _, _, value in best] for best in found], pl.List(pl.Float64)),
        pl.Series("points", [[points for points, _, _ in best] for best in found], pl.List(pl.Float64)),
    )


def networks(clients: pl.DataFrame) -> pl.DataFrame:
    """Autonomous systems, where they are known, and subnets, with the requests of each class."""

    def by(kind: str, name: pl.Expr) -> pl.DataFrame:
        found = clients.lazy().filter(name.is_not_null()).group_by(name.alias("network")).agg(
            pl.col("country").min(),
            pl.len().cast(pl.Int64).alias("clients"),
            pl.col("requests", "bytes").sum(),
            *(pl.col("requests").filter(pl.col("class") == one).sum().alias(one) for one in CLASSES),
        ).collect()  # fmt: skip
        return found.select(pl.lit(kind).alias("kind"), pl.all()).sort("requests", "network", descending=[True, False]).head(MOST)

    return pl.concat([by("asn", pl.lit("AS") + pl.col("asn").cast(pl.String)), by("subnet", pl.col("subnet"))])


def curve(clients: pl.DataFrame, threshold: float | None) -> pl.DataFrame:
    """How many would be called machines at each threshold, of those whom only their conduct tells."""
    named = clients.select("class", pl.col("score").fill_nan(0.0).fill_null(0.0), "requests")
    judged = named.filter(pl.col("class").is_in(BY_CONDUCT)).sort("score")
    scores = judged["score"]
    ends = [float(score) for score in (0.0, threshold, scores.min(), scores.max()) if isinstance(score, int | float)]
    least, width = min(ends), max(ends) - min(ends)
    steps = pl.Series("threshold", sorted({least + width * i / STEPS for i in range(STEPS + 1)} | {threshold or 0.0}), pl.Float64)
    below = scores.search_sorted(steps, side="left")
    passed = pl.concat([pl.Series([0], dtype=pl.Int64), judged["requests"].cum_sum().cast(pl.Int64)])
    return pl.DataFrame(steps).with_columns(
        (judged.height - below.cast(pl.Int64)).alias("clients"), (passed[-1] - passed.gather(below)).alias("requests")
    )
