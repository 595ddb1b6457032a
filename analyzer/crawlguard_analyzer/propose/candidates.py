"""Rules that could be proposed from the clients table alone: by agent, User-Agent, subnet, system, cloud, and pairs of these.

A candidate covers the machines that its conditions reach, and is told whom else they reach. Rates need the log: see ``rates``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import polars as pl

from crawlguard.client_ip import format_ip, parse_ip
from crawlguard.signals.ua import COMMON, MAX_UA

from .cidrs import holders, joined
from .cover import Cover, Reach
from .load import BLOCKED, KEPT, MACHINE, PERSON, SLOW, UNSURE, Load
from .written import When

ADDRESS_DAYS, NETWORK_DAYS, NAME_DAYS = 30, 90, 180
"""Days after which a rule should be looked at again; what a log has not seen for so long is not proposed. A cloud's single address is another
customer's within weeks; a subnet is let for months; names and habits last, and the log that shows them is cheap to read twice a year."""

CLOUD: When = {"network": {"tag": ["cloud", "hosting"]}}
HEAVY = 0.01
"""The least share of all requests with which a single address is worth a rule."""
MOST_CIDRS = 32
"""CIDRs in one rule: what a person still reads through before switching it on."""
SEVERAL = 3
"""Machines that a network must hold before it is proposed instead of their addresses."""
MANY = 30
"""Machines that must share a browser's User-Agent before it is proposed by itself: a person may come with it any day."""
MOST_TOKENS = 200
PER_CONDITION, PER_VALUE = 0.5, 0.2
"""What each condition, and each value, beyond the first adds to a rule's complexity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A rule that could be proposed. ``what``: its kind. ``says``: whom it means, in words of ours. ``days`` until it expires."""

    id: str
    what: str
    when: When
    then: str
    says: str
    days: int
    cover: Cover


class Kind(NamedTuple):
    """Candidates of one kind: clients are grouped by ``keys``; each group becomes a rule."""

    what: str
    keys: tuple[str, ...]
    when: Callable[[Mapping[str, Any]], When]
    says: str
    days: int
    only: pl.Expr
    """Clients of which groups are made; everybody else in the log who has the same keys is reached too."""
    complexity: float = 1.0
    members: int = 1
    """The least number of its machines: a network that holds only one of them is no better known than its address."""


def _ua(keys: Mapping[str, Any]) -> When:
    return {"user_agent": {"is": keys["ua"]} if keys["ua_key"] else {"missing": True}}


def _agent(keys: Mapping[str, Any]) -> When:
    return {"agent": {"name": [keys["agent"]]}}


def _ip(keys: Mapping[str, Any]) -> When:
    return {"ip": [next(keys[k] for k in ("own", "subnet", "joined") if k in keys)]}


def _asn(keys: Mapping[str, Any]) -> When:
    return {"asn": [keys["asn"]]}


_UNNAMED = pl.col("agent").is_null()
_EXACT = pl.col("exact")
_PAIR = 1 + PER_CONDITION
_DECLARED = pl.col("category").is_in(tuple(BLOCKED))
_IN_CLOUD = pl.col("in_cloud")

KINDS = (
    Kind("agent", ("agent",), _agent, "a crawler that names itself", NAME_DAYS, _DECLARED),
    Kind("agents", ("category",), lambda k: {"agent": {"category": [k["category"]]}}, "crawlers of one kind that name themselves", NAME_DAYS, _DECLARED, 1.2),
    Kind("ua", ("ua_key",), _ua, "a program's User-Agent", NAME_DAYS, _UNNAMED & _EXACT & ~pl.col("plain")),
    Kind("ua-alone", ("ua_key",), _ua, "a browser's User-Agent that no person here sends", ADDRESS_DAYS, _UNNAMED & _EXACT & pl.col("plain"), 3.0, MANY),
    Kind("cloud-ua", ("in_cloud", "ua_key"), lambda k: {**CLOUD, **_ua(k)}, "one User-Agent, out of data centres", NETWORK_DAYS, _UNNAMED & _EXACT & _IN_CLOUD, _PAIR),
    Kind("subnet", ("subnet",), _ip, "a subnet", NETWORK_DAYS, pl.col("netted"), members=SEVERAL),
    Kind("subnet", ("joined",), _ip, "neighbouring subnets", NETWORK_DAYS, pl.col("netted"), members=SEVERAL),
    Kind("subnet-ua", ("subnet", "ua_key"), lambda k: {**_ip(k), **_ua(k)}, "one User-Agent out of a subnet", NETWORK_DAYS, pl.col("netted") & _EXACT, _PAIR, SEVERAL),
    Kind("asn", ("asn",), _asn, "a network operator's addresses", NETWORK_DAYS, pl.col("asn").is_not_null(), members=SEVERAL),
    Kind("asn-ua", ("asn", "ua_key"), lambda k: {**_asn(k), **_ua(k)}, "one User-Agent out of a network operator's addresses", NETWORK_DAYS, pl.col("asn").is_not_null() & _EXACT, _PAIR, SEVERAL),
    Kind("ip", ("own",), _ip, "a single address", ADDRESS_DAYS, pl.col("own").is_not_null(), 2.0),
)  # fmt: skip
"""In the order in which ties are settled."""


