"""What the rows of a shard say of their senders and of their requests: looked up, or made, once for each different value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

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

ADDRESSES, AGENTS = 1 << 17, 1 << 14
"""Addresses and User-Agents in a generation of what is remembered."""
SHOWN = 120
"""Characters of a User-Agent that names no agent of the catalogue, where it stands for one."""
GOLDEN = 0x9E3779B97F4A7C15
"""The factor of ``crawlguard.signals.rate.mix``."""
NO_AGENT = "(no User-Agent)"

T = TypeVar("T")


class Agent(NamedTuple):
    """What a User-Agent says: its mask, its keys for rates, and the name that stands for it in tables."""

    mask: int
    key: int
    fingerprint: int
    name: str


class Address(NamedTuple):
    """What an address says: its mask and its keys for rates, 0 where not known."""

    mask: int
    ip: int
    subnet: int
    asn: int
    known: bool


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


class Remembered(Generic[T]):
    """What was made of a text, for the texts of late: two generations, so that strangers push out only each other."""

    def __init__(self, make: Callable[[str], T], size: int) -> None:
        self._make, self._size = make, size
        self._new: dict[str, T] = {}
        self._old: dict[str, T] = {}

    def __call__(self, text: str) -> T:
        """What is known of a text."""
        found = self._new.get(text)
        if found is None:
            found = self._old.get(text) or self._make(text)
            if len(self._new) >= self._size:
                self._old, self._new = self._new, {}
            self._new[text] = found
        return found


class Facts:
    """Look-ups under one policy. Raises DataError when a database of the policy cannot be used."""

    def __init__(self, policy: Policy) -> None:
        counters, once = Counters(), Once()
        self._live = Live(policy, MemoryStore(), EventLog(Log(), Privacy(), counters, once))
        self.ruleset = self._live.ruleset
        self._agents = Remembered(self._agent, AGENTS)
        self._addresses = Remembered(self._address, ADDRESSES)

    def of(self, rows: pl.DataFrame) -> Shard:
        """What the rows say."""
        uas, ips = Numbered.of(rows["ua"]), Numbered.of(rows["ip"])
        agents = [self._agents(ua[:MAX_UA]) for ua in uas.values.to_list()]
        return Shard(rows, uas, ips, agents, [self._addresses(ip) for ip in ips.values.to_list()])

    def _agent(self, ua: str) -> Agent:
        raw = ua.encode("utf-8", "replace") or None
        found = self._live.ruleset.user_agent(raw)
        name = found.agent.name if found.agent else ua[:SHOWN] or NO_AGENT
        return Agent(found.mask, found.key, int(fingerprint(view_of(ua=ua)), 16), name)

    def _address(self, ip: str) -> Address:
        packed = parse_ip(ip)
        client = self._live.facts(packed)
        return Address(client.mask, client.ip_key, client.subnet_key, mix((1, client.asn)) if client.asn else 0, packed is not None)


class Shard:
    """Some rows, and what was looked up for them."""

    def __init__(self, rows: pl.DataFrame, uas: Numbered, ips: Numbered, agents: list[Agent], addresses: list[Address]) -> None:
        self.rows, self.uas, self.ips, self.agents, self.addresses = rows, uas, ips, agents, addresses
        self._read: dict[str, tuple[pl.Series, list[RequestView]]] = {}

    def masks(self) -> tuple[pl.Series, list[int]]:
        """For each row a number, and for each number the mask of static facts."""
        ua_masks = list(dict.fromkeys(agent.mask for agent in self.agents))
        ip_masks = list(dict.fromkeys(address.mask for address in self.addresses))
        ua, ip = ({mask: n for n, mask in enumerate(masks)} for masks in (ua_masks, ip_masks))
        by_ua = pl.Series([ua[a.mask] * len(ip) for a in self.agents], dtype=pl.UInt32).gather(self.uas.numbers)
        by_ip = pl.Series([ip[a.mask] for a in self.addresses], dtype=pl.UInt32).gather(self.ips.numbers)
        both = by_ua + by_ip
        present = both.unique().sort()
        masks = [ua_masks[n // len(ip)] | ip_masks[n % len(ip)] for n in present.to_list()]
        return both.replace_strict(present, pl.int_range(present.len(), dtype=pl.UInt32, eager=True)), masks

    def keys(self, per: Sequence[str], rows: pl.Series) -> pl.Series:
        """The keys (UInt64) under which a rate counts these rows; 0 where one is not known."""
        parts = [
            self._tables[part].gather((self.uas if part in ("agent", "fingerprint") else self.ips).numbers.gather(rows)) for part in per
        ]
        if len(parts) == 1:
            return parts[0]
        key = pl.zeros(rows.len(), dtype=pl.UInt64, eager=True)
        known = pl.repeat(True, rows.len(), eager=True)
        for part in parts:
            key = key * pl.Series([GOLDEN], dtype=pl.UInt64) + part  # wraps, as ``mix`` does
            known &= part != 0
        return key * known.cast(pl.UInt64)

    @cached_property
    def _tables(self) -> dict[str, pl.Series]:
        def table(values: list[int]) -> pl.Series:
            return pl.Series(values, dtype=pl.UInt64)

        return {
            "ip": table([a.ip for a in self.addresses]),
            "subnet": table([a.subnet for a in self.addresses]),
            "asn": table([a.asn for a in self.addresses]),
            "agent": table([a.key for a in self.agents]),
            "fingerprint": table([a.fingerprint for a in self.agents]),
        }

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
