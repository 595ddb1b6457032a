"""The catalogue held against every corpus: who is named in each, who must not be, and that no entry stands in another's way.

The numbers are what the catalogue reaches today, less a string or two: a change that loses more says so here. What each file
holds, and where it comes from, is in SOURCES.md beside the corpora.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from crawlguard.signals.ua import AI_CATEGORIES, Agent, Pattern

from .conftest import SHARED
from .ua_corpora import AGENTS, BY_NAME, HARMLESS, NEAR_MISSES, PEOPLE, SAMPLES, corpus, found, name_of


def is_ai(user_agent: str) -> bool:
    return any(agent.ai for agent in found(user_agent))


def share(user_agents: tuple[str, ...] | list[str], holds: Callable[[str], bool]) -> tuple[float, list[str]]:
    """How many of the strings, as a share of 1, and the others."""
    wrong = [ua for ua in user_agents if not holds(ua)]
    return 1 - len(wrong) / len(user_agents), wrong


# ---- samples and near misses


def test_every_sample_is_found_as_its_agent() -> None:
    assert len(SAMPLES) >= 1500
    assert [(name, name_of(s), s) for name, s in SAMPLES if name_of(s) != name] == []


def test_no_near_miss_is_found_as_its_agent() -> None:
    assert [(name, s) for name, s in NEAR_MISSES if BY_NAME[name] in found(s)] == []


def test_no_sample_of_a_harmless_agent_names_an_ai_too() -> None:
    # All agents in a string count for a policy's rules, so a search engine whose string also named a crawler would be refused.
    assert [(name, s) for name, s in SAMPLES if not BY_NAME[name].ai and is_ai(s)] == []


VARIANTS: dict[str, Callable[[str], str]] = {
    "another version": lambda s: re.sub(r"/v?[0-9][0-9.]*", "/97.31", s),
    "http for https": lambda s: s.replace("https://", "http://"),
    "https for http": lambda s: s.replace("http://", "https://"),
    "no plus": lambda s: s.replace("+http", "http"),
    "something before": lambda s: f"Mozilla/5.0 {s}",
    "something after": lambda s: f"{s} Safari/537.36",
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_ai_is_found_in_strings_that_differ_from_its_samples(variant: str) -> None:
    whole = {a.name for a in AGENTS if any(p.at for p in a.user_agent)}  # what stands at an end is not meant to move
    change = VARIANTS[variant]
    movable = [(name, s) for name, s in SAMPLES if BY_NAME[name].ai and not ("something" in variant and name in whole)]
    lost = [(name, change(s)) for name, s in movable if BY_NAME[name] not in found(change(s))]
    assert lost == [] or (variant == "another version" and {name for name, _ in lost} == {"Cline"}), lost  # its string has no name in it


# ---- patterns against each other


def plainest(pattern: Pattern) -> str:
    """The shortest string that a pattern is meant for."""
    tail = pattern.after[0] if pattern.after else ""
    return pattern.token + tail + "".join(f" {w}" for w in pattern.with_ if w not in (pattern.token + tail).lower())


def test_every_pattern_can_be_the_primary_one() -> None:
    # Where two agents stand in a string the longer token is the primary one. In a pattern's plainest string that is its own.
    assert [(a.name, name_of(plainest(p)), plainest(p)) for a in AGENTS for p in a.user_agent if name_of(plainest(p)) != a.name] == []


def test_no_pattern_stands_twice() -> None:
    patterns = Counter((a.name, p) for a in AGENTS for p in a.user_agent)
    assert [k for k, n in patterns.items() if n > 1] == []
    owners: dict[Pattern, set[str]] = {}
    for agent in AGENTS:
        for pattern in agent.user_agent:
            owners.setdefault(pattern, set()).add(agent.name)
    assert {p.token: names for p, names in owners.items() if len(names) > 1} == {}


# ---- people


@pytest.mark.parametrize("name", PEOPLE)
def test_no_person_is_taken_for_an_ai(name: str) -> None:
    assert len(corpus(name)) >= 20
    assert [(a.name, ua) for ua in corpus(name) for a in found(ua) if a.ai] == []


PROGRAMS = {
    "ua_browsers.txt": {"PodcastRepublic", "WordPress"},  # three strings in it are no browser's
    "ua_browsers_legacy.txt": set(),
    "ua_apps.txt": {"Banshee", "DoggCatcher", "Microsoft Office", "Pocket Casts", "Podkicker", "Power Query"},
    "ua_traps.tsv": {"Overcast"},
}
"""The programs of people that have a name in the catalogue: podcast apps, office programs, a blog. Nothing else matches anybody."""


@pytest.mark.parametrize("name", PEOPLE)
def test_no_pattern_hits_a_person_but_those_of_peoples_own_programs(name: str) -> None:
    hits = {agent.name for ua in corpus(name) for agent in found(ua)}
    assert hits == PROGRAMS[name]
    assert {BY_NAME[n].category for n in hits} <= {"podcast", "tool"}


# ---- machines

NAMED = [
    ("ua_ai.txt", 0.985, AI_CATEGORIES, 0.985),
    ("ua_search_engines.txt", 0.99, {"search-engine"}, 0.86),
    ("ua_feedreaders.txt", 0.955, {"feed-reader", "podcast"}, 0.915),
    ("ua_archives.txt", 0.98, {"archive"}, 0.96),
    ("ua_http_libraries.txt", 0.98, {"tool", "scraper-library"}, 0.955),
    ("ua_tools_legit.txt", 0.98, {"monitor", "tool", "link-preview", "seo", "security-scanner", "feed-reader", "webhook"}, 0.96),
    ("ua_ai_contested.txt", 0.98, AI_CATEGORIES | {"scraper-library", "search-engine", "link-preview", "ads"}, 0.95),
]
"""File, least share of strings that name anybody, the kinds that the file is about, least share of strings of those kinds."""


@pytest.mark.parametrize(("name", "least_named", "kinds", "least_right"), NAMED, ids=[row[0] for row in NAMED])
def test_machines_are_named_and_are_what_the_corpus_says(name: str, least_named: float, kinds: set[str], least_right: float) -> None:
    named, strangers = share(corpus(name), lambda ua: bool(found(ua)))
    assert named >= least_named, strangers
    right, others = share(corpus(name), lambda ua: bool(found(ua)) and found(ua)[0].category in kinds)
    assert right >= least_right, Counter(found(ua)[0].category for ua in others if found(ua))


ENGINES = {
    r"googlebot/|googlebot-mobile": "Googlebot",
    r"bingbot/": "bingbot",
    r"yandexbot/": "YandexBot",
    r"baiduspider/": "Baiduspider",
    r"duckduckbot": "DuckDuckBot",
    r"applebot/": "Applebot",
    r"yacybot": "YaCy",
    r"seznambot": "SeznamBot",
    r"qwant": "Qwantbot",
    r"mojeekbot": "MojeekBot",
    r"sogou (web|news|pic)": "Sogou web spider",
    r"yeti/|naverbot": "Yeti",
    r"slurp": "Yahoo! Slurp",
    r"petalbot": "PetalBot",
    r"mail\.ru_bot": "Mail.RU_Bot",
    r"coccocbot-(web|image)": "coccocbot",
}
"""What stands in the strings of search engines, and whom the catalogue must see there."""


def test_search_engines_are_named_as_themselves() -> None:
    seen = [(ua, engine) for ua in corpus("ua_search_engines.txt") for word, engine in ENGINES.items() if re.search(word, ua.lower())]
    assert {engine for _, engine in seen} == set(ENGINES.values())
    # Some call themselves "like Googlebot", or name an engine whose string they borrow.
    others = [(ua, engine, name_of(ua)) for ua, engine in seen if name_of(ua) != engine]
    assert len(others) <= 0.1 * len(seen), others
    assert {BY_NAME[name].category for _, _, name in others if name} <= {
        "ads",
        "feed-reader",
        "scraper-library",
        "search-engine",
        "seo",
        "tool",
    }


@pytest.mark.parametrize("name", [*HARMLESS, "ua_http_libraries.txt"])
def test_no_harmless_machine_is_taken_for_an_ai(name: str) -> None:
    wrong = {agent.name for ua in corpus(name) for agent in found(ua) if agent.ai}
    # LangChain's page loader stands among the libraries, and is what feeds a language model.
    assert wrong == ({"DefaultLangchainUserAgent"} if name == "ua_http_libraries.txt" else set())


@pytest.mark.parametrize("name", HARMLESS)
def test_the_default_policy_refuses_no_harmless_machine(name: str) -> None:
    refused = {"training", "dataset", "ai-unspecified"}
    assert [(a.name, ua) for ua in corpus(name) for a in found(ua) if a.category in refused] == []


# ---- AI agents by token

RECORDS: list[dict[str, Any]] = [json.loads(line) for line in (SHARED / "ai_agents.jsonl").read_text("utf-8").splitlines()]
PROVES_NOTHING = ("placeholder", "directory-only", "noisy-log")


def strings(record: dict[str, Any]) -> list[str]:
    """The user agents of a record that somebody has really seen."""
    return [u["ua"] for u in record["ua_strings"] if u["evidence"] not in PROVES_NOTHING]


@pytest.mark.parametrize("tier", ["core", "unverified", "obsolete"])
def test_ai_agents_are_found_by_string_and_by_token(tier: str) -> None:
    records = [r for r in RECORDS if r["tier"] == tier]
    right, wrong = share([ua for r in records for ua in strings(r)], is_ai)
    assert right >= 0.98, wrong
    tokens = [f"Mozilla/5.0 (compatible; {r['token']}/1.0; +https://bot.example/)" for r in records]
    right, wrong = share(tokens, is_ai)
    assert right >= 0.98, wrong


def test_every_token_of_the_record_has_an_entry() -> None:
    def known(agent: Agent) -> set[str]:
        return {agent.name.lower(), *(token.lower() for token in agent.robots)}

    ours = {word for agent in AGENTS for word in known(agent)}
    assert {r["token"] for r in RECORDS if r["token"].lower() not in ours} == set()


def test_tokens_that_are_words_find_nobody_by_themselves() -> None:
    # "Spider" is a phone, "Operator" a carrier, "Cursor" and "Code" are editors with a window, "OpenAI" stands in API clients.
    for token in (r["token"] for r in RECORDS if r["tier"] == "too-broad"):
        for around in (
            "Mozilla/5.0 (Linux; Android 14; {} 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
            "x {} y",
            "{}X/1.0",
        ):
            assert not is_ai(around.format(token)), around.format(token)
