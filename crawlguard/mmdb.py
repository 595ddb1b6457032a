"""The only reader of mmdb files: ASN and country databases, MaxMind's own and the community's.

``geoip2`` refuses databases whose type it does not know, so this reads the format itself, through ``maxminddb``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from .errors import DataError

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
    import maxminddb  # here, so that a policy without databases does not pay for it

    read = _KINDS[kind][0]
    try:
        with maxminddb.open_database(path, maxminddb.MODE_AUTO) as reader:
            for network, record in reader:
                value = read(record)
                if value:
                    low = int(network.network_address)
                    yield network.version, low, low + network.num_addresses, value
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise DataError(f"{path}: cannot be used as an address database ({error}); fetch it again, or remove it from data:") from None
