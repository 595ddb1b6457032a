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

from . import tables

VERSION = 1
"""Of the shape of ``to_dict``."""
MOST_IN_JSON = 100
MOST_TEXT = 512
"""Characters of a text in JSON; the guard reads as many bytes of a User-Agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What was read. ``lines`` = ``rows`` + all of ``unparsed`` (lines by reason). ``formats``: what each log was taken for, in words.

    ``first``, ``last``: seconds since 1970, UTC, None when there is no row. ``bytes``: those of the answers. ``spent``: microseconds that
    the server took for them, 0 where the log does not say.
    """

    lines: int = 0
    rows: int = 0
    unparsed: Mapping[str, int] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    bytes: int = 0
    spent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """The tables; all sorted by requests, most first, but for ``days``, ``trends`` and ``curve``, which go by their day or threshold. Where there is
    ``bytes``, ``spent`` follows: microseconds that the server took, 0 where the log does not say.

    - ``clients``: one row per client, see ``clients``.
    - ``days``: day (Date, UTC), class, requests, documents, bytes, clients; the last MOST_DAYS days.
    - ``agents``: agent, operator, category, identity (that of most of its requests), requests, documents, bytes, clients,
      verified and spoofed (requests), first, last; of robots.txt robots_fetched, first_robots, disallowed (all null when nobody has looked), obeys (yes, no, unknown), examples.
    - ``undeclared``: clients of the classes crawler and spoofed with reasons (features), values and points (lists of equal length).
    - ``swarms``: swarm, clients (its members), beside (crawlers of the same group that are told each by itself), subnets, requests, documents,
      bytes, assets, first, last, ua, and reasons: the features that speak against most of its members, values: the share of them, points: their
      average.
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
        """From the table of clients, the merged rollup (one row per day and address; no more than day, ip and LOAD is asked of it), robots compliance, and the hits of rules.

        ``agents``: one row per agent and identity (see ``compliance.compliance``); None, or where agents are missing: nobody has
        looked. ``notes``: sentences for the reader.
        """
        by_day = tables.daily(clients, rollup)
        named, alone, grouped = tables.agents(clients, agents), tables.undeclared(clients), tables.swarms(clients)
        trends = (("agent", named["agent"]), ("client", alone["client"]), ("swarm", grouped["swarm"]))
        return cls(
            clients=clients,
            days=tables.days(by_day),
            agents=named,
            undeclared=alone,
            swarms=grouped,
            networks=tables.networks(clients),
            trends=pl.concat(tables.trend(by_day, kind, names) for kind, names in trends),
            curve=tables.curve(clients, threshold),
            totals=totals,
            threshold=threshold,
            actions=None if actions is None else actions.sort("hits", "rule", "action", descending=[True, False, False]).head(tables.MOST),
            notes=tuple(notes),
        )

    def classes(self) -> pl.DataFrame:
        """class, clients, requests, documents, bytes: a row for each class that occurs, in the order of CLASSES."""
        order = pl.col("class").replace_strict(
            {name: i for i, name in enumerate(tables.CLASSES)}, default=len(tables.CLASSES), return_dtype=pl.Int32
        )
        found = self.clients.group_by("class").agg(pl.len().cast(pl.Int64).alias("clients"), pl.col(*tables.LOAD).sum())
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
        return pl.date_range(first, last, eager=True).tail(tables.MOST_DAYS).to_list()

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
                "spent": totals.spent,
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
