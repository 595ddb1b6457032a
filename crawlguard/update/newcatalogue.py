"""A whole catalogue fetched from a URL: one JSON document, believed in no word before all of it has been checked, and refused as a whole.

The document holds the entries as ``rules/`` writes them, with their samples, so that the same code reads and judges it that reads a policy,
and each pattern proves itself here once more:

    {"version": 1, "date": "2026-11-22", "agents": [{"name": ..., "user_agent": [...], "samples": [...]}], "networks": [{"name": ...}]}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from ipaddress import ip_network
from typing import Any

from .. import catalogue
from ..errors import DataError, PolicyError, Problem
from ..loader import load_policy
from ..policy.entries import AGENT, NETWORK
from ..policy.model import Network
from ..policy.nodes import Node, Place
from ..policy.types import Field, Integer, Many, Record, Text
from ..signals.ua import Agent, Pattern, UserAgentIndex
from . import judge
from .fetch import Fetcher
from .outcome import KEPT, UNCHANGED, UPDATED, Outcome
from .people import PEOPLE
from .rangelist import JSON_TYPES, collapse

VERSION = 1
SHORTEST = 3
"""Characters of a bare UA token; a shorter one (``uv``) needs a word on where it stands or what follows it."""

DOCUMENT = Record(
    "a catalogue",
    {
        "version": Field(Integer(VERSION, VERSION), required=True),
        "date": Field(Text("a date", 10), required=True),
        "agents": Field(Many(AGENT, single=False, unique=False), required=True),
        "networks": Field(Many(NETWORK, single=False, unique=False), required=True),
    },
)


# ---- writing


def document(day: date) -> dict[str, Any]:
    """This installation's catalogue as such a document, dated ``day``. Raises PolicyError when its files are malformed."""
    agents = [_agent_row(agent) for agent in catalogue.read_agents()]
    networks = [_network_row(network) for network in catalogue.read_networks()]
    return {"version": VERSION, "date": day.isoformat(), "agents": agents, "networks": networks}


def _agent_row(agent: Agent) -> dict[str, Any]:
    row = {k: v for k, v in agent._asdict().items() if v != Agent._field_defaults.get(k)}
    return row | {"user_agent": [_pattern_row(p) for p in agent.user_agent]}


def _pattern_row(pattern: Pattern) -> str | dict[str, Any]:
    more = {
        "case": "exact" if pattern.exact else "",
        "at": pattern.at,
        "open": pattern.open,
        "after": pattern.after,
        "with": pattern.with_,
        "without": pattern.without,
    }
    more = {key: value for key, value in more.items() if value}
    return {"token": pattern.token, **more} if more else pattern.token


def _network_row(network: Network) -> dict[str, Any]:
    keys = ("name", "operator", "tags", "date", "ranges", "asns", "cidrs")
    return {key: getattr(network, key) for key in keys if getattr(network, key)}


# ---- fetching and judging


def update_catalogue(url: str, source: str, fetcher: Fetcher, now: datetime, *, accepted: bool) -> tuple[Outcome, dict[str, Any] | None]:
    """Fetch a catalogue and judge it; nothing is written. The value is what ``datadir.CATALOGUE`` is to hold, None when that stays.

    ``source`` names the policy that must go on working with it. ``accepted``: a person takes what is merely surprising.
    """
    known = catalogue.updated_catalogue()
    before = known if known is not None and known.get("url") == url else {"etag": "", "modified": ""}
    agents, networks = catalogue.agents(), catalogue.networks()
    old = len(agents) + len(networks)
    try:
        answer = fetcher.get(url, before["etag"], before["modified"])
        if not answer.changed:
            return Outcome("catalogue", (url,), UNCHANGED, old, old), None
        if answer.kind not in JSON_TYPES:
            raise DataError(f"what came is called {answer.kind[:40]!r}, not JSON")
        value = _value(answer.body, now, accepted=accepted)
        with catalogue.trial(value):
            load_policy(source)
            after = catalogue.agents(), catalogue.networks()
    except (DataError, PolicyError) as error:
        return Outcome("catalogue", (url,), KEPT, old, None, _sentence(error)), None
    value |= {"url": url, "etag": answer.etag, "modified": answer.modified}
    was, now_is = {**{a.name: a for a in agents}, **networks}, {**{a.name: a for a in after[0]}, **after[1]}
    added = tuple(name for name in now_is if now_is[name] != was.get(name))
    verdict = UPDATED if added else UNCHANGED
    return Outcome("catalogue", (url,), verdict, old, len(after[0]) + len(after[1]), "", added), value


def _sentence(error: Exception) -> str:
    if not isinstance(error, PolicyError):
        return str(error)
    first, more = error.problems[0], len(error.problems) - 1
    place = f"{first.file}: " if first.file else ""
    return f"{place}{first.message}" + (f" (and {more} more)" if more else "")


def _value(body: bytes, now: datetime, *, accepted: bool) -> dict[str, Any]:
    """The document, judged, in its compiled form. Raises DataError or PolicyError."""
    found = _read(body)
    agents: list[Agent] = [agent for agent, _ in found["agents"]]
    networks: list[Network] = list(found["networks"])
    try:
        made = date.fromisoformat(found["date"])
    except ValueError:
        raise DataError(f"its date, {found['date']!r}, is not one") from None
    doubts = [*_faults(agents, networks)]
    if not accepted:
        doubts += [*_outdated(made, now), *_surprises(agents, networks)]
    if doubts:
        raise DataError(doubts[0])
    return {"date": made.isoformat(), **catalogue.compiled(agents, networks)}


