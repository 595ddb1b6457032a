"""The neighbours of robots.txt: each is read back by a reader of its own specification, and has to say what the rules say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jwm.robotstxt import googlebot

from crawlguard.catalogue import policy_names
from crawlguard.export import rsl as made
from crawlguard.export.documents import ai_txt, documents, doubts, response_headers, rsl_xml, tdmrep_json
from crawlguard.export.headers import USAGE_OF, Headers
from crawlguard.export.robots import SIGNALS_OF, Will, will_of
from crawlguard.export.verdicts import Verdicts, speakers
from crawlguard.loader import load_policy, parse_policy
from crawlguard.policy.model import Policy, Robots, Serve

LICENSE, TERMS = "https://site.example/license.xml", "https://site.example/mining.html"
ALL = Serve(True, True, True, True, True)
AGENTS = {"GPTBot": "training", "CCBot": "dataset", "OAI-SearchBot": "ai-search", "ChatGPT-User": "user-fetch", "Googlebot": "search-engine", "bingbot": "search-engine"}  # fmt: skip
PATTERNS = ("/a", "/a/b$", "/*.pdf$", "*/x/", "/a*b", "/open/", "/open/*.html$", "/ab$")
PATHS = sorted(
    {"/" + "/".join(parts) for n in (1, 2) for parts in product(("a", "b", "x", "open", "ab", "r.pdf", "i.html"), repeat=n)}
    | {"/a/b/r.pdf", "/open/x/i.html", "/a/x/b", "/ab/x/a", "/b/x/r.pdf", "/open/a/b", "/x/x/x"}
    | {"/", "/a/", "/x/", "/open/", "/é/r.pdf", "/$", "/a*b", "/%"}
)
ACTIONS: dict[str, Any] = {
    "allow": "allow",
    "block": "block",
    "hide": "hide",
    "cheap": {"price": {"amount": "USD 0.01"}},
    "dear": {"price": {"amount": "EUR 2"}},
    "unsaid": "price",
}
COST = {"allow": "", "cheap": "USD 0.01", "dear": "EUR 2", "unsaid": "?"}
FEW = tuple(agent for agent in load_policy().agents if agent.name in AGENTS)

Rule = tuple[tuple[str, ...], tuple[str, ...], str]
RULES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(sorted(AGENTS)), min_size=1, max_size=6, unique=True).map(tuple) | st.just(tuple(AGENTS)),
        st.lists(st.sampled_from(PATTERNS), max_size=2, unique=True).map(tuple),
        st.sampled_from(sorted(ACTIONS)),
    ),
    max_size=5,
)


def policy_of(rules: Sequence[Rule], **robots: object) -> Policy:
    """A policy with a few agents of the catalogue; rules as (agents, paths, action), no paths being all of them."""
    policy, problems = parse_policy('{"version": 1, "rules": []}', "p.json")
    assert policy is not None, problems
    policy.agents, policy.serve = FEW, ALL
    policy.rules = tuple(rule for n, written in enumerate(rules) for rule in read(n, written))
    said: dict[str, Any] = {"license": LICENSE, "tdm_policy": TERMS, "usage": "auto", **robots}
    policy.robots = Robots(**said)
    return policy


@cache
def read(number: int, rule: Rule) -> tuple[Any, ...]:
    """A rule as the loader reads it: alone, as together some would be refused for deciding nothing."""
    names, paths, action = rule
    when = {"agent": {"name": list(names)}} | ({"path": list(paths)} if paths else {})
    text = {"version": 1, "rules": [{"id": f"r{number}", "when": when, "then": ACTIONS[action]}]}
    policy, problems = parse_policy(json.dumps(text), "p.json")
    assert policy is not None, problems
    return policy.rules


def sayable(policy: Policy, will: Will) -> bool:
    """Whether patterns of which the longest wins can say it at all; where they cannot, somebody is told."""
    return not any("no words" in note for note in will.notes) and not any("no pattern" in doubt for doubt in doubts(policy, will))


def told(rules: Sequence[Rule], agent: str, path: str) -> str | None:
    """What the first rule that holds says: None to be refused, else what it costs."""
    for names, paths, action in rules:
        if agent in names and (not paths or any(matches(pattern, path) for pattern in paths)):
            return COST.get(action)
    return ""


def expected(rules: Sequence[Rule], use: str, path: str) -> set[str | None]:
    return {told(rules, agent, path) for agent, category in AGENTS.items() if category in SIGNALS_OF[use]}


# ---- readers, each by the words of its specification


def google(lines: str, path: str) -> bool:
    from urllib.parse import quote

    url = "http://site.example" + quote(path, safe="/$*")
    return bool(googlebot.RobotsMatcher().OneAgentAllowedByRobots("User-agent: *\n" + lines, "anybot", url))


@cache
def matches(pattern: str, path: str) -> bool:
    """Whether a path pattern matches, by Google's parser."""
    return not google(f"Disallow: {pattern}\n", path)