def candidates(load: Load, least: int) -> list[Candidate]:
    """All that cover ``least`` requests or more and hit nobody who is never to be hit."""
    clients = _keyed(load)
    kinds = [kind for kind in KINDS if "asn" not in kind.keys or load.policy.asn]
    found = [one for kind in kinds for one in _of_kind(kind, clients, _floor(kind, load, least))]
    return [*found, *_tokens(clients, least), *_lists(clients, least)]


def _floor(kind: Kind, load: Load, least: int) -> int:
    return max(least, int(HEAVY * load.requests)) if kind.what == "ip" else least


def _keyed(load: Load) -> pl.DataFrame:
    """The clients with all that groups are made by. ``exact``: the User-Agent can stand in a rule (not where the log has none at all).

    Where many people share an exit (a relay, a VPN, a company's proxy) machines come out of it too, but no rule by place can tell them apart: such
    addresses, their subnets and their operators make no group, whoever was seen there.
    """
    clients = load.clients
    cloud, shared = (pl.col(name) > 0 if name in clients.columns else pl.lit(False) for name in ("cloud", "exit"))
    ua = pl.col("ua")
    clients = clients.with_columns(
        cloud.alias("in_cloud"),
        (~ua.str.contains("\ufffd", literal=True) & (ua.str.len_bytes() <= MAX_UA) & (ua != "").any()).alias("exact"),
        (pl.col("addressed") & pl.col("subnet").str.contains("/", literal=True) & ~shared.any().over("subnet")).alias("netted"),
        shared.alias("shared"),
        pl.Series("own", [_own(c) if known else None for c, known in clients.select("client", "addressed").iter_rows()], dtype=pl.String),
    )
    clients = clients.with_columns(
        pl.when(~pl.col("shared")).then("own").alias("own"), pl.when(~pl.col("shared").any().over("asn")).then("asn").alias("asn")
    )
    netted = clients.filter("netted")
    side = netted.filter(pl.col("side") == MACHINE)["subnet"].unique()
    out = clients.filter(pl.col("side").is_in((PERSON, KEPT, SLOW)) | ~pl.col("netted"))["subnet"].drop_nulls().unique().to_list()
    prefixes = {prefix for subnet, prefix in joined(side.sort().to_list(), out).items() if subnet != prefix}
    told = holders(clients["subnet"].drop_nulls().unique().to_list(), prefixes)
    return clients.with_columns(clients["subnet"].replace_strict(told, default=None, return_dtype=pl.String).alias("joined"))


def _own(client: str) -> str | None:
    """An address as one client's: IPv6 by the /64 that it changes its addresses in."""
    if "/" in client:
        return None
    packed = parse_ip(client)
    return client if packed is None or len(packed) == 4 else f"{format_ip(packed[:8] + bytes(8))}/64"


def _of_kind(kind: Kind, clients: pl.DataFrame, least: int) -> Iterator[Candidate]:
    if not clients.height:
        return
    keys, newest = [pl.col(key) for key in kind.keys], cast(int, clients["last"].max())
    machine = pl.col("side") == MACHINE
    worth = (
        clients.filter(kind.only & machine)
        .group_by(keys)
        .agg(pl.col("requests").sum(), pl.len())
        .filter((pl.col("requests") >= least) & (pl.col("len") >= kind.members))
        .select(kind.keys)
    )
    groups = clients.join(worth, on=kind.keys, how="semi").group_by(keys).agg(_sides()).filter(pl.col("kept") == 0)
    for number, group in enumerate((groups := groups.sort(kind.keys)).drop("rows", "covered").iter_rows(named=True)):
        keyed = {key: group[key] for key in kind.keys}
        if group["latest"] < newest - kind.days * 86_400:
            continue
        yield Candidate(
            id=_id(kind.what, keyed),
            what=kind.what,
            when=kind.when({**keyed, "ua": group["ua"]}),
            then="block",
            says=kind.says,
            days=kind.days,
            cover=_cover(groups[number], kind.complexity),
        )


def _sides() -> list[pl.Expr]:
    side, machine = pl.col("side"), pl.col("side") == MACHINE
    return [
        pl.col("row").filter(machine).alias("rows"),
        pl.col("requests").filter(machine).alias("covered"),
        pl.col("last").filter(machine).max().alias("latest"),
        pl.col("ua").filter(machine).first(),
        (side == PERSON).sum().alias("people"),
        (side == UNSURE).sum().alias("unsure"),
        side.is_in((KEPT, SLOW)).sum().alias("kept"),
    ]


def _cover(group: pl.DataFrame, complexity: float) -> Cover:
    """Of one row of a table with the columns of ``_sides``."""
    return Cover(Reach(group["rows"][0], group["covered"][0]), complexity, group["people"][0], group["unsure"][0])


