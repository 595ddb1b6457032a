"""An analysis that may be shown around: addresses as their subnets, or as keyed hashes, in every table (see ``crawlguard.events.Privacy``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import polars as pl

from crawlguard.client_ip import parse_ip
from crawlguard.events import Privacy

from ..analysis import Analysis

LEVELS = ("full", "subnet", "keyed")


_KEYED = re.compile(r"k-[0-9a-f]{16}")


def hidden(level: str) -> Callable[[str], str]:
    """What an address (or what stands in its place) becomes under "subnet" or "keyed". What is hidden already stays as it is."""
    privacy = Privacy(level)

    def shown(text: str) -> str:
        packed = parse_ip(text.partition("/")[0])
        if packed is not None:
            return privacy.show(packed) or "unknown"
        if level == "subnet":
            return "unknown"
        return text if _KEYED.fullmatch(text) else privacy.show(text.encode()) or "unknown"

    return shown


def private(analysis: Analysis, level: str) -> Analysis:
    """The same with addresses as ``level`` (one of LEVELS) says. With "keyed" the names of subnets become hashes too.

    Clients that become the same keep a row each. What is no address is shown as a hash, or for "subnet" as "unknown".
    """
    if level == "full":
        return analysis
    shown = hidden(level)

    def change(table: pl.DataFrame, column: str, only: pl.Expr | None = None) -> pl.DataFrame:
        chosen = table.filter(only) if only is not None else table
        names = chosen[column].drop_nulls().unique()
        new = pl.DataFrame({column: names, "shown": pl.Series([shown(name) for name in names], dtype=pl.String)})
        joined = table.join(new, on=column, how="left", maintain_order="left")
        told = pl.col("shown") if only is None else pl.when(only).then(pl.col("shown")).otherwise(pl.col(column))
        return joined.with_columns(told.alias(column)).drop("shown")

    is_client = pl.col("kind") == "client"
    clients, undeclared, trends = analysis.clients, analysis.undeclared, change(analysis.trends, "name", is_client)
    clients, undeclared, swarms, networks = change(clients, "client"), change(undeclared, "client"), analysis.swarms, analysis.networks
    if level == "keyed":
        by_network = pl.col("swarm").str.contains("/", literal=True).fill_null(False)
        clients, undeclared = change(change(clients, "subnet"), "swarm", by_network), change(undeclared, "subnet")
        swarms, networks = change(swarms, "swarm", by_network), change(networks, "network", pl.col("kind") == "subnet")
        trends = change(trends, "name", (pl.col("kind") == "swarm") & pl.col("name").str.contains("/", literal=True))
    merged = trends.group_by("kind", "name", "day", maintain_order=True).agg(pl.col("requests").sum())
    return replace(analysis, clients=clients, undeclared=undeclared, swarms=swarms, networks=networks, trends=merged)
