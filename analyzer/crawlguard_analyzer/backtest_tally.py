"""Who was meant: the requests that a rule (or a change of rules) hit, counted shard by shard in bounded memory.

What grows with the log is capped: different clients are exact up to CLIENTS, beyond that estimated from their least hashes (k minimum
values, Bar-Yossef et al. 2002; standard error 1/sqrt(CLIENTS - 2) = 0.8%); of agents the busiest are kept, so a rare one among more than
NAMES may be counted short; people are those of the clients table, and there are no more of them than it has rows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl

from .backtest_decide import Rows
from .backtest_facts import Shard

CLIENTS = 1 << 14
NAMES = 2048
TOP = 5
"""Agents, people and sample lines that are shown of each are the first few: TOP, TOP and SAMPLES."""
SAMPLES = 3
CUT = 2048
"""Characters that are kept of a text in a sample line."""


@dataclass(frozen=True, slots=True)
class Risk:
    """People among the clients that were hit: how many, their requests, and the busiest (address, requests)."""

    clients: int
    requests: int
    examples: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a tally has come to. ``bytes`` of the answers that the log knows; ``first`` and ``last`` in epoch seconds, None without hits.

    ``agents``: the busiest, by the catalogue's name or the User-Agent, with their requests. ``samples``: rows as the log has them, hostile
    text included. ``people``: None when no clients table says who is one.
    """

    hits: int
    bytes: int
    clients: int
    first: int | None
    last: int | None
    agents: tuple[tuple[str, int], ...]
    samples: tuple[dict[str, Any], ...]
    people: Risk | None


class Tally:
    """Counts hits of one kind."""

    def __init__(self) -> None:
        self.hits = self.bytes = 0
        self._first: int | None = None
        self._last: int | None = None
        self._agents: Counter[str] = Counter()
        self._clients = pl.Series([], dtype=pl.UInt64)
        self._people: Counter[str] = Counter()
        self._samples: list[dict[str, Any]] = []

    def add(self, shard: Shard, rows: Rows, people: pl.Series | None) -> None:
        """Count these rows of a shard. ``people``: the numbers of addresses of the shard that are people's; None not known."""
        if not rows.len():
            return
        time, size = shard.rows["time"].gather(rows), shard.rows["bytes"].gather(rows)
        self.hits += rows.len()
        self.bytes += int(size.clip(lower_bound=0).sum())
        first, last = int(time.min()), int(time.max())  # type: ignore[arg-type]
        self._first = first if self._first is None else min(first, self._first)
        self._last = last if self._last is None else max(last, self._last)
        for number, count in shard.uas.gather(rows).value_counts().iter_rows():
            self._agents[shard.agent(number)] += count
        if len(self._agents) > 2 * NAMES:
            self._agents = Counter(dict(self._agents.most_common(NAMES)))
        ips = shard.ips.gather(rows)
        different = ips.unique()
        hashes = shard.addresses(different).hash(seed=1)
        self._clients = pl.concat([self._clients, hashes]).unique().sort().head(CLIENTS)
        if people is not None and different.is_in(people.implode()).any():
            found = ips.filter(ips.is_in(people.implode())).value_counts()
            self._people.update(dict(zip(shard.addresses(found.to_series()).to_list(), found["count"].to_list(), strict=True)))
        if len(self._samples) < SAMPLES:
            wanted = rows.head(SAMPLES - len(self._samples))
            some = shard.rows.select("time", "ip", "method", "target", "status", "ua")[wanted]
            self._samples += some.with_columns(pl.col(pl.String).str.slice(0, CUT)).to_dicts()

    def told(self, *, people: bool) -> Told:
        """The sums. ``people``: whether it is known who is one."""
        known = self._clients.len()
        clients = known if known < CLIENTS else round((CLIENTS - 1) * 2.0**64 / (int(self._clients[-1]) + 1))
        risk = Risk(len(self._people), self._people.total(), tuple(self._people.most_common(TOP))) if people else None
        return Told(
            hits=self.hits,
            bytes=self.bytes,
            clients=clients,
            first=self._first,
            last=self._last,
            agents=tuple(self._agents.most_common(TOP)),
            samples=tuple(self._samples),
            people=risk,
        )
