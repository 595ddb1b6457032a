"""Who is who for a proposal: the load that rules should cover, the people it must not cost, and those who are never to be hit.

Everything rests on the clients table (see ``clients``); one of its rows is one client, and keeps its number here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

import polars as pl

from crawlguard.client_ip import parse_ip
from crawlguard.ipdb import build_table
from crawlguard.policy.compile import compile_policy
from crawlguard.policy.model import Policy, Rule
from crawlguard.policy.ruleset import UNKNOWN_CLIENT, Ruleset
from crawlguard.policy.terms import specialise

from ..browsers import kinds

MACHINE, SLOW, PERSON, UNSURE, KEPT, REFUSED = "machine", "slow", "person", "unsure", "kept", "refused"
"""Sides. machine: load to cover. slow: load that may be slowed, and never refused. person, unsure: what a rule is paid for with. kept: never
to be hit. refused: what the live policy stops already."""
LOAD = (MACHINE, SLOW)

BLOCKED = frozenset(("training", "dataset", "ai-unspecified", "seo", "security-scanner", "scraper-library"))
"""Declared crawlers that serve somebody else than the site: a rule may refuse them."""
SLOWED = frozenset(("search-engine", "ai-search", "archive"))
"""Declared crawlers that bring readers: a rule asks them for patience, and never refuses them. All other agents but plain tools act for
a person or for the site (ads, feeds, previews, monitors, webhooks), and are kept."""
ACTING = ("feed-reader", "podcast", "monitor", "link-preview", "webhook")

UNDECLARED = ("crawler", "swarm", "spoofed")


@dataclass(frozen=True, slots=True)
class Load:
    """The clients with ``row`` (their number), ``side``, ``ua_key`` (the User-Agent in lower case), ``plain`` (whether the User-Agent is one
    that a person's browser could send today), ``program`` (it is no browser's), and ``addressed`` (whether the address can stand in a rule).

    ``requests``: of all clients; ``machine``: of those to cover. ``first``, ``last``: of the log, epoch seconds (0 without clients).
    """

    clients: pl.DataFrame
    policy: Policy
    requests: int
    machine: int
    first: int
    last: int

    @property
    def timed(self) -> bool:
        """Whether the log says how long the server took."""
        return bool(self.clients["spent"].sum())

    @property
    def addressed(self) -> bool:
        """Whether any address of the log can stand in a rule: a log with keyed addresses has none."""
        return bool(self.clients["addressed"].any())

    @property
    def anonymous(self) -> bool:
        """Whether clients go by subnets or keyed hashes (see ``events.Privacy``), so that they are not the addresses of the log."""
        return bool(self.clients["client"].str.contains("^k-[0-9a-f]{16}$|/").any())


def load_of(clients: pl.DataFrame, policy: Policy, *, reviewed: Sequence[Rule] = ()) -> Load:
    """For a live policy. ``reviewed``: rules that were proposed before; they count as if they were in force already."""
    if "spent" not in clients.columns:
        clients = clients.with_columns(pl.lit(0, pl.Int64).alias("spent"))
    known = clients.drop("row", "side", strict=False).with_row_index("row")
    known = known.with_columns(
        pl.Series("addressed", [_addressed(text) for text in known["client"]], dtype=pl.Boolean),
        pl.when(pl.col("ua").str.strip_chars() == "").then(pl.lit("")).otherwise(pl.col("ua").str.to_lowercase()).alias("ua_key"),
        _decided(known, replace(policy, rules=(*policy.rules, *(rule._replace(mode="enforce") for rule in reviewed)))),
    ).join(_plain(known), on="ua", how="left", maintain_order="left")
    known = known.with_columns(_side().alias("side"))
    return Load(
        clients=known,
        policy=policy,
        requests=int(known["requests"].sum()),
        machine=int(known.filter(pl.col("side").is_in(LOAD))["requests"].sum()),
        first=int(known["first"].min() or 0),  # type: ignore[arg-type]
        last=int(known["last"].max() or 0),  # type: ignore[arg-type]
    )


def _side() -> pl.Expr:
    named, kind = pl.col("category"), pl.col("class")
    verified = pl.col("identity") == "verified"
    return (
        pl.when(pl.col("decided") == "refused").then(pl.lit(REFUSED))
        .when(kind == "person").then(pl.lit(PERSON))
        .when(pl.col("decided") == "allowed").then(pl.lit(KEPT))
        .when(kind.is_in(UNDECLARED)).then(pl.lit(MACHINE))
        .when(kind.is_in(("feed", "monitor"))).then(pl.lit(KEPT))
        .when((named == "search-engine") & verified).then(pl.lit(KEPT))
        .when(named.is_in(tuple(BLOCKED))).then(pl.lit(MACHINE))
        .when(named.is_in(tuple(SLOWED))).then(pl.lit(SLOW))
        .when((kind == "declared") | named.is_in(ACTING)).then(pl.lit(KEPT))
        .otherwise(pl.lit(UNSURE))
    )  # fmt: skip


def _addressed(text: str) -> bool:
    """Whether a client's name is an address, or (``privacy: subnet``) the CIDR of its subnet; a keyed hash or a host name is neither."""
    if "/" in text:
        try:
            return ip_network(text) is not None
        except ValueError:
            return False
    return parse_ip(text) is not None


