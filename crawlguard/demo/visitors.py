"""Who visits the sample sites: what each client sends, and what must happen to it. Tables; ``clients`` sends them.

Every client has an address of its own on loopback, so the decision log tells by address which rule decided about whom.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from . import content
from .sites import Site

REFUSED, SERVED, SLOWED = "refused", "served", "slowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A client as it is sent: its User-Agent, its address, the paths that it asks for, and what must happen."""

    name: str
    must: str
    user_agent: str
    address: str
    paths: tuple[str, ...]


_MOZILLA = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; "
_ALL = (*content.PAGES, "/api/articles", "/feed.xml")
_SOME = content.PAGES[:2]

VISITORS = tuple(
    Visitor(name=name, must=must, user_agent=agent, address=f"127.{number}.0.1", paths=paths)
    for number, (name, must, agent, paths) in enumerate(
        (
            ("GPTBot", REFUSED, _MOZILLA + "GPTBot/1.2; +https://openai.com/gptbot)", _ALL),
            ("ClaudeBot", REFUSED, _MOZILLA + "ClaudeBot/1.0; +claudebot@anthropic.com)", _ALL),
            (
                "Bytespider",
                REFUSED,
                "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; spider-feedback@bytedance.com)",
                _ALL,
            ),
            ("CCBot", REFUSED, "CCBot/2.0 (https://commoncrawl.org/faq/)", _ALL),
            ("GPTBot reads robots.txt", SERVED, _MOZILLA + "GPTBot/1.2; +https://openai.com/gptbot)", ("/robots.txt",)),
            ("ChatGPT-User", SERVED, _MOZILLA + "ChatGPT-User/1.0; +https://openai.com/bot)", _SOME),
            ("OAI-SearchBot", SERVED, _MOZILLA + "OAI-SearchBot/1.0; +https://openai.com/searchbot)", _SOME),
            ("Googlebot", SERVED, "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", ("/robots.txt", *_SOME)),
            ("Feedly", SERVED, "Feedly/1.0 (+http://www.feedly.com/fetcher.html; like FeedFetcher-Google)", ("/feed.xml",)),
            ("Scrapy", SERVED, "Scrapy/2.12.0 (+https://scrapy.org)", _SOME),
        ),
        start=10,
    )
)

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36"
FLOOD = tuple(f"127.66.0.{n}" for n in range(1, 61))
FLOOD_EACH = 3
"""Requests of each address: nothing that a rule about single addresses could see."""

FIREFOX = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:148.0) Gecko/20100101 Firefox/148.0",
    "Accept-Language": "en-US,en;q=0.9",
    "Accept-Encoding": "gzip, deflate",
}
_NAVIGATION = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
}
_STYLE = {"Accept": "text/css,*/*;q=0.1", "Sec-Fetch-Dest": "style", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "same-origin"}
_IMAGE = {
    "Accept": "image/avif,image/webp,image/png,image/svg+xml,*/*;q=0.5",
    "Sec-Fetch-Dest": "image",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Site": "same-origin",
}
PERSON = "127.99.0.1"
PERSON_STEPS = (
    ("/", {**_NAVIGATION, "Sec-Fetch-Site": "none"}),
    ("/style.css", _STYLE),
    ("/logo.png", _IMAGE),
    (content.PAGES[1], {**_NAVIGATION, "Sec-Fetch-Site": "same-origin"}),
    ("/logo.png", _IMAGE),
)


@dataclass(slots=True, kw_only=True)
class Visit:
    """What one client met at one site. ``rules`` counts (rule, action, shadow) as the decision log has them; ``unruled``: why, where none matched."""

    client: str
    program: str
    site: Site
    must: str
    served: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    errors: int = 0
    rules: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    unruled: str = "no rule matched"

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self.served + self.refused.total() + self.errors

    def count(self, status: int) -> None:
        """Count an answer; 0 stands for none. The clients ask for what is there, so that every 4xx is the guard's."""
        if 200 <= status < 400:
            self.served += 1
        elif 400 <= status < 500:
            self.refused[status] += 1
        else:
            self.errors += 1

    def problems(self) -> list[str]:
        """Everything about the visit that is not as it must be."""
        found, refused = list(self.complaints), self.refused.total()
        if not self.requests:
            found.append("sent no request at all")
        if self.errors:
            found.append(f"got {self.errors} server errors or broken connections")
        if self.must == REFUSED and self.served:
            found.append(f"was served {self.served} times and must be refused")
        if self.must == SERVED and refused:
            found.append(f"was refused {refused} times and must be served")
        if self.must == SLOWED and refused <= self.served:
            found.append(f"was slowed down only {refused} times in {self.requests}")
        if refused and not any(not shadow for _, _, shadow in self.rules):
            found.append("was refused, and the decision log does not say by which rule")
        return found
