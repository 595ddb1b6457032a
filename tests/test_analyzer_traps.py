"""Traps: which requests touch one, and that nobody is told by what people ask for too."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from crawlguard_analyzer.cli_analyze import analyze
from crawlguard_analyzer.clients import clients
from crawlguard_analyzer.rollup import Clients, rollup
from crawlguard_analyzer.traps import BY_ROBOTS, OWN, TOUCHED, opened, probes, traps

from crawlguard.errors import ConfigError
from crawlguard.export.robotstxt import parse

from .analyzer_rows import CHROME, START, judge, people, person, rows

ROBOTS = (
    b"User-agent: *\nDisallow: /private/\nDisallow: /*/print$\nAllow: /private/open\nDisallow: /cart\n\nUser-agent: GPTBot\nDisallow: /\n"
)
Request = dict[str, Any]


def visit(ip: str, *targets: str, status: int = 200) -> list[Request]:
    return [{"time": START + 60 * n, "ip": ip, "target": target, "ua": CHROME, "status": status} for n, target in enumerate(targets)]


def judged(requests: list[Request], robots: bytes | None = None, own: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    table = clients(rollup(rows(requests), traps(own, robots)), judge())
    return {row["client"]: row for row in table.iter_rows(named=True)}


def touched(*targets: str, robots: bytes | None = ROBOTS, own: tuple[str, ...] = (), status: int = 200) -> list[bool]:
    """For each target whether it touches a trap."""
    requests = [request for n, target in enumerate(targets) for request in visit(f"198.51.100.{n}", target, status=status)]
    found = rollup(rows(requests), traps(own, robots)).sort(pl.col("ip").str.extract(r"(\d+)$").cast(pl.Int64))
    return [bool(count) for count in found["trapped"]]


def test_what_robots_txt_forbids_everybody() -> None:
    assert touched("/private/", "/private", "/a/print", "/a/print?x", "/private/open/a", "/cart?add=1", "/", "/other") == [
        True, False, True, False, False, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "target", ["/private/x", "/private/open", "/x/print", "/xprint", "/print", "/a/b/print", "/cartwheel", "/a", "/*/print"]
)
def test_as_the_reader_of_robots_txt_says(target: str) -> None:
    assert touched(target) == [not parse(ROBOTS).allows("nobody", target)]


def test_a_site_that_is_closed_has_no_traps() -> None:
    for closed in (b"User-agent: *\nDisallow: /\n", b"User-agent: *\nDisallow: *\n", b"User-agent: GPTBot\nDisallow: /a\n", b"", b"\xff\0"):
        assert touched("/", "/a", robots=closed) == [False, False]


def test_a_probe_is_one_where_it_is_refused() -> None:
    assert touched("/.env", "/.env?x", "/a/.env", "/.envy", status=404) == [True, True, False, False]
    assert touched("/.env", status=403) == [True]
    assert touched("/.env", status=301) == touched("/.env", status=200) == [False]


def test_the_sites_own() -> None:
    assert touched("/honey", "/honey/a?b", "/x/hidden", "/x/hiddens", "/", own=("/honey", "/*/hidden$")) == [True, True, True, False, False]
    for wrong in ("honey", "/", "*", ""):
        with pytest.raises(ConfigError, match="--trap"):
            traps((wrong,))


def test_who_is_told() -> None:
    requests = [
        *people(),
        *visit("198.51.100.7", "/page-1", "/.env", "/.git/config", "/wp-login.php", status=404),
        *visit("198.51.100.8", "/private/x", "/page-2"),
    ]
    found = judged(requests, ROBOTS)
    assert (found["198.51.100.7"]["trapped"], found["198.51.100.7"]["trapped_points"], found["198.51.100.7"]["class"]) == (3, 4, "crawler")
    assert (found["198.51.100.8"]["trapped"], found["198.51.100.8"]["trapped_points"]) == (1, 2.5)
    assert {row["trapped"] for ip, row in found.items() if ip.startswith("203.")} == {0}


def test_what_likely_people_ask_for_is_no_trap_though_robots_txt_forbids_it() -> None:
    shopper = [*person("203.0.113.99"), *visit("203.0.113.99", "/cart")]
    found = judged([*people(), *shopper, *visit("198.51.100.8", "/cart"), *visit("198.51.100.9", "/private/")], ROBOTS)
    assert (found["203.0.113.99"]["trapped"], found["203.0.113.99"]["class"]) == (0, "person")
    assert found["198.51.100.8"]["trapped"] == 0
    assert found["198.51.100.9"]["trapped"] == 1


def test_a_probe_that_the_site_answers_is_none_and_the_sites_own_always_is_one() -> None:
    owner = visit("203.0.113.99", "/wp-login.php")
    found = judged([*people(), *owner, *visit("198.51.100.8", "/wp-login.php", status=403), *visit("198.51.100.9", "/.env", status=404)])
    assert (found["198.51.100.8"]["trapped"], found["198.51.100.9"]["trapped"]) == (0, 1)
    lured = [*person("203.0.113.99"), *visit("203.0.113.99", "/honey")]
    assert judged([*people(), *lured], own=("/honey",))["203.0.113.99"]["trapped"] == 1


def test_days_add_up_and_a_cluster_may_carry_them() -> None:
    requests = [*visit("198.51.100.7", "/.env", status=404), *visit("198.51.100.7", "/private/"), *visit("198.51.100.7", "/.env")]
    collector: Clients = pickle.loads(pickle.dumps(Clients(traps((), ROBOTS))))
    merged = collector.merge([collector(rows([one])) for one in requests])
    inside = ("burst_10", "burst_60", "ua_requests")  # one shard
    assert merged.drop(inside).equals(collector(rows(requests)).drop(inside))
    (bits,) = merged["traps"]
    assert merged["trapped"].to_list() == [2]
    assert opened(bits) == 1 << probes()["/.env"]
    assert (bits & BY_ROBOTS).bit_count() == 1
    assert not bits & 1 << OWN
    assert TOUCHED & BY_ROBOTS == BY_ROBOTS


def test_no_probe_is_what_people_or_their_programs_ask_for() -> None:
    assert not set(probes()) & {"/", "/robots.txt", "/favicon.ico", "/sitemap.xml", "/ads.txt", "/feed", "/login", "/admin"}
    assert not [path for path in probes() if "?" in path or not path.startswith("/") or path.startswith("/.well-known")]


def test_the_command(tmp_path: Path) -> None:
    line = '198.51.100.7 - - [26/Nov/2026:10:00:00 +0000] "GET %s HTTP/1.1" 200 5 "-" "curl/8"\n'
    (tmp_path / "access.log").write_text(line % "/" + line % "/honey/pot" + line % "/private/x")
    (tmp_path / "robots.txt").write_bytes(ROBOTS)
    names = {name: str(tmp_path / name) for name in ("access.log", "robots.txt", "out.parquet")}
    call = [names["access.log"], "--robots", names["robots.txt"], "--trap", "/honey/", "--clients", names["out.parquet"], "-q"]
    done = CliRunner().invoke(analyze, call)
    assert (done.exit_code, done.output) == (0, "")
    assert pl.read_parquet(names["out.parquet"])["trapped"].to_list() == [2]
