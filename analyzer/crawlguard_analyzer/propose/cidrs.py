"""From many subnets to few CIDRs: neighbours are joined where they are dense, and never over a subnet that must stay out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

Net = IPv4Network | IPv6Network

WIDEST = {4: 16, 6: 32}
"""The shortest prefixes that are made: what one customer of a registry usually holds (a /16, or a /32 of IPv6). Wider is a whole provider."""
DENSE = 0.5
"""The least share of a joined prefix that must have been seen: half of it, so that each join at most doubles what a rule reaches."""


def joined(subnets: Iterable[str], out: Collection[str] = (), dense: float = DENSE) -> dict[str, str]:
    """For each subnet (CIDRs of one length per family, such as /24 and /48) the prefix that it is joined into, itself where none.

    A prefix is made when both its halves and at least ``dense`` of it were seen, and it holds none of ``out`` (subnets of the same lengths).
    Results never overlap. Raises ValueError for what is no CIDR.
    """
    found: dict[str, str] = {}
    for version in (4, 6):
        present = {ip_network(text): text for text in subnets if _version(text) == version}
        kept_out = {ip_network(text) for text in out if _version(text) == version}
        for prefix, inside in _climb(list(present), kept_out, WIDEST[version], dense).items():
            found |= dict.fromkeys((present[net] for net in inside), str(prefix))
    return found


def _version(text: str) -> int:
    return 6 if ":" in text else 4


def _climb(subnets: list[Net], out: Collection[Net], widest: int, dense: float) -> Mapping[Net, list[Net]]:
    """Level by level: the prefixes that hold, each with its subnets. A wider one takes the place of those in it when it is dense."""
    best: dict[Net, list[Net]] = {net: [net] for net in subnets}
    level: dict[Net, list[Net]] = dict(best)
    barred = set(out)
    while level and (length := next(iter(level)).prefixlen) > widest:
        halves: dict[Net, list[list[Net]]] = {}
        for net, inside in level.items():
            halves.setdefault(net.supernet(), []).append(inside)
        above = {net: [one for half in both for one in half] for net, both in halves.items()}
        barred = {net.supernet() for net in barred}
        base = subnets[0].prefixlen
        for net, inside in above.items():
            if len(halves[net]) == 2 and net not in barred and len(inside) >= dense * 2 ** (base - length + 1):
                for part in _parts(net, base, inside, best):
                    best.pop(part)
                best[net] = inside
        level = above
    return best


def _parts(net: Net, base: int, inside: list[Net], best: Mapping[Net, list[Net]]) -> set[Net]:
    """The prefixes of ``best`` that lie in a wider one."""
    return {part for one in inside for length in range(base, net.prefixlen, -1) if (part := one.supernet(new_prefix=length)) in best}
