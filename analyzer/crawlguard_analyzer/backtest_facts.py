"""What the rows of a shard say of their senders and of their requests: looked up, or made, once for each different value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl

from crawlguard.client_ip import parse_ip
from crawlguard.events import Counters, EventLog, Once, Privacy
from crawlguard.live import Live
from crawlguard.policy.model import Log, Policy
from crawlguard.request import RequestView
from crawlguard.signals.headers import fingerprint
from crawlguard.signals.rate import mix
from crawlguard.signals.ua import MAX_UA
from crawlguard.store import MemoryStore

from .backtest_sight import AGENT, HOST, REFERRER, path_of, view_of

ADDRESSES, AGENTS = 1 << 19, 1 << 16
"""Addresses and User-Agents that are remembered; then all are forgotten, and looked up again as they come. About 100 MB at most."""
SHOWN = 120
"""Characters of a User-Agent that names no agent of the catalogue, where it stands for one."""
GOLDEN = 0x9E3779B97F4A7C15
"""The factor of ``crawlguard.signals.rate.mix``."""
NO_AGENT = "(no User-Agent)"


class Fact(NamedTuple):
    """What one User-Agent or address says: its mask, its keys for rates (0 where not known), and the name that stands for it in tables."""

    mask: int
    keys: tuple[int, ...]
    name: str = ""


class Numbered(NamedTuple):
    """A column as numbers of its different values."""

    numbers: pl.Series
    values: pl.Series

    @classmethod
    def of(cls, column: pl.Series) -> Numbered:
        """Numbers (UInt32) in the order in which the values first appear."""
        # Categories of our own: those of the whole process would grow with every log.
        found = column.rechunk().cast(pl.Categorical(pl.Categories.random()))
        return cls(found.to_physical(), found.unique(maintain_order=True).cast(pl.String))


class Known:
    """The facts of the texts met so far, as columns: a text has a number, and each fact is found by it. ``parts``: what keys there are."""

    def __init__(self, make: Callable[[str], Fact], parts: Sequence[str], most: int) -> None:
        self._make, self._most = make, most
        self._parts = parts
        self._clear()

    def _clear(self) -> None:
        self._numbers: dict[str, int] = {}
        self._mask_numbers: dict[int, int] = {}
        self.masks: list[int] = []
        self.names: list[str] = []
        self.mask = pl.Series([], dtype=pl.UInt64)
        self.keys = {part: pl.Series([], dtype=pl.UInt64) for part in self._parts}

    def numbers(self, texts: list[str]) -> pl.Series:
        """The numbers of texts, good until the next call. ``mask`` has the number of each one's mask in ``masks``: masks may be too wide for
        a column."""
        if len(self._numbers) + len(texts) > self._most:
            self._clear()
        found = list(map(self._numbers.get, texts))
        if None in found:
            self._learn([text for text, number in zip(texts, found, strict=True) if number is None])
            found = list(map(self._numbers.get, texts))
        return pl.Series(found, dtype=pl.UInt32)

    def _learn(self, texts: list[str]) -> None:
        texts = list(dict.fromkeys(texts))
        facts = [self._make(text) for text in texts]
        self._numbers.update(zip(texts, range(len(self.names), len(self.names) + len(texts)), strict=True))
        self.names += [fact.name for fact in facts]
        masks = [self._mask_numbers.setdefault(fact.mask, len(self._mask_numbers)) for fact in facts]
        self.masks = list(self._mask_numbers)
        self.mask.extend(pl.Series(masks, dtype=pl.UInt64))
        for part, keys in zip(self._parts, zip(*(fact.keys for fact in facts), strict=True), strict=True):
            self.keys[part].extend(pl.Series(keys, dtype=pl.UInt64))


class Facts:
    """Look-ups under one policy. Raises DataError when a database of the policy cannot be used."""

    def __init__(self, policy: Policy) -> None:
        self._live = Live(policy, MemoryStore(), EventLog(Log(), Privacy(), Counters(), Once()))
        self.ruleset = self._live.ruleset
        self.agents = Known(self._agent, ("agent", "fingerprint"), AGENTS)
        self.addresses = Known(self._address, ("known", "ip", "subnet", "asn"), ADDRESSES)

    def of(self, rows: pl.DataFrame) -> Shard:
        """What the rows say; good until the next call."""
        return Shard(rows, self)

    def _agent(self, ua: str) -> Fact:
        found = self._live.ruleset.user_agent(ua.encode("utf-8", "replace") or None)
        keys = found.key, int(fingerprint(view_of(ua=ua)), 16)
        return Fact(found.mask, keys, found.agent.name if found.agent else ua[:SHOWN] or NO_AGENT)

    def _address(self, ip: str) -> Fact:
        packed = parse_ip(ip)
        client = self._live.facts(packed)
        return Fact(client.mask, (int(packed is not None), client.ip_key, client.subnet_key, mix((1, client.asn)) if client.asn else 0))


class Shard:
    """Some rows, and what is known of them."""

    def __init__(self, rows: pl.DataFrame, facts: Facts) -> None:
        self.rows = rows
        self.uas, self.ips = Numbered.of(rows["ua"]), Numbered.of(rows["ip"])
        self._facts = facts
        self._uas = facts.agents.numbers([ua[:MAX_UA] for ua in self.uas.values.to_list()])
        self._ips = facts.addresses.numbers(self.ips.values.to_list())
        self._read: dict[str, tuple[pl.Series, list[RequestView]]] = {}

    def agent(self, number: int) -> str:
        """The name that stands for a User-Agent, by its number in ``uas``."""
        return self._facts.agents.names[int(self._uas[number])]

    def unknown(self) -> int:
        """How many rows are of unknown clients, whose address does not parse."""
        known = self._facts.addresses.keys["known"].gather(self._ips)
        return int((known == 0).any() and (known.gather(self.ips.numbers) == 0).sum())

    def masks(self) -> tuple[pl.Series, list[int]]:
        """For each row a number, and for each number the mask of static facts."""
        uas, ips = self._facts.agents, self._facts.addresses
        width = len(ips.masks)
        both = uas.mask.gather(self._uas).gather(self.uas.numbers) * width + ips.mask.gather(self._ips).gather(self.ips.numbers)
        present = both.unique()
        masks = [uas.masks[n // width] | ips.masks[n % width] for n in present.to_list()]
        return both.replace_strict(present, pl.int_range(present.len(), dtype=pl.UInt32, eager=True)), masks

    def keys(self, per: Sequence[str], rows: pl.Series) -> pl.Series:
        """The keys (UInt64) under which a rate counts these rows; 0 where one is not known."""
        parts = [self._key(part).gather(rows) for part in per]
        if len(parts) == 1:
            return parts[0]
        key = pl.zeros(rows.len(), dtype=pl.UInt64, eager=True)
        known = pl.repeat(True, rows.len(), eager=True)
        for part in parts:
            key = key * pl.Series([GOLDEN], dtype=pl.UInt64) + part  # wraps, as ``mix`` does
            known &= part != 0
        return key * known.cast(pl.UInt64)

    def _key(self, part: str) -> pl.Series:
        """The key of each row."""
        if part in self._facts.agents.keys:
            return self._facts.agents.keys[part].gather(self._uas).gather(self.uas.numbers)
        return self._facts.addresses.keys[part].gather(self._ips).gather(self.ips.numbers)

    def read(self, what: str) -> tuple[pl.Series, list[RequestView]]:
        """What a test reads: for each row a number, and for each number a request that has this value and no other."""
        if what not in self._read:
            self._read[what] = self._paths() if what == "path" else self._values(what)
        return self._read[what]

    def _paths(self) -> tuple[pl.Series, list[RequestView]]:
        targets = Numbered.of(self.rows["target"])
        paths = Numbered.of(pl.Series([path_of(target) for target in targets.values.to_list()], dtype=pl.String))
        return paths.numbers.gather(targets.numbers), [RequestView("", path) for path in paths.values.to_list()]

    def _values(self, what: str) -> tuple[pl.Series, list[RequestView]]:
        column = "host" if what in HOST else {AGENT: "ua", REFERRER: "referrer"}.get(what, what)
        found = self.uas if column == "ua" else Numbered.of(self.rows[column])
        return found.numbers, [view_of(**{column: value}) for value in found.values.to_list()]
