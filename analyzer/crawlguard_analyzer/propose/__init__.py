"""From clients to rules: a few strong ones, each with its evidence, proved on the log, and paid for by the people whom it would hit.

found = propose(clients, load_policy("crawlguard.yaml"), today=date.today(), shards=lambda: read(logs))
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import date

import polars as pl

from crawlguard.policy.model import Policy, Rule

from .candidates import candidates
from .cover import choose, united
from .load import Load, load_of
from .measure import Bench
from .proof import Shards
from .proposal import Proposal, Proposals
from .rates import limits, paces
from .words import proposal
from .written import needs_asn, read_back

__all__ = ["Proposal", "Proposals", "propose"]

MOST = 10
"""Rules that are proposed at once: what a person reads with care."""
LEAST_SHARE, LEAST = 0.005, 20
"""The least share of a log's requests, and the least number of them, that a rule must be worth."""
ROUNDS = 4
"""How often rules are chosen anew after some have been measured; each time costs a reading of the log."""


def propose(
    clients: pl.DataFrame,
    policy: Policy,
    *,
    today: date,
    shards: Shards | None = None,
    reviewed: Sequence[Rule] = (),
    renew: Collection[str] = (),
    most: int = MOST,
) -> Proposals:
    """The fewest rules that cover the load of machines which a live policy leaves alone. Raises DataError for an unusable database.

    ``clients``: the analyzer's table. ``shards``: reads the log from its start whenever it is called: once for people's pace, and up to ROUNDS
    times for what rules would have done. Without it there are no rules by rate, and numbers are the table's.
    ``reviewed``: rules that were proposed before; what they cover is not proposed again. ``renew``: ids of those that have expired.
    """
    load = load_of(clients, policy, reviewed=reviewed)
    if load.anonymous:  # the log's own addresses are not those of the table
        shards = None
    least = max(LEAST, int(LEAST_SHARE * load.requests))
    known = {rule.id for rule in (*policy.rules, *reviewed)}.difference(renew)
    bench = Bench(load, shards)
    rates = list(limits(load, paces(shards))) if shards and load.clients.height else []
    pool = {one.id: one for one in (*rates, *candidates(load, least)) if one.id not in known}
    waiting = [one for one in rates if one.id in pool]
    for _ in range(ROUNDS):
        offered = list(pool.values())
        chosen = [offered[choice.number] for choice in choose([one.cover for one in offered], least, most)]
        waiting += [one for one in chosen if one.id not in bench.measured and one not in waiting]
        if not waiting:
            break
        told, tried = bench.measure(waiting), {one.id for one in waiting}
        pool = {id_: told.get(id_, one) for id_, one in pool.items() if id_ in told or id_ not in tried}
        waiting = []
    sure = [one for one in pool.values() if one.id in bench.measured]
    choices = [(sure[choice.number], choice.gain) for choice in choose([one.cover for one in sure], least, most)]
    found = [proposal(load, one, gain, bench, today) for one, gain in choices]
    sound = [one for one in found if read_back(one.yaml, one.when, asn=needs_asn(one.when))]
    return Proposals(
        policy=policy.name,
        requests=load.requests,
        load=load.machine,
        covered=int(united(one.cover.reach for one, _ in choices).sum()),
        first=load.first,
        last=load.last,
        proposals=tuple(sound),
        notes=(
            *_notes(load, shards),
            *bench.notes,
            *(f"{one.id}: left out, as its text is ambiguous" for one in found if one not in sound),
        ),
    )


def _notes(load: Load, shards: Shards | None) -> Iterator[str]:
    if not load.clients.height:
        yield "the log holds no requests"
        return
    if not load.addressed:
        yield "the clients' addresses are hashed or names, so no rule by address, subnet or rate can be proposed"
    elif load.anonymous:
        yield "the clients are whole subnets (privacy: subnet), so no rule for a single address can be proposed"
    if not load.policy.asn or load.clients["asn"].is_null().all():
        yield "without an ASN database (--asn FILE) no rule by network operator can be proposed; subnets stand in for them, and exits that many people share (relays, VPNs) are not known"
    if shards is None:
        yield "without the log itself, or with clients made anonymous, there are no rules by rate, and the numbers are the table's"
    if load.clients["swarm"].is_not_null().any():
        yield "a log cannot prove a rule with the condition swarm, so subnets, User-Agents and rates stand in for it here"
