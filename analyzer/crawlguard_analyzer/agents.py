"""Who a User-Agent says it is, and whose network an address is in. What a client does is not asked here.

Each different string and each different address is looked at once; all else is joins of whole columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import cached_property
from socket import AF_INET, AF_INET6, inet_ntop

import polars as pl

from crawlguard.client_ip import PRIVATE
from crawlguard.ipdb import AddressTable, build_table, parse_cidr
from crawlguard.policy.model import Network, Policy
from crawlguard.policy.ruleset import AddressSet
from crawlguard.policy.terms import FIRST_BIT
from crawlguard.signals.ua import MAX_UA, Agent, UserAgentIndex

from .addresses import Ranges, parsed
from .threads import mapped

PEOPLES = frozenset(("user-fetch", "agent-browser", "coding-agent"))
"""Agents that may run on people's own machines: their operator's ranges, where there are any, cannot call them spoofed."""
CRAWLING = frozenset(
    ("ai-training", "ai-search", "search-engine", "seo", "archive", "ads", "security-scanner", "monitor", "link-preview"),
)
"""Tags of networks that an operator publishes as its crawlers' own: nobody browses from there."""
STALE = 365
"""Days between a list's date and a visit from which on the list does not prove a name false. ChatGPT-User lost half of its prefixes
in four months, so what is near a published range is not called false either; see ``identity``."""

_FIRST = FIRST_BIT.bit_length() - 1  # those below say what a table does not know
_SHIFTS = {kind: _FIRST + n for n, kind in enumerate(("published", "near", "cloud", "exit", "private"))}
KINDS = tuple(_SHIFTS)
"""What an address may be: in a crawler's published network (see CRAWLING), in the /24 or /48 of one, in a cloud or with a hosting
company, an exit that many people share (or a CDN's: then the log holds its edges instead of visitors), not a public address at all."""

KEPT = 65_536
"""User-Agents whose agent is remembered from one chunk of a log to the next: at most 32 MB."""