def _plain(clients: pl.DataFrame) -> pl.DataFrame:
    """For each different User-Agent whether it is ``plain``: a person may come with it tomorrow, though none did in this log; and whether it
    is a ``program``'s by its very shape, so that its words are no phone's model."""
    told = kinds(clients["ua"].unique())
    last = clients["last"].max()
    old = (pl.lit(last) - pl.col("released") > OLD * 86_400).fill_null(False)
    browser = pl.col("kind") == "browser"
    return told.select("ua", (browser & ~pl.col("impossible") & ~old).alias("plain"), (~browser).alias("program"))


OLD = 4 * 365
"""Days after which a browser's version is one that hardly any person still has (the same as the highest step of ``ancient``)."""


def _decided(clients: pl.DataFrame, policy: Policy) -> pl.Series:
    """What the policy's rules say for certain of each client, whatever it asks for: "refused", "allowed" or null."""
    ruleset = compile_policy(policy)
    numbers, masks = client_masks(ruleset, policy, clients)
    words = pl.Series("decided", [_verdict(ruleset, mask) for mask in masks], dtype=pl.String)
    return words.gather(numbers)


def _verdict(ruleset: Ruleset, mask: int) -> str | None:
    for rule in ruleset.rules:
        if rule.inactive or rule.action is None or (rule.shadow and not rule.rehearsed):
            continue
        if specialise(rule.term, mask) is True:
            return "allowed" if rule.action == "allow" else "refused"
    return None


def client_masks(ruleset: Ruleset, policy: Policy, clients: pl.DataFrame) -> tuple[pl.Series, list[int]]:
    """The static facts of each client, by its address and its User-Agent: for each the number of its mask, and the different masks.

    Raises DataError for an unusable database.
    """
    table = build_table(
        ruleset.addresses, policy.asn if "asn" in ruleset.needs else None, policy.country if "country" in ruleset.needs else None
    )
    uas = {ua: ruleset.user_agent(ua.encode("utf-8", "replace") or None).mask for ua in clients["ua"].unique()}
    packed = (parse_ip(text.partition("/")[0]) for text in clients["client"])
    unknown = UNKNOWN_CLIENT.mask
    addresses = (table.lookup(p)[0] if p else unknown for p in packed)
    known: dict[int, int] = {}
    numbers = [known.setdefault(address | uas[ua], len(known)) for address, ua in zip(addresses, clients["ua"], strict=True)]
    return pl.Series("mask", numbers, dtype=pl.UInt32), list(known)
