"""Features: what is absent counts as what this site's people would have left behind, and busy is what is busy there."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.clients import described, site
from crawlguard_analyzer.features import NOTHING_USUAL, Site, features, site_of
from crawlguard_analyzer.rollup import rollup

from .analyzer_rows import CHROME, LYNX, OLD_CHROME, START, Request, crawler, judge, people, person, rows, told


def usual(requests: list[Request]) -> Site:
    return site(rollup(rows(requests)), judge())


def test_habits_of_a_site() -> None:
    found = usual(people(200))
    assert found.assets == found.styles == found.referrers == found.favicons == pytest.approx(200 / 220)
    assert found.modern == 0  # its people speak HTTP/1
    modern = usual([{**request, "protocol": "HTTP/2.0"} for request in people(200)])
    assert modern.modern == pytest.approx(1 - 5 * 20 / 220)


def test_a_site_without_people_has_no_habits() -> None:
    assert usual(crawler("198.51.100.1", 500)) == NOTHING_USUAL
    assert site_of(described(rollup(rows([])), judge())) == NOTHING_USUAL


def test_a_small_log_has_hardly_a_habit() -> None:
    assert usual(people(5)).assets == pytest.approx(5 / 25)


def test_robots_and_clouds_have_no_say_in_what_is_usual() -> None:
    cloud = [r for n in range(200) for r in [{"time": START, "ip": f"3.5.140.{n}", "target": "/", "referrer": "https://a.example/"}]]
    readers = [
        r
        for n in range(200)
        for r in [{"time": START, "ip": f"9.9.{n}.9", "target": t, "referrer": "https://a.example/"} for t in ("/robots.txt", "/x")]
    ]
    assert usual([*people(), *cloud, *readers]) == usual(people())


def test_busy_is_what_is_busy_here() -> None:
    assert usual(people()).volume == NOTHING_USUAL.volume
    eager = [request for n in range(100) for request in person(f"203.1.{n}.7", pages=60)]
    found = usual(eager)
    assert (found.volume, found.breadth) == (60, 60)


def value(name: str, requests: list[Request], of: str = "198.51.7.7") -> float:
    return float(told([*people(), *requests])[of][name])


IP = "198.51.7.7"
EACH: list[tuple[str, list[Request], float]] = [
    ("bare", crawler(IP, 10), 10 * 200 / 220),
    ("bare", [{"time": START + n, "ip": IP, "target": "/"} for n in range(10)], 200 / 220),  # the same page again tells nothing new
    ("bare", person(IP, 10), 0),
    ("bare", crawler(IP, 10, ua=LYNX), 0),
    ("faceless", crawler(IP, 1), 200 / 220),
    ("faceless", crawler(IP, 1, ua=LYNX), 0),
    ("unreferred", crawler(IP, 10), 10 * 200 / 220),
    ("unreferred", person(IP, 10), 0),
    ("unstyled", [*crawler(IP, 10), {"time": START, "ip": IP, "target": "/a.png"}], 10 * 200 / 220),
    ("robots", [*crawler(IP, 3), {"time": START, "ip": IP, "target": "/robots.txt"}], 0.25),
    ("breadth", crawler(IP, 40), 4),
    ("volume", crawler(IP, 40), 2),
    ("pace", crawler(IP, 40, every=1), 4),
    ("pace", person(IP, 40), 0),
    ("trickle", crawler(IP, 20, every=600), 20),
    ("trickle", crawler(IP, 20, every=60), 0),
    ("tireless", crawler(IP, 20, every=3600), 10),
    ("sleepless", crawler(IP, 48, every=3600), 24),
    ("regular", crawler(IP, 20, every=600), 1),
    ("failing", [{**r, "status": 404} for r in crawler(IP, 20)], 1),
    ("heads", [{**r, "method": "HEAD"} for r in crawler(IP, 4)], 1),
    ("nameless", crawler(IP, 1, ua=""), 1),
    ("strange", crawler(IP, 1, ua="thing/1.0"), 1),
    ("robotic", crawler(IP, 1, ua="my-crawler"), 1),
    ("impossible", crawler(IP, 1, ua=CHROME.replace("152.0.0.0", "152.0.1.2")), 1),
    ("styled", person(IP, 3), 6 / 3),
    ("favicon", person(IP), 1),
    ("following", person(IP), 1),
    ("relayed", [{**r, "ua": f"{CHROME}{n}", "referrer": "https://search.example/"} for n, r in enumerate(crawler(IP, 5))], 5),
    ("relayed", [{**r, "ua": f"{CHROME}{n}"} for n, r in enumerate(crawler(IP, 5))], 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "requests_", "expected"), EACH)
def test_each(name: str, requests_: list[Request], expected: float) -> None:
    assert value(name, requests_) == pytest.approx(expected, rel=0.15, abs=1e-9)


def test_years_of_a_browser() -> None:
    assert 4 < value("ancient", crawler(IP, 1, ua=OLD_CHROME)) < 6
    assert value("ancient", crawler(IP, 1)) < 1


def test_the_protocol_counts_where_people_speak_a_newer_one() -> None:
    modern = [{**request, "protocol": "HTTP/2.0"} for request in people()]
    assert told([*modern, *crawler(IP, 1)])[IP]["outdated"] == pytest.approx(1 - 5 * 20 / 220)
    assert value("outdated", crawler(IP, 1)) == 0


def test_where_no_assets_are_logged_their_absence_is_nothing() -> None:
    served_elsewhere = [r for r in people() if "page" in r["target"]]
    found = told([*served_elsewhere, *crawler(IP, 10)])[IP]
    assert found["bare"] == found["faceless"] == found["unstyled"] == 0


def test_an_address_of_a_crawlers_network() -> None:
    networks: list[tuple[str, dict[str, Any]]] = [("66.249.66.1", {"published": 1, "near": 0}), ("3.5.140.9", {"cloud": 1})]
    for ip, facts in networks:
        found = told(crawler(ip, 1))[ip]
        assert {name: found[name] for name in facts} == facts


def test_names_are_different_and_all_say_something() -> None:
    found = features(NOTHING_USUAL)
    assert len({f.name for f in found}) == len(found)
    assert all(f.says and isinstance(f.value, pl.Expr) for f in found)
