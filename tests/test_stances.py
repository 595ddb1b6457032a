"""The bundled stances: each does what the head of its file promises, to every kind of agent, and none refuses a person."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from crawlguard import Guard
from crawlguard.catalogue import policy_names, rules_dir
from crawlguard.loader import parse_policy, read_policy
from crawlguard.signals.ua import AI_CATEGORIES

from .policy_corpus import DATA, LEVEL3, TELSTRA, Clock, view
from .ua_corpora import AGENTS, BY_NAME, PEOPLE, corpus

REFUSED: dict[str, frozenset[str]] = {
    "allow-ai-search": AI_CATEGORIES - {"ai-search", "user-fetch"},
    "archive-friendly": frozenset(("training", "dataset", "ai-unspecified")),
    "block-all-ai": AI_CATEGORIES,
    "default": frozenset(("training", "dataset", "ai-unspecified")),
    "observe": frozenset(),
    "strict": AI_CATEGORIES | {"scraper-library"},
    "training-only": frozenset(("training", "dataset")),
}
"""The kinds of agents that each stance refuses, whatever they ask for."""

STANCES = sorted(REFUSED)
ACTING = [s for s in STANCES if s != "observe"]
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
GOOGLE, AMAZON, HOME = "66.249.66.1", "3.5.140.2", "203.0.113.7"


def guard_of(stance: str, clock: Clock, **settings: str) -> Guard:
    return Guard(f"builtin:{stance}", store="memory", watch=False, clock=clock, **settings)  # type: ignore[arg-type]


def refusals(stance: str, user_agents: Iterable[str]) -> list[tuple[str | None, str]]:
    """The user agents that do not get a page, each with the rule that says so; one request a second from one address."""
    clock = Clock()
    guard = guard_of(stance, clock)
    refused = []
    for second, user_agent in enumerate(user_agents):
        clock.at(second)
        decision = guard.decide(view(ua=user_agent, ip=HOME))
        if not decision.allowed:
            refused.append((decision.rule, user_agent))
    assert guard.counters.errors == 0
    return refused


@cache
def head(stance: str) -> str:
    """The comment that a stance's file begins with."""
    text = (rules_dir() / "policies" / f"{stance}.yaml").read_text("utf-8")
    return text[: text.index("version: 1")]


# ---- the files


def test_every_bundled_policy_is_a_stance_or_what_they_share() -> None:
    assert policy_names() == sorted([*STANCES, "common"])


@pytest.mark.parametrize("stance", STANCES)
def test_a_stance_is_short_says_what_it_costs_and_is_included_by_one_line(stance: str) -> None:
    words = re.findall(r"^#   ([a-z]+) {2,}\S", head(stance), re.MULTILINE)
    assert {"refused", "slowed", "watched"} & set(words)
    assert "costs" in words
    assert f"include: [builtin:{stance}]" in head(stance)
    assert (rules_dir() / "policies" / f"{stance}.yaml").read_text("utf-8").count("\n") <= 50
    policy, problems = parse_policy(f"version: 1\ninclude: [builtin:{stance}]\n")
    assert policy is not None
    assert problems == []


@pytest.mark.parametrize("stance", STANCES)
def test_a_sites_own_rules_come_first(stance: str) -> None:
    rules = (
        "[{id: ours, mode: enforce, when: {path: /private/}, then: hide}, {id: friend, mode: enforce, when: {agent: GPTBot}, then: allow}]"
    )
    policy, problems = parse_policy(f"version: 1\ninclude: [builtin:{stance}]\nrules: {rules}\n")
    assert policy is not None, problems
    guard = Guard(policy, store="memory")
    assert guard.decide(view("/private/x", ua=BROWSER)).rule == "ours"
    assert guard.decide(view(ua="GPTBot/1.4")).rule == "friend"


def test_two_stances_go_together_with_the_more_lenient_one_first() -> None:
    policy, problems = parse_policy("version: 1\ninclude: [builtin:archive-friendly, builtin:block-all-ai]\n")
    assert policy is not None, problems
    assert problems == []
    assert Guard(policy, store="memory").decide(view(ua="PerplexityBot/1.0")).rule == "ai"


