"""Where a fetch may go: which URLs, which addresses, which redirects. Nothing here opens a connection."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urljoin, urlsplit

from ..errors import DataError

Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")


class FetchError(DataError):
    """A URL could not be fetched, or what came is not to be used; the message says why."""


def is_public(address: Address) -> bool:
    """Whether an address is a public unicast one (IANA's special-purpose registries), also by way of an IPv4 address within."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
        if address.sixtofour is not None or address.teredo is not None or address.is_site_local or address.scope_id:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def same_site(host: str, target: str) -> bool:
    """Whether a redirect may lead from one host to another: itself, below itself, or without its "www.".

    Below, because who owns a name owns what is below it. Beside is no such thing: two names under ``github.io`` are strangers.
    """
    return target in (host, host.removeprefix("www.")) or target.endswith("." + host)


def split(url: str) -> SplitResult:
    """The parts of a URL that may be fetched. Raises FetchError for any other."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FetchError(f"{url[:200]!r} is not a URL") from None
    if parts.scheme != "https":
        raise FetchError(f"{url[:200]!r} is not an https URL")
    if not parts.hostname or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        raise FetchError(f"{url[:200]!r} is not a URL that can be fetched; write it in plain characters")
    if parts.username is not None or parts.password is not None:
        raise FetchError("a URL with a password is not fetched")
    return parts


def redirected(first: SplitResult, here: SplitResult, location: str) -> SplitResult:
    """Where a redirect leads from ``here``, if that is on the site of the first URL. Raises FetchError."""
    try:
        target = split(urljoin(here.geturl(), location))
    except (FetchError, ValueError) as error:
        raise FetchError(f"redirected to a place that is not fetched: {error}") from None
    if not same_site(first.hostname or "", target.hostname or "") or (target.port or 443) != (first.port or 443):
        raise FetchError(f"redirected to another site, {target.netloc[:100]}")
    return target
