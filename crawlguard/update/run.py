"""What ``crawlguard update`` does: fetch the lists that a policy needs, judge each against the one in force, put the good ones in place.

Nothing is written before everything is judged; then one file is replaced at once. Until then, and wherever something is doubtful, the old
lists stay in force.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from .. import catalogue, datadir
from ..errors import ConfigError, DataError
from ..loader import load_policy
from ..policy.check import networks_of, walk
from ..policy.conditions import NetworkIs
from ..policy.model import Network, Policy
from . import judge
from .fetch import Fetcher
from .newcatalogue import update_catalogue
from .outcome import KEPT, NO_LIST, UNCHANGED, UPDATED, Outcome
from .rangelist import Net, RangeList, collapse, parse

RUN = 600.0
"""Seconds for all lists together; those whose turn does not come keep what they have."""

Progress = Callable[[str], None]
"""Told the name of each list as its turn comes."""


def wanted(policy: Policy, *, every: bool) -> list[Network]:
    """The networks whose lists are to be fetched: those that a rule names, or all; and people's shared exits, which the judge needs.

    Left out are those that no list could change: known by autonomous systems alone, or by a file of the site's own.
    """
    if every:
        named = {*policy.networks, *catalogue.networks()}
    else:
        parts = [part for rule in policy.rules for part in walk(rule.when) if isinstance(part, NetworkIs)]
        named = {name for part in parts for name in networks_of(part, policy)}
    known = {**catalogue.networks(), **policy.networks}
    if any(known[name].ranges for name in named):
        named |= {n.name for n in known.values() if n.ranges and judge.EXITS & set(n.tags)}
    chosen = (catalogue.fresh(known[name]) for name in sorted(named))
    return [n for n in chosen if n.ranges or (n.cidrs and not n.file and n.date)]


def run(
    source: str,
    *,
    every: bool = False,
    catalogue_url: str = "",
    accept: Collection[str] = (),
    dry_run: bool = False,
    fetcher: Fetcher | None = None,
    now: datetime | None = None,
    progress: Progress = lambda name: None,
) -> list[Outcome]:
    """A whole update for the policy named ``source``; the catalogue first, when it has a URL.

    Raises PolicyError when the policy cannot be read, ConfigError when ``accept`` names no list of this update, DataError when there is
    nowhere to write to.
    """
    fetcher, now = fetcher or Fetcher(), now or datetime.now(UTC)
    load_policy(source)  # a broken one is told before anything is fetched
    directory = None if dry_run else datadir.target()
    outcomes = []
    with ExitStack() as stack:
        if catalogue_url:
            progress("catalogue")
            outcome, value = update_catalogue(catalogue_url, source, fetcher, now, accepted="catalogue" in accept)
            outcomes.append(outcome)
            if value is not None and directory is not None:
                with datadir.locked(directory):
                    datadir.replace(directory, datadir.CATALOGUE, value)
            elif value is not None:
                stack.enter_context(catalogue.trial(value))
        policy = load_policy(source)
        networks = wanted(policy, every=every)
        unknown = set(accept) - {n.name for n in networks if n.ranges} - {"catalogue"}
        if unknown:
            raise ConfigError(f"--accept {min(unknown)}: this update fetches no list of that name")
        around = judge.Surroundings({**catalogue.networks(), **policy.networks}.values(), policy.asn)
        found, entries = update_lists(networks, around, fetcher, now, accept, progress)
    if directory is not None:
        save(directory, entries)
    return outcomes + found


def update_lists(
    networks: Iterable[Network],
    around: judge.Surroundings,
    fetcher: Fetcher,
    now: datetime,
    accept: Collection[str] = (),
    progress: Progress = lambda name: None,
) -> tuple[list[Outcome], dict[str, Any]]:
    """Fetch and judge; nothing is written. The entries are what ``save`` takes."""
    outcomes: list[Outcome] = []
    entries: dict[str, Any] = {}
    end = time.monotonic() + RUN
    for network in networks:
        progress(network.name)
        old = nets_of(network)
        if not network.ranges:
            reason = f"its operator publishes no list that a program can read; this copy is of {network.date}"
            outcomes.append(Outcome(network.name, (), NO_LIST, len(old), None, reason))
            continue
        try:
            if time.monotonic() > end:
                raise DataError(f"its turn did not come within {RUN:.0f} s")
            parts, new = _fetched(network, fetcher, now, accepted=network.name in accept)
            _judged(network, old, new, around, accepted=network.name in accept)
        except DataError as error:
            outcomes.append(Outcome(network.name, network.ranges, KEPT, len(old), None, str(error)))
            continue
        entries[catalogue.list_key(network)] = {"checked": now.date().isoformat(), "parts": parts}
        around.put(network._replace(cidrs=tuple(map(str, new))))
        outcomes.append(_difference(network, old, new))
    return outcomes, entries


def _fetched(network: Network, fetcher: Fetcher, now: datetime, *, accepted: bool) -> tuple[list[dict[str, Any]], tuple[Net, ...]]:
    """A network's lists as they are to be kept, and all their networks together. Raises DataError."""
    known = {part["url"]: part for part in (catalogue.fetched(network) or {"parts": ()})["parts"]}
    parts = []
    for url in network.ranges:
        before = known.get(url, {"etag": "", "modified": "", "created": "", "cidrs": []})
        bare, _, key = url.partition("#")
        answer = fetcher.get(bare, before["etag"], before["modified"])
        if not answer.changed:
            parts.append(before)
            continue
        listed: RangeList = parse(answer.body, answer.kind, key)
        doubt = judge.older(listed.created, before["created"], now)
        if doubt and not accepted:
            raise DataError(doubt)
        parts.append({"url": url, "etag": answer.etag, "modified": answer.modified, "created": listed.created, "cidrs": listed.cidrs})
    return parts, collapse([ip_network(cidr) for part in parts for cidr in part["cidrs"]])


def _judged(network: Network, old: Sequence[Net], new: Sequence[Net], around: judge.Surroundings, *, accepted: bool) -> None:
    doubt = judge.fault(network, new) or ("" if accepted else judge.surprise(network, old, new, around))
    if doubt:
        raise DataError(doubt)


def _difference(network: Network, old: Sequence[Net], new: Sequence[Net]) -> Outcome:
    before, after = set(old), set(new)
    added = tuple(str(n) for n in new if n not in before)
    removed = tuple(str(n) for n in old if n not in after)
    verdict = UPDATED if added or removed else UNCHANGED
    return Outcome(network.name, network.ranges, verdict, len(old), len(new), "", added, removed)


def nets_of(network: Network) -> tuple[Net, ...]:
    """A network's addresses, collapsed."""
    return collapse([ip_network(cidr) for cidr in network.cidrs])


def save(directory: Path, entries: dict[str, Any]) -> None:
    """Put new entries in force beside those of other policies. What says nothing new is not written: a change of the file makes guards reload.

    Raises DataError when it cannot be written; then the old file is as it was.
    """
    with datadir.locked(directory):
        lists = datadir.current(directory, datadir.RANGES).get("lists", {})
        merged = {**lists, **entries}
        if merged != lists:
            datadir.replace(directory, datadir.RANGES, {"lists": merged})
