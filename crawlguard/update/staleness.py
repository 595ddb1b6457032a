"""The warning of ``crawlguard check`` about snapshots of published lists that have grown old: stale lists lie."""

from __future__ import annotations

from datetime import date

from ..errors import Problem
from ..policy.check import networks_of, walk
from ..policy.conditions import NetworkIs
from ..policy.model import Network, Policy

STALE = 90
"""Days. ChatGPT-User's list lost half of its entries within four months of 2026; most others changed by a few."""


def stale(policy: Policy, today: date) -> list[Problem]:
    """A warning (CG104) about the lists that the policy's rules use and that are older than STALE days: one for those that
    ``crawlguard update`` can fetch, one for those that only a newer release brings.
    """
    parts = [part for rule in policy.rules for part in walk(rule.when) if isinstance(part, NetworkIs)]
    used = [policy.networks[name] for name in dict.fromkeys(name for part in parts for name in networks_of(part, policy))]
    old = [n for n in used if n.cidrs and not n.file and _age(n, today) > STALE]
    groups = (
        ([n for n in old if n.ranges], "run crawlguard update, and let it run daily (see deploy/)"),
        ([n for n in old if not n.ranges], "their operators publish no list that a program can read; install the newest crawlguard"),
    )
    return [_warning(policy, networks, advice) for networks, advice in groups if networks]


def _age(network: Network, today: date) -> int:
    """In days; 0 for a network that says no date: it is the site's own."""
    try:
        return (today - date.fromisoformat(network.date)).days
    except ValueError:
        return 0


def _warning(policy: Policy, networks: list[Network], advice: str) -> Problem:
    networks = sorted(networks, key=lambda n: n.date)
    shown = ", ".join(f"{n.name} ({n.date})" for n in networks[:12]) + (", ..." if len(networks) > 12 else "")
    what = "a list of addresses is" if len(networks) == 1 else f"{len(networks)} lists of addresses are"
    return Problem(id="CG104", message=f"{what} older than {STALE} days: {shown}", advice=advice, file=policy.name, severity="warning")
