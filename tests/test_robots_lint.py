"""The lint of robots.txt: each code on a file of its own and on none that is fine; whom a file stops; where it contradicts a policy."""

from __future__ import annotations

import json
import random
import re
import time

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlguard.catalogue import agents
from crawlguard.commands.robots_report import MOST, show
from crawlguard.export.lint import Report, lint
from crawlguard.export.lint_rules import MAX_PAIRS, covers, may_meet
from crawlguard.export.lint_table import FOLLOWS, IGNORES_STAR, PAST_TOKENS, SENTENCES
from crawlguard.export.pattern import compile_pattern
from crawlguard.export.reach import witnesses
from crawlguard.export.robotstxt import LIMIT, parse
from crawlguard.signals.ua import Agent

CATALOGUE = agents()


def report(text: str | bytes, known: tuple[Agent, ...] = CATALOGUE) -> Report:
    return lint(parse(text.encode() if isinstance(text, str) else text), known)


def codes(text: str | bytes) -> list[tuple[int, str]]:
    return [(found.line, found.code) for found in report(text).findings]


FINE = [
    "",
    "User-agent: *\nDisallow:\n",
    "User-agent: *\nAllow: /\n",
    "# none\n\nUser-agent: GPTBot\nUser-agent: CCBot\nDisallow: /\n\nUser-agent: *\nDisallow: /admin/\nAllow: /admin/open\n\nSitemap: https://a.example/s.xml\n",
    "User-agent: *\nContent-Signal: search=yes, ai-train=no,use=reference\nAllow: /\nLicense: https://a.example/license.xml\n",
    "User-agent: *\nContent-Usage: /art train-ai=n, search=y\nContent-Usage: train-ai=n\nDisallow: /*.php$\n",
    "user-agent: Googlebot\r\nDISALLOW: /a # why\r\n",
    "User-agent: *\nDisallow: /é\nAllow: /%C3%A9b*x$\n",
]


@pytest.mark.parametrize("text", FINE)
def test_a_fine_file_has_no_warning(text: str) -> None:
    assert [found for found in report(text).findings if found.code != "no-groups"] == []


