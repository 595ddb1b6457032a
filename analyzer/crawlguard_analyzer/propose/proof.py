"""What rules would have done to the log itself, by the guard's own engine: each request that a rule in shadow would have acted on, by client.

The live policy is asked first, as it will be: what it decides, no proposal takes the credit for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from crawlguard import catalogue
from crawlguard.policy.model import Policy, Rule

from ..backtest import Backtest

Shards = Callable[[], Iterable[pl.DataFrame]]
"""Reads the log from its start, each time it is called: shards of rows (see ``rows``), in order."""

SAMPLES = 3
CUT = 300
"""Characters of a text in a sample line."""
HITS: dict[str, Any] = {
    "rule": pl.String,
    "client": pl.String,
    "requests": pl.Int64,
    "bytes": pl.Int64,
    "spent": pl.Int64,
    "first": pl.Int64,
    "last": pl.Int64,
}


@dataclass(slots=True)
class Proof:
    """``hits``: one row for each rule and client (HITS). ``samples``: up to SAMPLES rows of the log for each rule, as data.
    ``days``: the days (since 1970) on which a rule hit. ``rows``: requests of the whole log."""

    hits: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=HITS))
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    days: dict[str, set[int]] = field(default_factory=dict)
    rows: int = 0

    def add(self, other: Proof) -> None:
        """Take over what was found about further rules."""
        self.hits = pl.concat([self.hits, other.hits])
        self.samples |= other.samples
        self.days |= other.days
        self.rows = other.rows


def with_rules(policy: Policy, rules: Sequence[Rule]) -> Policy:
    """The live policy as it is with these rules included at its end."""
    ids = {rule.id for rule in rules}
    own = tuple(rule for rule in policy.rules if rule.id not in ids)
    return replace(policy, rules=(*own, *rules), networks={**catalogue.networks(), **policy.networks})


def proved(policy: Policy, rules: Sequence[Rule], shards: Shards) -> Proof:
    """The hits of rules in shadow behind a live policy. Memory: a row for each rule and client that it hits. Raises DataError."""
    proof, test, ids = Proof(), Backtest(with_rules(policy, rules)), [rule.id for rule in rules]
    parts: list[pl.DataFrame] = []
    for rows in shards():
        proof.rows += rows.height
        acted = test.decide(rows).select("shadow").with_row_index("at").explode("shadow").filter(pl.col("shadow").is_in(ids))
        if not acted.height:
            continue
        hit = rows.select(
            "time", pl.col("ip").alias("client"), "method", "target", "status", pl.col("bytes", "spent").clip(lower_bound=0), "ua"
        )[acted["at"]].with_columns(acted["shadow"].alias("rule"))
        parts = [_summed([*parts, _summed([hit.with_columns(first="time", last="time", requests=pl.lit(1, pl.Int64))])])]
        _remember(proof, hit)
    if parts:
        proof.hits = parts[0]
    return proof


def _summed(parts: list[pl.DataFrame]) -> pl.DataFrame:
    columns = [pl.col(name).cast(kind) for name, kind in HITS.items()]
    return (
        pl.concat([part.select(columns) for part in parts])
        .group_by("rule", "client")
        .agg(pl.col("requests", "bytes", "spent").sum(), pl.col("first").min(), pl.col("last").max())
        .select(columns)
    )


def _remember(proof: Proof, hit: pl.DataFrame) -> None:
    for (rule,), part in hit.partition_by("rule", as_dict=True).items():
        proof.days.setdefault(rule, set()).update((part["time"] // 86_400).unique())
        kept = proof.samples.setdefault(rule, [])
        if len(kept) < SAMPLES:  # of different clients, where there are several
            fresh = part.unique("client", keep="first", maintain_order=True).head(SAMPLES - len(kept))
            cut = fresh.select("time", "client", "method", "target", "status", "ua").with_columns(pl.col(pl.String).str.slice(0, CUT))
            kept.extend(cut.to_dicts())
