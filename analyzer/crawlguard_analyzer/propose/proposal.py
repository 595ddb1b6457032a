"""What a proposal is made of: plain data, and its shape in JSON. Texts of a log are kept as they are; who shows them cares for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from .written import When

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A client that may be a person's; ``requests`` of it would be hit. ``why``: what it was seen to do."""

    client: str
    ua: str
    requests: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """``people``, ``requests``: those that would be hit; ``traces``: the first few, most requests first. ``unsure``, ``unsure_requests``: clients
    of which it is not known whether they are machines."""

    people: int
    requests: int
    traces: tuple[Trace, ...]
    unsure: int
    unsure_requests: int
    unsure_traces: tuple[Trace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the rule would have met. ``adds``: requests that no proposal before it covers. ``share``: of all requests of the log.

    ``classes``: requests by class of client. ``reasons``: features that speak for machines, in words. ``samples``: rows of the log.
    ``bytes``: of the answers; ``spent``: microseconds that the server took, None where the log does not say; times in epoch seconds.
    """

    requests: int
    adds: int
    clients: int
    share: float
    bytes: int
    spent: int | None
    classes: Mapping[str, int]
    reasons: tuple[str, ...]
    first: int
    last: int
    samples: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One rule, in shadow mode. ``yaml``: an item of ``rules`` with its comments. ``proved``: its numbers come from the guard's own engine on the
    log itself, else from the clients table. ``shadow_days``: how long to watch it; ``expires``: when to look at it again."""

    id: str
    kind: str
    says: str
    when: When
    then: str
    yaml: str
    evidence: Evidence
    risk: Risk
    confidence: str
    why: str
    shadow_days: int
    expires: date
    proved: bool
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. ``savings.cpu_seconds``: how long the server took, so the most that its CPU can have been busy; null
        where the log does not say."""
        seen, risk = self.evidence, self.risk
        return {
            "id": self.id,
            "kind": self.kind,
            "says": self.says,
            "when": dict(self.when),
            "then": self.then,
            "mode": "shadow",
            "yaml": self.yaml,
            "evidence": {
                "requests": seen.requests,
                "adds": seen.adds,
                "clients": seen.clients,
                "share": round(seen.share, 6),
                "classes": dict(seen.classes),
                "reasons": list(seen.reasons),
                "first": iso(seen.first),
                "last": iso(seen.last),
                "samples": [{**sample, "time": iso(sample["time"])} for sample in seen.samples],
            },
            "savings": {
                "requests": seen.requests,
                "bytes": seen.bytes,
                "cpu_seconds": None if seen.spent is None else round(seen.spent / 1e6, 3),
            },
            "risk": {
                "people": risk.people,
                "requests": risk.requests,
                "traces": list(map(asdict, risk.traces)),
                "unsure": risk.unsure,
                "unsure_requests": risk.unsure_requests,
                "unsure_traces": list(map(asdict, risk.unsure_traces)),
            },
            "confidence": self.confidence,
            "why": self.why,
            "shadow_days": self.shadow_days,
            "expires": self.expires.isoformat(),
            "proved": self.proved,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """All of a run. ``load``: requests of machines that the live policy does not decide on; ``covered``: those that the proposals cover together."""

    policy: str
    requests: int
    load: int
    covered: int
    first: int
    last: int
    proposals: tuple[Proposal, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, by VERSION."""
        return {
            "version": VERSION,
            "policy": self.policy,
            "requests": self.requests,
            "load": self.load,
            "covered": self.covered,
            "first": iso(self.first),
            "last": iso(self.last),
            "proposals": [one.to_dict() for one in self.proposals],
            "notes": list(self.notes),
        }


def iso(seconds: int) -> str | None:
    """A time of a log, in UTC; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return None


def day(seconds: int) -> str:
    """The same as a day."""
    return (iso(seconds) or "an impossible time").partition("T")[0]
