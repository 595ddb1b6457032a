"""Who visits under load. Locust runs this file in a process of its own (gevent patches the whole process).

What each kind met is counted here and written to the file LOAD_REPORT at the end:
{kind: {requests, served, refused, errors, statuses, p50, p99}}, times in milliseconds.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant, constant_throughput, events, task
from locust.env import Environment

from tests.load.kinds import CRAWLERS, FEEDS, PEOPLE, SEARCH

PAGES = ("/", "/articles/sourdough", "/articles/rye", "/articles/opening-hours")

BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.3 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.3 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:148.0) Gecko/20100101 Firefox/148.0",
    "Lynx/2.9.0dev.12 libwww-FM/2.14 SSL-MM/1.4.1 GNUTLS/3.7.8",
)
LANGUAGES = ("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.7", "fr-FR,fr;q=0.9", "ja,en-US;q=0.8")
TRAINING = (
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; spider-feedback@bytedance.com)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
)
READERS = (
    "Feedly/1.0 (+http://www.feedly.com/fetcher.html; like FeedFetcher-Google)",
    "FreshRSS/1.24.0 (Linux; https://freshrss.org)",
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

NAVIGATION = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Upgrade-Insecure-Requests": "1"}
ASSETS = (("/style.css", {"Accept": "text/css,*/*;q=0.1"}), ("/logo.png", {"Accept": "image/avif,image/webp,image/png,*/*;q=0.5"}))

_rng = random.Random(os.environ.get("LOAD_SEED"))
_met: dict[str, Counter[int]] = defaultdict(Counter)


def somebody() -> str:
    """An address out of 198.18.0.0/15, which RFC 2544 sets aside for load tests: 130,000 of them, so most come once."""
    return f"198.{_rng.choice((18, 19))}.{_rng.randrange(256)}.{_rng.randrange(1, 255)}"


class Visitor(FastHttpUser):
    """A client behind the proxy. Subclasses say who: ``kind`` is the row of the table that it counts in."""

    abstract = True
    kind = ""
    connection_timeout = network_timeout = 10.0

    def ask(self, path: str, address: str, agent: str, headers: Mapping[str, str] | None = None) -> None:
        sent = {"User-Agent": agent, "X-Forwarded-For": address, "Accept-Encoding": "gzip, deflate", **(headers or {})}
        with self.client.get(path, headers=sent, name=self.kind, catch_response=True) as response:
            _met[self.kind][response.status_code] += 1
            response.success()  # a refusal is an answer: who may get which is judged over the whole run


class Person(Visitor):
    """A page and its parts, then a second page: from an address, with a browser and in a language of their own."""

    kind, weight = PEOPLE, 12
    wait_time = constant(0.1)

    @task
    def visit(self) -> None:
        address, agent, language = somebody(), _rng.choice(BROWSERS), {"Accept-Language": _rng.choice(LANGUAGES)}
        self.ask(_rng.choice(PAGES), address, agent, NAVIGATION | language)
        for path, accept in ASSETS:
            self.ask(path, address, agent, accept | language)
        self.ask(_rng.choice(PAGES), address, agent, NAVIGATION | language)


class Crawler(Visitor):
    """A declared crawler of training data that does not wait between pages, from a few addresses of its own."""

    kind, weight = CRAWLERS, 5
    wait_time = constant_throughput(30)

    def on_start(self) -> None:
        self.agent, self.address = _rng.choice(TRAINING), f"203.0.113.{_rng.randrange(1, 255)}"

    @task
    def crawl(self) -> None:
        self.ask(_rng.choice(PAGES), self.address, self.agent)


class FeedReader(Visitor):
    """Asks for the feed, again and again."""

    kind, weight = FEEDS, 2
    wait_time = constant_throughput(2)

    def on_start(self) -> None:
        self.agent, self.address = _rng.choice(READERS), f"192.0.2.{_rng.randrange(1, 255)}"

    @task
    def fetch(self) -> None:
        self.ask("/feed.xml", self.address, self.agent)


class SearchEngine(Visitor):
    """Reads robots.txt, then page after page, at a pace that a search engine allows itself."""

    kind, weight = SEARCH, 1
    wait_time = constant_throughput(4)

    def on_start(self) -> None:
        self.ask("/robots.txt", "66.249.66.1", GOOGLEBOT)

    @task
    def crawl(self) -> None:
        self.ask(_rng.choice(PAGES), f"66.249.66.{_rng.randrange(1, 32)}", GOOGLEBOT)


def write_report(environment: Environment, **_: Any) -> None:
    """Put what was counted where ``run`` reads it."""
    rows = {}
    for kind, statuses in _met.items():
        times = environment.stats.get(kind, "GET")
        rows[kind] = {
            "requests": statuses.total(),
            "served": sum(n for status, n in statuses.items() if 200 <= status < 400),
            "refused": sum(n for status, n in statuses.items() if 400 <= status < 500),
            "errors": sum(n for status, n in statuses.items() if status >= 500 or status < 200),
            "statuses": {str(status): n for status, n in sorted(statuses.items())},
            "p50": times.get_response_time_percentile(0.5),
            "p99": times.get_response_time_percentile(0.99),
        }
    Path(os.environ["LOAD_REPORT"]).write_text(json.dumps(rows), "utf-8")


events.quitting.add_listener(write_report)  # type: ignore[no-untyped-call]
