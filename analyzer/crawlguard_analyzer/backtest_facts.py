"""What the rows of a shard say of their senders and of their requests: looked up, or made, once for each different value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl

from crawlguard.events import Counters, EventLog, Once, Privacy
from crawlguard.live import Live
from crawlguard.policy.model import Log, Policy
from crawlguard.policy.ruleset import UNKNOWN_CLIENT
from crawlguard.request import RequestView
from crawlguard.signals.headers import fingerprint
from crawlguard.signals.rate import mix
from crawlguard.signals.ua import MAX_UA
from crawlguard.store import MemoryStore

from .addresses import Ranges, parsed
from .backtest_sight import AGENT, HOST, REFERRER, path_of, view_of

ADDRESSES, AGENTS = 1 << 19, 1 << 16
"""Addresses and User-Agents that are remembered; then all are forgotten, and looked up again as they come. About 100 MB at most."""
SHOWN = 120
"""Characters of a User-Agent that names no agent of the catalogue, where it stands for one, and of what a log has for an address."""
GOLDEN = 0x9E3779B97F4A7C15
"""The factor of ``crawlguard.signals.rate.mix``."""
NO_AGENT = "(no User-Agent)"
WIDE = 1 << 16
"""Combinations of masks up to which a table of them is made."""
NOWHERE = (1 << 32) - 1
"""Stands for the number in the address table of what is no address."""


class Learnt(NamedTuple):
    """What some User-Agents or addresses say. ``masks``: different ones, and ``mask`` (UInt32) which of them is each one's; ``names``, by which
    they go in tables; ``keys`` (UInt64) for rates, by what they are keys of, 0 where that is not known.
    """

    masks: list[int]
    mask: pl.Series
    names: pl.Series
    keys: dict[str, pl.Series]


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
    """The facts of the texts met so far, as columns: a text has a number, and each fact is found by it."""

    def __init__(self, learn: Callable[[pl.Series], Learnt], most: int, longest: int) -> None:
        """``longest``: the characters of a text that count."""
        self._learn, self._most, self._longest = learn, most, longest
        self._clear()

    def _clear(self) -> None:
        # Categories of our own, which number the texts: those of the whole process would grow with every log.
        self._kind = pl.Categorical(pl.Categories.random())
        self._held = pl.Series([], dtype=self._kind)  # polars forgets the numbers with the last series that has them
        self._mask_numbers: dict[int, int] = {}
        self.masks: list[int] = []
        self.mask = pl.Series([], dtype=pl.UInt64)
        none = self._learn(pl.Series([], dtype=pl.String))
        self.names, self.keys = none.names, none.keys

    def numbers(self, column: pl.Series) -> pl.Series:
        """The numbers (UInt32) of a column's texts, good until the next call. ``mask`` has the number of each one's mask in ``masks``: masks may
        be too wide for a column."""
        if (column.str.len_bytes() > self._longest).any():
            column = column.str.slice(0, self._longest)
        here = Numbered.of(column)
        if self.names.len() + here.values.len() > self._most:
            self._clear()
        numbers = here.values.cast(self._kind).to_physical()
        fresh = here.values.filter(numbers >= self.names.len())  # in the order of their numbers, which are the next ones
        if fresh.len():
            self._take(self._learn(fresh))
        return numbers.gather(here.numbers)

    def _take(self, found: Learnt) -> None:
        numbers = [self._mask_numbers.setdefault(mask, len(self._mask_numbers)) for mask in found.masks]
        self.masks = list(self._mask_numbers)
        self.mask.extend(pl.Series(numbers, dtype=pl.UInt64).gather(found.mask))
        self.names.extend(found.names)
        for part, keys in found.keys.items():
            self.keys[part].extend(keys)


class Facts:
    """Look-ups under one policy. Raises DataError when a database of the policy cannot be used."""

    def __init__(self, policy: Policy) -> None:
        self._live = Live(policy, MemoryStore(), EventLog(Log(), Privacy(), Counters(), Once()))
        self.ruleset = self._live.ruleset
        self._ranges = Ranges(self._live.table)
        self.agents = Known(self._agents, AGENTS, MAX_UA)
        self.addresses = Known(self._addresses, ADDRESSES, SHOWN)  # no address is as long

    def of(self, rows: pl.DataFrame) -> Shard:
        """What the rows say; good until the next call."""
        return Shard(rows, self)

    def _agents(self, uas: pl.Series) -> Learnt:
        facts = [self._live.ruleset.user_agent(ua.encode("utf-8", "replace") or None) for ua in uas]
        names = [fact.agent.name if fact.agent else ua[:SHOWN] or NO_AGENT for fact, ua in zip(facts, uas, strict=True)]
        keys = {
            "agent": pl.Series([fact.key for fact in facts], dtype=pl.UInt64),
            "fingerprint": pl.Series([int(fingerprint(view_of(ua=ua)), 16) for ua in uas], dtype=pl.UInt64),
        }
        masks = [fact.mask for fact in facts]
        return Learnt(masks, pl.int_range(len(masks), dtype=pl.UInt32, eager=True), pl.Series(names, dtype=pl.String), keys)

    def _addresses(self, ips: pl.Series) -> Learnt:
        found = parsed(ips)
        numbers = self._ranges.numbers(found).fill_null(NOWHERE)
        different = numbers.unique()
        facts = [self._live.table.fact(n) if n != NOWHERE else (UNKNOWN_CLIENT.mask, 0, "") for n in different]
        which = different.search_sorted(numbers)
        pairs = [self._keys(packed) for packed in found.packed]
        four = found.four.cast(pl.UInt64).fill_null(0)
        keys = {
            "known": (numbers != NOWHERE).cast(pl.UInt64),
            "ip": (four + 1).scatter(found.others, [ip for ip, _ in pairs]),
            "subnet": ((four // 256) + 1).scatter(found.others, [subnet for _, subnet in pairs]),
            "asn": pl.Series([mix((1, asn)) if asn else 0 for _, asn, _ in facts], dtype=pl.UInt64).gather(which),
        }
        return Learnt([mask for mask, _, _ in facts], which, ips, keys)

    def _keys(self, packed: bytes | None) -> tuple[int, int]:
        """The keys of an address and its neighbourhood: IPv4 addresses are different numbers as they are, no secret is needed."""
        if packed is None:
            return 0, 0
        if len(packed) == 4:
            value = int.from_bytes(packed, "big")
            return value + 1, (value >> 8) + 1
        return self._live.keyer.address(packed)


class Shard:
    """Some rows, and what is known of them."""

    def __init__(self, rows: pl.DataFrame, facts: Facts) -> None:
        self.rows = rows
        self._facts = facts
        self.uas = facts.agents.numbers(rows["ua"])
        self.ips = facts.addresses.numbers(rows["ip"])
        self._read: dict[str, tuple[pl.Series, list[RequestView]]] = {}

    def agent(self, number: int) -> str:
        """The name that stands for a User-Agent, by its number in ``uas``."""
        return str(self._facts.agents.names[number])

    def addresses(self, numbers: pl.Series) -> pl.Series:
        """The addresses as logged, by their numbers in ``ips``."""
        return self._facts.addresses.names.gather(numbers)

    def unknown(self) -> int:
        """How many rows are of unknown clients, whose address does not parse."""
        known = self._facts.addresses.keys["known"]
        return int((known == 0).any() and (known.gather(self.ips) == 0).sum())

    def masks(self) -> tuple[pl.Series, list[int]]:
        """For each row a number, and for each number the mask of static facts."""
        uas, ips = self._facts.agents, self._facts.addresses
        width = len(ips.masks)
        both = uas.mask.gather(self.uas) * width + ips.mask.gather(self.ips)
        present = both.unique()
        masks = [uas.masks[n // width] | ips.masks[n % width] for n in present.to_list()]
        if len(uas.masks) * width > WIDE:
            return both.replace_strict(present, pl.int_range(present.len(), dtype=pl.UInt32, eager=True)), masks
        table = pl.zeros(len(uas.masks) * width, dtype=pl.UInt32, eager=True)
        return table.scatter(present, pl.int_range(present.len(), dtype=pl.UInt32, eager=True)).gather(both), masks

    def keys(self, per: Sequence[str], rows: pl.Series) -> pl.Series:
        """The keys (UInt64) under which a rate counts these rows; 0 where one is not known."""
        agents, addresses = self._facts.agents.keys, self._facts.addresses.keys
        uas, ips = self.uas.gather(rows), self.ips.gather(rows)
        parts = [agents[part].gather(uas) if part in agents else addresses[part].gather(ips) for part in per]
        if len(parts) == 1:
            return parts[0]
        key = pl.zeros(rows.len(), dtype=pl.UInt64, eager=True)
        known = pl.repeat(True, rows.len(), eager=True)
        for part in parts:
            key = key * pl.Series([GOLDEN], dtype=pl.UInt64) + part  # wraps, as ``mix`` does
            known &= part != 0
        return key * known.cast(pl.UInt64)

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
        found = Numbered.of(self.rows[column])
        return found.numbers, [view_of(**{column: value}) for value in found.values.to_list()]
