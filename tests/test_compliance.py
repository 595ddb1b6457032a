"""Agents that say they honour robots.txt, have read it, and come nevertheless: marked in the decision log, and only they."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crawlguard import Guard
from crawlguard.loader import parse_policy
from crawlguard.request import RequestView

from .policy_corpus import Clock

GPTBOT = b"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
BINGBOT = b"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"
CHATGPT_USER = b"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot"
FIREFOX = b"Mozilla/5.0 (X11; Linux x86_64; rv:156.0) Gecko/20100101 Firefox/156.0"


class Site:
    """A guard that logs to a file, and who asked it for what."""

    def __init__(self, directory: Path, more: str = "robots: {comment: Be kind.}") -> None:
        self.log, self.clock = directory / "log", Clock()
        policy, problems = parse_policy(
            f"version: 1\n{more}\nrules:\n"
            "  - {id: training, when: {agent: {category: [training, user-fetch]}}, then: block}\n"
            "  - {id: private, when: {path: /private/}, then: block, mode: enforce}\n"
        )
        assert policy is not None, problems
        self.guard = Guard(policy, clock=self.clock, store="memory", log=self.log, watch=False)

    def ask(self, ua: bytes, path: str, peer: str = "203.0.113.7") -> str | None:
        """What the log's line says about robots.txt; None without a line."""
        before = self.lines()
        self.guard.decide(RequestView(path=path, peer=peer, headers=[(b"user-agent", ua)]))
        fresh = self.lines()[len(before) :]
        return json.loads(fresh[-1])["robots"] if fresh else None

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def test_an_agent_that_never_fetched_the_file_cannot_go_against_it(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert site.ask(GPTBOT, "/") is None
    assert site.guard.counters.disobeyed == {}


def test_one_that_fetched_it_is_marked_for_a_day(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.ask(GPTBOT, "/robots.txt", peer="198.51.100.4")
    assert site.ask(GPTBOT, "/page") == "disobeyed"  # from another address: crawlers have many
    site.clock.at(86_399)
    assert site.ask(GPTBOT, "/page") == "disobeyed"
    site.clock.at(86_401)
    assert site.ask(GPTBOT, "/page") is None
    assert site.guard.counters.snapshot()["disobeyed"] == {"GPTBot": 2}


def test_only_paths_that_it_is_asked_to_leave_alone_count(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.ask(BINGBOT, "/robots.txt")
    assert site.ask(BINGBOT, "/shop") is None
    assert site.ask(BINGBOT, "/private/x") == "disobeyed"
    assert site.ask(BINGBOT, "/robots.txt") is None


@pytest.mark.parametrize("ua", [FIREFOX, CHATGPT_USER], ids=["a person", "an agent that says it does not honour it"])
def test_who_never_promised_is_never_marked(tmp_path: Path, ua: bytes) -> None:
    site = Site(tmp_path)
    site.ask(ua, "/robots.txt")
    assert site.ask(ua, "/private/x") is None


def test_a_site_that_publishes_nothing_through_the_policy_is_not_audited(tmp_path: Path) -> None:
    site = Site(tmp_path, more="")
    site.ask(GPTBOT, "/robots.txt")
    assert site.ask(GPTBOT, "/page") is None


def test_what_is_served_is_logged_too_when_the_site_asked_for_less(tmp_path: Path) -> None:
    existing = tmp_path / "robots.txt"
    existing.write_text("User-agent: bingbot\nDisallow: /slow/\n")
    site = Site(tmp_path, more=f"robots: {{merge: {json.dumps(str(existing))}}}")
    site.ask(BINGBOT, "/robots.txt")
    assert site.ask(BINGBOT, "/slow/x") == "disobeyed"
    row = json.loads(site.lines()[-1])
    assert (row["action"], row["rule"], row["status"]) == ("allow", None, None)
