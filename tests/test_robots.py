"""The robots.txt that is written: its shape, what stands beside the rules, and what it says that it cannot say."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crawlguard.errors import ConfigError
from crawlguard.export.robots import robots_txt, sayable, will_of
from crawlguard.export.robotstxt import LIMIT, LINE_LIMIT
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Policy
from crawlguard.signals.ua import Agent

from .robots_oracles import READERS
from .robots_policies import HOST, STRANGER, Drawn, policies, tokens

Block = dict[str, Any]


def policy(*rules: Block, **top: Any) -> Policy:
    """A checked policy with these rules; blocks unless they say otherwise."""
    listed = [{"id": f"r{n}", "then": "block", **rule} for n, rule in enumerate(rules)]
    found, problems = parse_policy(json.dumps({"version": 1, **top, "rules": listed}))
    assert found is not None, problems
    return found


def said(*rules: Block, host: str | None = None, **top: Any) -> str:
    return robots_txt(policy(*rules, **top), host).text


def group(text: str, token: str) -> list[str]:
    """The lines that follow the User-agent lines of the group that names a token."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    lines = next(lines for lines in blocks if f"User-agent: {token}" in lines)
    return [line for line in lines if not line.startswith("User-agent: ")]


def notes(*rules: Block, **top: Any) -> str:
    return "\n".join(robots_txt(policy(*rules, **top)).notes)


def everyone(text: str, token: str, path: str) -> set[bool]:
    """What all readers take the file to say."""
    return {allowed for reader in READERS for row in reader.ask(text, [token], [path]) for allowed in row}


TRAINING = {"when": {"agent": {"category": ["training", "dataset"]}}}
AI = {"when": {"agent": {"ai": True}}}
PRIVATE = {"when": {"path": "/private/"}}

# ---- its shape


@given(policies)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_shape_holds_for_any_policy(drawn: Drawn) -> None:
    made = drawn.policy()
    text = robots_txt(made, HOST).text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert not set("\r\ufeff\0") & set(text)
    blocks = [block.split("\n") for block in text.removesuffix("\n").split("\n\n")]
    assert all(line.startswith("#") for line in blocks[0])
    assert not any(line.startswith("#") for block in blocks[1:] for line in block)
    named: list[str] = []
    for lines in blocks[1:]:
        keys = [line.partition(":")[0] for line in lines]
        if set(keys) <= {"Sitemap", "License"}:
            assert lines == blocks[-1]
            continue
        assert keys[0] == "User-agent"
        order = ["User-agent", "rule", "Crawl-delay", "Content-Signal", "Content-Usage"]
        kinds = ["rule" if key in ("Allow", "Disallow") else key for key in keys]
        assert kinds == sorted(kinds, key=order.index)
        assert "rule" in kinds
        assert all(kinds.count(key) <= 1 for key in order[2:])
        rules = [line.partition(": ")[2] for line in lines if line.startswith(("Allow", "Disallow"))]
        assert all(len(a) >= len(b) for a, b in pairwise(rules))
        named += [line.partition(": ")[2].lower() for line in lines if line.startswith("User-agent")]
    assert len(named) == len(set(named))
    assert named[-1] == "*"
    assert set(named) <= {"*", *tokens(), *(token.lower() for token, _ in made.robots.delays)}


def test_groups_are_by_verdict() -> None:
    text = said(TRAINING, {"when": {"agent": "Googlebot"}, "then": "allow"}, PRIVATE)
    assert group(text, "GPTBot") == ["Disallow: /"]
    assert group(text, "CCBot") == ["Disallow: /"]
    assert group(text, "Googlebot")[0] == "Allow: /"
    assert group(text, "*")[0] == "Disallow: /private/"
    assert "User-agent: bingbot" not in text  # told what everybody is told


def test_it_is_the_same_each_time() -> None:
    first, again = (policy(TRAINING, PRIVATE, {"when": {"path": ["/*.pdf$", "/a"], "agent": {"ai": True}}}) for _ in range(2))
    assert robots_txt(first) == robots_txt(again)


# ---- what the rules mean to it


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([{**PRIVATE, "then": "hide"}], ["Disallow: /private/"]),
        ([{**PRIVATE, "then": {"price": {"amount": "USD 1"}}}], ["Allow: /"]),  # whoever pays may come
        ([{**PRIVATE, "then": "throttle"}], ["Allow: /"]),
        ([{**PRIVATE, "then": "throttle"}, {"when": {"path": "/pri"}}], ["Allow: /private/", "Disallow: /pri"]),
        ([{**PRIVATE, "mode": "shadow"}], ["Allow: /"]),
        ([{**PRIVATE, "then": {"tag": "seen"}}], ["Allow: /"]),
        ([{**PRIVATE, "then": {"weigh": 5}}, {"when": {"score": 5}}], ["Disallow: /private/"]),
        ([{"when": {"path": "/", "method": "POST"}}], ["Allow: /"]),
        ([{"when": {"path": "/a", "method": ["GET", "POST"]}}], ["Disallow: /a"]),
        ([{"when": {"path": "/a", "rate": {"per": "ip", "requests": 9, "within": "1m"}}}], ["Allow: /"]),
        ([{"when": {"path": "/a", "ip": "203.0.113.0/24"}}], ["Allow: /"]),
        ([{"when": {"path": "/a", "header": {"name": "accept", "missing": True}}}], ["Allow: /"]),
        ([{"when": {"path": {"suffix": ".pdf"}}}], ["Disallow: /*.pdf$", "Disallow: /*.pdf?"]),
        ([{"when": {"path": {"is": "/a"}}}], ["Disallow: /a$", "Disallow: /a?"]),
        ([{"when": {"path": {"contains": "/x"}}}], ["Disallow: */x"]),
        ([{"when": {"path": {"prefix": "x"}}}], ["Allow: /"]),
        ([{"when": {"path": {"prefix": "/é #"}}}], ["Disallow: /%C3%A9%20%23"]),
    ],
)
def test_rules_become_lines(rules: list[Block], expected: list[str]) -> None:
    assert group(said(*rules, robots={"content_signal": "off"}), "*") == expected


