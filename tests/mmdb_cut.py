"""A real database with most of its branches cut off, for tests that ask about a few places: walking a whole one takes seconds.

That whole ones are read as they are is for the tests of the address table.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

import maxminddb


def cut(whole: Path, kept: Sequence[str], into: Path) -> str:
    """Writes to ``into`` what a database says of these IPv4 networks, and of others nothing; gives its name. Its tree is one of IPv6, in records of 24 bits."""
    with maxminddb.open_database(str(whole)) as reader:
        told = reader.metadata()
    assert (told.ip_version, told.record_size) == (6, 24)
    raw = bytearray(whole.read_bytes())
    paths = [f"{int(net.network_address):0128b}"[: 96 + net.prefixlen] for net in map(IPv4Network, kept)]

    def prune(node: int, path: str) -> None:
        for bit in (0, 1):
            at, further = node * 6 + bit * 3, f"{path}{bit}"
            child = int.from_bytes(raw[at : at + 3])
            if not any(one.startswith(further) for one in paths):
                raw[at : at + 3] = told.node_count.to_bytes(3)
            elif child < told.node_count and further not in paths:
                prune(child, further)

    prune(0, "")
    into.write_bytes(raw)
    return str(into)