_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{3,40}")


def _tokens(clients: pl.DataFrame, least: int) -> Iterator[Candidate]:
    """Words of programs' User-Agents that stand in nobody else's."""
    programs = clients.filter(_UNNAMED & pl.col("program") & (pl.col("side") == MACHINE) & (pl.col("ua_key") != ""))
    by_ua = (
        programs.group_by("ua_key").agg(pl.col("requests").sum()).sort("requests", "ua_key", descending=[True, False]).head(2 * MOST_TOKENS)
    )
    weights: dict[str, int] = {}
    for ua, requests in by_ua.iter_rows():
        for token in dict.fromkeys(word.rstrip(".+-") for word in _TOKEN.findall(ua[:MAX_UA])):
            if len(token) > 3 and token.encode() not in COMMON:
                weights[token] = weights.get(token, 0) + requests
    names = clients.select("ua_key", "side").unique()
    others = names.filter(pl.col("side").is_in((PERSON, KEPT, SLOW)))["ua_key"].unique()
    for token, weight in sorted(weights.items(), key=lambda pair: -pair[1])[:MOST_TOKENS]:
        if weight < least or others.str.contains(token, literal=True).any():
            continue
        named = clients.filter(pl.col("ua_key").str.contains(token.lower(), literal=True))
        group = named.group_by(pl.lit(0)).agg(_sides())
        if group["people"][0] == group["kept"][0] == 0:
            yield Candidate(
                id=_id("ua", {"token": token}), what="ua", when={"user_agent": {"contains": [token]}}, then="block",
                says="a word in a program's User-Agent", days=NAME_DAYS, cover=_cover(group, 1.1),
            )  # fmt: skip


def _lists(clients: pl.DataFrame, least: int) -> Iterator[Candidate]:
    """The subnets of one swarm; and one User-Agent that people share, out of the subnets from which only machines send it."""
    netted = clients.filter(pl.col("netted"))
    named = netted.filter(_UNNAMED & _EXACT)
    yield from _listed(netted.filter(pl.col("swarm").is_not_null()), netted, ("swarm",), least)
    yield from _listed(named, named, ("ua_key",), least)


def _listed(wanted: pl.DataFrame, all_: pl.DataFrame, keys: tuple[str, ...], least: int) -> Iterator[Candidate]:
    by_ua, newest = keys == ("ua_key",), cast(int, all_["last"].max() or 0)
    place = [*keys, "subnet"] if by_ua else ["subnet"]
    sides = all_.group_by(place).agg(_sides()).filter((pl.col("people") == 0) & (pl.col("kept") == 0) & (pl.col("rows").list.len() > 0))
    sides = sides.with_columns(pl.col("covered").list.sum().alias("weight"))
    groups = wanted.filter(pl.col("side") == MACHINE).select(*keys, "subnet").unique()
    worth = groups.join(sides, on=place).filter(pl.col("weight").sum().over(keys) >= least)
    worth = worth.sort("weight", "subnet", descending=[True, False])
    for (key,), part in worth.partition_by(list(keys), as_dict=True, maintain_order=True).items():
        few = part.head(MOST_CIDRS)
        if few.height < 2 or int(few["weight"].sum()) < least or cast(int, few["latest"].max()) < newest - NETWORK_DAYS * 86_400:
            continue
        reach = Reach(few["rows"].explode(), few["covered"].explode())
        when: dict[str, Any] = {"ip": few["subnet"].sort().to_list()}
        complexity = (_PAIR if by_ua else 1.0) + PER_VALUE * (few.height - 1)
        yield Candidate(
            id=_id("subnets-ua" if by_ua else "swarm", {keys[0]: key}),
            what="subnets-ua" if by_ua else "swarm",
            when={**when, **_ua({"ua_key": key, "ua": few["ua"][0]})} if by_ua else when,
            then="block",
            says="one User-Agent out of these subnets" if by_ua else "the subnets of one swarm",
            days=NETWORK_DAYS,
            cover=Cover(reach, complexity, 0, int(few["unsure"].sum())),
        )


def _id(what: str, keys: Mapping[str, Any]) -> str:
    """Stable from one run to the next: made of what the rule means. Letters, digits and "-", 64 at most."""
    parts = [f"proposed-{what}"]
    for key, value in keys.items():
        if key == "in_cloud":
            continue
        text = "none" if value == "" else str(value)
        if key == "ua_key" and value:
            parts.append(blake2b(text.encode("utf-8", "replace"), digest_size=4).hexdigest())
        elif key in ("subnet", "joined") and text.endswith(".0/24"):
            parts.append(text.removesuffix(".0/24"))
        else:
            parts.append(text)
    return slug("-".join(parts))


def slug(text: str) -> str:
    """A text as a rule's id: lower-case letters, digits and "-", 64 at most."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()
    return plain if len(plain) <= 64 else f"{plain[:55]}-{blake2b(plain.encode(), digest_size=4).hexdigest()}"
