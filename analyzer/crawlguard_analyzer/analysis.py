"""What a log has told, as a few plain tables: all that a report, a mail or an export is made from. Every table but ``clients`` is short.

An analysis holds text of the log as it was logged. Who shows it makes it harmless first (``report.words``); ``to_dict`` only cuts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any

import polars as pl

VERSION = 1
"""Of the shape of ``to_dict``."""
MOST = 500
"""Rows of a table, those of most requests; all the clients are in ``clients``."""
MOST_IN_JSON = 100
MOST_DAYS = 1000
MOST_TRENDS = 40
"""Agents, clients and swarms each whose requests are kept by the day."""
MOST_TEXT = 512
"""Characters of a text in JSON; the guard reads as many bytes of a User-Agent."""
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
_LOAD = ("requests", "documents", "bytes")
_POINTS = "_points"


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What was read. ``lines`` = ``rows`` + all of ``unparsed`` (lines by reason). ``formats``: what each log was taken for, in words.

    ``first``, ``last``: seconds since 1970, UTC, None when there is no row. ``bytes``: those of the answers.
    """

    lines: int = 0
    rows: int = 0
    unparsed: Mapping[str, int] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """The tables; all sorted by requests, most first, but for ``days``, ``trends`` and ``curve``, which go by their day or threshold.

    - ``clients``: one row per client, see ``clients``.
    - ``days``: day (Date, UTC), class, requests, documents, bytes, clients; the last MOST_DAYS days.
    - ``agents``: agent, operator, category, identity (that of most of its requests), requests, documents, bytes, clients,
      verified and spoofed (requests), first, last; of robots.txt robots_fetched, first_robots, disallowed (all null when nobody has looked), obeys (yes, no, unknown), examples.
    - ``undeclared``: clients of the classes crawler and spoofed with reasons (features), values and points (lists of equal length).
    - ``swarms``: swarm, clients, subnets, requests, documents, bytes, assets, first, last, ua, and reasons: the features that speak against
      most of its members, values: the share of them, points: their average.
    - ``networks``: kind (asn, subnet), network, country, clients, requests, bytes, and the requests of each class.
    - ``trends``: kind (agent, client, swarm), name, day, requests, for the first MOST_TRENDS of each.
    - ``curve``: threshold, and how many clients and requests without a name score that much; ``threshold`` is the one in force.
    - ``actions``: rule, action, hits, from crawlguard's own decision log; None for any other log.
    """

    clients: pl.DataFrame
    days: pl.DataFrame
    agents: pl.DataFrame
    undeclared: pl.DataFrame
    swarms: pl.DataFrame
    networks: pl.DataFrame
    trends: pl.DataFrame
    curve: pl.DataFrame
    totals: Totals
    threshold: float | None = None
    actions: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        clients: pl.DataFrame,
        rollup: pl.DataFrame,
        agents: pl.DataFrame | None,
        totals: Totals,
        actions: pl.DataFrame | None = None,
        *,
        threshold: float | None = None,
        notes: Iterable[str] = (),
    ) -> Analysis:
        """From the table of clients, the merged rollup (one row per day and address), robots compliance, and the hits of rules.

        ``agents``: one row per agent and identity (see ``compliance.compliance``); None, or where agents are missing: nobody has looked. ``notes``: sentences for the reader.
        """
        known = clients.select("client", "class", "agent", "swarm")
        daily = (
            rollup.filter(pl.col("day").is_between(*_CALENDAR))
            .select(pl.col("day").cast(pl.Int32).cast(pl.Date), pl.col("ip").alias("client"), *_LOAD)
            .join(known, on="client")
        )
        named, alone, grouped = _agents(clients, agents), _undeclared(clients), _swarms(clients)
        return cls(
            clients=clients,
            days=_days(daily),
            agents=named,
            undeclared=alone,
            swarms=grouped,
            networks=_networks(clients),
            trends=pl.concat(
                [
                    _trend(daily, "agent", named["agent"]),
                    _trend(daily, "client", alone["client"]),
                    _trend(daily, "swarm", grouped["swarm"]),
                ]
            ),
            curve=_curve(clients, threshold),
            totals=totals,
            threshold=threshold,
            actions=None if actions is None else actions.sort("hits", "rule", "action", descending=[True, False, False]).head(MOST),
            notes=tuple(notes),
        )

    def classes(self) -> pl.DataFrame:
        """class, clients, requests, documents, bytes: a row for each class that occurs, in the order of CLASSES."""
        order = pl.col("class").replace_strict({name: i for i, name in enumerate(CLASSES)}, default=len(CLASSES), return_dtype=pl.Int32)
        found = self.clients.group_by("class").agg(pl.len().cast(pl.Int64).alias("clients"), pl.col(*_LOAD).sum())
        return found.sort(order, "class")

    def by_day(self, name: str) -> list[int]:
        """The requests of a class on each day of ``every_day``."""
        found = self.days.filter(pl.col("class") == name)
        counts = dict(zip(found["day"].to_list(), found["requests"].to_list(), strict=True))
        return [counts.get(day, 0) for day in self.every_day()]

    def heights(self) -> dict[str, int]:
        """How many rows the tables would have, were they not cut at MOST: agents, undeclared, swarms, asn and subnet."""
        clients, is_swarm = self.clients, (pl.col("class") == "swarm") & pl.col("swarm").is_not_null()
        found = clients.select(
            pl.col("agent").drop_nulls().n_unique().alias("agents"),
            pl.col("class").is_in(("crawler", "spoofed")).sum().alias("undeclared"),
            pl.col("swarm").filter(is_swarm).n_unique().alias("swarms"),
            pl.col("asn").drop_nulls().n_unique(),
            pl.col("subnet").drop_nulls().n_unique(),
        )
        return {name: int(number) for name, number in found.row(0, named=True).items()}

    def trend(self, kind: str, name: str) -> list[int]:
        """The requests of an agent, client or swarm on each day from the first to the last of ``days``; empty when they are not kept."""
        days = self.every_day()
        found = self.trends.filter((pl.col("kind") == kind) & (pl.col("name") == name))
        counts = dict(zip(found["day"].to_list(), found["requests"].to_list(), strict=True))
        return [counts.get(day, 0) for day in days] if counts else []

    def every_day(self) -> list[date]:
        """The days from the first to the last of ``days``, those without a request too; at most the last MOST_DAYS."""
        first, last = self.days["day"].min(), self.days["day"].max()
        if not isinstance(first, date) or not isinstance(last, date):
            return []
        return pl.date_range(first, last, eager=True).tail(MOST_DAYS).to_list()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: "version", and the tables as lists of objects, MOST_IN_JSON rows each; times as ISO 8601."""
        totals = self.totals
        return {
            "version": VERSION,
            "totals": {
                "lines": totals.lines,
                "rows": totals.rows,
                "unparsed": dict(totals.unparsed),
                "formats": list(totals.formats),
                "first": _iso(totals.first),
                "last": _iso(totals.last),
                "bytes": totals.bytes,
                "clients": self.clients.height,
            },
            "threshold": self.threshold,
            "notes": list(self.notes),
            "classes": _rows(self.classes()),
            "days": _rows(self.days, self.days.height),
            "agents": _rows(self.agents),
            "undeclared": _rows(self.undeclared),
            "swarms": _rows(self.swarms),
            "networks": [row for kind in ("asn", "subnet") for row in _rows(self.networks.filter(pl.col("kind") == kind))],
            "curve": _rows(self.curve),
            "actions": None if self.actions is None else _rows(self.actions),
        }


def _days(daily: pl.DataFrame) -> pl.DataFrame:
    found = daily.group_by("day", "class").agg(pl.col(*_LOAD).sum(), pl.len().cast(pl.Int64).alias("clients")).sort("day", "class")
    last = found["day"].max()
    return found.filter(pl.col("day") > pl.lit(last) - pl.duration(days=MOST_DAYS)) if last is not None else found


def _trend(daily: pl.DataFrame, kind: str, names: pl.Series) -> pl.DataFrame:
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


def _agents(clients: pl.DataFrame, compliance: pl.DataFrame | None) -> pl.DataFrame:
    """Those that name themselves, whoever they are: a spoofed name counts under the name, and is told apart.

    What is said of robots.txt is of those with the identity that is shown, so that nobody answers for who only uses the name.
    """
    named = clients.filter(pl.col("agent").is_not_null()).sort("requests", "client", descending=[True, False])
    is_verified, is_spoofed = (pl.col("identity") == "verified").fill_null(False), (pl.col("identity") == "spoofed").fill_null(False)
    found = named.group_by("agent").agg(
        pl.col("operator", "category").drop_nulls().first(),
        pl.col("requests").filter(is_verified).sum().alias("verified"),
        pl.col("requests").filter(is_spoofed).sum().alias("spoofed"),
        pl.col(*_LOAD).sum(),
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
            "agent", "operator", "category", "identity", *_LOAD, "clients", "verified", "spoofed", "first", "last",
            *(pl.col(name).cast(kind) for name, kind in _ROBOTS.items()),
        )
        .sort("requests", "agent", descending=[True, False])
        .head(MOST)
    )  # fmt: skip


def _features(clients: pl.DataFrame) -> list[str]:
    return [name.removesuffix(_POINTS) for name in clients.columns if name.endswith(_POINTS)]


def _undeclared(clients: pl.DataFrame) -> pl.DataFrame:
    features = _features(clients)
    alone = clients.filter(pl.col("class").is_in(("crawler", "spoofed"))).sort("requests", "client", descending=[True, False]).head(MOST)
    columns = (
        "client", "class", "agent", "score", *_LOAD, "assets", "first", "last", "days", "subnet", "asn", "country", "ua",
    )  # fmt: skip
    return _with_reasons(alone, features).select(*columns, "reasons", "values", "points")


def _swarms(clients: pl.DataFrame) -> pl.DataFrame:
    features = _features(clients)
    members = clients.filter((pl.col("class") == "swarm") & pl.col("swarm").is_not_null())
    found = members.sort("requests", "client", descending=[True, False]).group_by("swarm").agg(
        pl.len().cast(pl.Int64).alias("clients"),
        pl.col("subnet").n_unique().cast(pl.Int64).alias("subnets"),
        pl.col(*_LOAD, "assets").sum(),
        pl.col("first").min(),
        pl.col("last").max(),
        pl.col("ua").mode(maintain_order=True).first(),
        *((pl.col(name + _POINTS) > 0).mean().alias(name) for name in features),
        *(pl.col(name + _POINTS).mean() for name in features),
    )  # fmt: skip
    top = found.sort("requests", "swarm", descending=[True, False]).head(MOST)
    columns = ("swarm", "clients", "subnets", *_LOAD, "assets", "first", "last", "ua")
    return _with_reasons(top, features, least=MOSTLY).select(*columns, "reasons", "values", "points")


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


def _networks(clients: pl.DataFrame) -> pl.DataFrame:
    def by(kind: str, name: pl.Expr) -> pl.DataFrame:
        found = clients.filter(name.is_not_null()).group_by(name.alias("network")).agg(
            pl.col("country").min(),
            pl.len().cast(pl.Int64).alias("clients"),
            pl.col("requests", "bytes").sum(),
            *(pl.col("requests").filter(pl.col("class") == one).sum().alias(one) for one in CLASSES),
        )  # fmt: skip
        return found.select(pl.lit(kind).alias("kind"), pl.all()).sort("requests", "network", descending=[True, False]).head(MOST)

    return pl.concat([by("asn", pl.lit("AS") + pl.col("asn").cast(pl.String)), by("subnet", pl.col("subnet"))])


def _curve(clients: pl.DataFrame, threshold: float | None) -> pl.DataFrame:
    """How many would be called machines at each threshold, of those whom only their conduct tells."""
    judged = (
        clients.filter(pl.col("class").is_in(BY_CONDUCT)).select(pl.col("score").fill_nan(0.0).fill_null(0.0), "requests").sort("score")
    )
    scores = judged["score"]
    ends = [float(score) for score in (0.0, threshold, scores.min(), scores.max()) if isinstance(score, int | float)]
    least, width = min(ends), max(ends) - min(ends)
    steps = pl.Series("threshold", sorted({least + width * i / STEPS for i in range(STEPS + 1)} | {threshold or 0.0}), pl.Float64)
    below = scores.search_sorted(steps, side="left")
    passed = pl.concat([pl.Series([0], dtype=pl.Int64), judged["requests"].cum_sum().cast(pl.Int64)])
    return pl.DataFrame(steps).with_columns(
        (judged.height - below.cast(pl.Int64)).alias("clients"), (passed[-1] - passed.gather(below)).alias("requests")
    )


def _rows(table: pl.DataFrame, most: int = MOST_IN_JSON) -> list[dict[str, Any]]:
    return [{name: _plain(name, value) for name, value in row.items()} for row in table.head(most).iter_rows(named=True)]


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value[:MOST_TEXT]
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, list):
        return [_plain("", one) for one in value]
    if isinstance(value, date):
        return value.isoformat()
    return _iso(value) if name in ("first", "last", "first_robots") else value


def _iso(seconds: int | None) -> str | None:
    """Times of a log may lie anywhere; what no calendar has stays away."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return None
