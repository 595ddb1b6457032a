"""One IPv6 visitor has a /64 of addresses, and may take a new one at each request: what it is, the /64 as a whole tells.

A network operator gives each customer at least a /64 (RFC 6177), and privacy extensions change the address in it every day (RFC 8981); the
guard counts by /64 for the same reason. The rollup keeps addresses as they were logged; they are put together when clients are judged.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from crawlguard.client_ip import parse_ip

from .adding import WINDOWS, renamed

OWN: Final = ("requests", "documents", "assets", "bytes", "spent", "first", "last", "days", "ua")
"""Columns of the clients' table that stay an address's own; all others are those of its /64."""


def housed(rollup: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rollup with one name, that of the first in the alphabet, for all addresses of a /64, and who these are: client, house.

    A burst of the /64 is the largest of one address, or the largest of addresses with a single request or second, so what comes with a new
    address each time is counted fully.
    """
    six = rollup["ip"].filter(rollup["ip"].str.contains(":", literal=True)).unique()
    known = pl.DataFrame([six.alias("client"), nets(six)])
    homes = known.drop_nulls().filter(pl.len().over("net") > 1).select("client", pl.col("client").min().over("net").alias("house"))
    if not homes.height:
        return rollup, homes
    several = rollup.join(homes, left_on="ip", right_on="client").drop("ip").rename({"house": "ip"}).sort("day", "ip", "first")
    rest = rollup.join(homes, left_on="ip", right_on="client", how="anti")
    return pl.concat([rest, renamed(_burst(several))]), homes


def nets(ips: pl.Series) -> pl.Series:
    """The /64 that each address is in (``net``, Binary), null for what is no IPv6."""
    packed = [parse_ip(ip) for ip in ips]
    return pl.Series("net", [p[:8] if p and len(p) == 16 else None for p in packed], pl.Binary)


def _burst(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows, sorted by day, /64 and first second, with bursts that are the /64's."""
    for seconds in WINDOWS:
        short = rows.filter(pl.col("first") == pl.col("last"))
        sums = short.rolling("first", period=f"{seconds}i", group_by=["day", "ip"]).agg(pl.col("requests").sum().alias("together"))
        most = sums.group_by("day", "ip").agg(pl.col("together").max())
        name = f"burst_{seconds}"
        rows = rows.join(most, on=["day", "ip"], how="left", maintain_order="left").with_columns(
            pl.max_horizontal(name, "together").alias(name)
        )
        rows = rows.drop("together")
    return rows


def spread(judged: pl.DataFrame, own: pl.DataFrame, homes: pl.DataFrame) -> pl.DataFrame:
    """The clients' table with a row for each address again. ``own``: the addresses' own totals, with ``client`` and OWN."""
    shared = judged.drop(*OWN)
    each = homes.join(shared, left_on="house", right_on="client").drop("house").join(own.select("client", *OWN), on="client")
    alone = judged.join(homes, left_on="client", right_on="house", how="anti")
    order = pl.col("client").hash(seed=3)
    return pl.concat([alone, each.select(judged.columns)]).sort("requests", "first", order, descending=[True, False, False])