def first(rules: Sequence[tuple[str, bool]], path: str) -> bool | None:
    """TDMRep: "the most specific match is the first in sequence"."""
    return next((allow for pattern, allow in rules if matches(pattern, path)), None)


def longest(rules: Sequence[tuple[str, bool]], path: str) -> bool | None:
    """TDMRep as a reader takes it that goes by Google's rules all the way."""
    return google("".join(f"{'Allow' if allow else 'Disallow'}: {pattern}\n" for pattern, allow in rules), path)


Reader = Callable[[Sequence[tuple[str, bool]], str], bool | None]
READERS: tuple[Reader, ...] = (first, longest)


def tdm_rules(text: str) -> list[tuple[str, bool]]:
    rules = json.loads(text)
    assert rules
    for rule in rules:
        assert set(rule) <= {"location", "tdm-reservation", "tdm-policy"}
        assert rule["tdm-reservation"] in (0, 1)
        assert "tdm-policy" not in rule or (rule["tdm-reservation"] == 1 and rule["tdm-policy"] == TERMS)
    return [(rule["location"], rule["tdm-reservation"] == 0) for rule in rules]


def ai_rules(text: str) -> list[tuple[str, bool]]:
    lines = [line.split(": ") for line in text.splitlines() if not line.startswith("#")]
    assert lines[0] == ["User-Agent", "*"]
    assert {key for key, _ in lines[1:]} <= {"Allow", "Disallow"}
    return [(pattern, key == "Allow") for key, pattern in lines[1:]]


NS = f"{{{made.RSL}}}"
CHILDREN = {"rsl": {"content"}, "content": {"license", "terms"}, "license": {"permits", "prohibits", "payment"}, "payment": {"amount"}}
USAGE = {"search", "ai-train", "ai-input", "ai-index"}
Content = tuple[str, list[tuple[set[str], set[str], str]]]


def rsl_contents(text: str) -> list[Content]:
    """RSL 1.0 read back: for each content its URL and licenses as (permits, prohibits, price); asserts what the structure demands."""
    root = ET.fromstring(text)
    assert root.tag == NS + "rsl"
    assert int(root.attrib["max-age"]) > 0
    for element in root.iter():
        name = element.tag.removeprefix(NS)
        assert {child.tag.removeprefix(NS) for child in element} <= CHILDREN.get(name, set())
        assert element.text is None or element.text.isascii()
    found = []
    for content in root:
        assert content.attrib["url"][0] in "/*"
        licenses = []
        for item in content.findall(NS + "license"):
            words = {}
            for kind in ("permits", "prohibits"):
                elements = item.findall(NS + kind)
                assert len(elements) <= 1
                assert all(element.attrib == {"type": "usage"} for element in elements)
                words[kind] = {word for element in elements for word in (element.text or "").split(" ")}
                assert words[kind] <= USAGE
            assert words["permits"] or words["prohibits"]
            licenses.append((words["permits"], words["prohibits"], _price(item.find(NS + "payment"))))
        assert licenses
        found.append((content.attrib["url"], licenses))
    return found


def _price(payment: ET.Element | None) -> str:
    if payment is None:
        return ""  # "if omitted, the license is assumed to be free"
    assert payment.attrib == {"type": "crawl"}
    amount = payment.find(NS + "amount")
    return "?" if amount is None else f"{amount.attrib['currency']} {amount.text}"


def licensed(contents: Sequence[Content], path: str, word: str, *, adding: bool) -> str | None:
    """What a usage costs, None if it is not licensed. ``adding``: prohibitions of wider scopes hold in narrower ones too."""
    covering = sorted((content for content in contents if matches(content[0], path)), key=lambda content: len(content[0]))
    counted = covering if adding else covering[-1:]
    if any(word in prohibits for _, licenses in counted for _, prohibits, _ in licenses):
        return None
    offers = [price for permits, _, price in covering[-1][1] if word in permits or not permits]
    assert len(offers) <= 1
    return offers[0] if offers else None


