"""The bar for robots.txt: what five readers of others take it to say is what the compiled policy does, for every token of the catalogue.

Where readers differ so that no file can please them all, the difference stands in a table here, with its smallest example.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from crawlguard.export.paths import decide
from crawlguard.export.robots import robots_txt, will_of
from crawlguard.request import tidy

from .robots_oracles import READERS, Reader, cut
from .robots_policies import HOST, STRANGER, Drawn, meant, policies, policy_of, urls_for

Row = tuple[bool, ...]

DOUBTS = ("no words", "too many paths")
"""In the notes of a policy that robots.txt cannot say in full."""


def spoken_to(reader: Reader, rows: Mapping[str, Row]) -> dict[str, Row]:
    """The tokens that a reader can tell apart, with what it has to find for each.

    Readers of RFC 9309's product tokens cannot tell those apart that begin alike before a digit, a blank or a dot; what such
    a reader cannot begin to read is anybody to it, for robotspy also a line with an "s" or "]" behind those letters.
    """
    if not reader.cuts:
        return dict(rows)
    unread = "[^A-Za-z_-]" if reader.name != "robotspy" else r"[^A-Za-z_-]|[A-Za-z_-]*[^A-Za-z_-].*[]s]"
    alike: dict[str, set[Row]] = {}
    for token, row in rows.items():
        alike.setdefault(cut(token), set()).add(row)
    read = {cut(token) for token in rows if not re.match(unread, token)}
    return {token: row if cut(token) in read else rows[STRANGER] for token, row in rows.items() if len(alike[cut(token)]) == 1}


def readable(reader: Reader, url: str) -> bool:
    """To robotspy and Protego a pattern's final "$" is a dollar in the path too, and a path that routers tidy up each reader takes in its own way. See DIFFERENCES."""
    path = unquote(url.partition("?")[0])
    return tidy(path) == path and not ("$" in url and reader.name in ("protego", "robotspy"))


def asked(reader: Reader, rows: Mapping[str, Row], urls: Sequence[str], rnd: random.Random) -> list[tuple[list[str], list[str]]]:
    """Tokens and URLs: all by all; where a question is dear, a few tokens of each verdict by all, and all by the one that tells most."""
    if not reader.slow:
        return [(list(rows), list(urls))]
    alike: dict[Row, list[str]] = {}
    for token, row in rows.items():
        alike.setdefault(row, []).append(token)
    telling = sorted(range(len(urls)), key=lambda n: -len({(row[n], row == rows[STRANGER]) for row in alike}))[:1]
    return [
        ([t for tokens in alike.values() for t in rnd.sample(tokens, min(3, len(tokens)))], list(urls)),
        (list(rows), [urls[n] for n in telling]),
    ]