def test_shadow_can_be_taken_for_what_it_would_do() -> None:
    shadow = policy(PRIVATE, mode="shadow")
    assert group(robots_txt(shadow).text, "*")[0] == "Allow: /"
    assert group(robots_txt(shadow, enforced=True).text, "*")[0] == "Disallow: /private/"


def test_a_rule_for_a_host_speaks_on_that_host() -> None:
    rule = {"when": {"host": "*.example", "path": "/a"}}
    assert group(said(rule, host="Site.Example"), "*")[0] == "Disallow: /a"
    assert group(said(rule, host="site.test"), "*")[0] == "Allow: /"
    assert group(said(rule), "*")[0] == "Allow: /"
    assert "it asks for the host" in notes(rule)


def test_an_agent_comes_from_its_own_addresses() -> None:
    """What its operator publishes is known of it; what others come from is not."""
    good = {"when": {"agent": "Googlebot", "network": {"tag": "search-engine"}}, "then": "allow"}
    text = said(good, {"when": {"path": "/"}})
    assert group(text, "Googlebot")[0] == "Allow: /"
    assert group(text, "*") == ["Disallow: /"]
    assert everyone(text, "Googlebot", "/a") == {True}
    assert everyone(text, "bingbot", "/a") == {False}


def test_who_is_not_known_is_counted_by_nobody() -> None:
    never = {"when": {"path": "/a", "not": {"rate": {"per": "agent", "requests": 9, "within": "1m"}}}}
    text = said(never)
    assert group(text, "*")[0] == "Allow: /"
    assert group(text, "GPTBot")[0] == "Disallow: /a"


# ---- what stands beside them


def test_pauses_signals_sitemaps_and_licence() -> None:
    settings = {
        "crawl_delay": {"*": 2, "bingbot": 7, "GPTBot": 9},
        "sitemap": ["https://site.example/a.xml", "https://site.example/b.xml"],
        "license": "https://site.example/license.xml",
        "content_usage": "auto",
    }
    text = said(TRAINING, robots=settings)
    signals = ["Content-Signal: search=yes,ai-input=yes,ai-train=no", "Content-Usage: train-ai=n, search=y"]
    assert group(text, "bingbot") == ["Allow: /", "Crawl-delay: 7", *signals]
    assert group(text, "GPTBot") == ["Disallow: /", "Crawl-delay: 9"]  # who may fetch nothing needs no word on what for
    assert group(text, "CCBot") == ["Disallow: /", "Crawl-delay: 2"]
    assert group(text, "*") == ["Allow: /", "Crawl-delay: 2", *signals]
    tail = ["Sitemap: https://site.example/a.xml", "Sitemap: https://site.example/b.xml", "License: https://site.example/license.xml"]
    assert text.split("\n\n")[-1].splitlines() == tail


@pytest.mark.parametrize("token", ["GPTBot/1.2", "GPTBot 2", "gptbot/x"])
def test_a_pause_opens_nothing(token: str) -> None:
    """Readers cut the token to one that is refused, and join both groups."""
    text = said(TRAINING, robots={"crawl_delay": {token: 3}})
    assert everyone(text, "GPTBot", "/a") == {False}
    assert everyone(text, STRANGER, "/a") == {True}


def test_signals_as_the_site_words_them() -> None:
    assert (
        group(said(PRIVATE, robots={"content_signal": {"ai-train": "no", "use": "reference"}}), "*")[1]
        == "Content-Signal: ai-train=no,use=reference"
    )
    assert len(group(said(PRIVATE, robots={"content_signal": "off"}), "*")) == 1
    some = {"when": {"agent": "GPTBot"}}  # some trainers may and some may not: no word on training
    assert group(said(some), "*")[1] == "Content-Signal: search=yes,ai-input=yes"


