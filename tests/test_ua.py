"""User-Agent patterns: boundaries, every key of a pattern against a naive model, and who is the primary one of several agents."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard import identify
from crawlguard.catalogue import agents
from crawlguard.loader import parse_policy
from crawlguard.policy.compile import compile_policy
from crawlguard.signals.ua import AI_CATEGORIES, CATEGORIES, MAX_UA, Agent, Pattern, UserAgentIndex

WORD = "A-Za-z0-9_-"


def agent(name: str, *patterns: Pattern | str, category: str = "training") -> Agent:
    made = tuple(Pattern(token=p) if isinstance(p, str) else p for p in patterns)
    return Agent(name=name, operator="Somebody", category=category, user_agent=made)


def names(index: UserAgentIndex, ua: str | bytes) -> list[str]:
    found, _ = index.find(ua if isinstance(ua, bytes) else ua.encode("latin-1"))
    return [index.agents[n].name for n in found]


def holds(ua: str, token: str = "Bot", **keys: Any) -> bool:
    return names(UserAgentIndex([agent("it", Pattern(token=token, **keys))]), ua) == ["it"]


@pytest.mark.parametrize(
    ("ua", "keys", "expected"),
    [
        ("Bot", {}, True),
        ("a Bot/1.0", {}, True),
        ("(Bot; x)", {}, True),
        ("bOT", {}, True),
        ("MyBot", {}, False),
        ("Bots", {}, False),
        ("Bot1", {}, False),
        ("Bot-Image", {}, False),
        ("x_Bot", {}, False),
        ("Bot_x", {}, False),
        ("Bot.x", {}, True),
        ("Bots Bot", {}, True),
        ("B ot", {}, False),
        ("", {}, False),
        ("\xe4Bot\xe4", {}, True),
        ("bot", {"exact": True}, False),
        ("bot Bot", {"exact": True}, True),
        ("MyBot", {"open": "left"}, True),
        ("MyBots", {"open": "left"}, False),
        ("Bots", {"open": "right"}, True),
        ("MyBots", {"open": "right"}, False),
        ("MyBots", {"open": "both"}, True),
        ("Bot/1", {"at": "start"}, True),
        (" Bot/1", {"at": "start"}, False),
        ("Bots", {"at": "start"}, False),
        ("Bots", {"at": "start", "open": "right"}, True),
        ("bot", {"at": "whole"}, True),
        ("bot ", {"at": "whole"}, False),
        ("Bot/1", {"after": ("/",)}, True),
        ("Bot 1", {"after": ("/", " ")}, True),
        ("Bot", {"after": ("/",)}, False),
        ("Botx", {"after": ("x",)}, True),
        ("BOTX", {"after": ("x",)}, True),
        ("Bot", {"after": ("",)}, True),
        ("Bot (by Acme)", {"with_": ("acme",)}, True),
        ("Bot", {"with_": ("acme",)}, False),
        ("Bot acme", {"with_": ("acme", "corp")}, False),
        ("Bot Version/1", {"without": ("version/",)}, False),
        ("Bot", {"without": ("version/",)}, True),
    ],
)
def test_boundaries(ua: str, keys: dict[str, Any], expected: bool) -> None:
    assert holds(ua, **keys) is expected


def naive(pattern: Pattern, ua: str) -> list[int]:
    """Where the pattern holds, by a regular expression with look-around."""
    if any(w not in ua.lower() for w in pattern.with_) or any(w in ua.lower() for w in pattern.without):
        return []
    left = "" if pattern.open in ("left", "both") else f"(?<![{WORD}])"
    right = "" if pattern.open in ("right", "both") else f"(?![{WORD}])"
    if pattern.after:
        right = "(?i:(?=" + "|".join(map(re.escape, pattern.after)) + "))"
    token = re.escape(pattern.token) if pattern.exact else f"(?i:{re.escape(pattern.token)})"
    start, end = (r"\A" if pattern.at else ""), (r"\Z" if pattern.at == "whole" else "")
    return [m.start() for m in re.finditer(f"(?={start}{left}{token}{right}{end})", ua, re.ASCII)]


# Few characters, so that tokens are found, overlap and touch.
texts = st.text("abAB1_- /;", max_size=20)
tokens = st.text("abAB1- ", min_size=1, max_size=4)
lows = st.lists(st.text("ab1 /", min_size=1, max_size=2), max_size=2).map(tuple)
patterns = st.builds(
    Pattern,
    token=tokens,
    exact=st.booleans(),
    at=st.sampled_from(("", "", "", "start", "whole")),
    after=lows,
    open=st.sampled_from(("", "left", "right", "both")),
    with_=lows,
    without=lows,
)


@given(patterns, texts)
def test_every_pattern_holds_where_the_naive_model_says(pattern: Pattern, ua: str) -> None:
    assert names(UserAgentIndex([agent("it", pattern)]), ua) == (["it"] if naive(pattern, ua) else [])


@given(st.lists(st.lists(patterns, min_size=1, max_size=3), max_size=5), st.lists(tokens, max_size=4), texts)
def test_many_agents_and_literals_in_one_pass(agents: list[list[Pattern]], literals: list[str], ua: str) -> None:
    index = UserAgentIndex([agent(str(n), *found) for n, found in enumerate(agents)], [(w.lower(), 1 << n) for n, w in enumerate(literals)])
    found, bits = index.find(ua.encode())
    places = sorted((-len(p.token), at, n) for n, one in enumerate(agents) for p in one for at in naive(p, ua))
    assert found == tuple(dict.fromkeys(n for _, _, n in places))
    assert bits == sum({1 << n for n, w in enumerate(literals) if w.lower() in ua.lower()})


def test_the_longest_token_is_primary_and_then_the_leftmost() -> None:
    index = UserAgentIndex(
        [agent("Google", "Googlebot"), agent("Images", "Googlebot-Image"), agent("GPT", "GPTBot"), agent("CCB", "CCBotX")]
    )
    assert names(index, "Googlebot-Image/1.0") == ["Images"]
    assert names(index, "Googlebot Googlebot-Image") == ["Images", "Google"]
    assert names(index, "GPTBot CCBotX") == ["GPT", "CCB"]
    assert names(index, "CCBotX GPTBot") == ["CCB", "GPT"]


@pytest.mark.parametrize(("spaces", "counted"), [(1, True), (2, False)])
def test_only_the_first_bytes_count(spaces: int, counted: bool) -> None:
    ua = "x" * (MAX_UA - 7) + " " * spaces + "GPTBot; and more"
    policy, problems = parse_policy("{version: 1, rules: [{id: own, when: {user_agent: gptbot}, then: block}]}")
    assert policy is not None, problems
    facts = compile_policy(policy).user_agent(ua.encode())
    assert (facts.mask != 0) is counted
    assert (facts.agent is not None) is counted
    assert (identify(ua) is not None) is counted


def test_a_literal_stands_anywhere_whatever_surrounds_it() -> None:
    index = UserAgentIndex([], [("code", 8), ("python-", 16)])
    assert index.find(b"xCODEx python-requests")[1] == 24
    assert index.find(b"")[1] == 0


@pytest.mark.parametrize("literal", ["caf\xe9", "日本"])
def test_letters_beyond_ascii_are_found_in_utf_8_as_clients_send_it(literal: str) -> None:
    index = UserAgentIndex([agent("it", literal)], [(literal, 8)])
    assert index.find(f"Mozilla {literal} x".encode()) == ((0,), 8)


def test_no_agents_and_no_literals() -> None:
    assert UserAgentIndex([]).find(b"GPTBot") == ((), 0)
    assert UserAgentIndex([]).identify("GPTBot") is None


@given(st.binary(max_size=700))
def test_any_bytes_are_looked_at_without_complaint(raw: bytes) -> None:
    found, bits = UserAgentIndex([agent("it", Pattern(token="a", open="both"))], [("b", 8)]).find(raw)
    low = raw.lower()
    assert (found, bits) == ((0,) if b"a" in low else (), 8 if b"b" in low else 0)


@given(st.text(max_size=600))
def test_identify_takes_any_text(ua: str) -> None:
    found = UserAgentIndex([agent("it", Pattern(token="a", open="both"))]).identify(ua)
    assert (found is not None) == ("a" in ua[:MAX_UA].replace("A", "a"))


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_what_counts_as_ai(category: str) -> None:
    assert agent("it", "x", category=category).ai is (category in AI_CATEGORIES)


def test_every_pattern_of_the_catalogue_is_known_by_a_whole_word() -> None:
    """Else each User-Agent that nobody has sent before would cost a pass of the automaton."""
    loose = [pattern for found in agents() for pattern in found.user_agent if UserAgentIndex([agent("it", pattern)])._automaton]
    assert loose == []
    assert UserAgentIndex([agent("it", Pattern(token="loose", open="right"))])._automaton is not None


def test_a_word_repeated_is_looked_for_once() -> None:
    index = UserAgentIndex([agent("it", "googlebot")])
    assert index.find(b"googlebot/2 GOOGLEBOT googlebots 9googlebot") == ((0,), 0)
    assert index.find(b"x-googlebot-x googlebot_ agooglebot") == ((), 0)
