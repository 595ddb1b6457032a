"""Whose a request is: its client by the connection and, where proxies are trusted, by what they say; and what to write when that cannot be told."""

from __future__ import annotations

from .client_ip import FORWARDING, PROXIED, ClientResolver, format_ip, parse_ip
from .events import Once
from .live import GENERATION, Live
from .policy.ruleset import UNKNOWN_CLIENT, Client
from .request import RequestView

MAX_KEY = 128
"""Bytes of a forwarding header that is still kept in the cache: two hops of IPv6 and then some."""


def client_of(live: Live, view: RequestView, once: Once) -> Client:
    """The client of a request whose peer is not in the young generation, or does not speak for itself. ``once`` hears why one is unknown."""
    known = live.proxies.get(view.peer)
    resolver = live.resolver
    if known is None:
        peer = parse_ip(view.peer)
        if not resolver.needs_headers(peer):
            return live.client(view.peer, peer)
        known = peer, resolver.is_trusted(peer)
        if len(live.proxies) < GENERATION:
            live.proxies[view.peer] = known
    peer, trusted = known
    values = view.values(resolver.header)
    if trusted and len(values) == 1:  # most visitors come again, and their header with them
        client = live.clients.get(values[0])
        if client is not None:
            return client
    others = not resolver.configured and any(name in PROXIED and name != resolver.header for name, _ in view.headers)
    forwarding = bool(values) or others
    packed = resolver.resolve(peer, values, forwarding, others)
    if packed is None:
        _advise(once, resolver, view, peer, forwarding)
        return UNKNOWN_CLIENT
    # What a trusted proxy's header says does not depend on which proxy sent it.
    if trusted and len(values) == 1 and len(values[0]) <= MAX_KEY:
        return live.client(values[0], packed)
    return live.facts(packed)


def _advise(once: Once, resolver: ClientResolver, view: RequestView, peer: bytes | None, forwarding: bool) -> None:
    """Say, once a minute, why a client is unknown and what to write."""
    who = format_ip(peer) if peer is not None else "unix"
    if not resolver.configured and forwarding:
        seen = [name.decode("latin-1") for name in FORWARDING if view.first(name) is not None] or [resolver.header.decode("latin-1")]
        setting = f'client_ip: {{trusted_proxies: ["{who}"], header: {seen[0]}}}'
        if len(seen) > 1:
            setting += f" (or another of {', '.join(seen)}: the one that your proxy itself writes; the others may be a visitor's)"
        once.warn(
            "proxy",
            f"requests come through a reverse proxy at {who} that is not configured: clients are unknown, and address and rate rules "
            f"do not apply. Add to the policy: {setting}",
        )
    elif resolver.configured:
        header = resolver.header.decode("latin-1")
        once.warn(
            "proxy",
            f"the proxy at {who} sends no usable {header} header: clients are unknown, and address and rate rules do not apply. In nginx: "
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; or name another header under client_ip: {header: ...}",
        )
