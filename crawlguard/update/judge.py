"""Whether a new list of a network may take the place of the old one. Any doubt is a reason to keep the old one.

This file fetches and writes nothing. It knows two kinds of doubt: faults, which nothing excuses (addresses that no list can mean, ranges
that no operator of the kind has), and surprises, which a person who has looked may accept (``crawlguard update --accept NAME``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from ..mmdb import intervals
from ..policy.model import Network
from .rangelist import Net, collapse

EXITS = frozenset(("relay", "vpn", "shared-exit"))
"""Tags of networks that people come out of."""
CARRIERS = frozenset(("cloud", "hosting", "cdn"))
"""Tags of networks where other people's machines stand: bots' lists lie inside them by nature, so these are compared among themselves."""


class Width(NamedTuple):
    """How wide a list may be: the shortest prefix of each version, and IPv4 addresses in all."""

    v4: int
    v6: int
    total: int


AGENT_WIDTH = Width(12, 24, 1 << 22)
"""For one operator's own machines. The widest that are published: Meta with a /14, /29s and 540,000 addresses in all."""
CARRIER_WIDTH = Width(8, 20, 1 << 28)
"""For clouds and CDNs: Microsoft with a /9, Akamai with /24s, Amazon with 102 million addresses; the whole Internet has 2^32."""
SHRUNK = 2
GROWN = 16
GROWN_FROM = 1 << 16
"""A list of a few addresses may double and double again; one that grows this many times, past this many, is another list."""
CLOCKS_DIFFER = timedelta(days=1)

_SPECIAL = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
            "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
            "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
        ),
    )
)  # fmt: skip
"""What no client on the public Internet has (IANA's special-purpose registries); of IPv6 everything outside 2000::/3 besides."""
_GLOBAL_V6 = IPv6Network("2000::/3")

Span = tuple[int, int, int]
"""Version, first address, first address after it."""


class Surroundings:
    """The networks that a new list must not reach into: people's shared exits, and other operators' published lists.

    ``asn``: an ASN database, by which networks that are known by their systems alone are compared too.
    """

    def __init__(self, networks: Iterable[Network], asn: str | None = None) -> None:
        self._networks = {n.name: n for n in networks}
        self._asn = asn
        self._by_asn: dict[int, list[Span]] | None = None
        self._spans: dict[str, list[Span]] = {}

    def put(self, network: Network) -> None:
        """From now on this network is as it is here: a list that has been accepted counts for those after it."""
        self._networks[network.name] = network
        self._spans.pop(network.name, None)

    def reached(self, network: Network, added: Sequence[Net]) -> str:
        """Which of them the new addresses of a network reach into, as a sentence; "" for none."""
        if not added:
            return ""
        for other in self._networks.values():
            what = _apart(network, other)
            if what:
                hit = _overlap(self._of(other), added)
                if hit is not None:
                    return f"{hit} reaches into {what} {other.name}"
        return ""

    def _of(self, network: Network) -> list[Span]:
        found = self._spans.get(network.name)
        if found is None:
            found = [_span(n) for n in collapse([ip_network(c) for c in network.cidrs])]
            if self._asn and EXITS & set(network.tags):
                table = self._systems()
                found += [span for number in network.asns for span in table.get(number, ())]
            found = self._spans[network.name] = _disjoint(found)
        return found

    def _systems(self) -> dict[int, list[Span]]:
        """The addresses of every system that people come out of, by the database."""
        if self._by_asn is None:
            wanted = {number for n in self._networks.values() if EXITS & set(n.tags) for number in n.asns}
            self._by_asn = {number: [] for number in wanted}
            for version, rows in intervals(self._asn or "", "asn").items():
                for low, high, number in rows:
                    if number in wanted:
                        self._by_asn[number].append((version, low, high))
        return self._by_asn