def wanted_price(found: set[str | None], strict: bool) -> str | None:
    served = {price for price in found if price is not None}
    if not served or (strict and None in found):
        return None
    if served == {""} or ("" in served and not strict):
        return ""
    return (served - {""}).pop() if len(served - {""}) == 1 else "?"


# ---- all of them against rules


TRICKY: list[list[Rule]] = [
    [],
    [(tuple(AGENTS), (), "block")],
    [(("GPTBot",), (), "block")],
    [(("GPTBot", "CCBot"), ("/open/",), "allow"), (("GPTBot", "CCBot"), (), "block")],
    [(tuple(AGENTS), ("/open/",), "allow"), (tuple(AGENTS), (), "block")],
    [(("GPTBot", "CCBot"), ("/*.pdf$",), "cheap"), (("GPTBot", "CCBot"), ("/a",), "block"), (("GPTBot",), ("*/x/",), "dear")],
    [(("Googlebot",), ("/a*b",), "block"), (tuple(AGENTS), ("/ab$", "/open/*.html$"), "hide"), (("OAI-SearchBot",), (), "unsaid")],
]


def on_rules(test: Callable[[list[Rule]], None]) -> Callable[[], None]:
    """Run a test on random rules, and on those that are known to be awkward."""
    made_of = settings(max_examples=60, deadline=None)(given(RULES)(test))
    for rules in TRICKY:
        made_of = example(rules)(made_of)
    return made_of


@on_rules
def test_reservations_are_those_of_the_rules(rules: list[Rule]) -> None:
    policy = policy_of(rules)
    will = will_of(policy)
    assume(sayable(policy, will))
    reservations, wishes = tdm_rules(tdmrep_json(policy, will)), ai_rules(ai_txt(policy, will))
    for path in PATHS:
        free = None not in expected(rules, "ai-train", path)
        for reader in READERS:
            assert reader(reservations, path) is free, (path, reader)
            assert reader(wishes, path) is free, (path, reader)


@on_rules
def test_licenses_are_those_of_the_rules(rules: list[Rule]) -> None:
    policy = policy_of(rules)
    will = will_of(policy)
    assume(sayable(policy, will))
    contents = rsl_contents(rsl_xml(policy, will))
    assert len({url for url, _ in contents}) == len(contents)
    for path, (use, words) in product(PATHS, made.RSL_USES.items()):
        price = wanted_price(expected(rules, use, path), use == "ai-train")
        for word in words:
            assert licensed(contents, path, word, adding=False) == price, (path, word)
            # who adds up prohibitions may lose a permission, and never finds one that the rules do not give
            assert licensed(contents, path, word, adding=True) in (price, None), (path, word)


@on_rules
def test_headers_are_those_of_the_rules(rules: list[Rule]) -> None:
    policy = policy_of(rules)
    will = will_of(policy)
    assume(sayable(policy, will))
    headers = Headers(policy, will)
    for path in PATHS:
        found = dict(headers.for_path(path))
        served = {use: {price is not None for price in expected(rules, use, path)} for use in SIGNALS_OF}
        reserved, closed = False in served["ai-train"], served["ai-input"] == {False}
        usage = {label: "y" if True in served[use] else "n" for label, use in USAGE_OF if len(served[use]) == 1}
        assert found["tdm-reservation"] == str(int(reserved))
        assert found.get("tdm-policy") == (TERMS if reserved else None)
        assert found.get("Content-Usage", "") == ", ".join(f"{label}={value}" for label, value in usage.items())
        robots = ["noai", "noimageai", "noarchive"] if reserved and closed else ["noai", "noimageai"] if reserved else [""]
        assert found.get("X-Robots-Tag", "").split(", ") == robots
        assert found["Link"] == f'<{LICENSE}>; rel="license"; type="application/rsl+xml"'
        assert headers.for_path(path) == response_headers(policy, will, path)


def test_readers_that_add_up_prohibitions_lose_nothing_that_can_be_said() -> None:
    rules: list[Rule] = [(("GPTBot", "CCBot"), ("/open/",), "allow"), (("GPTBot", "CCBot"), (), "block")]
    policy = policy_of(rules)
    contents = rsl_contents(rsl_xml(policy, will_of(policy)))
    assert licensed(contents, "/open/a", "ai-train", adding=True) == ""
    assert licensed(contents, "/a", "ai-train", adding=True) is None
    assert licensed(contents, "/a", "search", adding=True) == ""