SMUGGLE = [
    "\nDisallow: /",
    "\r\nDisallow: /",
    "x\x85Disallow: /",
    "x\u2028Disallow: /",
    "x\x0bDisallow: /",
    "x\x1cUser-agent: *\x1cDisallow: /",
]


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]) | st.just("\n"), max_size=80))
@settings(max_examples=60, deadline=None)
@example("x\x85Disallow: /")
@example("x\u2028User-agent: *\u2029Disallow: /")
@example("\n\nUser-agent: *\nDisallow: /")
def test_a_comment_says_nothing_to_a_reader(comment: str) -> None:
    text = robots_txt(commented(comment)).text
    assert everyone(text, STRANGER, "/a") == {True}
    assert everyone(text, STRANGER, "/private/") == {False}
    assert all(line.startswith("#") for line in text.partition("\n\n")[0].splitlines())


def commented(comment: str) -> Policy:
    made = policy(PRIVATE)
    made.robots = made.robots._replace(comment=comment)
    return made


@pytest.mark.parametrize("name", SMUGGLE)
def test_a_file_name_says_nothing_to_a_reader(name: str) -> None:
    made = policy(PRIVATE)
    made.name = name
    assert everyone(robots_txt(made).text, STRANGER, "/a") == {True}


@pytest.mark.parametrize("token", ["*", "a*", "x\nDisallow: /", "x\r", "x # y", "x\x85y", "é", " x", "x ", ""])
def test_a_token_that_no_line_can_hold_is_left_out_and_told(token: str) -> None:
    made = policy({"when": {"agent": "GPTBot"}})
    made.agents = (*made.agents, Agent(name="Own", operator="We", category="training", robots=(token, "OwnBot")))
    export = robots_txt(made)
    assert not sayable(token)
    assert export.text == robots_txt(policy({"when": {"agent": "GPTBot"}})).text
    assert any(repr(token.lower()) in note for note in export.notes)


def test_every_token_of_the_catalogue_can_be_said() -> None:
    assert [token for token in tokens() if not sayable(token)] == []


def test_groups_that_a_reader_may_pass_over_come_first() -> None:
    """robotspy passes over these User-agent lines, and would give the rules below them to the group above."""
    text = said(
        {"when": {"agent": "360Spider"}},
        {"when": {"path": "/a"}},
        robots={"crawl_delay": {"GPTBot/2": 1, "Somebody else": 2, "bingbot": 3}},
    )
    names = [block.splitlines()[0].removeprefix("User-agent: ") for block in text.split("\n\n")[1:-1]]
    assert set(names[:2]) == {"360Spider", "Somebody else"}
    assert everyone(text, "bingbot", "/b") == {True}
    assert everyone(text, "GPTBot", "/b") == {True}
    assert everyone(text, "GPTBot", "/a") == {False}


# ---- its limits


def long_policy(count: int, length: int) -> Policy:
    return policy({"when": {"path": {"prefix": [f"/{n:04}" + "x" * length for n in range(count)]}}})


def test_a_file_that_crawlers_would_not_read_to_its_end_is_an_error() -> None:
    assert len(robots_txt(long_policy(60, 4000)).text.encode()) <= LIMIT
    with pytest.raises(ConfigError, match=r"robots\.txt would have 5\d\d,\d{3} bytes, and crawlers read 512,000"):
        robots_txt(long_policy(65, 4000))


def test_a_line_that_google_would_cut_is_an_error() -> None:
    path = "/" + "é" * 4000
    with pytest.raises(ConfigError, match=f"24,0.. bytes, and Google reads {LINE_LIMIT:,}"):
        said({"when": {"path": {"prefix": path}}})


# ---- what it cannot say


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ({"rate": {"per": "ip", "requests": 9, "within": "1m"}}, "it counts requests"),
        ({"ip": "203.0.113.0/24"}, "the client's address"),
        ({"network": {"tag": "cloud"}}, "the client's network"),
        ({"path": {"regex": "^/a+$"}}, "paths with a regex"),
        ({"header": {"name": "accept", "missing": True}}, "it reads a header"),
        ({"user_agent": "curl"}, "the User-Agent's text"),
        ({"host": "shop.example"}, "it asks for the host"),
    ],
)
def test_what_is_left_out_is_told(when: dict[str, Any], why: str) -> None:
    assert why in notes({"when": when})
    assert notes({"when": when, "then": "throttle"}) == ""
    assert notes({"when": when, "mode": "shadow"}) == ""


def test_tokens_that_readers_cut_are_told() -> None:
    assert "360spider" in notes({"when": {"agent": "360Spider"}})
    assert "'ai' all" in notes({"when": {"agent": "AI2Bot"}})
    assert notes({"when": {"agent": "GPTBot"}}) == ""


def test_a_path_without_words_is_told() -> None:
    only = {"when": {"path": {"is": "/%"}}}
    rules: list[Block] = [only, {"when": {"path": {"contains": "%"}}, "then": "allow"}, {"when": {"path": "/"}}]
    assert "the path /%: robots.txt has no words" in notes(*rules)


# ---- what others build on it


def test_will_finds_the_lines_of_any_token() -> None:
    will = will_of(policy(TRAINING, PRIVATE))
    assert [line.pattern for line in will.lines("gptBOT")] == ["/"]
    assert [line.pattern for line in will.lines("unheard-of")] == ["/private/"]
    assert will.groups[-1].tokens == ("*",)