@pytest.mark.parametrize("quarter", range(4))  # so that several processes take part
@given(policies, st.integers(0, 1 << 30))
@settings(max_examples=50, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_every_reader_finds_in_robots_txt_what_the_policy_means(quarter: int, drawn: Drawn, seed: int) -> None:
    policy = drawn.policy()
    urls = urls_for(policy, seed)
    rows = meant(policy, urls)
    export = robots_txt(policy, HOST)
    doubtful = any(word in note for note in export.notes for word in DOUBTS)
    event(f"{min(4, len(set(rows.values())))} different verdicts or more{', in doubt' if doubtful else ''}")
    will = will_of(policy, HOST) if doubtful else None
    wrong = []
    for reader in READERS:
        expected = spoken_to(reader, rows)
        for tokens, paths in asked(reader, expected, urls, random.Random(seed)):
            at = [urls.index(url) for url in paths]
            for token, said in zip(tokens, reader.ask(export.text, tokens, paths), strict=True):
                row = expected[token]
                for url, number, allowed in zip(paths, at, said, strict=True):
                    want = row[number]
                    if allowed == want:
                        continue
                    known = will and decide(will.lines(token), unquote(url.partition("?")[0])) != want
                    if readable(reader, url) and not known:
                        wrong.append((reader.name, token, url, want))
    assert not wrong, (wrong[:5], export.text)


# ---- what cannot be bridged

ALL = {"google", "fork", "protego", "robotspy", "robots-parser"}
GOOGLES = {"google", "fork"}
CUT = GOOGLES | {"robotspy"}


def named(name: str) -> list[dict[str, Any]]:
    return [{"when": {"agent": name}, "then": "block"}]


def at(**path: str) -> list[dict[str, Any]]:
    return [{"when": {"path": path}, "then": "block"}]


CLOSED: list[dict[str, Any]] = [{"when": {"path": "/"}, "then": "block"}]
INDEX = [{"when": {"path": "/d/index.html"}, "then": "allow"}, *CLOSED]
SHORT = [*at(**{"is": "/%"}), {"when": {"path": {"contains": "%"}}, "then": "allow"}, *CLOSED]
# (what differs, rules, token, URL, what the policy says, who reads something else)
DIFFERENCES: list[tuple[str, list[dict[str, Any]], str, str, bool, set[str]]] = [
    ("a token with a digit, blank or dot is cut there, here to nothing", named("360Spider"), "360Spider", "/", False, CUT),
    ("... or to what another is cut to, and the stricter of the two counts for both", named("AI2Bot"), "Ai2Bot-Dolma", "/", True, CUT),
    ("... but not less strict", named("AI2Bot"), "AI2Bot", "/", False, set()),
    ("... or is not read at all", named("Screaming Frog SEO Spider"), "Screaming Frog SEO Spider", "/", False, {"robotspy"}),
    ("a token speaks to all whose name begins with it", named("GPTBot"), "GPTBot-Next", "/", True, {"protego"}),
    ("the site's documents need no permission", CLOSED, STRANGER, "/license.xml", True, ALL),
    ("... robots.txt itself", CLOSED, STRANGER, "/robots.txt", True, ALL - {"protego"}),
    ("a wildcard reaches into the query", at(contains="secret"), STRANGER, "/a?x=secret", True, ALL),
    ("an allowed index page allows its directory", INDEX, STRANGER, "/d/", False, GOOGLES | {"protego"}),
    ("no pattern for one path outweighs a wildcard of its length", SHORT, STRANGER, "/%25", False, ALL),
    ("an escaped letter is not that letter", at(prefix="/a"), STRANGER, "/%61", False, {"google", "robots-parser"}),
    ("an escape in lower case is another", at(prefix="/é"), STRANGER, "/%c3%a9", False, {"google"}),
    ("an escaped slash is no slash", at(prefix="/a/b"), STRANGER, "/a%2Fb", False, {"google", "protego", "robots-parser"}),
    ("a star is not %2A", at(contains="a*"), STRANGER, "/a*b", False, {"google", "robots-parser"}),
    ("%2A is a wildcard", at(prefix="/a*b"), STRANGER, "/axb", True, {"robotspy"}),
    ("a dollar is not %24", at(contains="a$"), STRANGER, "/a%24b", False, {"google", "robots-parser"}),
    ("... it is written as clients send it", at(contains="a$"), STRANGER, "/a$b", False, set()),
    ("a final $ is a dollar too", at(**{"is": "/a"}), STRANGER, "/a$b", True, {"protego", "robotspy"}),
    ("%3F begins a query", at(**{"is": "/a"}), STRANGER, "/a%3Fb", True, {"fork", "protego", "robotspy"}),
    ("? stands for any character before a final $", at(suffix="a?"), STRANGER, "/aab", True, {"robotspy"}),
    ("brackets stand for one of what is inside", at(contains="[x]"), STRANGER, "/ax", True, {"robotspy"}),
    ("slashes are not merged", at(prefix="/a/b"), STRANGER, "/a//b", False, ALL - {"robotspy"}),
    ("dots are not resolved", at(prefix="/a/"), STRANGER, "/a/../b", True, ALL - {"fork", "robots-parser"}),
    ("octets that are not UTF-8", [{"when": {"path": "/%FF"}, "then": "block"}], STRANGER, "/%FF", False,
     GOOGLES | {"robots-parser"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "rules", "token", "url", "allowed", "others"), DIFFERENCES, ids=[d[0] for d in DIFFERENCES])
def test_the_differences_are_exactly_these(
    what: str, rules: list[dict[str, Any]], token: str, url: str, allowed: bool, others: set[str]
) -> None:
    policy = policy_of(rules)
    rows = meant(policy, [url])
    assert rows.get(token.lower(), rows[STRANGER]) == (allowed,)
    text = robots_txt(policy, HOST).text
    assert {r.name for r in READERS if r.ask(text, [token], [url]) != [[allowed]]} == others
