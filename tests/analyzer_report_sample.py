"""A month of a small site, made up with a seed: clients and rollup as the analyzer's chain gives them, for tests of what is shown."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import polars as pl
from crawlguard_analyzer.analysis import Analysis, Totals

FIRST_DAY = 20_726
"""2026-09-30."""
DAYS = 28
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
FEATURES = ("bare", "unreferred", "regular", "pace", "robots")

CLIENTS: dict[str, Any] = {
    "client": pl.String, "class": pl.String, "score": pl.Float64, "agent": pl.String, "category": pl.String, "operator": pl.String,
    "identity": pl.String, "swarm": pl.String, "requests": pl.Int64, "documents": pl.Int64, "assets": pl.Int64, "bytes": pl.Int64,
    "spent": pl.Int64, "first": pl.Int64, "last": pl.Int64, "days": pl.Int32, "subnet": pl.String, "asn": pl.Int64, "country": pl.String, "ua": pl.String,
    **{name: pl.Float64 for feature in FEATURES for name in (feature, f"{feature}_points")},
}  # fmt: skip
"""The columns of the contract that reports rest on."""


class Kind(NamedTuple):
    """Clients of one class: how many, from which network, with how many requests a day on which share of days."""

    name: str
    clients: int
    network: str
    asn: int | None
    a_day: int
    presence: float
    ua: str
    agent: str | None = None
    category: str | None = None
    operator: str | None = None
    identity: str | None = None
    swarm: str | None = None


KINDS = (
    Kind("person", 400, "81.2.{}", 64500, 30, 0.2, CHROME),
    Kind("unknown", 200, "92.40.{}", None, 2, 0.1, CHROME),
    Kind("declared", 6, "20.171.207", 8075, 900, 0.9, "Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)", "GPTBot", "training", "OpenAI", "verified"),
    Kind("declared", 4, "66.249.66", 15169, 700, 1.0, "Mozilla/5.0 (compatible; Googlebot/2.1)", "Googlebot", "search-engine", "Google", "verified"),
    Kind("declared", 9, "47.128.19", 16509, 400, 0.8, "Mozilla/5.0 (compatible; Bytespider)", "Bytespider", "training", "ByteDance", "unverified"),
    Kind("declared", 2, "52.70.240", 14618, 300, 0.5, "Mozilla/5.0 (compatible; Amazonbot/0.1)", "Amazonbot", "ai-search", "Amazon", "unverified"),
    Kind("spoofed", 2, "185.220.101", 60729, 600, 0.4, "Mozilla/5.0 (compatible; Googlebot/2.1)", "Googlebot", "search-engine", "Google", "spoofed"),
    Kind("crawler", 5, "45.148.10", 48090, 1500, 0.6, CHROME),
    Kind("swarm", 300, "43.13{}.7", 132203, 9, 0.5, CHROME.replace("141", "119"), swarm="43.130.0.0/16"),
    Kind("swarm", 60, "14.191.{}", 45899, 7, 0.4, CHROME.replace("141", "103"), swarm="AS45899"),
    Kind("tool", 3, "10.1.1", None, 40, 0.9, "python-requests/2.32", "python-requests", "http-library", "Python"),
    Kind("feed", 4, "31.13.{}", None, 24, 1.0, "Feedly/1.0", "Feedly", "feed-reader", "Feedly", "unverified"),
    Kind("monitor", 2, "63.143.42", None, 96, 1.0, "UptimeRobot/2.0", "UptimeRobot", "monitor", "UptimeRobot", "verified"),
)  # fmt: skip


def tables(seed: int = 1, kinds: tuple[Kind, ...] = KINDS, days: int = DAYS) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(clients, rollup with the columns that reports read)."""
    chance = random.Random(seed)
    clients: list[dict[str, Any]] = []
    rollup: list[dict[str, Any]] = []
    for kind in kinds:
        for number in range(kind.clients):
            ip = f"{kind.network.format(number // 50)}.{number % 250 + 1}"
            came = [day for day in range(days) if chance.random() < kind.presence] or [chance.randrange(days)]
            rows = [_day(chance, ip, kind, day) for day in came]
            rollup += rows
            clients.append(_client(chance, ip, kind, rows))
    schema = {
        "day": pl.Int32,
        "ip": pl.String,
        "requests": pl.Int64,
        "documents": pl.Int64,
        "bytes": pl.Int64,
        "spent": pl.Int64,
        "at": pl.Int64,
    }
    return pl.DataFrame(clients, CLIENTS), pl.DataFrame(rollup, schema)


def _day(chance: random.Random, ip: str, kind: Kind, day: int) -> dict[str, Any]:
    weekend = 0.6 if kind.name == "person" and day % 7 in (3, 4) else 1.0
    requests = max(1, round(kind.a_day * weekend * chance.uniform(0.4, 1.6)))
    documents = requests // 8 + 1 if kind.name == "person" else requests
    at = (FIRST_DAY + day) * 86_400 + chance.randrange(86_000)
    return {
        "day": FIRST_DAY + day,
        "ip": ip,
        "requests": requests,
        "documents": documents,
        "bytes": requests * 14_000,
        "spent": documents * 80_000,
        "at": at,
    }


