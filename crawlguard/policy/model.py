"""The policy as data: what the files become, and what is compiled. One record for each mapping; nothing here reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..errors import Problem
from ..signals.ua import Agent
from .conditions import Condition
from .nodes import Place

VERSION = 1
RESERVED_ACTIONS = frozenset(("challenge", "tarpit", "decoy"))
FINAL_ACTIONS = ("allow", "block", "throttle", "hide", "price")
AUTO = -1
"""``retry_after: auto``: the exact wait of the rate that tripped, in whole seconds rounded up."""
RETRY_WITHOUT_RATE = 60
"""Seconds of ``retry_after: auto`` when no rate condition says how long: a polite client's usual pause."""


class Then(NamedTuple):
    """What a rule does: tags, weight, and at most one final action with its answer."""

    place: Place
    action: str | None = None
    tags: tuple[str, ...] = ()
    weigh: int = 0
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    html: str | None = None
    json: str | None = None
    retry_after: int = AUTO
    block_for: int | None = None
    custom: bool = False


class Rule(NamedTuple):
    """One rule. ``mode`` None takes the policy's."""

    place: Place
    id: str
    then: Then
    when: Condition
    mode: str | None = None
    reason: str | None = None


class Network(NamedTuple):
    """A named set of addresses, by CIDRs, by a file of CIDRs, or by autonomous systems.

    ``cidrs`` are what ``ranges`` (the operator's own lists, as URLs) said on ``date``, an ISO date, where there are any.
    """

    place: Place
    name: str
    cidrs: tuple[str, ...] = ()
    asns: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    file: str | None = None
    operator: str = ""
    date: str = ""
    ranges: tuple[str, ...] = ()


class ClientIp(NamedTuple):
    """Whose word about the client's address is taken."""

    trusted_proxies: tuple[str, ...] = ()
    header: str = "x-forwarded-for"


class Store(NamedTuple):
    """Where rates are counted. ``size`` in bytes, for ``shared``.

    ``url``: servers that many hosts count on, see ``policy.urls``; ``kind`` is then the local one that counts while they are away.
    ``site``: the name under which hosts count together, by default that of the policy's file. ``batch``: microseconds between two flushes of what a
    process has decided by itself (see ``store.batch``); 0 to put each request to the servers.
    """

    kind: str = "shared"
    path: str | None = None
    size: int = 16 << 20
    url: str = ""
    site: str = ""
    batch: int = 0


class Log(NamedTuple):
    """The decision log. ``sample``: the share of plain allows that is logged too."""

    to: str = "off"
    sample: float = 0.0


class Robots(NamedTuple):
    """What the site says beside its verdicts: in robots.txt, tdmrep.json, the RSL document, ai.txt and response headers.

    ``signals`` and ``usage``: None to leave them out, "auto" to take them from the verdicts, else pairs of label and value.
    ``delays``: pairs of token and seconds. URLs are absolute. ``merge``: an existing robots.txt whose groups are kept, and
    ``existing`` what it holds.
    """

    place: Place = Place()
    comment: str | None = None
    sitemaps: tuple[str, ...] = ()
    license: str | None = None
    tdm_policy: str | None = None
    delays: tuple[tuple[str, int], ...] = ()
    signals: tuple[tuple[str, str], ...] | Literal["auto"] | None = "auto"
    usage: tuple[tuple[str, str], ...] | Literal["auto"] | None = None
    merge: str | None = None
    existing: bytes | None = None


class Serve(NamedTuple):
    """Which documents the middleware answers by itself, and whether it adds the headers that say the same."""

    robots: bool = False
    tdmrep: bool = False
    rsl: bool = False
    ai_txt: bool = False
    headers: bool = False


@dataclass(slots=True)
class Policy:
    """A whole policy, its includes already merged: own rules first, then the included ones in their order.

    What ``load_policy`` returns and what every door takes. ``sources`` are the files it was made of, and
    the globs (plain names are escaped as for ``glob``), for reloading.
    """

    mode: str = "enforce"
    rules: tuple[Rule, ...] = ()
    agents: tuple[Agent, ...] = ()
    networks: dict[str, Network] = field(default_factory=dict)
    client_ip: ClientIp = field(default_factory=ClientIp)
    asn: str | None = None
    country: str | None = None
    missing_data: str = "error"
    store: Store = field(default_factory=Store)
    log: Log = field(default_factory=Log)
    addresses: str = "full"
    robots: Robots = field(default_factory=Robots)
    serve: Serve = field(default_factory=Serve)
    name: str = "policy"
    sources: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()
