"""Whether one condition implies another, as far as that can be told from the text: finds rules that never get their turn.

It errs on the side of silence: False means "not known to imply".
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

from ..signals.match import text_test
from . import conditions as c
from .model import Policy

Agents = Callable[[c.AgentIs, Policy], list[int]]
Nets = Callable[[c.NetworkIs, Policy], list[str]]


def always(when: c.Condition) -> bool:
    """True when a condition holds for every request."""
    if isinstance(when, c.All):
        return all(always(part) for part in when.of)
    return isinstance(when, c.AnyOf) and any(always(part) for part in when.of)


def implies(later: c.Condition, earlier: c.Condition, policy: Policy, agents: Agents, networks: Nets) -> bool:
    """True when every request that ``later`` matches is matched by ``earlier`` too."""

    def go(a: c.Condition, b: c.Condition) -> bool:
        if isinstance(b, c.All):
            return all(go(a, part) for part in b.of)
        if isinstance(a, c.AnyOf):
            return all(go(part, b) for part in a.of)
        if isinstance(a, c.All):
            return any(go(part, b) for part in a.of)
        if isinstance(b, c.AnyOf):
            return any(go(a, part) for part in b.of)
        if isinstance(a, c.Not) and isinstance(b, c.Not):
            return go(b.of, a.of)
        if isinstance(a, c.AgentIs) and isinstance(b, c.AgentIs):
            found = set(agents(a, policy))
            return bool(found) and found <= set(agents(b, policy))
        if isinstance(a, c.NetworkIs) and isinstance(b, c.NetworkIs):
            named = set(networks(a, policy))
            return bool(named) and named <= set(networks(b, policy))
        return _atoms(a, b)

    return go(later, earlier)


def _atoms(a: c.Condition, b: c.Condition) -> bool:
    if isinstance(a, c.AddressIn) and isinstance(b, c.AddressIn):
        return _inside(a.cidrs, b.cidrs)
    if isinstance(a, c.AsnIs) and isinstance(b, c.AsnIs):
        return set(a.numbers) <= set(b.numbers)
    if isinstance(a, c.CountryIs) and isinstance(b, c.CountryIs):
        return {x.upper() for x in a.codes} <= {x.upper() for x in b.codes}
    if isinstance(a, c.MethodIs) and isinstance(b, c.MethodIs):
        return {m.upper() for m in a.methods} <= {m.upper() for m in b.methods}
    if isinstance(a, c.TextIs) and isinstance(b, c.TextIs):
        return (a.what, a.header) == (b.what, b.header) and _texts(a, b)
    return False


def _inside(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    """Whether each CIDR of ``inner`` lies in one of ``outer``: one look-up for each prefix length in use."""
    nets: dict[tuple[int, int], set[int]] = {}
    for cidr in outer:
        net = ip_network(cidr)
        nets.setdefault((net.version, net.prefixlen), set()).add(int(net.network_address))

    def covered(cidr: str) -> bool:
        net = ip_network(cidr)
        bits, start = net.max_prefixlen, int(net.network_address)
        return any(
            start >> (bits - length) << (bits - length) in found
            for (version, length), found in nets.items()
            if version == net.version and length <= net.prefixlen
        )

    return all(map(covered, inner))


def _texts(a: c.TextIs, b: c.TextIs) -> bool:
    there = a.missing is False or (a.missing is None and any(kind != "regex" for kind, _ in a.tests))
    if b.missing is not None and not (a.missing if b.missing else there):
        return False
    return all(any(_test(ka, va, kb, vb, a.what != "path") for ka, va in a.tests) for kb, vb in b.tests)


def _test(ka: str, va: tuple[str, ...], kb: str, vb: tuple[str, ...], fold: bool) -> bool:
    """Whether every text that passes test a passes test b."""
    if ka == kb and set(va) <= set(vb):
        return True
    if fold:
        va, vb = tuple(v.lower() for v in va), tuple(v.lower() for v in vb)
    if "regex" in (ka, kb):
        return False
    if kb == "robots":
        if any("*" in v or v.endswith("$") for v in vb) or ka not in ("robots", "prefix", "is"):
            return False
        return all(v.split("*")[0].removesuffix("$").startswith(vb) for v in va)
    if ka == "robots":
        return kb == "prefix" and all(v.split("*")[0].removesuffix("$").startswith(vb) for v in va)
    if ka == "is":
        return all(map(text_test(kb, vb, fold=False), va))
    if kb == "is":
        return False
    if kb == "contains":
        return all(map(text_test("contains", vb, fold=False), va))
    return ka == kb and all(map(text_test(kb, vb, fold=False), va))
