"""Clients and the log that they leave, made up, for tests of what is proposed about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl
from crawlguard_analyzer.agents import subnets
from crawlguard_analyzer.rows import ROWS

from crawlguard import identify

START = 1_790_000_000
"""2026-09-21, a Monday."""
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
SCRIPT = "sitegrab/2.1 (linux)"
DOTBOT = "Mozilla/5.0 (compatible; DotBot/1.2; +https://opensiteexplorer.org/dotbot; help@moz.com)"
PETALBOT = "Mozilla/5.0 (compatible;PetalBot;+https://webmaster.petalsearch.com/site/petalbot)"
GPTBOT = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"

CLIENTS: dict[str, Any] = {
    "client": pl.String, "class": pl.String, "score": pl.Float64, "agent": pl.String, "category": pl.String, "operator": pl.String,
    "identity": pl.String, "swarm": pl.String, "requests": pl.Int64, "documents": pl.Int64, "assets": pl.Int64, "bytes": pl.Int64,
    "first": pl.Int64, "last": pl.Int64, "days": pl.Int32, "subnet": pl.String, "asn": pl.Int64, "country": pl.String, "ua": pl.String,
    "bare": pl.Float64, "bare_points": pl.Float64, "styled": pl.Float64, "styled_points": pl.Float64,
}  # fmt: skip


def client(ip: str, kind: str, requests: int, ua: str = CHROME, **more: Any) -> dict[str, Any]:
    """One row of a clients table. Its agent is the catalogue's."""
    agent = identify(ua)
    person = kind in ("person", "unknown")
    documents = requests // 4 if person else requests
    return {
        "client": ip, "class": kind, "score": -4.0 if person else 9.0, "agent": agent and agent.name, "category": agent and agent.category,
        "operator": agent and agent.operator, "identity": agent and "unverified", "swarm": None, "requests": requests, "documents": documents,
        "assets": requests - documents, "bytes": requests * 1000, "first": START, "last": START + 2 * 86_400, "days": 3, "asn": None, "country": None,
        "ua": ua, "bare": 0.0 if person else 30.0, "bare_points": 0.0 if person else 3.5, "styled": 2.0 if person else 0.0,
        "styled_points": -2.0 if person else 0.0, **more,
    }  # fmt: skip


def people(number: int, requests: int = 20, ua: str = CHROME) -> list[dict[str, Any]]:
    """So many people, each in a subnet of their own."""
    return [client(f"81.{2 + n // 200}.{n % 200}.7", "person", requests, ua) for n in range(number)]


def table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """The clients table of some rows."""
    found = pl.DataFrame([{"subnet": None, **row} for row in rows], CLIENTS)
    return found.with_columns(pl.coalesce("subnet", subnets(pl.col("client"))).alias("subnet"))


def log(clients: pl.DataFrame, pace: int = 1) -> pl.DataFrame:
    """What these clients would have asked for: a person a page with its parts every minute; everybody else ``pace`` pages a second."""
    rows: list[dict[str, Any]] = []
    for one in clients.iter_rows(named=True):
        person = one["class"] in ("person", "unknown")
        for n in range(one["requests"]):
            time = START + (n // 4 * 60 if person else n // pace)
            target = f"/page/{n}" if not person or n % 4 == 0 else f"/part{n % 4}.css"
            rows.append({"time": time, "ip": one["client"], "target": target, "ua": one["ua"]})
    filled = {
        "method": "GET",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 1000,
        "referrer": "",
        "host": "",
        "action": "",
        "rule": "",
        "spent": -1,
    }
    found = pl.DataFrame([{**row, **filled} for row in rows], infer_schema_length=None).sort("time", maintain_order=True)
    return found.select(pl.col(name).cast(kind) for name, kind in ROWS.items())