# a file, and the (line, code) pairs that it has besides none
FAULTY: list[tuple[str | bytes, list[tuple[int, str]]]] = [
    (b"\xef\xbb\xbfUser-agent: *\nDisallow: /a", [(1, "byte-order-mark")]),
    (b"User-agent: *\nDisallow: /a\n" + b"#\n" * LIMIT, [(LIMIT // 2 - 11, "too-big")]),
    (b"User-agent: *\nDisallow: /a\0\n", [(2, "nul-byte")]),
    (b"User-agent: *\nDisallow: /\xe9\n", [(2, "not-utf8")]),
    ("User-agent: *\nDisallow: /" + "a" * 17_000, [(2, "long-line")]),
    ("<!doctype html>\n", [(1, "no-key"), (1, "web-page")]),
    ("# nothing", [(0, "no-groups")]),
    ("User-agent: *\nDisallow: /a\nnothing to see here", [(3, "no-key")]),
    ("User-agent: *\nDisallow: /a\nhello world", [(3, "no-key")]),
    ("User-agent *\nDisallow /a", [(1, "no-colon"), (2, "no-colon")]),
    ("Useragent: *\nDissallow: /a\nSite-map: https://a.example/", [(1, "misspelt-key"), (2, "misspelt-key"), (3, "misspelt-key")]),
    ("User-agent: *\nDisallow: /a\nDeny: /b", [(3, "unknown-key")]),
    ("Crawl-delay: 2\nUser-agent: *\nDisallow: /a", [(1, "crawl-delay"), (1, "outside-group")]),
    ("Disallow: /a\nUser-agent: *\nDisallow: /b", [(1, "rule-before-group")]),
    ("User-agent: *\nDisallow: /a\nNoindex: /b\nHost: a.example", [(3, "past-key"), (4, "past-key")]),
    ("User-agent: *\nDisallow: /a\nCrawl-delay: 2.5", [(3, "crawl-delay")]),
    ("User-agent: *\nDisallow: /a\nCrawl-delay: soon", [(3, "crawl-delay-value")]),
    ("Sitemap: /s.xml\nLicense: s\nUser-agent: *\nDisallow: /a", [(1, "not-absolute-url"), (2, "not-absolute-url")]),
    ("User-agent: *\nDisallow: /a\nContent-Signal: ai-trian=no", [(3, "signal-key")]),
    ("User-agent: *\nDisallow: /a\nContent-Signal: search=y, use=full", [(3, "signal-value")]),
    ("User-agent: *\nDisallow: /a\nContent-Usage: train-ai=n, train-ai=y", [(3, "signal-twice")]),
    ("User-agent: *\nDisallow: /a\nContent-Usage: search", [(3, "signal-value")]),
    ("User-agent:\nDisallow: /a", [(1, "no-token")]),
    ("User-agent: * all\nDisallow: /a", [(1, "star-and-more")]),
    ("User-agent: GPT*\nDisallow: /a", [(1, "star-in-token")]),
    ("User-agent: GPTBot, CCBot\nDisallow: /a", [(1, "several-tokens")]),
    ("User-agent: Mozilla/5.0 (compatible; GPTBot/1.0)\nDisallow: /a", [(1, "user-agent-string")]),
    ("User-agent: GPTBot/1.2\nDisallow: /a", [(1, "token-version")]),
    ("User-agent: my.own.bot\nDisallow: /a", [(1, "bad-token")]),
    ("User-agent: AI2Bot\nDisallow: /a", [(1, "odd-token")]),
    ("User-agent: GPTBott\nDisallow: /a", [(1, "unknown-token")]),
    ("User-agent: curl\nDisallow: /a", [(1, "not-a-robots-token")]),
    ("User-agent: anthropic-ai\nDisallow: /a", [(1, "past-token")]),
    ("User-agent: GPTBot\nUser-agent: gptbot\nDisallow: /a", [(2, "token-twice")]),
    ("User-agent: GPTBot\nDisallow: /a\nUser-agent: CCBot\nUser-agent: gptbot\nDisallow: /b", [(4, "groups-merge")]),
    ("User-agent: *\nCrawl-delay: 9\nUser-agent: GPTBot\nDisallow: /", [(2, "crawl-delay"), (3, "joined-group")]),
    ("User-agent: *\nDisallow: /a\nUser-agent: GPTBot\n", [(3, "no-rules")]),
    ("User-agent: *\nDisallow: https://a.example/b", [(2, "pattern-url")]),
    ("User-agent: *\nDisallow: private/", [(2, "pattern-start")]),
    ("User-agent: *\nDisallow: /a b", [(2, "pattern-characters")]),
    ("User-agent: *\nDisallow: /#top", [(2, "comment-in-pattern")]),
    ("User-agent: *\nDisallow: /\nAllow: /index.html", [(3, "index-page")]),
    ("User-agent: *\nDisallow: /a\nDisallow:", [(3, "empty-rule")]),
    ("User-agent: *\nDisallow: /a\nAllow: /a/b\nDisallow: /a", [(4, "same-rule")]),
    ("User-agent: *\nDisallow: /a\nDisallow: /a/b", [(3, "no-effect")]),
    ("User-agent: *\nDisallow: /a\nAllow: /b", [(3, "no-effect")]),
    ("User-agent: *\nDisallow: /a*\nDisallow: /a", [(3, "no-effect")]),
    ("User-agent: *\nDisallow: /a\nAllow: /a", [(2, "overruled")]),
    ("User-agent: *\nDisallow: /a/\nAllow: /a*", [(2, "overruled")]),
    ("User-agent: *\n" + "".join(f"Disallow: /{n}a\n" for n in range(int(MAX_PAIRS**0.5) + 1)), [(1, "not-compared")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FAULTY, ids=[(e[0][1] if e else "none") for _, e in FAULTY])
def test_a_fault_is_found_at_its_line_and_nothing_else(text: str | bytes, expected: list[tuple[int, str]]) -> None:
    assert codes(text) == expected


def test_every_code_has_a_file_that_shows_it() -> None:
    assert {code for _, expected in FAULTY for _, code in expected} == set(SENTENCES)


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("User-agent: GPTBott", "did you mean 'GPTBot'?"),
        ("User-agent: Mozilla/5.0 AppleWebKit/537.36 (KHTML; compatible; ClaudeBot/1.0; +x@y.z)", "write 'User-agent: ClaudeBot'"),
        ("User-agent: GPTBot/1.2", "write 'User-agent: GPTBot'"),
        ("User-agent: *\nDisallow: http://a.example/b/c?d", "write 'Disallow: /b/c?d'"),
        ('User-agent: *\nDisallow: /%2A "a"', "write 'Disallow: /%2A%20%22a%22'"),
        ("User-agent: *\nDisalow /a", "write 'Disallow'"),
        ("User-agent: *\nSitemaps: /a\nCrawldelay: 5", "did you mean 'crawl-delay'?"),
    ],
)
def test_cures_say_what_to_write(text: str, cure: str) -> None:
    assert cure in [found.cure for found in report(text).findings]


def test_tables_speak_of_known_agents() -> None:
    tokens = {token.lower() for agent in CATALOGUE for token in agent.robots}
    assert tokens >= IGNORES_STAR | PAST_TOKENS.keys() | FOLLOWS.keys() | set(FOLLOWS.values())


# ---- rules without effect

PIECES = st.lists(st.sampled_from(["a", "b", "/", "*"]), max_size=4).map(lambda parts: "/" + "".join(parts))
PATTERNS = st.builds("{}{}".format, PIECES, st.sampled_from(["", "", "$"]))
PATHS = st.lists(st.sampled_from(["a", "b", "/"]), max_size=6).map(lambda parts: "/" + "".join(parts))
RULES = st.lists(st.builds("{}: {}".format, st.sampled_from(["Allow", "Disallow"]), PATTERNS), max_size=7)


@given(RULES, st.lists(PATHS, max_size=25))
@settings(max_examples=400)
def test_a_rule_without_effect_can_go(rules: list[str], paths: list[str]) -> None:
    idle = [f.line for f in report("\n".join(["User-agent: a", *rules])).findings if f.code in ("same-rule", "no-effect", "overruled")]
    whole = parse("\n".join(["User-agent: a", *rules]).encode())
    for line in idle:
        less = parse("\n".join(["User-agent: a", *rules[: line - 2], *rules[line - 1 :]]).encode())
        for path in paths:
            assert whole.allows("a", path) == less.allows("a", path), (rules, line, path)


@given(PATTERNS, PATTERNS, st.lists(PATHS, max_size=25))
@settings(max_examples=400)
def test_covering_and_meeting_are_true_of_every_path(one: str, other: str, paths: list[str]) -> None:
    first, second = compile_pattern(one), compile_pattern(other)
    for path in (*paths, *witnesses(first), *witnesses(second)):
        if covers(first, second) and second.matches(path):
            assert first.matches(path)
        if first.matches(path) and second.matches(path):
            assert may_meet(first, second)


@given(PATTERNS)
def test_witnesses_are_matched(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    found = witnesses(compiled)
    assert found
    assert all(compiled.matches(path) for path in found)


# ---- whom it stops


def stopped(text: str, *names: str) -> list[tuple[str, str]]:
    reach = {r.agent.name: (r.stopped, r.token) for r in report(text).reach}
    return [reach[name] for name in names]


def test_who_is_stopped_and_by_which_group() -> None:
    text = "User-agent: GPTBot\nDisallow: /\n\nUser-agent: *\nDisallow: /private/\nAllow: /private/open\n\nUser-agent: CCBot\nDisallow:\n"
    assert stopped(text, "GPTBot", "ClaudeBot", "CCBot") == [("everywhere", "GPTBot"), ("in part", "*"), ("nowhere", "CCBot")]
    claude = next(r for r in report(text).reach if r.agent.name == "ClaudeBot")
    assert claude.disallow == ("/private/",)
    assert claude.allow == ("/private/open",)
    assert stopped("", "GPTBot") == [("nowhere", "")]


def test_an_agent_with_two_tokens_heeds_the_first_that_has_a_group() -> None:
    text = "User-agent: Googlebot\nDisallow: /\n"
    assert stopped(text, "Googlebot-Image", "Googlebot", "Google-Extended") == [("everywhere", "Googlebot")] * 2 + [("nowhere", "")]
    assert stopped("User-agent: Googlebot-Image\nDisallow:\n" + text, "Googlebot-Image") == [("nowhere", "Googlebot-Image")]


def test_readers_that_are_known_to_differ() -> None:
    everybody = "User-agent: *\nDisallow: /\n"
    assert stopped(everybody, "AdsBot-Google", "Bytespider") == [("nowhere", ""), ("everywhere", "*")]
    assert stopped("User-agent: Googlebot\nDisallow: /\n", "Applebot", "Applebot-Extended") == [
        ("everywhere", "googlebot"),
        ("nowhere", ""),
    ]
    version = "User-agent: Googlebot/2.1\nUser-agent: GPTBot/1.2\nDisallow: /\n"
    assert stopped(version, "Googlebot", "GPTBot") == [("everywhere", "Googlebot"), ("nowhere", "")]


def test_everywhere_means_every_path_but_robots_txt() -> None:
    rules = "User-agent: GPTBot\nDisallow: /\nAllow: /robots.txt\n"
    assert stopped(rules, "GPTBot") == [("everywhere", "GPTBot")]
    assert stopped(rules + "Allow: /a$\n", "GPTBot") == [("in part", "GPTBot")]
    assert stopped("User-agent: GPTBot\nDisallow: /\nAllow: /\n", "GPTBot") == [("nowhere", "GPTBot")]


def test_counts_add_up_to_the_catalogue() -> None:
    found = report("User-agent: Bytespider\nUser-agent: Google-Extended\nUser-agent: AI2Bot\nDisallow: /\n")
    rows = found.by_category()
    assert sum(row[c] for row in rows.values() for c in ("everywhere", "in part", "nowhere", "no_token")) == len(CATALOGUE)
    assert rows["training"]["everywhere"] == 2
    assert rows["training"]["unheeding"] == 1
    assert {r.agent.name for r in found.reach if r.token_only and r.stopped == "everywhere"} == {"Google-Extended"}
    assert {r.agent.name for r in found.reach if r.odd_token and r.stopped == "everywhere"} == {"AI2Bot"}
    ai = {agent.category for agent in CATALOGUE if agent.ai}
    assert set(list(rows)[: len(ai)]) == ai


# ---- contradictions


def test_contradictions_both_ways() -> None:
    text = "User-agent: *\nDisallow: /admin/\n\nUser-agent: GPTBot\nUser-agent: ClaudeBot\nAllow: /\n"
    known = tuple(agent for agent in CATALOGUE if agent.name in ("GPTBot", "ClaudeBot", "CCBot", "Googlebot", "curl"))

    def policy(agent: Agent, path: str) -> bool | None:
        if agent.name == "ClaudeBot":
            return None
        return not agent.ai or path == "/free"

    found = lint(parse(text.encode()), known, policy, ["/free", "/robots.txt"]).conflicts
    assert found is not None
    told = {(c.allows, tuple(a.name for a in c.agents)): dict(c.places) for c in found}
    assert set(told) == {(True, ("GPTBot",)), (True, ("CCBot",)), (False, ("Googlebot",))}
    assert told[True, ("GPTBot",)]["/"] == 6
    assert told[True, ("CCBot",)]["/"] == 0
    assert told[False, ("Googlebot",)] == {"/admin/": 2, "/admin/x": 2}
    assert "/free" not in told[True, ("CCBot",)]
    assert report(text).conflicts is None


def test_a_file_that_says_what_the_policy_says_has_none() -> None:
    names = "".join(f"User-agent: {token}\n" for agent in CATALOGUE if agent.ai for token in agent.robots)
    found = lint(parse((names + "Disallow: /\n").encode()), CATALOGUE, lambda agent, path: not agent.ai).conflicts
    assert found == ()


# ---- the report


def test_json_and_text_hold_no_control_characters() -> None:
    raw = b"User-agent: \x1b[31mred\x07\nDisallow: /\x1b]0;x\x07\xff\nb\x1bd: x\nSitemap: \x9b1m\nCrawl-delay: \xe2\x80\xae9\n"
    found = lint(parse(raw), CATALOGUE, lambda agent, path: False, ["/\x1b"])
    told = json.dumps(found.as_dict(), ensure_ascii=False)
    text = click.unstyle(show(found, "a\x1bb"))
    assert told.isprintable()
    assert text.replace("\n", "").isprintable()
    assert "\\x1b[31mred\\x07" in text


def test_text_names_what_matters_and_is_not_endless() -> None:
    text = click.unstyle(show(report("User-agent: Bytespider\nDisallow: /\n" + "what: x\n" * (MOST + 5))))
    assert re.search(r"training +1 +- +\d+", text)
    assert "the guard must: Bytespider" in text
    assert "line 3: warning unknown-key" in text
    assert "... and 5 more" in text


HOSTILE = {
    "rules": b"User-agent: gptbot\n" + b"".join(b"Disallow: /*%d*b\n" % n for n in range(30_000)),
    "many agents": b"".join(b"User-agent: %s\n" % t.encode() for a in CATALOGUE for t in a.robots) + b"".join(b"Allow: /%d\n" % n for n in range(40_000)),
    "groups": b"User-agent: gptbot\nDisallow: /x\n" * 16_000,
    "misspelt": b"".join(b"User-agent: gtpbot%d\nkey%d: x\n" % (n, n) for n in range(15_000)),
    "signals": b"User-agent: *\n" + (b"Content-Signal: " + b"a=b," * 4_000 + b"\n") * 30,
    "noise": random.Random(7).randbytes(LIMIT),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_linted_in_seconds(kind: str) -> None:
    start = time.process_time()
    found = lint(parse(HOSTILE[kind]), CATALOGUE, lambda agent, path: True)
    assert found.as_dict()["size"] == len(HOSTILE[kind])
    show(found)
    assert time.process_time() - start < 10  # measured: under 1


@given(st.binary(max_size=200) | st.lists(st.sampled_from([line for text, _ in FAULTY[2:-1] for line in str(text).splitlines()])).map(
    lambda lines: "\n".join(lines).encode()
))  # fmt: skip
@settings(max_examples=150)
def test_no_file_breaks_the_lint(raw: bytes) -> None:
    few = CATALOGUE[:40]
    found = lint(parse(raw), few, lambda agent, path: None)
    show(found)
    json.dumps(found.as_dict())
    assert all(0 <= f.line <= len(found.file.lines) + 1 for f in found.findings)