def _client(chance: random.Random, ip: str, kind: Kind, rows: list[dict[str, Any]]) -> dict[str, Any]:
    machine = kind.name in ("crawler", "swarm", "spoofed", "declared")
    values = (3000.0, 412.0, 0.8, chance.randrange(40, 200), 0.0) if machine else (0.1, 0.2, 0.1, chance.randrange(5, 30), 0.0)
    points = (
        (3.0, 2.0, chance.choice((0.0, 1.5)), chance.choice((0.0, 1.0)), 0.0)
        if machine
        else (0.0, chance.choice((0.0, 1.0, 2.0)), 0.0, 0.0, 0.0)
    )
    total = {name: sum(row[name] for row in rows) for name in ("requests", "documents", "bytes", "spent")}
    return {
        "client": ip, "class": kind.name, "score": sum(points), "agent": kind.agent, "category": kind.category, "operator": kind.operator,
        "identity": kind.identity, "swarm": kind.swarm, **total, "assets": total["requests"] - total["documents"],
        "first": min(row["at"] for row in rows), "last": max(row["at"] for row in rows), "days": len(rows),
        "subnet": ip.rsplit(".", 1)[0] + ".0/24", "asn": kind.asn, "country": None if kind.asn is None else "ZZ", "ua": kind.ua,
        **dict(zip(FEATURES, values, strict=True)), **dict(zip((f"{f}_points" for f in FEATURES), points, strict=True)),
    }  # fmt: skip


COMPLIANCE = pl.DataFrame(
    {
        "agent": ["GPTBot", "Bytespider", "Amazonbot", "Googlebot", "Googlebot"],
        "identity": ["verified", "unverified", "unverified", "verified", "spoofed"],
        "robots_fetched": [31, 0, 12, 40, 0],
        "first_robots": [FIRST_DAY * 86_400 + 60, None, FIRST_DAY * 86_400 + 7_000, FIRST_DAY * 86_400, None],
        "disallowed": [0, 812, 4, 0, 77],
        "obeys": ["yes", "unknown", "no", "yes", "no"],
        "examples": [[], ["2026-10-02 /private/a", "2026-10-02 /private/b?x=1"], ["2026-10-09 /cart/7"], [], ["2026-10-03 /x"]],
    },
    {"agent": pl.String, "identity": pl.String, "robots_fetched": pl.Int64, "first_robots": pl.Int64, "disallowed": pl.Int64, "obeys": pl.String, "examples": pl.List(pl.String)},
)  # fmt: skip
ACTIONS = pl.DataFrame(
    {"rule": ["ai-training", "flood-from-one-address", ""], "action": ["block", "throttle", "allow"], "hits": [61_204, 918, 4_100]}
)


def analysis(*, seed: int = 1, kinds: tuple[Kind, ...] = KINDS, days: int = DAYS, guarded: bool = True) -> Analysis:
    """The whole of it."""
    clients, rollup = tables(seed, kinds, days)
    rows = int(clients["requests"].sum())
    totals = Totals(
        lines=rows + 61,
        rows=rows,
        unparsed={"tls": 40, "truncated": 12, "other": 9},
        formats=("access.log: nginx/Apache combined",),
        first=int(rollup["at"].min()) if rollup.height else None,  # type: ignore[arg-type]
        last=int(rollup["at"].max()) if rollup.height else None,  # type: ignore[arg-type]
        bytes=int(clients["bytes"].sum()),
        spent=int(clients["spent"].sum()),
    )
    return Analysis.of(clients, rollup, COMPLIANCE, totals, ACTIONS if guarded else None, threshold=4.0)


HOSTILE = (
    "<script>document.title='owned';fetch('/owned')</script>",
    '"><img src=/owned onerror="fetch(\'/owned\')">',
    "'/><svg onload=fetch('/owned')>",
    "</style><style>@import '/owned';*{background:url(/owned)}</style>",
    "--><iframe src=/owned></iframe><!--",
    "]]></title></svg><base href=//owned><meta http-equiv=refresh content='0;url=/owned'>",
    "\x1b[2J\x1b]0;owned\x07\x9b31m\r\nowned\x00\x08",
    "\u202eevil\u2066\u200b\ufeff\u2028Z\u0300\u0301\u0336\u05d0\u0627",
    "=cmd|' /C calc'!A0",
    "&lt;script&gt;&amp;&#60;",
    "\ud7ff\uffff\U0001f600\U000e0041",
    "A" * 10_240,
    "<" * 10_240,
    "\u202e" * 10_240,
)
"""What a client may write into a log to harm whoever reads it."""


def hostile(text: str) -> Analysis:
    """The sample with a hostile text wherever a text of the log, or of a file that somebody else wrote, can stand."""
    clients, rollup = tables(kinds=tuple(kind._replace(clients=min(kind.clients, 30)) for kind in KINDS), days=9)
    names = {name: f"{text}{number}" for number, name in enumerate(clients["client"].unique(maintain_order=True))}
    clients = clients.with_columns(
        pl.col("client").replace_strict(names),
        *(pl.when(pl.col(name).is_not_null()).then(pl.col(name) + text).alias(name) for name in ("agent", "category", "operator", "swarm", "subnet")),
        pl.lit(text).alias("ua"),
        pl.lit(text).alias("country"),
    )  # fmt: skip
    compliance = COMPLIANCE.with_columns(pl.col("agent") + text, examples=pl.lit([text, text], pl.List(pl.String)))
    actions = pl.DataFrame({"rule": [text], "action": [text], "hits": [5]})
    totals = Totals(lines=9, rows=7, unparsed={text: 2}, formats=(text,), first=1, last=2**62, bytes=1)
    rollup = rollup.with_columns(pl.col("ip").replace_strict(names))
    return Analysis.of(clients, rollup, compliance, totals, actions, threshold=4.0, notes=(text,))