def _apart(network: Network, other: Network) -> str:
    """What the other network is that this one must stay out of; "" when it need not."""
    if other.name == network.name or (other.operator and other.operator == network.operator):
        return ""
    tags, others = set(network.tags), set(other.tags)
    if EXITS & others:
        return "" if EXITS & tags else "people's shared exit"
    if bool(CARRIERS & tags) != bool(CARRIERS & others):
        return ""
    listed = "published" in others or other.ranges
    return f"the list of {other.operator or 'another operator'}," if listed else ""


def _span(net: Net) -> Span:
    low = int(net.network_address)
    return net.version, low, low + net.num_addresses


def _overlap(spans: list[Span], nets: Sequence[Net]) -> Net | None:
    """The first of the networks that shares an address with the spans, which are sorted and disjoint."""
    for net in nets:
        version, low, high = _span(net)
        at = bisect_right(spans, (version, high - 1, 1 << 129)) - 1
        if at >= 0 and spans[at][0] == version and spans[at][2] > low:
            return net
    return None


def _disjoint(spans: Iterable[Span]) -> list[Span]:
    out: list[Span] = []
    for version, low, high in sorted(spans):
        if out and out[-1][0] == version and low <= out[-1][2]:
            out[-1] = version, out[-1][1], max(high, out[-1][2])
        else:
            out.append((version, low, high))
    return out


def fault(network: Network, nets: Sequence[Net]) -> str:
    """What is wrong with a list whoever published it, as a sentence; "" when nothing is."""
    if not nets:
        return "the list is empty"
    width = CARRIER_WIDTH if CARRIERS & set(network.tags) else AGENT_WIDTH
    for net in nets:
        if net.prefixlen < (width.v4 if net.version == 4 else width.v6):
            return f"{net} is wider than anything that such a network holds"
        if isinstance(net, IPv6Network) and not net.subnet_of(_GLOBAL_V6):
            return f"{net} is not on the public Internet"
        if any(net.version == special.version and net.overlaps(special) for special in _SPECIAL):
            return f"{net} is not on the public Internet"
    if size(nets)[1] > width.total:
        return f"the list holds {size(nets)[1]:,} IPv4 addresses, more than such a network has"
    return ""


def surprise(network: Network, old: Sequence[Net], new: Sequence[Net], around: Surroundings) -> str:
    """What is odd about a list after the one in force, as a sentence; "" when nothing is."""
    before, after = size(old), size(new)
    for what, was, now in zip(("entries", "IPv4 addresses", "IPv6 networks"), before, after, strict=True):
        merged = what == "entries" and len(minus(old, new)) * SHRUNK <= was  # fewer entries that hold what many held
        if now * SHRUNK < was and not merged:
            return f"the list shrinks by more than half, from {was:,} to {now:,} {what}"
    if before[1] and after[1] > max(GROWN_FROM, before[1] * GROWN):
        return f"the list grows from {before[1]:,} to {after[1]:,} IPv4 addresses"
    return around.reached(network, minus(new, old))


def older(created: str, known: str, now: datetime) -> str:
    """Whether the time that a list says it was made at is before the known one's, or to come; as a sentence, "" for neither."""
    if created and known and created < known:
        return f"the list was made at {created}, before the one in force ({known})"
    if created and datetime.fromisoformat(created) > now + CLOCKS_DIFFER:
        return f"the list says that it was made at {created}, which is to come"
    return ""


def size(nets: Iterable[Net]) -> tuple[int, int, int]:
    """Entries, IPv4 addresses, and IPv6 networks of 64 bits (a part of one counts as one)."""
    entries = v4 = v6 = 0
    for net in nets:
        entries += 1
        if isinstance(net, IPv4Network):
            v4 += net.num_addresses
        else:
            v6 += 1 << max(0, 64 - net.prefixlen)
    return entries, v4, v6


def minus(nets: Sequence[Net], others: Sequence[Net]) -> list[Net]:
    """The networks of one collapsed list that are not wholly inside the other."""
    spans = sorted(map(_span, others))
    found = []
    for net in nets:
        version, low, high = _span(net)
        at = bisect_right(spans, (version, low, 1 << 129)) - 1
        if at < 0 or spans[at][0] != version or spans[at][2] < high:
            found.append(net)
    return found