class Registry:
    """A policy's agents and networks, ready for look-ups. ``asn`` and ``country``: mmdb files, None to do without.

    Raises DataError when a database cannot be used.
    """

    def __init__(self, policy: Policy, networks: dict[str, Network], asn: str | None = None, country: str | None = None) -> None:
        self.agents: tuple[Agent, ...] = policy.agents
        self._index = UserAgentIndex(policy.agents)
        self._sets, self._own = _sets(policy.agents, networks)
        self._databases = asn, country
        if asn or country:
            self._table  # noqa: B018  one that cannot be used is told of before a log is read
        self._found: dict[str, Agent | None] = {}
        self._said: dict[int, tuple[list[bool], list[str], list[str]]] = {}

        self.dates = {operator: max(n.date for n in found) for operator, found in _published(networks).items()}

    def ready(self) -> None:
        """Make what the first look-up of an address would have to wait for."""
        self._ranges  # noqa: B018

    @cached_property
    def _table(self) -> AddressTable:
        """Made when the first address is looked up, by one thread while others parse: it takes as long as some 20 MB of a log."""
        return build_table(self._sets, *self._databases)

    @cached_property
    def _ranges(self) -> Ranges:
        return Ranges(self._table)

    def __getstate__(self) -> dict[str, object]:
        """With the table: who gets a copy makes none of its own."""
        return {**self.__dict__, "_table": self._table}

    def names(self, uas: pl.Series) -> pl.DataFrame:
        """For each different User-Agent: ua, agent, category, operator (null where it names no agent of the catalogue)."""
        different = uas.unique()
        return _table_of(different, self._named(different))

    def declared(self, different: pl.Series) -> tuple[pl.DataFrame, list[int]]:
        """The same of those of these User-Agents that name an agent, and their places."""
        named = self._named(different)
        places = [place for place, agent in enumerate(named) if agent]
        return _table_of(different.gather(places), [named[place] for place in places]), places

    def _named(self, different: pl.Series) -> list[Agent | None]:
        cut = different.str.slice(0, MAX_UA).to_list()  # bounds the copy; ``find`` counts in bytes
        known = self._found
        return [known[ua] if ua in known else self._find(ua) for ua in cut]

    def _find(self, ua: str) -> Agent | None:
        numbers, _ = self._index.find(ua.encode("utf-8", "replace")[:MAX_UA])
        if len(self._found) >= KEPT:  # strangers by the million
            self._found = {}
        agent = self._found[ua] = self.agents[numbers[0]] if numbers else None
        return agent

    def addresses(self, clients: pl.Series) -> pl.DataFrame:
        """For each client (different addresses): subnet, asn, country, a Boolean for each of KINDS, and ``of`` and ``around``, see ``identity``."""
        half = clients.len() // 2
        return pl.concat(mapped(self._addresses, [clients[:half], clients[half:]] if half else [clients]), rechunk=True)

    def _addresses(self, clients: pl.Series) -> pl.DataFrame:
        ips = parsed(clients)
        numbers, others = self._ranges.numbers(ips), ips.others
        nets = pl.select(pl.lit(clients).str.strip_chars_end("0123456789") + "0/24").to_series()
        nets = nets.scatter(others, pl.select(subnets(pl.lit(clients.gather(others)))).to_series())
        different = numbers.unique().to_list()
        facts = [self._table.fact(number) if number is not None else (0, 0, "") for number in different]
        each = pl.DataFrame(
            {
                "number": different,
                "asn": [asn or None for _, asn, _ in facts],
                "country": [country or None for _, _, country in facts],
                **self._told(mask for mask, _, _ in facts),
            },
            schema={
                "number": pl.UInt32, "asn": pl.Int64, "country": pl.String, **dict.fromkeys(KINDS, pl.Boolean),
                "of": pl.List(pl.String), "around": pl.List(pl.String),
            },
        )  # fmt: skip
        return (
            pl.DataFrame({"client": clients, "number": numbers})
            .join(each, on="number", how="left", maintain_order="left", nulls_equal=True)
            .with_columns(nets.alias("subnet"))
            .drop("number")
        )

    def _told(self, masks: Iterable[int]) -> dict[str, list[object]]:
        """What each mask of the table says."""
        each = [self._says(mask) for mask in masks]
        told: dict[str, list[object]] = {kind: [bits[i] for bits, _, _ in each] for i, kind in enumerate(_SHIFTS)}
        told["of"], told["around"] = [of for _, of, _ in each], [around for _, _, around in each]
        return told

    def _says(self, mask: int) -> tuple[list[bool], list[str], list[str]]:
        said = self._said.get(mask)
        if said is None:  # the table has no more masks than places
            own = self._own.items()
            bits = [bool(mask >> shift & 1) for shift in _SHIFTS.values()]
            of, around = [name for name, (own_bits, _) in own if mask & own_bits], [name for name, (_, near) in own if mask & near]
            said = self._said[mask] = bits, of, around
        return said


def _table_of(uas: pl.Series, named: list[Agent | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ua": uas,
            "agent": [a and a.name for a in named],
            "category": [a and a.category for a in named],
            "operator": [a and a.operator for a in named],
        },
        schema=dict.fromkeys(("ua", "agent", "category", "operator"), pl.String),
    )


def identity(last: pl.Expr, dates: dict[str, str]) -> pl.Expr:
    """verified, spoofed or unverified, for clients that name an agent (columns agent, category, operator, of, around, private).

    Verified: from a network that the agent's operator publishes. Spoofed: from none, and from no /16 (IPv6: /32) that holds a part
    of one, at a time (``last``, epoch seconds) at which the list was no more than STALE days old or young, by an agent that runs
    nowhere else. Everything else is unverified.
    """
    known = {operator: (date.fromisoformat(day) - date(1970, 1, 1)).days * 86_400 for operator, day in dates.items() if day}
    listed = pl.col("operator").replace_strict(known, default=None, return_dtype=pl.Int64)
    timely = ((last - listed).abs() < STALE * 86_400).fill_null(False)
    false = timely & ~pl.col("category").is_in(tuple(PEOPLES)) & ~pl.col("private")
    inside, outside = (pl.col(c).list.contains(pl.col("operator")).fill_null(False) for c in ("of", "around"))
    return (
        pl.when(pl.col("agent").is_null()).then(None)
        .when(inside).then(pl.lit("verified"))
        .when(false & ~outside).then(pl.lit("spoofed"))
        .otherwise(pl.lit("unverified"))
    )  # fmt: skip


