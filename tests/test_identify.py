"""The catalogue's entries, and the public look-up: what a string is found as, and how it is looked at. (Corpora: test_catalogue_corpora.)"""

from __future__ import annotations

import re
from collections import Counter
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard import identify
from crawlguard.catalogue import agents
from crawlguard.signals.ua import AI_CATEGORIES, CATEGORIES

from .ua_corpora import AGENTS, BY_NAME, SAMPLES, found


def name_of(user_agent: str) -> str | None:
    """By the public look-up, which reads the compiled catalogue."""
    agent = identify(user_agent)
    return agent.name if agent else None


# ---- the entries themselves


def test_every_name_stands_once() -> None:
    assert [n for n, count in Counter(a.name.lower() for a in AGENTS).items() if count > 1] == []


def test_the_catalogue_is_as_large_as_it_has_to_be() -> None:
    counts = Counter(a.category for a in AGENTS)
    assert sum(a.ai for a in AGENTS) >= 230
    assert set(counts) == CATEGORIES  # every category has somebody in it
    assert all(counts[c] >= 3 for c in AI_CATEGORIES)
    for good in ("search-engine", "feed-reader", "podcast", "monitor", "link-preview", "webhook", "tool"):
        assert counts[good] >= 30
    assert counts["archive"] >= 10


def test_every_entry_says_where_it_comes_from() -> None:
    for agent in AGENTS:
        assert agent.does.strip().endswith("."), agent.name
        assert urlsplit(agent.source).scheme in ("https", "http"), agent.name
        assert urlsplit(agent.source).hostname, agent.name
        assert re.fullmatch(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]", agent.date), agent.name
        for url in (*agent.ranges, *filter(None, (agent.docs, agent.web_bot_auth))):
            assert urlsplit(url).scheme in ("http", "https"), (agent.name, url)
        for suffix in agent.fcrdns:
            assert re.fullmatch(r"(\.[a-z0-9-]+)+", suffix), (agent.name, suffix)


def test_an_agent_that_shows_in_user_agents_has_samples_and_near_misses() -> None:
    shown = [a for a in AGENTS if a.user_agent]
    assert [a.name for a in shown if not a.samples] == []
    assert [a.name for a in shown if not a.near_misses] == []
    assert [a.name for a in AGENTS if a.samples and not a.user_agent] == []
    assert [a.name for a in AGENTS if not a.user_agent and not a.robots and not a.web_bot_auth and not a.docs] == []


def test_robots_tokens_are_product_tokens() -> None:
    # RFC 9309 2.2.1 allows letters, "_" and "-" alone; operators publish digits, dots and spaces too. A token must at least be
    # able to stand in a robots.txt line by itself, without being another line, a comment or a pattern.
    for agent in AGENTS:
        for token in agent.robots:
            assert re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9_.!/ -]*[A-Za-z0-9!])?", token), (agent.name, token)
            assert len(token) <= 60, (agent.name, token)


def test_no_robots_token_of_two_agents_means_two_different_things() -> None:
    owners: dict[str, set[str]] = {}
    for agent in AGENTS:
        for token in agent.robots:
            owners.setdefault(token.lower(), set()).add(agent.operator)
    assert {t: o for t, o in owners.items() if len(o) > 1} == {}


def test_tokens_that_are_no_user_agent_find_nobody() -> None:
    for token in ("Google-Extended", "Applebot-Extended"):
        (owner,) = [a for a in AGENTS if token in a.robots]
        assert owner.user_agent == ()
        assert name_of(f"Mozilla/5.0 (compatible; {token}/1.0)") is None


def test_the_public_look_up_is_that_of_the_compiled_catalogue() -> None:
    assert [(name, name_of(s)) for name, s in SAMPLES if name_of(s) != name] == []


def test_the_compiled_catalogue_says_what_the_files_say() -> None:
    compiled = agents()
    assert len(compiled) == len(AGENTS)
    for one, whole in zip(compiled, AGENTS, strict=True):
        for field in (
            "name",
            "operator",
            "category",
            "does",
            "user_agent",
            "robots",
            "honours_robots",
            "docs",
            "ranges",
            "fcrdns",
            "web_bot_auth",
        ):
            assert getattr(one, field) == getattr(whole, field), (whole.name, field)


# ---- how a string is looked at


@pytest.mark.parametrize("change", [str.upper, str.lower, str.swapcase])
def test_case_makes_no_difference_unless_an_agent_says_so(change: object) -> None:
    assert callable(change)
    exact = {a.name for a in AGENTS if any(p.exact for p in a.user_agent)}
    wrong = [(name, name_of(change(s)), s) for name, s in SAMPLES if name not in exact and s.isascii() and name_of(change(s)) != name]
    assert wrong == []


@pytest.mark.parametrize(("before", "found_there"), [(0, True), (506, True), (507, False), (512, False), (100_000, False)])
def test_only_the_first_512_bytes_count(before: int, found_there: bool) -> None:
    assert name_of(" " * before + "GPTBot") == ("GPTBot" if found_there else None)


def test_a_token_that_the_cut_ends_is_not_taken_for_a_shorter_one() -> None:
    # The cut must not make "Googlebot" of a word that goes on: a person's phone could end there.
    for tail in ("Extended", "-Image/1.0", "X"):
        assert name_of(" " * (512 - 9) + "Googlebot" + tail) in (None, "Googlebot")


HOSTILE = [
    "",
    " ",
    "\0",
    "GPTBot\0",
    "\r\nGPTBot",
    "GPT\u200bBot",
    "\uff27\uff30\uff34Bot",
    "\ud800GPTBot",
    "🤖GPTBot🤖",
    "GPTBot" * 100,
    "(" * 600,
    "%GPTBot%",
    "G" * 512,
]


@pytest.mark.parametrize("user_agent", HOSTILE)
def test_hostile_strings_have_an_answer(user_agent: str) -> None:
    agent = identify(user_agent)
    assert agent is None or agent.name == "GPTBot"


def test_a_word_boundary_is_what_tells_a_token_from_a_word() -> None:
    assert [name_of(ua) for ua in ("GPTBot", "x GPTBot/9", "(GPTBot)", "+GPTBot;", "é GPTBot", "\0GPTBot")] == ["GPTBot"] * 6
    assert [name_of(ua) for ua in ("GPTBots", "xGPTBot", "GPTBot_", "-GPTBot", "SGPTBot2", "GPT Bot")] == [None] * 6


@given(st.text(max_size=700))
def test_no_text_raises(user_agent: str) -> None:
    identify(user_agent)


@given(st.sampled_from(SAMPLES), st.text(st.characters(max_codepoint=0x7F), max_size=20))
def test_what_follows_a_sample_hides_no_ai(sample: tuple[str, str], tail: str) -> None:
    name, user_agent = sample
    agent = BY_NAME[name]
    if agent.ai and len(user_agent) < 480 and not any(p.at == "whole" or p.without or p.after for p in agent.user_agent):
        assert agent in found(f"{user_agent} {tail}")


def test_the_facts_of_the_public_look_up() -> None:
    agent = identify("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.4; +https://openai.com/gptbot)")
    assert agent is not None
    assert (agent.name, agent.category, agent.operator, agent.ai) == ("GPTBot", "training", "OpenAI", True)
    google = identify("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")
    assert google is not None
    assert (google.name, google.category, google.ai) == ("Googlebot", "search-engine", False)
    assert identify("Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0") is None
