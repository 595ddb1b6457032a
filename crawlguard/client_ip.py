"""Who is really asking: the walk over trusted proxies, from the right to the left. Never the leftmost by faith.

Addresses are packed bytes here (4 or 16). The result is an address, or None for *unknown*. Unknown is an answer: address
and rate conditions then do not match, so a site whose proxy is not set up yet never throttles all visitors as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton  # 12 times faster than ipaddress, and as strict

from .errors import ConfigError

MAX_HOPS = 32
"""More proxies in a row than any real deployment has; a longer chain of trusted hops is somebody's game."""
MAX_HEADER = 4096
"""Bytes of a forwarding header that are read, from its right end: enough for MAX_HOPS of the longest hops."""

PRIVATE = (
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
    "::1/128", "fc00::/7", "fe80::/10",
)  # fmt: skip
"""Loopback, private, link-local and carrier-grade NAT ranges (RFC 1918, 4193, 6598): where reverse proxies live."""

FORWARDING = (b"x-forwarded-for", b"forwarded", b"cf-connecting-ip", b"true-client-ip", b"x-real-ip")
"""Headers whose presence shows that a reverse proxy stands in front, the ones to prefer first."""

PROXIED = frozenset(
    (*FORWARDING, b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-server", b"via", b"x-client-ip",
     b"fastly-client-ip", b"fly-client-ip")
)  # fmt: skip
"""Headers that show a reverse proxy, whether or not they name the client."""

_CHAINS = (b"x-forwarded-for", b"forwarded")
_MAPPED = b"\0" * 10 + b"\xff\xff"


def parse_ip(text: str) -> bytes | None:
    """The packed address of ``text``, None when it is not one.

    IPv4-mapped IPv6 becomes IPv4, so that one client has one address; a zone id (``%eth0``) is dropped, as it means
    something on the sender's host only. ``1.2.3``, leading zeros and anything with white space are refused.
    """
    try:
        if ":" in text:
            packed = inet_pton(AF_INET6, text.partition("%")[0] if "%" in text else text)
            return packed[12:] if packed.startswith(_MAPPED) else packed
        return inet_pton(AF_INET, text)
    except (OSError, ValueError):  # ValueError: a NUL or a lone surrogate inside
        return None


def format_ip(packed: bytes) -> str:
    """The text of a packed address (RFC 5952 for IPv6)."""
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def parse_hop(hop: str) -> bytes | None:
    """The packed address in one hop of a chain, None for garbage.

    Takes ``1.2.3.4``, ``1.2.3.4:5678``, ``2001:db8::1``, ``[2001:db8::1]``, ``[2001:db8::1]:443`` and zone ids.
    ``unknown`` and ``_hidden`` (RFC 7239 section 6) are garbage here: they name nobody.
    """
    hop = hop.strip(" \t")
    if hop.startswith("["):
        hop, bracket, rest = hop[1:].partition("]")
        if not bracket or (rest and not (rest[0] == ":" and _is_port(rest[1:]))):
            return None
    elif hop.count(":") == 1:
        hop, _, port = hop.partition(":")
        if not _is_port(port):
            return None
    return parse_ip(hop)


def _is_port(text: str) -> bool:
    return 0 < len(text) <= 5 and text.isascii() and text.isdigit()


def forwarded_from_right(value: str) -> Iterator[str]:
    """The ``for=`` values of a Forwarded header (RFC 7239 section 4) from the right, "" for an element without exactly one.

    Read from the right, since the right end is what the site's own proxies wrote: a quote that a client leaves open at the left
    cannot swallow them.
    """
    end, quoted = len(value), False
    for at in range(len(value) - 1, -2, -1):
        if at < 0 or (value[at] == "," and not quoted):
            yield _for(value[at + 1 : end])
            end = at
        elif value[at] == '"':
            quoted = not quoted


def _for(element: str) -> str:
    if "\\" in element:  # no address needs an escape; one may hide where a quote ends
        return ""
    pieces = element.split('"')
    pieces[1::2] = [piece.replace(";", " ") for piece in pieces[1::2]]  # quoted: no separators
    named = [p.strip()[4:] for p in "".join(pieces).split(";") if p.strip()[:4].lower() == "for="]
    return named[0] if len(named) == 1 else ""


