"""The mix under load: people, declared crawlers, feed readers, a search engine. Locust runs this file (gevent patches the whole process)."""

from __future__ import annotations

from locust import constant, constant_throughput, task

from tests.load.kinds import CRAWLERS, FEEDS, PEOPLE, SEARCH
from tests.load.visitors import ASSETS, BROWSERS, LANGUAGES, NAVIGATION, PAGES, Visitor, rng, somebody

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


class Person(Visitor):
    """A page and its parts, then a second page: from an address, with a browser and in a language of their own."""

    kind, weight = PEOPLE, 12
    wait_time = constant(0.1)

    @task
    def visit(self) -> None:
        address, agent, language = somebody(), rng.choice(BROWSERS), {"Accept-Language": rng.choice(LANGUAGES)}
        self.ask(rng.choice(PAGES), address, agent, NAVIGATION | language)
        for path, accept in ASSETS:
            self.ask(path, address, agent, accept | language)
        self.ask(rng.choice(PAGES), address, agent, NAVIGATION | language)


class Crawler(Visitor):
    """A declared crawler of training data that does not wait between pages, from a few addresses of its own."""

    kind, weight = CRAWLERS, 5
    wait_time = constant_throughput(30)

    def on_start(self) -> None:
        self.agent, self.address = rng.choice(TRAINING), f"203.0.113.{rng.randrange(1, 255)}"

    @task
    def crawl(self) -> None:
        self.ask(rng.choice(PAGES), self.address, self.agent)


class FeedReader(Visitor):
    """Asks for the feed, again and again."""

    kind, weight = FEEDS, 2
    wait_time = constant_throughput(2)

    def on_start(self) -> None:
        self.agent, self.address = rng.choice(READERS), f"192.0.2.{rng.randrange(1, 255)}"

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
        self.ask(rng.choice(PAGES), f"66.249.66.{rng.randrange(1, 32)}", GOOGLEBOT)
