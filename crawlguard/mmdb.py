"""The only reader of mmdb files: ASN and country databases, MaxMind's own and the community's.

``geoip2`` refuses databases whose type it does not know, so this reads the format itself, with ``maxminddb``'s decoder.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

from .errors import DataError

MAX_BYTES = 1 << 30
"""The largest database that is read; the largest published ones have a tenth of it."""

_METADATA = b"\xab\xcd\xefMaxMind.com"

Interval = tuple[int, int, int]
"""First address, first address after it, value."""


def asn_of(record: Any) -> int:
    """The AS number of a record; 0 when it has none."""
    if isinstance(record, dict):
        for key in ("autonomous_system_number", "asn", "as_number"):
            value = record.get(key)
            if isinstance(value, str) and value.upper().removeprefix("AS").isdigit():
                value = int(value.upper().removeprefix("AS"))
            if isinstance(value, int) and 0 < value < 1 << 32:
                return value
    return 0


def country_of(record: Any) -> int:
    """The country of a record, its two letters packed in a number; 0 when it has none.

    Community databases write ``{"country_code": "US"}``, MaxMind nests ``country`` and ``registered_country``.
    """
    if not isinstance(record, dict):
        return 0
    code = record.get("country_code") or record.get("country")
    for key in ("country", "registered_country"):
        nested = record.get(key)
        if isinstance(nested, dict) and not isinstance(code, str):
            code = nested.get("iso_code")
    if isinstance(code, str) and len(code) == 2 and code.isascii() and code.isalpha():
        return ord(code[0].upper()) << 8 | ord(code[1].upper())
    return 0


_KINDS = {"asn": (asn_of, "AS numbers"), "country": (country_of, "countries")}


def probe(path: str, kind: str) -> str:
    """What is wrong with a database of a kind ("asn" or "country"), as far as its first network tells; "" when nothing is."""
    if not os.path.isfile(path):
        return "is not there"
    try:
        return "" if any(True for _ in _networks(path, kind)) else f"holds no {_KINDS[kind][1]}"
    except DataError as error:
        return str(error).removeprefix(f"{path}: ").partition(";")[0]


def intervals(path: str, kind: str) -> dict[int, list[Interval]]:
    """Each version's networks of a database as intervals with a value; networks without one are left out.

    Raises DataError when the file cannot be used, or holds nothing of the kind.
    """
    found: dict[int, list[Interval]] = {4: [], 6: []}
    for version, low, high, value in _networks(path, kind):
        found[version].append((low, high, value))
    if not found[4] and not found[6]:
        raise DataError(f"{path}: holds no {_KINDS[kind][1]}; give a database that does, or remove it from data:")
    return found


def _networks(path: str, kind: str) -> Iterator[tuple[int, int, int, int]]:
    from maxminddb.decoder import Decoder  # here, so that a policy without databases does not pay for it
    from maxminddb.errors import InvalidDatabaseError

    read = _KINDS[kind][0]
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
        start = raw.rfind(_METADATA, max(0, len(raw) - 131_072)) + len(_METADATA)
        if start < len(_METADATA):
            raise ValueError("not a MaxMind DB file")
        metadata: Any = Decoder(raw, start).decode(start)[0]
        nodes, size, version = (metadata[k] for k in ("node_count", "record_size", "ip_version"))
        if size not in (24, 28, 32) or version not in (4, 6) or not 0 <= nodes * size // 4 <= start:
            raise ValueError("its metadata makes no sense")
        data = nodes * size // 4 + 16
        decoder = Decoder(raw, data)
        values: dict[int, int] = {}
        for low, high, record in _walk(raw, nodes, size, 32 if version == 4 else 128):
            value = values.get(record)
            if value is None:
                value = values[record] = read(decoder.decode(record - nodes + data - 16)[0])
            if value and high <= 1 << 32:  # in an IPv6 tree, IPv4 stands in ::/96
                yield 4, low, high, value
            elif value:
                yield 6, low, high, value
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError, struct.error, InvalidDatabaseError) as error:
        raise DataError(f"{path}: cannot be used as an address database ({error}); fetch it again, or remove it from data:") from None


def _walk(raw: bytes, nodes: int, size: int, bits: int) -> Iterator[tuple[int, int, int]]:
    """The leaves of the search tree as (first address, first after it, record), in order.

    Our own walk, not ``maxminddb``'s: its C reader ends the process on a damaged tree, its Python one takes three times as long.
    Each node is visited once, except through the aliases of IPv4 in IPv6, which are left out; a tree with a circle is refused.
    """
    width, half = size // 4, size // 8
    ipv4 = 0
    if bits == 128:
        for _ in range(96):
            if ipv4 >= nodes:
                break
            ipv4 = _children(raw, ipv4 * width, half, size)[0]
    stack = [(0, 0, bits)]
    budget = nodes + 1
    while stack:
        node, address, left = stack.pop()
        if node < nodes:
            budget -= 1
            if budget < 0 or left == 0:
                raise ValueError("its search tree has a circle")
            first, second = _children(raw, node * width, half, size)
            left -= 1
            for child, at in ((second, address | 1 << left), (first, address)):
                if child != nodes and (child != ipv4 or at == 0 or bits == 32):
                    stack.append((child, at, left))
        else:
            yield address, address + (1 << left), node


def _children(raw: bytes, at: int, half: int, size: int) -> tuple[int, int]:
    if size == 28:
        middle = raw[at + 3]
        return int.from_bytes(raw[at : at + 3]) | (middle & 0xF0) << 20, int.from_bytes(raw[at + 4 : at + 7]) | (middle & 0x0F) << 24
    return int.from_bytes(raw[at : at + half]), int.from_bytes(raw[at + half : at + 2 * half])
