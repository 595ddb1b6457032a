"""Rollups: every number as a plain loop over the requests gives it, and the same whatever the shards and their order are."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from functools import reduce
from operator import or_
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.adding import MOST, renamed
from crawlguard_analyzer.clients import totals
from crawlguard_analyzer.rollup import AGENTS, DAY, PATHS, SCHEMA, SESSION, WINDOWS, Clients, distinct, merge, rollup
from crawlguard_analyzer.traps import OWN, probes, traps
from hypothesis import given, settings
from hypothesis import strategies as st

TARGETS = (
    "/",
    "/a/b/c.html",
    "/style.css",
    "/app.js?v=2",
    "/robots.txt",
    "/favicon.ico",
    "/x?y=/z/q",
    "/deep/er/",
    "/img.PNG",
    "/a.css.html",
    "/feed/",
    "/blog/rss.xml?a",
    "/sitemap.xml",
    "/xindex.xml",
    "/all.atom",
    "/buzzfeed",
    "/.env",
    "/.env?a",
    "/x.env",
    "/private/a.css",
    "/private/open/",
    "/honey?pot",
)
TRAPS = traps(["/honey"], b"User-agent: *\nDisallow: /private/\nAllow: /private/open/\n")
PROBE = 1 << probes()["/.env"]
BITS = {"own": 1 << OWN, "probe": PROBE, "answered": PROBE << 40, "forbidden": 1 << (TRAPS.rules[1][1] or 0), "": 0}

BUSY = {"method": "GET", "protocol": "", "status": 200, "bytes": 1, "referrer": "", "ua": "a", "target": "/", "ip": "h"}
STYLES = ("css", "js", "mjs", "woff", "woff2")
IMAGES = ("ico", "png")
ASSETS = (*STYLES, *IMAGES)
FEEDS = ("/feed/", "/blog/rss.xml", "/all.atom")
REQUEST = st.fixed_dictionaries(
    {
        "time": st.integers(20_000 * DAY - 400, 20_000 * DAY + 2000),
        "ip": st.sampled_from(["203.0.113.7", "2001:db8::1", "k-1"]),
        "method": st.sampled_from(["GET", "GET", "HEAD", "POST", "\\x16"]),
        "target": st.sampled_from(TARGETS),
        "protocol": st.sampled_from(["HTTP/1.0", "HTTP/1.1", "HTTP/2.0", ""]),
        "status": st.sampled_from([200, 301, 304, 403, 404, 500, 101]),
        "bytes": st.integers(-1, 5000),
        "referrer": st.sampled_from(["-", "", "https://example.org/"]),
        "ua": st.sampled_from(["a", "b", "-"]),
        "spent": st.integers(-1, 2**31 - 1),
    }
)
TYPES = {
    "time": pl.Int64,
    "ip": pl.String,
    "method": pl.String,
    "target": pl.String,
    "protocol": pl.String,
    "status": pl.Int16,
    "bytes": pl.Int64,
    "referrer": pl.String,
    "ua": pl.String,
    "spent": pl.Int32,
}


def frame(requests: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(requests, schema=TYPES)


def plain(requests: list[dict[str, Any]]) -> dict[tuple[int, str], dict[str, Any]]:
    """The same numbers by one loop."""
    clients = defaultdict(list)
    for request in requests:
        clients[request["time"] // DAY, request["ip"]].append(request)
    return {key: _plain(found) for key, found in clients.items()}


def _plain(found: list[dict[str, Any]]) -> dict[str, Any]:
    times = sorted(r["time"] for r in found)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    paths = [r["target"].partition("?")[0] for r in found]
    suffixes = [p.rpartition(".")[2].lower() if "." in p else "" for p in paths]
    documents = [r for r, s in zip(found, suffixes, strict=True) if s not in ASSETS]
    hours = 0
    for time in times:
        hours |= 1 << (time // 3600 % 24)
    agents = Counter(r["ua"] for r in found)
    most = max(agents.values())
    return {
        "ua": min(ua for ua, count in agents.items() if count == most),
        "ua_requests": most,
        "first": times[0],
        "last": times[-1],
        "requests": len(found),
        "documents": len(documents),
        "assets": len(found) - len(documents),
        "styles": sum(s in STYLES for s in suffixes),
        "images": sum(s in IMAGES for s in suffixes),
        "feeds": sum(p in FEEDS for p in paths),
        "http10": sum(r["protocol"] == "HTTP/1.0" for r in found),
        "http11": sum(r["protocol"] == "HTTP/1.1" for r in found),
        "referred": sum(r["referrer"] not in ("", "-") for r in documents),
        "queries": sum("?" in r["target"] for r in found),
        "ok": sum(200 <= r["status"] < 300 for r in found),
        "redirects": sum(300 <= r["status"] < 400 for r in found),
        "errors": sum(400 <= r["status"] < 500 and r["status"] != 404 for r in found),
        "missing": sum(r["status"] == 404 for r in found),
        "broken": sum(r["status"] >= 500 for r in found),
        "heads": sum(r["method"] == "HEAD" for r in found),
        "posts": sum(r["method"] == "POST" for r in found),
        "robots": paths.count("/robots.txt"),
        "favicons": paths.count("/favicon.ico"),
        "depth": sum(r["target"].partition("?")[0].count("/") for r in documents),
        "bytes": sum(max(0, r["bytes"]) for r in found),
        "gaps": len(gaps),
        "long_gaps": sum(g > SESSION for g in gaps),
        "gap_sum": sum(gaps),
        "gap_squares": sum(g * g for g in gaps),
        **{f"burst_{w}": max(sum(end - w < t <= end for t in times) for end in times) for w in WINDOWS},
        "hours": hours,
        "spent": sum(max(0, r.get("spent", 0)) for r in found),
        "trapped": sum(trap(r) in ("own", "probe", "forbidden") for r in found),
        "traps": reduce(or_, (BITS[trap(r)] for r in found)),
        "targets": len({r["target"] for r in found}),
        "agents": len({r["ua"] for r in found}),
    }


def told(rows: pl.DataFrame) -> dict[tuple[int, str], dict[str, Any]]:
    """The rollup as the loop gives it."""
    counted = rows.with_columns(
        distinct("paths", PATHS).cast(pl.Int64).alias("targets"), distinct("uas", AGENTS).cast(pl.Int64).alias("agents")
    )
    return {(row.pop("day"), row.pop("ip")): row for row in counted.drop("paths", "uas").to_dicts()}


def trap(request: dict[str, Any]) -> str:
    path = request["target"].partition("?")[0]
    if path == "/honey":
        return "own"
    if path == "/.env":
        return "probe" if request["status"] in (403, 404) else "answered" if request["status"] == 200 else ""
    return "forbidden" if path == "/private/a.css" else ""


@settings(max_examples=150, deadline=None)
@given(st.lists(REQUEST, max_size=40))
def test_every_number_is_what_a_loop_counts(requests: list[dict[str, Any]]) -> None:
    rows = rollup(frame(requests), TRAPS)
    assert rows.schema == pl.Schema(SCHEMA)
    assert told(rows) == plain(requests)


@settings(max_examples=150, deadline=None)
@given(st.lists(REQUEST, max_size=40), st.lists(st.integers(0, 40), max_size=3), st.randoms())
def test_shards_merge_to_the_whole_in_any_order(requests: list[dict[str, Any]], cuts: list[int], rnd: Any) -> None:
    requests.sort(key=lambda r: r["time"])  # a log's shards follow each other
    ends = [0, *sorted(cuts), len(requests)]
    shards = [rollup(frame(requests[a:b]), TRAPS) for a, b in itertools.pairwise(ends)]
    whole = rollup(frame(requests), TRAPS)
    bursts = [f"burst_{w}" for w in WINDOWS]  # those inside one shard, as the User-Agent of the most requests
    neighbours = [merge(shards[:2]), merge(shards[2:])]
    for parts in (shards, neighbours):
        rnd.shuffle(parts)
    merged = merge(shards)
    assert merged.drop(*bursts, "ua", "ua_requests").equals(whole.drop(*bursts, "ua", "ua_requests"))
    assert merge(neighbours).equals(merged)
    for name in (*bursts, "ua_requests"):
        assert (merged[name] <= whole[name]).all()
        assert (merged[name] * len(shards) >= whole[name]).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(REQUEST, max_size=40), st.lists(st.integers(0, 40), max_size=3))
def test_chunks_that_are_marked_and_rolled_up_later_are_the_whole(requests: list[dict[str, Any]], cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(requests)]
    clients = Clients(TRAPS)
    rolled = clients.fold([clients.mark(frame(requests[a:b])) for a, b in itertools.pairwise(ends)])
    assert clients.merge([rolled]).equals(clients(frame(requests)))


def test_more_requests_than_are_rolled_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"method": "GET", "protocol": "", "status": 200, "bytes": 1, "referrer": "", "ua": "a"}
    rows = frame([{**request, "target": f"/{n % 7}", "ip": f"10.0.0.{n % 3}", "time": 50 * DAY + 4000 * n} for n in range(100)])
    whole, clients = rollup(rows), Clients()
    monkeypatch.setattr("crawlguard_analyzer.rollup.MOST_ROWS", 17)
    monkeypatch.setattr("crawlguard_analyzer.rollup._FIELD", 18)
    monkeypatch.setattr("crawlguard_analyzer.adding._STEP", 5)
    mixed = ("burst_10", "burst_60", "ua_requests")
    assert rollup(rows).drop(mixed).equals(whole.drop(mixed))
    folded = clients.merge([clients.fold([clients.mark(rows[:5]), clients.mark(rows[5:6]), clients.mark(rows[6:])])])
    assert folded.drop(mixed).equals(whole.drop(mixed))


def test_days_that_shards_share_and_days_that_are_one_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawlguard_analyzer.adding._STEP", 3)
    requests = [{**BUSY, "ip": f"h{n * n % 7}", "time": (n // 9) * DAY + n} for n in range(120)]
    shards = [rollup(frame(requests[a:b])) for a, b in itertools.pairwise([0, 4, 40, 41, 90, 120])]
    mixed = ("burst_10", "burst_60", "ua_requests")
    assert merge([merge(shards[3:]), *shards[:3]]).drop(mixed).equals(rollup(frame(requests)).drop(mixed))


def test_a_log_of_a_lifetime_by_many_addresses() -> None:
    """More days times addresses than a packed number has room for, with times before 1970."""
    request = {"method": "GET", "protocol": "", "status": 200, "bytes": 1, "referrer": "", "ua": "a", "target": "/"}
    requests = [{**request, "ip": f"host-{n % 5000}", "time": (n * 7919 % 40_000 - 9000) * DAY + n % DAY} for n in range(10_000)]
    assert told(rollup(frame(requests))) == plain(requests)


@settings(max_examples=50, deadline=None)
@given(st.lists(REQUEST, min_size=1, max_size=40))
def test_clients_that_get_one_name_become_one(requests: list[dict[str, Any]]) -> None:
    inside = ("burst_10", "burst_60", "ua", "ua_requests", "gaps", "long_gaps", "gap_sum", "gap_squares")  # one client's
    found = renamed(rollup(frame(requests), TRAPS).with_columns(ip=pl.lit("x")))
    assert found.drop(inside).equals(rollup(frame([{**one, "ip": "x"} for one in requests]), TRAPS).drop(inside))


def test_narrow_numbers_stop_where_they_end_in_any_order() -> None:
    one = rollup(frame([{**BUSY, "time": 50 * DAY}, {**BUSY, "time": 50 * DAY + 1}]))
    wide = one.with_columns(pl.lit(MOST - 1, pl.Int64).alias("requests"), pl.lit(1 << 40, pl.Int64).alias("depth"))
    parts = [one, wide, one]
    merged = merge(parts)
    assert merged.row(0, named=True)["requests"] == merged.row(0, named=True)["depth"] == MOST
    assert merge([merge(parts[:2]), one]).equals(merge([merge(parts[1:]), one]))
    assert merged.schema == pl.Schema(SCHEMA)
    (client,) = totals(pl.concat([merged, merged.with_columns(pl.col("day") + 1)])).to_dicts()
    assert client["requests"] == 2 * MOST


def test_nothing_becomes_nothing() -> None:
    assert rollup(frame([])).equals(merge([]))


@pytest.mark.parametrize("number", [1, PATHS - 1, PATHS, PATHS + 1, 1000, 100_000])
def test_distinct_paths_are_counted_within_the_sketchs_error(number: int) -> None:
    request = {"time": 0, "ip": "a", "method": "GET", "protocol": "", "status": 200, "bytes": 1, "referrer": "", "ua": "a"}
    rows = rollup(frame([{**request, "target": f"/{n}"} for n in range(number)]))
    (found,) = rows.select(distinct("paths", PATHS)).to_series()
    assert found == number if number < PATHS else found == pytest.approx(number, rel=0.4)  # three standard errors of 13%
    assert rows["paths"].list.len().max() == min(number, PATHS)
