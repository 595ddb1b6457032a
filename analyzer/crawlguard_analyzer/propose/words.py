"""What is said about a rule, and how far it is to be trusted: evidence, people at risk, confidence, how long to watch it, when to look again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import polars as pl

from ..report.words import count, duration, size, trait
from .candidates import Candidate
from .load import LOAD, PERSON, REFUSED, UNSURE, Load
from .measure import Bench
from .proposal import Evidence, Proposal, Risk, Trace, day, iso
from .written import rule_text, shown

TRACES = 5
SHOWN = 3
"""Of those, in a rule's comments."""
REASONS = 4
CERTAIN = 8.0
"""A score from which on a client is a machine by any reading: 3 points above the threshold, so that one feature may err."""
FEW_UNSURE, MANY_UNSURE = 0.02, 0.25
"""Shares of the requests hit that may come from clients not known to be machines, for high and for medium confidence."""
ENOUGH_PEOPLE = 100
WEEK, LONGEST = 7, 28
"""Days of shadow: at least a week, as people come otherwise at its end; at most four."""
STALE = 30
"""Days after which a log says little about addresses."""


def proposal(load: Load, one: Candidate, adds: int, bench: Bench, today: date) -> Proposal:
    """A measured candidate (see ``Bench``) as a proposal. ``adds``: requests that no proposal before it covers."""
    hits = bench.proof.hits.filter(pl.col("rule") == one.id)
    proved, active = bench.shards is not None, len(bench.proof.days.get(one.id, ()))
    met = hits.join(load.clients.drop("requests", "bytes", "spent", "first", "last"), on="client")
    met = met.filter(pl.col("side") != REFUSED).sort("requests", "client", descending=[True, False])
    active = active or int(met["days"].max() or 1)  # type: ignore[arg-type]
    seen = _evidence(load, met, adds, tuple(bench.proof.samples.get(one.id, ())))
    risk = _risk(met)
    confidence, why = _confidence(load, one, met, seen, risk, (active, proved))
    shadow, expires = _shadow_days(load, active), today + timedelta(days=one.days)
    notes = tuple(_notes(load, one, proved, today))
    told = _comments(one, seen, risk, (confidence, why), shadow, expires, notes, (load, today))
    return Proposal(
        id=one.id, kind=one.what, says=one.says, when=one.when, then=one.then,
        yaml=rule_text(one.id, one.when, one.then, f"proposed from the log: {one.says}", told),
        evidence=seen, risk=risk, confidence=confidence, why=why, shadow_days=shadow, expires=expires, proved=proved, notes=notes,
    )  # fmt: skip


def _evidence(load: Load, met: pl.DataFrame, adds: int, samples: tuple[dict[str, object], ...]) -> Evidence:
    by_class = met.group_by("class").agg(pl.col("requests").sum()).sort("requests", "class", descending=[True, False])
    requests = int(met["requests"].sum())
    return Evidence(
        requests=requests,
        adds=adds,
        clients=met.height,
        share=requests / max(1, load.requests),
        bytes=int(met["bytes"].sum()),
        spent=int(met["spent"].sum()) if load.timed else None,
        classes=dict(by_class.iter_rows()),
        reasons=tuple(_reasons(met)),
        first=int(met["first"].min() or 0),  # type: ignore[arg-type]
        last=int(met["last"].max() or 0),  # type: ignore[arg-type]
        samples=samples,
    )


def _reasons(met: pl.DataFrame) -> Iterator[str]:
    """The features that add most to the machines' scores, by requests."""
    machines = met.filter(pl.col("side").is_in(LOAD))
    names = [name.removesuffix("_points") for name in met.columns if name.endswith("_points")]
    weights = [(float((machines[f"{name}_points"].fill_null(0) * machines["requests"]).sum()), name) for name in names]
    yield from (trait(name) for weight, name in sorted(weights, key=lambda pair: (-pair[0], pair[1]))[:REASONS] if weight > 0)


def _risk(met: pl.DataFrame) -> Risk:
    people, unsure = met.filter(pl.col("side") == PERSON), met.filter(pl.col("side") == UNSURE)
    return Risk(
        people=people.height,
        requests=int(people["requests"].sum()),
        traces=tuple(map(_trace, people.head(TRACES).iter_rows(named=True))),
        unsure_traces=tuple(map(_trace, unsure.head(TRACES).iter_rows(named=True))),
        unsure=unsure.height,
        unsure_requests=int(unsure["requests"].sum()),
    )


def _trace(row: dict[str, Any]) -> Trace:
    return Trace(client=row["client"], ua=row["ua"], requests=row["requests"], why=_why(row))


def _why(row: dict[str, Any]) -> str:
    """What speaks for a person, or (of somebody unsure) is known at all."""
    against = [(value, name) for name, value in row.items() if name.endswith("_points") and isinstance(value, float) and value < 0]
    traits = "".join(f", {name.removesuffix('_points')}" for _, name in sorted(against)[:3])
    return f"{count(row['documents'], 'document')} and {count(row['assets'], 'asset')} in all{traits}"


