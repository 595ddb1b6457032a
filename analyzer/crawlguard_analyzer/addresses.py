"""The guard's address table, asked about whole columns: IPv4 at once, all else one by one."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from crawlguard.client_ip import parse_ip
from crawlguard.ipdb import AddressTable

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_FOUR = rf"^{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}$"


class Parsed(NamedTuple):
    """Addresses: as numbers (``four``, UInt32), null where they are not plain IPv4; the places of those (``others``), and what they are packed,
    None for what is no address.
    """

    four: pl.Series
    others: pl.Series
    packed: list[bytes | None]


def parsed(ips: pl.Series) -> Parsed:
    """Texts as ``parse_ip`` takes them."""
    octets = ips.str.splitn(".", 4).struct.unnest().cast(pl.UInt32, strict=False)
    value = pl.sum_horizontal(pl.col(f"field_{n}") * 256 ** (3 - n) for n in range(4))
    four = octets.select(pl.when(pl.lit(ips.str.contains(_FOUR))).then(value)).to_series()
    others = four.is_null().arg_true()
    return Parsed(four, others, [parse_ip(text) for text in ips.gather(others)])


class Ranges:
    """The ranges of a table."""

    def __init__(self, table: AddressTable) -> None:
        self._number = table.number
        # Where ranges of IPv4 start, and the number that holds before the first of them and from each on.
        self._starts = pl.Series(list(table.ranges.v4), dtype=pl.UInt32)
        self._holding = pl.Series([0, *table.ranges.v4_ids], dtype=pl.UInt32)

    def numbers(self, ips: Parsed) -> pl.Series:
        """The number in the table (``AddressTable.fact``) of each address, null for what is none."""
        found = self._holding.gather(self._starts.search_sorted(ips.four.fill_null(0), side="right"))
        number = self._number
        return found.scatter(ips.others, pl.Series([number(packed) if packed else None for packed in ips.packed], dtype=pl.UInt32))
