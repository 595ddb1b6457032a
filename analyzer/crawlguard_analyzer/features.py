"""What a client's requests look like: each feature is one named expression over its sums, and says what a high value means.

A site is its own measure. Where people's pages load no assets that the log shows (an API, assets on a CDN), or where nobody sends a
referrer, that they are missing tells nothing about anybody. So what is absent counts as what could be expected of a visitor of this
very site: of few documents little, of a site without the habit nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from .traps import BY_ROBOTS, TOUCHED, opened

DAY = 86_400
PRIOR = 20.0
"""Clients without the habit that each count begins with: a log that is still small accuses nobody by what is absent."""
ABSENT = 0.05
"""What is there by no more than this share of what could be expected counts as absent."""
FEW = 0.25
"""The same for "few"."""
BUSIEST = 0.95
"""The quantile of a site's likely people that is as busy as people are there."""

_PACE = pl.col("burst_60") * pl.col("documents") / pl.col("requests")


_OF_SITE = (
    "requests", "documents", "assets", "styles", "referred", "favicons", "http10", "http11", "asked", "burst_60", "days", "traps",
)  # fmt: skip
"""What ``site_of`` asks of clients: all the rest is not copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is usual among a site's likely people, each between 0 and 1.

    ``assets``, ``styles`` and ``referrers``: how many of them go with a document (more than one counts as one); ``favicons``: the share
    of clients that ask for it; ``modern``: how far HTTP/1 is unusual.
    ``volume``, ``breadth`` and ``pace``: what the busiest of them (BUSIEST) ask for: documents in a day, different ones in a day,
    documents in a minute. ``traps``: the bits of those that tell a machine here, see ``_traps``.
    """

    assets: float = 0.0
    styles: float = 0.0
    referrers: float = 0.0
    favicons: float = 0.0
    modern: float = 0.0
    volume: float = 20.0
    breadth: float = 10.0
    pace: float = 10.0
    traps: int = TOUCHED


NOTHING_USUAL = Site()


def site_of(clients: pl.DataFrame) -> Site:
    """The habits of those who come with a browser's name from nowhere suspicious and have asked for no robots.txt.

    Who follows links tells about assets, and who loads assets about referrers; each client counts once, however busy it is.
    """
    might_be = (pl.col("kind") == "browser") & (pl.col("robots") == 0) & ~pl.col("near") & ~pl.col("cloud")
    likely = clients.lazy().filter(might_be).select(_OF_SITE).collect()
    following, loading = likely.filter(pl.col("referred") > 0), likely.filter((pl.col("assets") > 0) & (pl.col("documents") > 0))
    dressed = likely.filter((pl.col("styles") > 0) & (pl.col("documents") > 0))
    assets = _mean(following, pl.col("assets") / pl.col("documents"))
    # A crawler may follow links too, and on a small site it would be the busiest of all.
    people = following.filter(pl.col("assets") > pl.col("asked") * assets * FEW) if assets else following
    old = _mean(dressed, (pl.col("http10") + pl.col("http11")) / pl.col("requests"), unknown=1.0)
    least = NOTHING_USUAL
    return Site(
        volume=_busiest(people, pl.col("documents") / pl.col("days"), least.volume),
        breadth=_busiest(people, pl.col("asked") / pl.col("days"), least.breadth),
        pace=_busiest(people, _PACE, least.pace),
        assets=assets,
        styles=_mean(following, pl.col("styles") / pl.col("documents")),
        referrers=_mean(loading, pl.col("referred") / pl.col("documents")),
        favicons=_mean(dressed, pl.col("favicons")),
        modern=max(0.0, 1.0 - 5 * old),
        traps=_traps(clients, following.filter(pl.col("styles") > 0)),
    )


def _traps(clients: pl.DataFrame, people: pl.DataFrame) -> int:
    """Without the probes that the site answers, and without what robots.txt forbids and likely people asked for all the same."""
    met, known = (int(some.select(pl.col("traps").bitwise_or()).item() or 0) for some in (clients, people))
    told: int = TOUCHED & ~opened(met) & ~(known & BY_ROBOTS)
    return told


def _busiest(clients: pl.DataFrame, value: pl.Expr, least: float) -> float:
    found = clients.select(value.cast(pl.Float64).quantile(BUSIEST)).item()
    return max(least, found or 0.0)


def _mean(clients: pl.DataFrame, ratio: pl.Expr, unknown: float = 0.0) -> float:
    total: float = clients.select(ratio.cast(pl.Float64).clip(upper_bound=1.0).sum()).item()
    return (total + PRIOR * unknown) / (clients.height + PRIOR)


class Feature(NamedTuple):
    """A number per client, and what a high one means. null is "cannot be told". ``group``: it can be asked of many clients together."""

    name: str
    value: pl.Expr
    says: str
    group: bool = False


