"""The week as a plain text for cron's mail: ASCII, at most 78 columns, the few numbers that matter, and what has changed in a week."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import polars as pl

from ..analysis import Analysis
from ..tables import CLASSES, UNDECLARED
from .terminal import wrapped
from .words import NAMES, NEXT, acted, count, members, moment, obedience, percent, plain, reason, several, size

WIDTH = 78
ROWS = 5
DAY = 86_400
LATE = 23 * 3600
"""A last day whose last request is as late as this, in seconds of the day, is a whole one."""


def mail(analysis: Analysis, *, then: str = NEXT) -> str:
    """The text, with an end of line at its end. The week is the last seven whole days (UTC) of what was analysed."""
    lines = [line for part in _parts(analysis, then) for line in (*part, "")]
    text = "\n".join(line[:WIDTH].rstrip() for line in lines[:-1])
    return text.encode("ascii", "backslashreplace").decode() + "\n"


def subject(analysis: Analysis) -> str:
    """One line for the head of the mail: the week's requests, and whose they were."""
    last = week_end(analysis)
    if last is None:
        return "crawlguard: no requests"
    counts = _by_class(analysis, last)
    whole, hidden = sum(counts.values()), sum(counts.get(name, 0) for name in UNDECLARED)
    return f"crawlguard: {count(whole, 'request')} in the week to {last}, {percent(hidden, whole)} by hidden machines"


def week_end(analysis: Analysis) -> date | None:
    """The last whole day of the log; its last day when there is none before it; None without a request."""
    days = analysis.every_day()
    if not days:
        return None
    late = analysis.totals.last is not None and analysis.totals.last % DAY >= LATE
    return days[-1] if late or len(days) == 1 else days[-2]


def _parts(analysis: Analysis, then: str) -> Iterator[Iterator[str]]:
    last = week_end(analysis)
    yield iter([subject(analysis)])
    if last is not None:
        yield _load(analysis, last)
        yield _agents(analysis, last)
        yield _undeclared(analysis, last)
    yield _rest(analysis, then)


def _by_class(analysis: Analysis, last: date, column: str = "requests") -> dict[str, int]:
    """A column's sum by class, in the seven days up to ``last``."""
    week = analysis.days.filter(pl.col("day").is_between(last - timedelta(days=6), last))
    sums = week.group_by("class").agg(pl.col(column).sum())
    return dict(zip(sums["class"].to_list(), sums[column].to_list(), strict=True))


def _load(analysis: Analysis, last: date) -> Iterator[str]:
    before = last - timedelta(days=7)
    comparable = bool(analysis.every_day()[0] <= before - timedelta(days=6))
    now, then = _by_class(analysis, last), _by_class(analysis, before) if comparable else {}
    whole, sent = sum(now.values()), sum(_by_class(analysis, last, "bytes").values())
    yield f"Requests, {last - timedelta(days=6)} to {last}{', and against the week before' if comparable else ' (no whole week before it to compare with)'}"
    for name in (*CLASSES, *sorted(set(now) - set(CLASSES))):
        if now.get(name) or then.get(name):
            yield f"  {NAMES.get(name, plain(name, 20)):<20}{now.get(name, 0):>12,} {percent(now.get(name, 0), whole):>6}   {_change(now.get(name, 0), then.get(name, 0)) if comparable else ''}"
    yield f"  {'all':<20}{whole:>12,} {'':>6}   {_change(whole, sum(then.values())) if comparable else ''}"
    yield f"  {size(sent)} sent"


def _change(now: int, before: int) -> str:
    if not before:
        return "  new" if now else ""
    ratio = now / before
    if ratio >= 10:
        return f"{ratio:,.0f} times"
    if abs(now - before) * 200 < before:
        return "as before"
    return f"{(now - before) / before:>+5.0%}"


def _agents(analysis: Analysis, last: date) -> Iterator[str]:
    table = analysis.agents
    if not table.height:
        yield "No agent named itself."
        return
    yield "Agents that name themselves, all that is known"
    for row in table.head(ROWS).iter_rows(named=True):
        yield f"  {plain(row['agent'], 20):<20} {row['requests']:>11,}  {row['identity']:<10}  {obedience(row)}"
    week = (last - date(1970, 1, 1)).days - 6
    if analysis.totals.first is not None and analysis.totals.first // DAY < week:
        fresh = table.filter(pl.col("first") >= week * DAY)["agent"].to_list()
        if fresh:
            yield from wrapped(f"Seen for the first time this week: {several(fresh, 6)}", WIDTH)


def _undeclared(analysis: Analysis, last: date) -> Iterator[str]:
    """Swarms and single crawlers that came in the week."""
    since = ((last - date(1970, 1, 1)).days - 6) * DAY
    swarms, alone = (table.filter(pl.col("last") >= since) for table in (analysis.swarms, analysis.undeclared))
    if not swarms.height and not alone.height:
        yield "No machine that hides what it is came this week."
        return
    yield "Machines that hide what they are, and came this week (all their requests)"
    rows = [(plain(row["swarm"], 39), row["requests"], f"swarm: {members(row)}") for row in swarms.head(ROWS).iter_rows(named=True)]
    rows += [(plain(row["client"], 39), row["requests"], _why(row)) for row in alone.head(ROWS).iter_rows(named=True)]
    width = max(len(name) for name, _, _ in rows)
    for name, requests, why in rows:
        yield f"  {name:<{width}} {requests:>11,}  {plain(why, WIDTH - width - 16)}"
    rest = max(swarms.height - ROWS, 0) + max(alone.height - ROWS, 0)
    if rest:
        yield f"  and {rest:,} more, of fewer requests"


def _why(row: Mapping[str, Any]) -> str:
    if row["class"] == "spoofed":
        return f"calls itself {plain(row['agent'] or '', 20)}"
    return reason(row["reasons"][0], row["values"][0]) if row["reasons"] else ""


def _rest(analysis: Analysis, then: str) -> Iterator[str]:
    totals = analysis.totals
    missed = sum(totals.unparsed.values())
    if missed:
        yield f"{missed:,} of {count(totals.lines, 'line')} could not be read ({percent(missed, totals.lines)})."
    if analysis.actions is not None and analysis.actions.height:
        refused = sum(hits for action, hits in analysis.actions.select("action", "hits").iter_rows() if acted(action))
        yield f"The guard acted on {count(refused, 'request')}."
    yield f"The log goes from {moment(totals.first) or 'nowhere'} to {moment(totals.last) or 'nowhere'} UTC."
    yield f"Next: {plain(then)}"
