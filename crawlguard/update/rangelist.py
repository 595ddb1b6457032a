"""Published lists of addresses, in the shapes that operators use, read strictly: bytes in, CIDRs out, or one sentence on what is wrong.

This file does not know what a list is for, or what the last one said: ``judge`` does.

In JSON an address counts only as the value of a key that is known to hold one (KEYS), wherever in the document that key stands.
To take every string that looks like an address would be less of a table, and would one day take a name server or an example for a
crawler. Where one document holds several lists, a fragment in the URL (``https://api.github.com/meta#hooks``) names the one that counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Any, NamedTuple

from ..errors import DataError

KEYS = frozenset(
    (
        "ipv4Prefix", "ipv6Prefix",  # Google, OpenAI, Bing, Apple and most others (the JAFAR draft)
        "ip_prefix", "ipv6_prefix",  # AWS: prefixes and ipv6_prefixes; Vultr: subnets
        "cidr",  # Oracle: regions, cidrs
        "addressPrefixes",  # Azure's service tags
        "addresses", "ipv6_addresses",  # Fastly, WebPageTest
        "ipv4_cidrs", "ipv6_cidrs",  # Cloudflare
        "prefixes_ipv4", "prefixes_ipv6",  # Datadog
        "hubPrefixes",  # Zscaler
    )
)  # fmt: skip
CREATED = "creationTime"
MAX_PREFIXES = 300_000
"""AWS's list, the longest of the catalogue, has 10,000."""

JSON_TYPES = ("", "application/json", "text/json", "text/plain", "application/octet-stream", "binary/octet-stream")
LINE_TYPES = ("", "text/plain", "text/csv", "application/csv", "text/x-csv", "application/octet-stream", "binary/octet-stream")

Net = IPv4Network | IPv6Network


class ListError(DataError):
    """What came is not a list of addresses, or not one to be believed."""


class RangeList(NamedTuple):
    """A list as it came: its networks, collapsed and in order, and when it says that it was made ("" when it does not), in UTC."""

    nets: tuple[Net, ...]
    created: str = ""

    @property
    def cidrs(self) -> list[str]:
        return list(map(str, self.nets))


def parse(body: bytes, kind: str = "", part: str = "") -> RangeList:
    """The list in an answer. ``kind``: its media type; ``part``: the key that alone counts, for JSON. Raises ListError."""
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ListError("the list is not text") from None
    if text.startswith("<") or "html" in kind:
        raise ListError("what came is a web page, not a list")
    is_json = text.startswith(("{", "["))
    if kind not in (JSON_TYPES if is_json else LINE_TYPES):
        raise ListError(f"what came is called {kind[:40]!r}, which no list is")
    if part and not is_json:
        raise ListError(f"what came is not JSON, so it has no {part!r}")
    document = _json(text) if is_json else None
    texts = list(_addresses(document, part)) if is_json else list(_lines(text))
    if not texts:
        raise ListError("the list is empty")
    if len(texts) > MAX_PREFIXES:
        raise ListError(f"the list has more than {MAX_PREFIXES} entries")
    nets = [_net(one) for one in texts]
    return RangeList(collapse(nets), _created(document))


def collapse(nets: list[Net]) -> tuple[Net, ...]:
    """The fewest networks that hold the same addresses, IPv4 first, in order."""
    return (
        *collapse_addresses(n for n in nets if isinstance(n, IPv4Network)),
        *collapse_addresses(n for n in nets if isinstance(n, IPv6Network)),
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ListError("what came is not JSON, although it begins like it: broken off, or nested too deeply") from None


def _addresses(document: Any, part: str) -> Iterator[str]:
    """The addresses of a JSON document: values of KEYS, or what a list is made of that is the document, or the part, itself."""
    if part:
        document = document.get(part) if isinstance(document, dict) else None
        if document is None:
            raise ListError(f"the document has no {part!r}")
    waiting: list[tuple[str | None, Any]] = [("addresses" if isinstance(document, list) else None, document)]
    while waiting:  # no recursion: how deep a stranger's document is nested is the stranger's choice
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, one) for one in value]
        elif key in KEYS and value is not None:  # WebPageTest writes null for a place without addresses
            if not isinstance(value, str):
                raise ListError(f"the list holds {str(value)[:40]!r}, which is not an address")
            yield value


def _lines(text: str) -> Iterator[str]:
    """One address or CIDR a line, first of the fields of a geofeed (RFC 8805); # begins a comment."""
    for line in text.splitlines():
        found = line.partition("#")[0].partition(",")[0].strip()
        if found:
            yield found
        elif line.partition("#")[0].strip():
            raise ListError(f"the line {line[:40]!r} has no address")


def _net(text: str) -> Net:
    """Strict: host bits are a doubt about the whole list, not something to be mended."""
    plain = text.strip()
    try:
        if "%" in plain:
            raise ValueError
        net = ip_network(plain)
    except ValueError:
        raise ListError(f"{text[:60]!r} is not an address or CIDR") from None
    if isinstance(net, IPv6Network) and net.network_address.ipv4_mapped is not None:
        raise ListError(f"{text[:60]!r} is an IPv4 address dressed as IPv6")
    return net


def _created(document: Any) -> str:
    """When a JAFAR document says that it was made, as ISO 8601 in UTC; Bing and OpenAI leave the time zone out, and mean UTC."""
    value = document.get(CREATED) if isinstance(document, dict) else None
    if value is None:
        return ""
    try:
        made = datetime.fromisoformat(value)
        made = made.replace(tzinfo=UTC) if made.tzinfo is None else made.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise ListError(f"its {CREATED}, {str(value)[:40]!r}, is not a time") from None
    return made.isoformat(timespec="seconds")
