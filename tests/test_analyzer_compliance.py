"""Which agents fetch robots.txt, and what they ask for that it forbids."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.clients import clients
from crawlguard_analyzer.compliance import SCHEMA, TARGET, Compliance, compliance
from crawlguard_analyzer.rollup import rollup
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlguard.export.robotstxt import parse

from .analyzer_rows import GPTBOT, START, Request, crawler, judge, rows

HOME = "132.196.86.7"  # in GPTBot's published ranges
ROBOTS = b"""User-agent: GPTBot
Disallow: /private/
Allow: /private/open
Disallow: /*.zip$

User-agent: Googlebot
Disallow:

User-agent: *
Disallow: /secret
"""
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def said(requests: list[Request], robots: bytes | None = ROBOTS) -> dict[tuple[str, str], dict[str, Any]]:
    """The table's rows by agent and identity."""
    collector = Compliance(judge().registry, robots)
    table = rows(requests)
    found = compliance(collector.merge([collector(table)]), clients(rollup(table), judge()), collector)
    return {(row["agent"], row["identity"]): row for row in found.iter_rows(named=True)}


def visit(*targets: str, ip: str = HOME, ua: str = GPTBOT, at: int = START) -> list[Request]:
    return [{"time": at + n, "ip": ip, "target": target, "ua": ua} for n, target in enumerate(targets)]


def test_an_agent_that_obeys() -> None:
    row = said([*visit("/robots.txt", "/private/open"), *crawler(HOME, 12, ua=GPTBOT)])["GPTBot", "verified"]
    assert row == {
        "agent": "GPTBot", "operator": "OpenAI", "category": "training", "identity": "verified", "requests": 14, "clients": 1,
        "robots_fetched": 1, "first_robots": START, "disallowed": 0, "obeys": "yes", "examples": [],
    }  # fmt: skip


def test_an_agent_that_does_not() -> None:
    row = said(visit("/robots.txt?x", "/private/a", "/private/open", "/b.zip", "/%70rivate/c", "/private/d", "/secret"))[
        "GPTBot", "verified"
    ]
    assert (row["obeys"], row["disallowed"], row["robots_fetched"]) == ("no", 4, 1)
    assert row["examples"] == [f"2026-09-21T14:13:2{n}Z {target}" for n, target in ((1, "/private/a"), (3, "/b.zip"), (4, "/%70rivate/c"))]


def test_who_only_uses_a_name_does_not_speak_for_it() -> None:
    found = said([*visit("/robots.txt"), *crawler(HOME, 12, ua=GPTBOT), *visit("/private/a", ip="8.8.8.8")])
    assert {key: row["obeys"] for key, row in found.items()} == {("GPTBot", "verified"): "yes", ("GPTBot", "spoofed"): "no"}


UNKNOWN: list[tuple[list[Request], bytes | None]] = [
    (crawler(HOME, 12, ua=GPTBOT), ROBOTS),  # never fetched the file
    ([*visit("/robots.txt"), *crawler(HOME, 3, ua=GPTBOT)], ROBOTS),  # too few requests
    ([*visit("/robots.txt", "/private/"), *crawler(HOME, 12, ua=GPTBOT)], None),  # no file to go by
    ([*visit("/robots.txt"), *crawler(HOME, 12, ua=GPTBOT)], b"User-agent: Other\nDisallow: /"),  # forbids it nothing
    ([*visit("/robots.txt"), *crawler(HOME, 12, ua=GPTBOT)], b"User-agent: GPTBot\nDisallow:"),
]


@pytest.mark.parametrize(("requests_", "robots"), UNKNOWN)
def test_what_cannot_be_told(requests_: list[Request], robots: bytes | None) -> None:
    assert said(requests_, robots)["GPTBot", "verified"]["obeys"] == "unknown"


def test_each_agent_goes_by_its_own_group() -> None:
    found = said(
        [*visit("/private/a", "/secret", ip="66.249.66.1", ua=GOOGLEBOT), *visit("/private/a", "/secret", ip="8.8.8.8", ua="CCBot/2.0")]
    )
    assert {name: row["disallowed"] for (name, _), row in found.items()} == {"Googlebot": 0, "CCBot": 1}


def test_people_are_not_looked_at() -> None:
    assert said([{"time": START, "ip": "203.0.113.9", "target": "/secret"}]) == {}
    empty = Compliance(judge().registry, ROBOTS)(rows([]))
    assert (empty.height, dict(empty.schema)) == (0, SCHEMA)


def test_hostile_targets_are_kept_as_they_are_and_cut() -> None:
    hostile = "/private/<script>\x1b[31m\x00�" + "x" * 70_000
    examples = said(visit(hostile))["GPTBot", "verified"]["examples"]
    assert examples == ["2026-09-21T14:13:20Z " + hostile[:TARGET]]


target = st.sampled_from(
    ["/robots.txt", "/private/a", "/private/open", "/x.zip", "/secret", "/", "*", "", "http://a.example/private/"]
) | st.text("/%2privatez.*$\x00é", max_size=8)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3 * 86_400), target, st.sampled_from([GPTBOT, GOOGLEBOT, "CCBot/2.0", "curl/8"])), max_size=30),
    st.integers(0, 30),
)
def test_shards_add_up_and_the_parser_agrees(requests: list[tuple[int, str, str]], cut: int) -> None:
    table = rows({"time": START + time, "ip": HOME, "target": path, "ua": ua} for time, path, ua in requests)
    collector = Compliance(judge().registry, ROBOTS)
    whole = collector.merge([collector(table)])
    parts = [collector(table[:cut]), collector(table[cut:])]
    assert collector.merge(parts).equals(collector.merge(reversed(parts)))
    counts = ("day", "agent", "identity", "requests", "robots_fetched", "first_robots", "disallowed")
    assert collector.merge(parts).select(counts).equals(whole.select(counts))
    file = parse(ROBOTS)
    for agent, token, ua in (("GPTBot", "GPTBot", GPTBOT), ("Googlebot", "Googlebot", GOOGLEBOT), ("CCBot", "CCBot", "CCBot/2.0")):
        wrong = sum(not file.allows(token, path) for _, path, name in requests if name == ua)
        assert whole.filter(pl.col("agent") == agent)["disallowed"].sum() == wrong
