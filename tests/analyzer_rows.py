"""Requests made up for tests of the analyzer: visits of people and of machines, as rows."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import polars as pl
from crawlguard_analyzer.clients import Context, clients, context
from crawlguard_analyzer.rollup import rollup
from crawlguard_analyzer.rows import ROWS

START = 1_790_000_000  # 2026-09-21, about when the catalogue's lists were fetched
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/152.0.0.0 Safari/537.36"
OLD_CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/95.0.4638.69 Safari/537.36"
LYNX = "Lynx/2.9.0 libwww-FM/2.14 SSL-MM/1.4.1 OpenSSL/3.0.13"
GPTBOT = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
_REST: dict[str, Any] = {
    "method": "GET",
    "protocol": "HTTP/1.1",
    "status": 200,
    "bytes": 100,
    "referrer": "",
    "ua": CHROME,
    "host": "",
    "action": "",
    "rule": "",
    "spent": -1,
}

Request = dict[str, Any]


def rows(requests: Iterable[Request]) -> pl.DataFrame:
    """Rows from what differs from an ordinary request."""
    return pl.DataFrame([{**_REST, **request} for request in requests], schema=ROWS)


def person(ip: str, pages: int = 3, at: int = START, ua: str = CHROME) -> list[Request]:
    """Pages with what belongs to them, half a minute apart, each from the one before."""
    found: list[Request] = [{"time": at, "ip": ip, "target": "/favicon.ico", "referrer": "https://a.example/", "ua": ua}]
    for n in range(pages):
        time, page = at + 30 * n, f"https://a.example/page-{n}"
        found.append({"time": time, "ip": ip, "target": f"/page-{n}", "referrer": f"https://a.example/page-{n - 1}", "ua": ua})
        found += [{"time": time, "ip": ip, "target": t, "referrer": page, "ua": ua} for t in ("/a.css", "/b.js", f"/{n}.png")]
    return found


def people(count: int = 200) -> list[Request]:
    """So many that a site has habits."""
    return [request for n in range(count) for request in person(f"203.{n // 250}.{n % 250}.7", at=START + 60 * n)]


def crawler(ip: str, pages: int, at: int = START, every: int = 2, ua: str = CHROME) -> list[Request]:
    """Different pages and nothing else."""
    return [{"time": at + every * n, "ip": ip, "target": f"/page-{n}", "ua": ua} for n in range(pages)]


@cache
def judge() -> Context:
    """The bundled catalogue and weights."""
    return context()


def told(requests: Iterable[Request], by: Context | None = None) -> dict[str, dict[str, Any]]:
    """The clients' rows, by address."""
    return {row["client"]: row for row in clients(rollup(rows(requests)), by or judge()).iter_rows(named=True)}