# ---- who is refused


@pytest.mark.parametrize("stance", STANCES)
def test_each_kind_of_agent_meets_what_the_head_says(stance: str) -> None:
    samples = [(agent.category, sample) for agent in AGENTS for sample in agent.samples]
    assert {category for category, _ in samples} >= REFUSED[stance]
    expected = {sample for category, sample in samples if category in REFUSED[stance]}
    refused = {sample for _, sample in refusals(stance, (sample for _, sample in samples))}
    assert refused - expected == set()
    assert expected - refused == set()


@pytest.mark.parametrize("stance", STANCES)
@pytest.mark.parametrize("name", PEOPLE)
def test_no_person_is_refused(stance: str, name: str) -> None:
    user_agents = corpus(name)[:: 5 if len(corpus(name)) > 1000 else 1]
    assert refusals(stance, user_agents) == []


@pytest.mark.parametrize("name", ["ua_feedreaders.txt", "ua_tools_legit.txt", "ua_archives.txt"])
def test_even_the_strict_stance_serves_every_harmless_machine(name: str) -> None:
    assert len(corpus(name)) >= 50
    assert refusals("strict", corpus(name)) == []


def test_the_strict_stance_refuses_libraries_that_scrape_and_no_other() -> None:
    refused = refusals("strict", corpus("ua_http_libraries.txt"))
    assert {rule for rule, _ in refused} == {"scraping-library-refused", "ai"}
    assert 10 <= len(refused) <= 25
    served = ("curl/8.23.0", "Wget/1.21.3", "git/2.51.0", "pip/26.1", "Go-http-client/2.0", "Lynx/2.9.2 libwww-FM/2.14", "w3m/0.5.3")
    assert refusals("strict", (*served, "http.rb/5.2.0 (Mastodon/4.5.0; +https://social.example/)", "AntennaPod/3.8.0")) == []


def test_training_only_watches_those_who_do_not_say() -> None:
    decision = Guard("builtin:training-only", store="memory").decide(view(ua=BY_NAME["GoogleOther"].samples[0]))
    assert decision.allowed
    assert [d.rule for d in decision.shadow] == ["ai-unspecified"]


# ---- requests without a User-Agent


@pytest.mark.parametrize("stance", ["allow-ai-search", "archive-friendly", "block-all-ai", "default", "training-only"])
def test_a_request_without_user_agent_is_served_and_watched(stance: str) -> None:
    decision = Guard(f"builtin:{stance}", store="memory").decide(view())
    assert decision.allowed
    assert [d.rule for d in decision.shadow] == ["no-user-agent"]


@pytest.mark.parametrize(
    ("path", "method", "served"),
    [
        ("/", "GET", False),
        ("/article/7", "HEAD", False),
        ("/article/7", "POST", True),
        ("/hooks/payment", "PUT", True),
        ("/feed", "GET", True),
        ("/feed/", "GET", True),
        ("/blog/feed/", "GET", True),
        ("/blog/index.xml", "GET", True),
        ("/atom.xml", "GET", True),
        ("/.well-known/webfinger", "GET", True),
        ("/robots.txt", "GET", True),
        ("/feeding-the-birds", "GET", True),
        ("/birds/feeding", "GET", False),
    ],
)
def test_the_strict_stance_wants_a_name_for_pages_alone(path: str, method: str, served: bool) -> None:
    decision = Guard("builtin:strict", store="memory").decide(view(path, method=method))
    assert decision.allowed is served
    assert served or decision.rule == "page-without-user-agent"


# ---- rates


@pytest.mark.parametrize("stance", STANCES)
@pytest.mark.parametrize("address", [HOME, AMAZON, "2001:db8::1"])
def test_five_full_pages_in_ten_seconds_are_a_persons(stance: str, address: str) -> None:
    clock = Clock()
    guard = guard_of(stance, clock)
    for page in range(5):
        clock.at(2 * page)
        for part in range(60):
            decision = guard.decide(view(f"/{page}/{part}.png", ua=BROWSER, ip=address))
            assert decision.allowed
            assert decision.shadow == ()


