"""IPv6: what hops within its /64 is judged as one, and each of its addresses is told so."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.adding import merge
from crawlguard_analyzer.clients import CLIENTS_VERSION, clients
from crawlguard_analyzer.houses import OWN, housed
from crawlguard_analyzer.rollup import SCHEMA, rollup

from .analyzer_rows import START, Request, crawler, judge, people, person, rows

DAY = 86_400
NET = "2001:db8:0:7:"


def hopping(requests: list[Request], net: str = NET) -> list[Request]:
    """The same requests, each from another address of a /64."""
    return [{**request, "ip": f"{net}:{n + 1:x}"} for n, request in enumerate(requests)]


def judged(requests: list[Request]) -> pl.DataFrame:
    return clients(rollup(rows(requests)), judge())


def shared(table: pl.DataFrame, net: str = NET) -> list[dict[str, Any]]:
    """What the addresses of a /64 have of it, each different one once."""
    return table.filter(pl.col("client").str.starts_with(net)).drop("client", *OWN).unique().to_dicts()


@pytest.mark.parametrize("visit", [crawler("x", 60), crawler("x", 60, every=700), person("x", 12)], ids=["fast", "slow", "person"])
def test_a_hopping_visitor_is_judged_as_one_that_stays(visit: list[Request]) -> None:
    crowd = people()
    stays = judged([*crowd, *({**request, "ip": f"{NET}:1"} for request in visit)])
    hops = judged([*crowd, *hopping(visit)])
    assert stays.height == 201
    assert hops.height == 200 + len(visit)
    (told,) = shared(hops)
    assert [told] == shared(stays)
    assert told["class"] in ("crawler", "person")


def test_each_address_has_its_own_requests() -> None:
    table = judged([*people(20), *hopping(crawler("x", 60)), *crawler(f"{NET}:1", 3, at=START + 2 * DAY)])
    mine = table.filter(pl.col("client").str.starts_with(NET))
    assert mine["requests"].sum() == 63
    first = mine.row(by_predicate=pl.col("client") == f"{NET}:1", named=True)
    assert (first["requests"], first["days"], first["first"], first["last"]) == (4, 2, START, START + 2 * DAY + 4)
    assert table["requests"].to_list() == sorted(table["requests"], reverse=True)
    assert table["client"].n_unique() == table.height
    assert CLIENTS_VERSION == 1


def test_neighbours_are_two() -> None:
    table = judged([*people(), *hopping(crawler("x", 60)), *hopping(person("x", 12), "2001:db8:0:8:")])
    assert [one["class"] for one in (*shared(table), *shared(table, "2001:db8:0:8:"))] == ["crawler", "person"]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8::1", "2001:db8:0:0:f::", True),
        ("2001:DB8::1", "2001:0db8:0000::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:198.51.100.7", "::ffff:198.51.100.8", False),
        ("198.51.100.7", "198.51.100.8", False),
        ("k-0123456789abcdef", "k-0123456789abcdee", False),
        ("2001:db8::/48", "2001:db8:1::/48", False),
        ("host:1", "host:2", False),
    ],
)  # fmt: skip
def test_who_lives_together(one: str, other: str, together: bool) -> None:
    table = rollup(rows([*crawler(one, 2), *crawler(other, 3)]))
    gathered, homes = housed(table)
    assert gathered.height == (1 if together else 2)
    assert homes.to_dicts() == ([{"client": ip, "house": min(one, other)} for ip in homes["client"]] if together else [])
    assert gathered["requests"].sum() == 5
    assert gathered.schema == pl.Schema(SCHEMA)


def test_shards_and_their_order_do_not_matter() -> None:
    requests = [*people(20), *hopping(crawler("x", 90, every=1500)), *hopping(person("x", 4), "2001:db8:0:8:")]
    by_day = rows(requests).with_columns(day=pl.col("time") // DAY).sort("time")
    days = [rollup(day) for day in by_day.partition_by("day", include_key=False)]
    random.Random(1).shuffle(days)
    assert clients(merge(days), judge()).equals(judged(requests))


def test_a_pace_that_only_the_network_has() -> None:
    gathered, _ = housed(rollup(rows(hopping(crawler("x", 60, every=1)))))
    assert gathered.select("burst_10", "burst_60", "gaps", "gap_sum").rows() == [(10, 60, 59, 59)]
