"""What all who visit under load have in common: addresses, browsers, and how what they met is counted. For locust files only.

What each kind met is written to the file LOAD_REPORT at the end: {kind: {requests, served, refused, errors, statuses, first, wait, p50, p99}};
``first``: how many requests were sent before the first was refused; ``wait``: the longest Retry-After in seconds; times in milliseconds.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locust import FastHttpUser, events
from locust.env import Environment

PAGES = ("/", "/articles/sourdough", "/articles/rye", "/articles/opening-hours")
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36"
BROWSERS = (
    CHROME,
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.3 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.3 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:148.0) Gecko/20100101 Firefox/148.0",
    "Lynx/2.9.0dev.12 libwww-FM/2.14 SSL-MM/1.4.1 GNUTLS/3.7.8",
)
LANGUAGES = ("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.7", "fr-FR,fr;q=0.9", "ja,en-US;q=0.8")
NAVIGATION = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Upgrade-Insecure-Requests": "1"}
ASSETS = (("/style.css", {"Accept": "text/css,*/*;q=0.1"}), ("/logo.png", {"Accept": "image/avif,image/webp,image/png,*/*;q=0.5"}))

rng = random.Random(os.environ.get("LOAD_SEED"))
_statuses: dict[str, Counter[int]] = defaultdict(Counter)
_first: dict[str, int] = {}
_wait: Counter[str] = Counter()


def somebody() -> str:
    """An address out of 198.18.0.0/15, which RFC 2544 sets aside for load tests: 130,000 of them, so most come once."""
    return f"198.{rng.choice((18, 19))}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def asked(kind: str) -> int:
    """How many requests a kind has sent so far."""
    return _statuses[kind].total()


class Visitor(FastHttpUser):
    """A client behind the proxy. Subclasses say who: ``kind`` is the row of the table that it counts in."""

    abstract = True
    kind = ""
    connection_timeout = network_timeout = 10.0

    def ask(self, path: str, address: str, agent: str, headers: Mapping[str, str] | None = None) -> int:
        """Send a request; its status."""
        sent = {"User-Agent": agent, "X-Forwarded-For": address, "Accept-Encoding": "gzip, deflate", **(headers or {})}
        with self.client.get(path, headers=sent, name=self.kind, catch_response=True) as response:
            status = int(response.status_code)
            if status in (403, 429):
                _first.setdefault(self.kind, _statuses[self.kind].total())
                _wait[self.kind] = max(_wait[self.kind], int(response.headers.get("retry-after", 0)))
            _statuses[self.kind][status] += 1
            response.success()  # a refusal is an answer: who may get which is judged over the whole run
        return status


def write_report(environment: Environment, **_: Any) -> None:
    """Put what was counted where ``server.load`` reads it. Only 403 and 429 are the guard's: a site has 404s of its own."""
    rows = {}
    for kind, statuses in _statuses.items():
        times = environment.stats.get(kind, "GET")
        refused, errors = statuses[403] + statuses[429], sum(n for status, n in statuses.items() if status >= 500 or status < 200)
        rows[kind] = {
            "requests": statuses.total(),
            "served": statuses.total() - refused - errors,
            "refused": refused,
            "errors": errors,
            "statuses": {str(status): n for status, n in sorted(statuses.items())},
            "first": _first.get(kind),
            "wait": _wait[kind],
            "p50": times.get_response_time_percentile(0.5),
            "p99": times.get_response_time_percentile(0.99),
        }
    Path(os.environ["LOAD_REPORT"]).write_text(json.dumps(rows), "utf-8")


events.quitting.add_listener(write_report)  # type: ignore[no-untyped-call]