def _read(body: bytes) -> dict[str, Any]:
    """The document as the policy language reads it, every unknown key and wrong kind refused."""
    problems: list[Problem] = []
    try:
        raw = json.loads(body, object_pairs_hook=_once_each)
        found = DOCUMENT.read(_node(raw, "the catalogue"), problems.append)
    except (ValueError, RecursionError) as error:
        raise DataError(f"what came is not a catalogue ({str(error)[:80]})") from None
    if problems:
        raise PolicyError(problems)
    result: dict[str, Any] = found
    return result


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _node(value: Any, path: str) -> Node:
    place = Place(path)
    if isinstance(value, dict):
        return Node("map", place, pairs=[(Node("text", place, key), _node(v, f"{path}.{key[:40]}")) for key, v in value.items()])
    if isinstance(value, list):
        return Node("list", place, items=[_node(v, f"{path}[{number}]") for number, v in enumerate(value)])
    if value is None:
        return Node("null", place)
    return Node("text", place, value if isinstance(value, str) else json.dumps(value), quoted=isinstance(value, str))


def _outdated(made: date, now: datetime) -> Iterator[str]:
    known = catalogue.updated_catalogue()
    newest = known["date"] if known is not None else catalogue.bundled_date()
    if made.isoformat() < newest:
        yield f"it is of {made}, older than the catalogue in force ({newest})"
    if made > (now + judge.CLOCKS_DIFFER).date():
        yield f"it is of {made}, which is to come"


def _faults(agents: Sequence[Agent], networks: Sequence[Network]) -> Iterator[str]:
    """What is wrong with a catalogue whoever made it."""
    for what, names in (("agent", [a.name.lower() for a in agents]), ("network", [n.name for n in networks])):
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            yield f"the {what} {name!r} stands twice"
    for network in networks:
        if not network.name or network.file:
            yield f"the network {network.name!r} has no name, or names a file"
        wrong = judge.fault(network, collapse([ip_network(c) for c in network.cidrs])) if network.cidrs else ""
        if wrong:
            yield f"the network {network.name}: {wrong}"
    for agent in agents:
        yield from _broad(agent)
    index = UserAgentIndex(agents)
    for text in PEOPLE:
        taken = index.identify(text)
        if taken is not None:
            yield f"the agent {taken.name!r} takes a person's browser for itself: {text}"
    yield from _proofs(agents, index)


def _broad(agent: Agent) -> Iterator[str]:
    for pattern in agent.user_agent:
        bare = not (pattern.at or pattern.after or pattern.with_)
        if not any(c.isalpha() for c in pattern.token) or (bare and len(pattern.token.strip()) < SHORTEST):
            yield f"the agent {agent.name!r} has the token {pattern.token!r}, which says too little"
    if agent.user_agent and not agent.samples:
        yield f"the agent {agent.name!r} has patterns and no sample that proves them"


def _proofs(agents: Sequence[Agent], index: UserAgentIndex) -> Iterator[str]:
    for agent in agents:
        for sample in agent.samples:
            taken = index.identify(sample)
            if taken is not agent:
                yield f"a sample of {agent.name!r} is found as {taken.name if taken else 'nobody'!r}: {sample[:100]}"
        for miss in agent.near_misses:
            if index.identify(miss) is agent:
                yield f"a near miss of {agent.name!r} is found as it: {miss[:100]}"


def _surprises(agents: Sequence[Agent], networks: Sequence[Network]) -> Iterator[str]:
    """What is odd about a catalogue after the one in force."""
    known_agents, known = catalogue.agents(), catalogue.networks()
    merged = {a.name: a for a in known_agents} | {a.name: a for a in agents}
    index = UserAgentIndex(tuple(merged.values()))
    for agent in known_agents:
        taken = next((found for p in agent.user_agent if (found := index.identify(p.token)) is not None and found.ai), None)
        if taken is not None and not agent.ai:
            yield f"{agent.name!r}, which is no AI agent, would be taken for the AI agent {taken.name!r}"
    for agent in agents:
        now_is = next((found for s in agent.samples if agent.ai and (found := catalogue.identify(s)) is not None and not found.ai), None)
        if now_is is not None:
            yield f"{now_is.name!r}, which is no AI agent, would in part be taken for the AI agent {agent.name!r}"
    names = {**known, **{n.name: n for n in networks}}
    for what, before, after in (
        ("operator", {a.operator.lower() for a in known_agents}, {a.operator.lower() for a in merged.values()}),
        ("category", {a.category for a in known_agents}, {a.category for a in merged.values()}),
        ("network tag", {t for n in known.values() for t in n.tags}, {t for n in names.values() for t in n.tags}),
    ):
        if before - after:
            yield f"the {what} {min(before - after)!r} is gone; policies may name it"
    around = judge.Surroundings(names.values())
    for network in networks:
        old = [ip_network(c) for c in known[network.name].cidrs] if network.name in known else []
        odd = judge.surprise(network, collapse(old), collapse([ip_network(c) for c in network.cidrs]), around)
        if odd:
            yield f"the network {network.name}: {odd}"