class Networks:
    """A set of CIDRs, asked by packed address: one mask and one set look-up for each prefix length in use.

    Most addresses are in none, and the first two bytes tell that with one look-up.
    """

    __slots__ = ("_by_length", "beginnings")

    def __init__(self, cidrs: Iterable[str]) -> None:
        """Raises ValueError for what is not an address or CIDR, or has host bits set."""
        found: dict[int, dict[int, set[int]]] = {4: {}, 16: {}}
        for cidr in cidrs:
            network = ip_network(cidr)
            masks = found[network.max_prefixlen // 8]
            masks.setdefault(int(network.netmask), set()).add(int(network.network_address))
        self._by_length = {size: [(mask, frozenset(nets)) for mask, nets in masks.items()] for size, masks in found.items()}
        self.beginnings = {size: _beginnings(size, masks) for size, masks in found.items()}

    def __contains__(self, packed: bytes) -> bool:
        size = len(packed)
        if packed[:2] not in self.beginnings[size]:
            return False
        value = int.from_bytes(packed, "big")
        return any(value & mask in nets for mask, nets in self._by_length[size])


def _beginnings(size: int, masks: dict[int, set[int]]) -> frozenset[bytes]:
    """The first two bytes of every address in some networks."""
    rest = size * 8 - 16
    found: set[bytes] = set()
    for mask, networks in masks.items():
        count = max(1, 1 << 16 - (mask >> rest).bit_count())
        for network in networks:
            found.update((at).to_bytes(2, "big") for at in range(network >> rest, (network >> rest) + count))
    return frozenset(found)


_NEAR = Networks(PRIVATE)
_LOOPBACK = Networks(("127.0.0.0/8", "::1/128"))


class ClientResolver:
    """Finds the client's address from the TCP peer and one named header.

    ``trusted``: CIDRs or addresses, ``private`` (PRIVATE and unix sockets) and ``unix`` (unix sockets alone).
    ``header``: ``x-forwarded-for``, ``forwarded``, or a header that carries a single address (``cf-connecting-ip``).
    Raises ConfigError when either is not usable.
    """

    __slots__ = ("_chain", "_forwarded", "_near", "_special", "_trusted", "_unix", "configured", "header")

    def __init__(self, trusted: Iterable[str] = (), header: str = "x-forwarded-for") -> None:
        if not isinstance(header, str) or not header.replace("-", "").isalnum() or not header.isascii():
            raise ConfigError(f"client_ip_header: {header!r} is not a header's name; write for example x-forwarded-for")
        self.header = header.lower().encode("ascii")
        self._chain, self._forwarded = self.header in _CHAINS, self.header == b"forwarded"
        items = list(trusted)
        self._unix = "unix" in items or "private" in items
        cidrs = [i for i in items if i not in ("unix", "private")] + (list(PRIVATE) if "private" in items else [])
        try:
            self._trusted = Networks(cidrs)
            self._special = Networks([*cidrs, *PRIVATE])
            self._near = self._special.beginnings
        except ValueError as error:
            raise ConfigError(f"trusted_proxies: {error}; write an address (127.0.0.1), a CIDR (10.0.0.0/8), private or unix") from None
        self.configured = bool(items)

    def is_trusted(self, peer: bytes | None) -> bool:
        """True for one of the site's own proxies; None is a unix socket."""
        return self._unix if peer is None else peer in self._trusted

    def needs_headers(self, peer: bytes | None) -> bool:
        """True when the peer alone does not settle the matter: a trusted proxy, or one that is near (None: a unix socket)."""
        return peer is None or (peer[:2] in self._near[len(peer)] and peer in self._special)

    def resolve(self, peer: bytes | None, values: list[bytes], forwarding: bool, others: bool = False) -> bytes | None:
        """The client's packed address, or None for unknown.

        ``peer``: the TCP peer's packed address, None for a unix socket. ``values``: all values of ``header``, in the
        order in which they came. ``forwarding``: whether any header of PROXIED is there, ``others``: whether one besides ``header``.
        """
        if not self.is_trusted(peer):
            # A near peer with a forwarding header is a proxy that is not configured yet: not the visitor's address. But
            # uvicorn puts the header's last hop in the peer's place, so an intranet visitor's own address stands in both. Where a
            # proxy sets another header, or is this host, anybody can write the proxy's address into this one.
            near = peer is None or (forwarding and peer in _NEAR)
            swapped = values and not others and peer is not None and peer not in _LOOPBACK and peer == self._last_hop(values[-1])
            return None if near and not swapped else peer
        if not values:
            return None  # a proxy that names nobody: its own address would stand for all visitors
        if not self._chain:
            return parse_hop(values[0].decode("latin-1")) if len(values) == 1 else None
        return self._walk(b",".join(values))

    def _last_hop(self, value: bytes) -> bytes | None:
        return None if self._forwarded else parse_hop(value[-64:].decode("latin-1").rpartition(",")[2])

    def _walk(self, raw: bytes) -> bytes | None:
        text = raw[-MAX_HEADER:].decode("latin-1")
        hops = forwarded_from_right(text) if self._forwarded else reversed(text.rsplit(",", MAX_HOPS + 1))
        walked: bytes | None = None
        for count, hop in enumerate(hops):
            walked = parse_hop(hop)
            if walked is None or count == MAX_HOPS:
                return None
            if walked not in self._trusted:
                return walked
        return walked  # every hop is our own: the outermost one asked