def subnets(ip: pl.Expr) -> pl.Expr:
    """The /24 or /48 that an address is in, as text; a host name stays as it is. IPv6 is taken as it is usually written."""
    four = ip.str.contains(r"^(?:::ffff:)?[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$")
    six = pl.when(~four & ip.str.contains(":", literal=True)).then(ip)
    head = six.str.splitn("::", 2).struct.field("field_0").replace("", "0").str.split(":")
    return (
        pl.when(four).then(ip.str.strip_prefix("::ffff:").str.strip_chars_end("0123456789") + "0/24")
        .when(six.is_not_null()).then(head.list.concat(pl.lit(["0", "0", "0"])).list.head(3).list.join(":") + "::/48")
        .otherwise(ip)
    )  # fmt: skip


def _published(networks: dict[str, Network]) -> dict[str, list[Network]]:
    """By operator, the networks whose lists the operator publishes."""
    found: dict[str, list[Network]] = {}
    for network in networks.values():
        if network.cidrs and network.operator and "published" in network.tags:
            found.setdefault(network.operator, []).append(network)
    return found


def _sets(agents: Iterable[Agent], networks: dict[str, Network]) -> tuple[list[AddressSet], dict[str, tuple[int, int]]]:
    """The table's address sets, and for each operator that can be verified its bits: its networks, and what is near them."""
    crawling = [n for n in networks.values() if n.cidrs and not CRAWLING.isdisjoint(n.tags)]
    housing = [n for n in networks.values() if not {"cloud", "hosting"}.isdisjoint(n.tags)]
    exits = [n for n in networks.values() if not {"shared-exit", "cdn"}.isdisjoint(n.tags)]
    published = _cidrs(crawling)
    sets = [
        AddressSet(1 << _SHIFTS["published"], published),
        AddressSet(1 << _SHIFTS["near"], _widened(published, 24, 48)),
        _all("cloud", housing),
        _all("exit", exits),
        AddressSet(1 << _SHIFTS["private"], PRIVATE),
    ]
    own: dict[str, tuple[int, int]] = {}
    verifiable = {agent.operator for agent in agents}
    for operator, found in _published(networks).items():
        if operator in verifiable:
            bit = 1 << (_FIRST + len(sets))
            cidrs = _cidrs(found)
            sets += [AddressSet(bit, cidrs), AddressSet(bit << 1, _widened(cidrs, 16, 32))]
            own[operator] = (bit, bit << 1)
    return sets, own


def _all(kind: str, networks: list[Network]) -> AddressSet:
    return AddressSet(1 << _SHIFTS[kind], _cidrs(networks), frozenset(n for network in networks for n in network.asns))


def _cidrs(networks: list[Network]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(cidr for network in networks for cidr in network.cidrs))


def _widened(cidrs: tuple[str, ...], four: int, six: int) -> tuple[str, ...]:
    """The networks of these prefix lengths that hold the CIDRs; wider CIDRs as they are."""
    found: dict[str, None] = {}
    for cidr in cidrs:
        version, first, length = parse_cidr(cidr)
        longest, bits, family = (four, 32, AF_INET) if version == 4 else (six, 128, AF_INET6)
        if length > longest:
            spare = bits - longest
            found[f"{inet_ntop(family, (first >> spare << spare).to_bytes(bits // 8, 'big'))}/{longest}"] = None
        else:
            found[cidr] = None
    return tuple(found)