def features(site: Site) -> tuple[Feature, ...]:
    """All features for clients of this site: expressions over the columns of ``clients.described``."""
    documents, requests, assets = pl.col("documents"), pl.col("requests"), pl.col("assets")
    dressed = pl.when(pl.col("kind") != "text")
    pages = (documents - pl.col("robots")).clip(lower_bound=0)
    several, poor = pl.when(requests >= 10), pl.when(assets <= pl.col("asked") * (site.assets * FEW))
    spread = (pl.col("gap_squares") / pl.col("gaps") - (pl.col("gap_sum") / pl.col("gaps")) ** 2).clip(lower_bound=0).sqrt()
    return (
        Feature("published", pl.col("published"), "its address is in a network that a crawler's operator publishes", group=True),
        Feature("near", pl.col("near") & ~pl.col("published"), "its subnet holds a part of such a network", group=True),
        Feature("cloud", pl.col("cloud"), "its address is in a cloud or with a hosting company", group=True),
        Feature("exit", pl.col("exit"), "many people leave from its address", group=True),
        Feature("robots", pl.col("robots") / documents, "the share of robots.txt among its documents", group=True),
        Feature(
            "bare",
            dressed.then(_absent(assets, pl.col("asked") * site.assets)),
            "assets that could be expected with its different documents, where there are none",
            group=True,
        ),
        Feature(
            "unstyled",
            pl.when(assets > 0).then(_absent(pl.col("styles"), pl.col("asked") * site.styles)),
            "the same for styles and scripts, where there are images",
            group=True,
        ),
        Feature("unreferred", _absent(pl.col("referred"), pl.col("asked") * site.referrers), "the same for referrers", group=True),
        Feature(
            "faceless", dressed.then(_absent(pl.col("favicons"), pl.col("clients") * site.favicons)), "the same for favicons", group=True
        ),
        Feature(
            "breadth",
            poor.then(pl.col("asked") / pl.col("days") / site.breadth),
            "different documents in a day, with few assets, by what is much here",
        ),
        Feature("volume", poor.then(documents / pl.col("days") / site.volume), "documents in a day, the same way"),
        Feature("pace", poor.then(_PACE / site.pace), "most documents in 60 s, the same way"),
        Feature(
            "trickle", pl.when(pl.col("long_gaps") * 2 > pl.col("gaps")).then(pl.col("asked")), "different paths, mostly one at a time"
        ),
        Feature("tireless", pl.col("hours_active"), "hours of the day with a request, mean of its days"),
        Feature("sleepless", pl.when(pl.col("cells") >= 30).then(pl.col("clock")), "hours of the day with a request on any of its days"),
        Feature("regular", several.then(1 - spread / (pl.col("gap_sum") / pl.col("gaps"))), "evenness of its pauses: 1 is a clock"),
        Feature("failing", several.then((pl.col("missing") + pl.col("errors")) / requests), "share of 4xx answers"),
        Feature(
            "trapped",
            pl.when(pl.col("traps") & site.traps != 0).then(pl.col("trapped")),
            "requests for what no person and no obedient crawler asks for",
        ),
        Feature("heads", pl.col("heads") / requests, "share of HEAD requests"),
        Feature("nameless", pl.col("kind") == "none", "no User-Agent"),
        Feature("strange", pl.col("kind") == "other", "a User-Agent that is no browser's"),
        Feature("robotic", pl.col("kind") == "robot", "a User-Agent that calls itself a robot"),
        Feature("impossible", pl.col("impossible"), "a browser version that was never built, or not yet"),
        Feature(
            "ancient", ((pl.col("last") - pl.col("released")) / (365 * DAY)).clip(lower_bound=0), "years since its browser was current"
        ),
        Feature(
            "outdated",
            pl.when(pl.col("kind") == "browser").then((pl.col("http10") + pl.col("http11")) / requests) * site.modern,
            "share of HTTP/1, as far as that is unusual here",
        ),
        Feature(
            "relayed",
            pl.when((pl.col("ok") * 50 >= requests * 49) & (pl.col("referred") * 5 >= pages * 4) & (assets == 0)).then(pl.col("names")),
            "different User-Agents that all came by a link and met no error: people's, through one proxy (as Chrome's prefetches)",
        ),
        Feature("styled", pl.col("styles") / documents.clip(lower_bound=1), "styles and scripts per document"),
        Feature("favicon", pl.col("favicons") > 0, "asked for the favicon"),
        Feature(
            "following",
            pl.when(assets * 4 >= documents).then(pl.col("referred") / pages),
            "share of documents with a referrer, with assets",
        ),
    )


def _absent(there: pl.Expr, expected: pl.Expr) -> pl.Expr:
    return pl.when(there <= expected * ABSENT).then(expected)