def _confidence(load: Load, one: Candidate, met: pl.DataFrame, seen: Evidence, risk: Risk, seen_by: tuple[int, bool]) -> tuple[str, str]:
    """high: nobody hit who may be a person, and machines beyond doubt (by their own name, by a score of CERTAIN or more on several days, or by a
    pace that none of many people has), proved on the log. medium: no person hit, few who are not known. low: everything else."""
    days, proved = seen_by
    unsure = risk.unsure_requests / max(1, seen.requests)
    people = load.clients.filter(pl.col("side") == PERSON).height
    if risk.people:
        return "low", f"{risk.people} of those hit count as people"
    if one.what in ("rate", "pace"):
        if people < ENOUGH_PEOPLE:
            return "low", f"the log shows only {people} people, so their fastest may be still to come"
        if "network" in one.when or "asn" in one.when:
            return "medium", "no person is hit, but few come from there"
        sure = "high" if unsure <= FEW_UNSURE else "medium"
        return sure, f"no person of {people} comes near the limit"
    if unsure > MANY_UNSURE:
        return "low", f"{unsure:.0%} of the requests are of clients not known to be machines"
    if one.what == "ua-alone":
        return "low", "any browser may send this User-Agent, though no person did"
    if one.what in ("agent", "agents"):
        return "high", "they name themselves"
    machines = met.filter(pl.col("side").is_in(LOAD))
    score = float((machines["score"] * machines["requests"]).sum()) / max(1, int(machines["requests"].sum()))
    if unsure <= FEW_UNSURE and score >= CERTAIN and days > 1 and proved:
        return "high", f"no person hit; a mean score of {score:.1f} on {days} days"
    if days == 1:
        return "medium" if score >= CERTAIN else "low", f"no person hit, but seen on one day only; a mean score of {score:.1f}"
    return "medium", f"no person hit; a mean score of {score:.1f} on {days} days, {unsure:.0%} of the requests by clients not known"


def _shadow_days(load: Load, active: int) -> int:
    """Twice the mean pause between two days with a hit, so that at least one visit will be seen; a week at least."""
    span = (load.last - load.first) // 86_400 + 1
    return max(WEEK, min(LONGEST, -(-2 * span // max(1, active))))


def _notes(load: Load, one: Candidate, proved: bool, today: date) -> Iterator[str]:
    if "asn" in one.when:
        yield "needs an ASN database in the policy: data: {asn: FILE.mmdb}"
    if not proved:
        yield "the numbers are those of the clients table: not proved on the log itself"
    old = (today - date(1970, 1, 1)).days - load.last // 86_400
    if old > STALE and one.days < 180:
        yield f"the log ends {old} days before today: these addresses may have changed hands"
    if one.what in ("agent", "agents") and "seo" in load.clients["category"].gather(one.cover.reach.rows):
        yield "if you use such a service for your own site, leave its agent out"
    if one.what == "pace":
        yield "a crawler that is slowed brings readers later; one that is refused brings none"
    if one.what == "ua" and "missing" in one.when.get("user_agent", {}):
        yield "old feed readers and webhooks send no User-Agent either"


def _comments(
    one: Candidate,
    seen: Evidence,
    risk: Risk,
    confidence: tuple[str, str],
    shadow: int,
    expires: date,
    notes: Iterable[str],
    about: tuple[Load, date],
) -> Iterator[str]:
    load, today = about
    yield f"proposed: {today.isoformat()}, {one.says}; from a log of {load.requests:,} requests, {day(load.first)} to {day(load.last)}"
    classes = ", ".join(f"{name} {requests:,}" for name, requests in seen.classes.items())
    adds = "" if seen.adds >= seen.requests else f", {seen.adds:,} of them beyond the proposals above"
    yield f"hits: {seen.requests:,} requests ({seen.share:.1%} of all{adds}) of {count(seen.clients, 'client')} ({classes}), {size(seen.bytes)} of answers, {_cpu(seen)}"
    if seen.reasons:
        yield f"why: {'; '.join(seen.reasons)}"
    yield from _at_risk("people", risk.people, risk.requests, risk.traces, "who count as people")
    yield from _at_risk("unsure", risk.unsure, risk.unsure_requests, risk.unsure_traces, "not known to be machines")
    yield f"confidence: {confidence[0]} ({confidence[1]})"
    yield f"shadow: {shadow} days; then look at its hits, and write mode: enforce"
    yield f"expires: {expires.isoformat()}"
    yield from (f"note: {note}" for note in notes)
    for row in seen.samples:
        request = f"{row['method']} {shown(str(row['target']), 90)} {row['status']}"
        yield f"e.g. {iso(row['time'])} {shown(row['client'], 60)} {request} {shown(row['ua'] or '(no User-Agent)', 100)}"


def _cpu(seen: Evidence) -> str:
    """The time that a server takes is the most that its CPU can be busy."""
    return "CPU n/a" if seen.spent is None else f"at most {duration(seen.spent)} of CPU"


def _at_risk(what: str, clients: int, requests: int, traces: Sequence[Trace], who: str) -> Iterator[str]:
    if not clients:
        yield f"{what}: none hit"
        return
    yield f"{what}: {count(requests, 'request')} of {count(clients, 'client')} {who}:"
    for one in traces[:SHOWN]:
        yield f"  {shown(one.client, 60)}, {count(one.requests, 'request')} ({one.why}) {shown(one.ua or '(no User-Agent)', 100)}"
