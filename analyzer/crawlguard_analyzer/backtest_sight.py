"""What a log lets one see of a request. What it does not hold is unknown, and what is unknown never makes a rule fire.

A log has the time, the client's address, the request line, the host (some logs), the referrer and the User-Agent. Any other header
is unknown, not absent: the rules are the policy's own, with the conditions that read such a header replaced by "unknown".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import unquote

import polars as pl

from crawlguard.errors import DataError
from crawlguard.policy.ruleset import Ruleset
from crawlguard.policy.terms import Counts, Dynamic, Group, Negated, Static, Term, Test, group
from crawlguard.request import RequestView
from crawlguard.signals.rate import US

UNKNOWN = Group(True, (), 0, unknown=True)
"""The term whose truth nobody knows."""
HOST, REFERRER, AGENT = ("host", "header host"), "header referer", "header user-agent"
SEEN = frozenset(("path", "method", "score", REFERRER, AGENT, *HOST))
"""What a test may read and still be judged on a log."""
LATE = 60
"""Seconds by which a line may be late and still be an ordinary late line: servers log a request when it ends, some with the time of its start."""
BACK = 64
"""Lines in a row that are later than that: the log has begun at an earlier time again (another file, a clock set back)."""
FAR, LAST = 1 << 38, 1 << 42
"""The latest time of a log (the year 10680), and of the steady clock, in seconds: microseconds then still fit 64 bits."""
_ABSOLUTE = re.compile(r"^https?://[^/?#]*", re.IGNORECASE)


def path_of(target: str) -> str:
    """The path that an application sees for a request target (RFC 9112 3.2): decoded, without the query, and of an absolute URL only its path."""
    path = target.partition("?")[0]
    if not path.startswith("/"):
        path = _ABSOLUTE.sub("", path, count=1)
    return (unquote(path) if "%" in path else path) or "/"


def view_of(method: str = "", target: str = "/", ua: str = "", host: str = "", referrer: str = "") -> RequestView:
    """The request of one row, as far as the log knows it."""
    sent = ((b"user-agent", ua), (b"host", host), (b"referer", referrer))
    return RequestView(method, path_of(target), [(name, value.encode("utf-8", "replace")) for name, value in sent if value])


class Unjudged(NamedTuple):
    """A rule that a log cannot judge, or not wholly. ``never``: on a log it cannot fire at all."""

    rule: str
    why: str
    never: bool


def of_a_log(ruleset: Ruleset, without: Collection[str] = ()) -> Ruleset:
    """The same rules, for requests of which only a log is known. ``without``: columns that this log lacks ("ua", "referrer")."""
    rules = tuple(rule if rule.inactive else rule._replace(term=_blind(rule.term, without)) for rule in ruleset.rules)
    return replace(ruleset, rules=rules, _plans={}, _strangers={})


def unjudged(ruleset: Ruleset, without: Collection[str] = ()) -> Iterator[Unjudged]:
    """The rules of a policy (as compiled) that a log judges not at all, in part, or only about, and why."""
    for rule in ruleset.rules:
        if rule.inactive:
            yield Unjudged(rule.id, f"the rule is inactive: {rule.inactive}", True)
            continue
        why = list(filter(None, dict.fromkeys(_reason(leaf, without) for leaf in leaves(rule.term))))
        if why:
            yield Unjudged(rule.id, "; ".join(why), not _possible(_blind(rule.term, without), True))


def _blind(term: Term, without: Collection[str]) -> Term:
    if isinstance(term, Negated):
        inner = _blind(term.term, without)
        return Negated(inner, inner.rank)
    if isinstance(term, Group):
        return group(term.every, [_blind(t, without) for t in term.terms])
    if not _seen(term, without):
        return UNKNOWN
    return term._replace(test=_where_logged(term.test)) if isinstance(term, Dynamic) and term.reads in HOST else term


def _seen(term: Static | Dynamic, without: Collection[str]) -> bool:
    """Whether a log lacking these columns holds what the term asks for."""
    if isinstance(term, Static):
        return "ua" not in without or term.unknown != 0  # a bit of the address can be unknown, one of the User-Agent never is
    if isinstance(term.reads, Counts):
        return "ua" not in without or {"agent", "fingerprint"}.isdisjoint(term.reads.per)
    return term.reads in SEEN and not (term.reads == AGENT and "ua" in without) and not (term.reads == REFERRER and "referrer" in without)


def _where_logged(test: Test) -> Test:
    """A test of the host: unknown for the rows whose log does not name it."""
    return lambda view, ua, client, rates, now, score: test(view, ua, client, rates, now, score) if view.first(b"host") else None


def leaves(term: Term) -> Iterator[Static | Dynamic]:
    """All that a term asks, in its order."""
    if isinstance(term, Negated):
        yield from leaves(term.term)
    elif isinstance(term, Group):
        for part in term.terms:
            yield from leaves(part)
    else:
        yield term


def _reason(term: Static | Dynamic, without: Collection[str]) -> str:
    if _seen(term, without):
        about = isinstance(term, Dynamic) and isinstance(term.reads, Counts) and "fingerprint" in term.reads.per
        return (
            "a log's fingerprint is the User-Agent alone, so the rate counts more clients as one than the middleware would" if about else ""
        )
    if isinstance(term, Dynamic) and isinstance(term.reads, str) and term.reads != AGENT:
        return f"a log does not have the {term.reads}" if term.reads not in SEEN else f"this log does not have the {term.reads}"
    return "this log does not have the User-Agent"


def _possible(term: Term, wanted: bool) -> bool:
    """Whether a term could ever come out as wanted."""
    if isinstance(term, Negated):
        return _possible(term.term, not wanted)
    if isinstance(term, Group):
        if term.every is wanted:
            return not term.unknown and all(_possible(t, wanted) for t in term.terms)
        return any(_possible(t, wanted) for t in term.terms)
    return True


class Clock:
    """The log's time as a clock that never runs back, for rates: a log has whole seconds, late lines, and may begin again.

    A row's time is the latest that the log has shown so far: a late line counts at that moment. When more than BACK lines in a row are
    later than LATE seconds, the log has begun at an earlier time again; the clock then goes on from ``gap`` seconds ahead, which is
    longer than any rate remembers, so that no client is charged for what came after its request. Requests of one second count as one
    moment, so a rate may trip up to a second sooner or later than it would have.
    """

    def __init__(self, gap: int) -> None:
        self._gap = gap
        self._now, self._ahead, self._late = 0, 0, 0
        self.late = 0
        """Rows that counted at a later moment than their own."""
        self.restarts = 0
        """How often the log began again."""

    def steady(self, times: pl.Series) -> pl.Series:
        """Microseconds, one for each row, for the times (seconds) of rows in the order of the log. Raises DataError."""
        own = times.clip(0, FAR) + self._ahead
        if own.len() and own[0] >= self._now and own.is_sorted():
            self._now, self._late = int(own[-1]), 0
            return own * US
        now = own.cum_max().clip(lower_bound=self._now)
        late = now - own > LATE
        if late.any() and self._run(late) > BACK:
            now = pl.Series(self._one_by_one(own.to_list()), dtype=pl.Int64)
        elif now.len():
            self._late = self._trailing(late)
            self._now = int(now[-1])
            self.late += int((now > own).sum())
        if self._now >= LAST:
            raise DataError("the log's time runs back again and again; sort its lines by time first")
        return now * US

    def _run(self, late: pl.Series) -> int:
        """The longest run of late rows, with those before it."""
        runs = late.rle().struct.unnest()
        lengths = runs.with_row_index().select(pl.col("len") + pl.when(pl.col("index") == 0).then(self._late).otherwise(0), "value")
        return int(lengths.filter("value")["len"].max() or 0)  # type: ignore[arg-type]

    def _trailing(self, late: pl.Series) -> int:
        runs = late.rle().struct.unnest()
        length = int(runs["len"][-1])
        if not runs["value"][-1]:
            return 0
        return length + (self._late if runs.height == 1 else 0)

    def _one_by_one(self, own: list[int]) -> Iterator[int]:
        base = self._ahead  # what ``own`` has been moved by already
        for one in own:
            at = one - base + self._ahead
            self._late = self._late + 1 if self._now - at > LATE else 0
            if self._late > BACK:
                self._ahead += self._now + self._gap - at
                at, self._late = self._now + self._gap, 0
                self.restarts += 1
            self.late += at < self._now
            self._now = max(self._now, at)
            yield self._now