# ---- the policies that are bundled


@pytest.mark.parametrize("name", policy_names())
def test_bundled_policies(name: str) -> None:
    loaded = load_policy(f"builtin:{name}")
    policy = replace(loaded, robots=Robots(license=LICENSE, tdm_policy=TERMS, usage="auto"), serve=ALL)
    will, verdicts, who = will_of(policy), Verdicts(policy), speakers(policy)
    headers = Headers(policy, will)
    rules, contents = tdm_rules(tdmrep_json(policy, will)), rsl_contents(rsl_xml(policy, will))
    for path in ("/", "/about", "/a/b.pdf", "/deep/" * 9):
        said = {
            use: {
                verdicts.allowed(verdicts.key(who[token.lower()]), path)
                for agent in policy.agents
                if agent.category in kinds
                for token in agent.robots
            }
            for use, kinds in SIGNALS_OF.items()
        }
        free = False not in said["ai-train"]
        assert [reader(rules, path) for reader in READERS] == [free, free]
        assert dict(headers.for_path(path))["tdm-reservation"] == str(int(not free))
        assert (licensed(contents, path, "ai-train", adding=True) is not None) is free
        assert (licensed(contents, path, "search", adding=True) is not None) is (True in said["search"])
        assert (licensed(contents, path, "ai-input", adding=True) is not None) is (True in said["ai-input"])


def test_the_default_says_what_it_is_known_for() -> None:
    policy = replace(load_policy(), robots=Robots(license=LICENSE, usage="auto"), serve=ALL)
    assert response_headers(policy, will_of(policy), "/") == (
        ("Content-Usage", "train-ai=n, search=y"),
        ("X-Robots-Tag", "noai, noimageai"),
        ("tdm-reservation", "1"),
        ("Link", f'<{LICENSE}>; rel="license"; type="application/rsl+xml"'),
    )
    assert doubts(policy, will_of(policy)) == []


# ---- hostile values

NASTY = st.text(max_size=40) | st.sampled_from(
    ["https://a.example/\r\nSet-Cookie: a=b", "https://a.example/>; rel=x", 'https://a.example/"<', "\ud800", "\x00", "é\u2028", ""]
)


@settings(max_examples=200, deadline=None)
@given(NASTY, NASTY, st.lists(st.tuples(NASTY, NASTY), max_size=3).map(tuple), st.text(max_size=20))
def test_no_value_can_break_out(license_url: str, terms: str, usage: tuple[tuple[str, str], ...], path: str) -> None:
    policy = policy_of(TRICKY[3], license=license_url, tdm_policy=terms, usage=usage)
    will = will_of(policy)
    for name, value in (*response_headers(policy, will, path), *response_headers(policy, will, "/open/" + path)):
        assert name in {"Content-Usage", "X-Robots-Tag", "tdm-reservation", "tdm-policy", "Link"}
        assert value
        assert all(" " <= char <= "~" for char in value)
        if name == "Link":
            assert value.startswith("<")
            assert value.count("<") == value.count(">") == 1
            assert value.endswith('>; rel="license"; type="application/rsl+xml"')
    assert json.loads(tdmrep_json(policy, will))
    assert rsl_contents(rsl_xml(policy, will))
    assert all(isinstance(doubt, str) for doubt in doubts(policy, will, "site.example"))
    for path_, (kind, body) in documents(replace(policy, serve=Serve(rsl=True)), will, "site.example").items():
        assert path_.startswith("/")
        assert kind == "application/rsl+xml"
        assert body.isascii()


@settings(max_examples=50, deadline=None)
@given(st.text("<>&\"'\r\n\x00é $*/a", max_size=8))
def test_any_path_can_be_written(literal: str) -> None:
    rules: list[Rule] = [(("GPTBot",), ("/" + literal.replace("$", "").replace("*", "").replace("\r", ""),), "block")]
    try:
        policy = policy_of(rules)
    except AssertionError:
        return  # a policy that cannot be loaded
    will = will_of(policy)
    assert tdm_rules(tdmrep_json(policy, will))
    assert rsl_contents(rsl_xml(policy, will))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawlguard.export.headers.MOST_KNOWN", 2)
    policy = policy_of([((agent,), (pattern,), "block") for agent, pattern in zip(AGENTS, PATTERNS, strict=False)])
    will = will_of(policy)
    headers = Headers(policy, will)
    assert {headers.for_path(path) == response_headers(policy, will, path) for path in PATHS} == {True}
    assert len(headers._known) == 2


