"""Rates: how fast a site's people ask for pages, and limits that lie above all of them.

Only documents are counted: a browser loads dozens of parts of a page in a second, and nobody reads dozens of pages in one. So a limit that no
person comes near is one that a crawler breaks at once. What a limit would refuse is measured on the log, never estimated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import polars as pl

from ..agents import subnets
from ..rollup import ASSETS
from .candidates import NAME_DAYS, NETWORK_DAYS, Candidate, slug
from .cover import Cover, reach_of
from .load import KEPT, MACHINE, PERSON, SLOW, Load
from .proof import Shards
from .written import When

WINDOWS = {60: "1m", 600: "10m", 3600: "1h"}
"""Seconds over which documents are counted, and how a policy writes them."""
LEAST = {60: 40, 600: 60, 3600: 150}
"""Limits below which no rule goes, whatever a log shows: somebody opens a page of links in tabs, all at once, or reads a
manual page by page for an hour. (In a log of 2,200 people the fastest asked for 35 documents in a minute, once.)"""
MARGIN, FEW_MARGIN, FEW = 2, 4, 100
"""A limit is so many times the most that anybody was seen to do in a window; more where a log shows fewer than FEW people.
Twice the most in a fixed window is above the most in any window, so none of those people can trip it."""
POLITE = {"requests": 6, "within": "1m"}
"""What an agent that brings readers is asked for: ``Crawl-delay: 10``, as many sites write it."""
MOST_AGENTS, MOST_SYSTEMS = 12, 3

_OPEN = {"network": {"tag": ["search-engine", "monitor", "webhook"]}}
"""Whose addresses are published is not slowed by a rule that is meant for strangers."""


class Scope(NamedTuple):
    """Clients that a limit is for: ``clients`` picks them in the clients table, ``when`` in the policy."""

    id: str
    says: str
    clients: pl.Expr
    when: When
    per: str
    days: int
    complexity: float


def paces(shards: Shards) -> pl.DataFrame:
    """ip, and the most documents that it asked for in one window of each of WINDOWS (columns ``p60`` ...): windows of the clock, not sliding.

    A window that a shard's end cuts is put together: the minutes of the last hour are carried on.
    """
    most, carried = pl.DataFrame(schema={"ip": pl.String, **{f"p{s}": pl.Int64 for s in WINDOWS}}), pl.DataFrame(schema=_MINUTES)
    for rows in shards():
        end = pl.col("target").str.splitn("?", 2).struct.field("field_0").str.slice(-6).str.to_lowercase()
        pages = rows.select("ip", (pl.col("time") // 60).alias("minute"), end.str.extract(r"\.([a-z0-9]+)$").alias("end"))
        pages = pages.filter(~pl.col("end").is_in(ASSETS).fill_null(False))
        minutes = pages.group_by("ip", "minute").agg(pl.len().cast(pl.Int64).alias("pages"))
        minutes = pl.concat([carried, minutes]).group_by("ip", "minute").agg(pl.col("pages").sum())
        most = pl.concat([most, _busiest(minutes)]).group_by("ip").agg(pl.col(f"p{seconds}").max() for seconds in WINDOWS)
        carried = minutes.filter(pl.col("minute") > pl.col("minute").max() - 60)
    return most


_MINUTES = {"ip": pl.String, "minute": pl.Int64, "pages": pl.Int64}


def _busiest(minutes: pl.DataFrame) -> pl.DataFrame:
    found = minutes.select("ip").unique()
    for seconds in WINDOWS:
        sums = minutes.group_by("ip", pl.col("minute") * 60 // seconds).agg(pl.col("pages").sum())
        found = found.join(sums.group_by("ip").agg(pl.col("pages").max().alias(f"p{seconds}")), on="ip")
    return found


def limits(load: Load, paces: pl.DataFrame) -> Iterator[Candidate]:
    """Rules by rate, whose reach is not known yet: see ``measure``."""
    clients = load.clients.join(paces, left_on="client", right_on="ip", how="left").with_columns(
        pl.col(f"p{seconds}").fill_null(0) for seconds in WINDOWS
    )
    if load.addressed:
        for scope in _scopes(clients if load.policy.asn else clients.with_columns(pl.lit(None, pl.Int64).alias("asn"))):
            windows = _windows(clients.filter(scope.clients), scope.per)
            apart: list[When] = [{"path": {"suffix": [f".{end}" for end in ASSETS]}}, _OPEN]
            when = {**scope.when, "rate": {"per": scope.per, "windows": windows}, "not": {"any": apart}}
            yield _candidate(scope.id, "rate", when, scope.says, scope.days, scope.complexity)
    yield from _polite(clients)


def _scopes(clients: pl.DataFrame) -> Iterator[Scope]:
    yield Scope("rate-ip", "more documents than any person here asks for", pl.lit(True), {}, "ip", NAME_DAYS, 1.5)
    yield Scope("rate-subnet", "more documents from one subnet than people here ask for", pl.lit(True), {}, "subnet", NAME_DAYS, 1.5)
    if "cloud" in clients.columns:
        cloud = {"network": {"tag": ["cloud", "hosting"]}}
        yield Scope(
            "rate-cloud", "more documents than people ask for, out of a data centre", pl.col("cloud") > 0, cloud, "ip", NAME_DAYS, 2.0
        )
    systems = clients.filter(pl.col("asn").is_not_null() & (pl.col("side") == MACHINE)).group_by("asn").agg(pl.col("requests").sum())
    for asn in systems.sort("requests", "asn", descending=[True, False])["asn"].head(MOST_SYSTEMS):
        said = "more documents than people ask for, out of one network operator's addresses"
        yield Scope(f"rate-as{asn}", said, pl.col("asn") == asn, {"asn": [asn]}, "ip", NETWORK_DAYS, 2.0)


def _windows(clients: pl.DataFrame, per: str) -> list[dict[str, Any]]:
    """Limits above all that people, and those never to be hit, were seen to do; windows that a shorter one makes needless are left out."""
    open_ = (pl.col("category") == "search-engine") & (pl.col("identity") == "verified")
    quiet = clients.filter(pl.col("side").is_in((PERSON, KEPT)) & ~open_.fill_null(False))
    if per == "subnet":
        quiet = quiet.group_by(subnets(pl.col("client"))).agg(pl.col(f"p{seconds}").sum() for seconds in WINDOWS)
    margin = MARGIN if quiet.height >= FEW else FEW_MARGIN
    windows: list[dict[str, Any]] = []
    for seconds, within in reversed(WINDOWS.items()):
        seen = cast(int, quiet[f"p{seconds}"].max() or 0)
        limit = round_up(max(LEAST[seconds], margin * seen))
        if not windows or limit < windows[0]["requests"]:  # what may come in an hour may come in a minute: no second limit is needed
            windows.insert(0, {"requests": limit, "within": within})
    return windows


def round_up(number: int) -> int:
    """To two significant digits, the second a 0 or 5: a limit is to be read, and small noise in a log should not move it."""
    step = int(max(5, 5 * 10 ** (len(str(number)) - 2)))
    return -(-number // step) * step


def _polite(clients: pl.DataFrame) -> Iterator[Candidate]:
    """A pace for those who bring readers."""
    slow = clients.filter(pl.col("side") == SLOW)
    by_agent = slow.group_by("agent").agg(pl.col("requests").sum()).sort("requests", "agent", descending=[True, False])
    for agent in by_agent["agent"].head(MOST_AGENTS):
        when = {"agent": {"name": [agent]}, "rate": {"per": "agent", **POLITE}, "not": _OPEN}
        yield _candidate(f"pace-{agent}", "pace", when, "a crawler that brings readers, at a pace", NAME_DAYS, 1.5)


def _candidate(id: str, what: str, when: When, says: str, days: int, complexity: float) -> Candidate:
    return Candidate(
        id=slug(f"proposed-{id}"), what=what, when=when, then="throttle", says=says, days=days, cover=Cover(reach_of(), complexity)
    )