@pytest.mark.parametrize("stance", ACTING)
def test_a_flood_from_one_address_is_slowed_whatever_it_calls_itself(stance: str) -> None:
    for user_agent in (BROWSER, GOOGLEBOT, "curl/8.23.0"):
        guard = guard_of(stance, Clock())
        decisions = [guard.decide(view(ua=user_agent, ip=HOME)) for _ in range(1300)]
        assert decisions[1199].allowed
        assert decisions[-1].rule == "hot-address"
        assert decisions[-1].retry_after


@pytest.mark.parametrize("stance", ACTING)
def test_a_search_engine_from_its_own_addresses_is_never_slowed(stance: str) -> None:
    guard = guard_of(stance, Clock())
    assert {guard.decide(view(ua=GOOGLEBOT, ip=GOOGLE)).rule for _ in range(3000)} == {"search-engine"}


def test_an_archive_may_ask_for_twice_as_much() -> None:
    archive = BY_NAME["archive.org_bot"].samples[0]
    served = {}
    for stance in ("default", "archive-friendly"):
        guard = guard_of(stance, Clock())
        served[stance] = sum(guard.decide(view(ua=archive, ip=HOME)).allowed for _ in range(5000))
    assert served == {"default": 1200, "archive-friendly": 2400}


def test_common_crawl_is_let_in_by_the_line_that_the_archive_friendly_stance_names() -> None:
    line = re.search(r"- (\{id: common-crawl.*\})", head("archive-friendly"))
    assert line is not None
    policy, problems = parse_policy(f"version: 1\ninclude: [builtin:archive-friendly]\nrules: [{line[1]}]\n")
    assert policy is not None, problems
    assert Guard("builtin:archive-friendly", store="memory").decide(view(ua="CCBot/2.0")).rule == "ai-training"
    assert Guard(policy, store="memory").decide(view(ua="CCBot/2.0")).rule == "common-crawl"


def test_the_strict_stances_advice_for_data_centres_works() -> None:
    lines = head("strict")[head("strict").index("#   data:") :].splitlines()
    advice = "\n".join(line[4:] for line in lines).replace("GeoLite2-ASN.mmdb", DATA["asn"])
    rented = "networks: {rented: {cidrs: [1.128.0.0/16], tags: [cloud]}}"  # the small test database knows no cloud
    policy, problems = parse_policy(f"version: 1\ninclude: [builtin:strict]\n{rented}\n{advice}\n")
    assert policy is not None, problems
    assert problems == []
    for address, admitted, rule in ((TELSTRA, 600, "busy-data-centre"), (LEVEL3, 1200, "hot-address")):
        guard = Guard(policy, store="memory", clock=Clock())
        decisions = [guard.decide(view(ua=BROWSER, ip=address)) for _ in range(1300)]
        assert (sum(d.allowed for d in decisions), decisions[-1].rule) == (admitted, rule)


# ---- observe


def test_observe_refuses_nobody_and_writes_down_who_would_have_been(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    guard = guard_of("observe", Clock(), log=str(log))
    asked = [("GPTBot/1.4", "ai"), ("Scrapy/2.19.0 (+https://scrapy.org)", "scraping-library-refused"), (None, "page-without-user-agent")]
    for user_agent, _ in asked:
        assert guard.decide(view(ua=user_agent)).allowed
    assert guard.decide(view(ua=BROWSER)).allowed
    for _ in range(2000):
        assert guard.decide(view(ua=BROWSER, ip="198.51.100.9")).allowed
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(line["shadow"] for line in lines)
    assert {line["rule"] for line in lines} == {rule for _, rule in asked} | {"hot-address"}


def test_observe_watches_what_strict_refuses() -> None:
    (strict, _), (observe, _) = read_policy("builtin:strict"), read_policy("builtin:observe")
    assert strict is not None
    assert observe is not None
    assert observe.mode == "shadow"
    assert [r.id for r in observe.rules] == [r.id for r in strict.rules]
    assert not any(r.mode == "enforce" for r in observe.rules)