# ---- what is served


def test_documents_by_path() -> None:
    policy = policy_of(TRICKY[3])
    will = will_of(policy)
    found = documents(policy, will)
    assert {path: kind for path, (kind, _) in found.items()} == {
        "/robots.txt": "text/plain; charset=utf-8",
        "/.well-known/tdmrep.json": "application/json",
        "/license.xml": "application/rsl+xml",
        "/ai.txt": "text/plain; charset=utf-8",
    }
    assert found["/license.xml"][1].decode() == rsl_xml(policy, will)
    assert b"License: " + LICENSE.encode() in found["/robots.txt"][1]
    assert documents(replace(policy, serve=Serve()), will) == {}
    assert list(documents(replace(policy, serve=Serve(tdmrep=True)), will)) == ["/.well-known/tdmrep.json"]


@pytest.mark.parametrize(
    ("license_url", "host", "path"),
    [
        (None, None, "/license.xml"),
        ("https://site.example/legal/rsl%20one.xml?v=1", None, "/legal/rsl one.xml"),
        ("https://SITE.example:8443/l.xml", "Site.example", "/l.xml"),
        ("https://other.example/l.xml", "site.example", None),
        ("https://site.example", None, None),
        ("https://site.example/", None, None),
        ("https://site.example/robots.txt", None, None),
        ("https://[site.example/l.xml", None, None),
    ],
)
def test_where_the_license_lies(license_url: str | None, host: str | None, path: str | None) -> None:
    policy = replace(policy_of(TRICKY[3], license=license_url), serve=Serve(rsl=True))
    will = will_of(policy, host)
    assert list(documents(policy, will, host)) == ([path] if path else [])
    assert any("rsl is not served" in doubt for doubt in doubts(policy, will, host)) is (path is None)


def said(rules: list[Rule], serve: Serve, **robots: object) -> str:
    policy = replace(policy_of(rules, **robots), serve=serve)
    return "\n".join(doubts(policy, will_of(policy, "site.example"), "site.example"))


CLOSED: list[Rule] = [(("GPTBot", "CCBot"), (), "block")]


@pytest.mark.parametrize(
    ("words", "rules", "changed"),
    [
        ("nothing points there", CLOSED, {"license": None}),
        ("https alone", CLOSED, {"license": "http://site.example/license.xml"}),
        ("content_signal says ai-train=yes", CLOSED, {"signals": (("ai-train", "yes"), ("use", "full"))}),
        ("content_usage says train-ai=y", CLOSED, {"usage": (("train-ai", "y"),)}),
        ("content_usage says search=y", [(("Googlebot", "bingbot"), ("/a",), "block"), *CLOSED], {"usage": (("search", "y"),)}),
        ("free of charge at /open/", [(("GPTBot", "CCBot"), ("/open/",), "allow"), *CLOSED], {}),
        ("serve some agents that train and refuse others", [(("GPTBot",), (), "block")], {}),
        ("tdm_policy is said nowhere", [(("GPTBot", "CCBot"), (), "cheap")], {}),
        (
            "no pattern says what the rules say at /ab",
            [(("CCBot",), ("/a*b",), "allow"), (("GPTBot",), ("/ab$",), "block"), (("CCBot",), (), "block")],
            {},
        ),
        ("tdm-reservation is 0", [(("GPTBot", "CCBot"), (), "cheap")], {}),
    ],
)
def test_doubts(words: str, rules: list[Rule], changed: dict[str, object]) -> None:
    assert words in said(rules, ALL, **changed)
    assert said(CLOSED, ALL) == ""


def test_no_doubt_about_what_agrees() -> None:
    assert said(CLOSED, ALL, signals=(("ai-train", "no"), ("search", "yes"))) == ""
    assert said([(("Googlebot",), (), "block"), *CLOSED], ALL, signals=(("search", "yes"),)) == ""  # bingbot is served
    assert said([], Serve(robots=True), tdm_policy=None) == ""
    assert said([], Serve(), tdm_policy=None, license=None) == ""
