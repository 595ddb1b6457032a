"""The table of clients: its shape, and that a log's days, shards and their order make no difference to it."""

from __future__ import annotations

import random

import polars as pl
import pytest
from crawlguard_analyzer.clients import clients, totals
from crawlguard_analyzer.features import NOTHING_USUAL, features
from crawlguard_analyzer.rollup import merge, rollup
from hypothesis import given, settings
from hypothesis import strategies as st

from .analyzer_rows import CHROME, START, crawler, judge, people, person, rows, told

TYPES = {
    "client": pl.String, "class": pl.String, "score": pl.Float64, "agent": pl.String, "category": pl.String, "operator": pl.String,
    "identity": pl.String, "swarm": pl.String, "requests": pl.Int64, "documents": pl.Int64, "assets": pl.Int64, "bytes": pl.Int64,
    "spent": pl.Int64, "first": pl.Int64, "last": pl.Int64, "days": pl.Int32, "subnet": pl.String, "asn": pl.Int64, "country": pl.String, "ua": pl.String,
    **{name: pl.Float64 for f in features(NOTHING_USUAL) for name in (f.name, f"{f.name}_points")},
}  # fmt: skip
DAY = 86_400


def test_the_shape() -> None:
    requests = [*people(3), *crawler("2001:db8:7::1", 5), *crawler("", 1), *crawler("host.example", 1)]
    found = clients(rollup(rows(requests)), judge())
    assert dict(found.schema) == TYPES
    assert found["requests"].to_list() == sorted(found["requests"], reverse=True)
    assert (
        found.select(name for name in TYPES if name not in ("agent", "category", "operator", "identity", "swarm", "asn", "country"))
        .null_count()
        .sum_horizontal()
        .item()
        == 0
    )


def test_of_nothing() -> None:
    found = clients(rollup(rows([])), judge())
    assert found.height == 0
    assert dict(found.schema) == TYPES


def test_what_a_client_came_to() -> None:
    row = told([*person("203.0.113.9", 2), *person("203.0.113.9", 1, at=START + 3 * DAY)])["203.0.113.9"]
    facts = {name: row[name] for name in ("requests", "documents", "assets", "bytes", "first", "last", "days", "subnet", "ua")}
    assert facts == {
        "requests": 14, "documents": 3, "assets": 11, "bytes": 1400, "first": START, "last": START + 3 * DAY, "days": 2,
        "subnet": "203.0.113.0/24", "ua": CHROME,
    }  # fmt: skip


def test_the_user_agent_is_that_of_the_busiest_day() -> None:
    requests = [
        *crawler("203.0.113.9", 2, ua="a/1"),
        *crawler("203.0.113.9", 5, at=START + DAY, ua="b/1"),
        *crawler("203.0.113.9", 3, at=START + 2 * DAY, ua="c/1"),
    ]
    assert told(requests)["203.0.113.9"]["ua"] == "b/1"


@pytest.mark.parametrize("pages", [1, 63, 64, 65, 2000])
def test_different_paths_over_days(pages: int) -> None:
    found = totals(rollup(rows(crawler("203.0.113.9", pages, every=1000))))
    assert found["distinct"].item() == pytest.approx(pages, rel=0.5 if pages >= 64 else 1e-9)
    assert found["asked"].item() <= found["documents"].item()


request = st.fixed_dictionaries(
    {
        "time": st.integers(START, START + 3 * DAY),
        "ip": st.sampled_from(["203.0.113.9", "203.0.113.10", "2001:db8::1", "", "\x00<b>"]),
        "target": st.sampled_from(["/", "/a.css", "/b.png", "/robots.txt", "/favicon.ico", "/x?y", "", "*", "/feed"]),
        "ua": st.sampled_from([CHROME, "", "GPTBot/1.0", "\x1b[31m", "curl/8.0"]),
        "status": st.sampled_from([0, 200, 301, 404, 500]),
        "referrer": st.sampled_from(["", "https://a.example/"]),
        "method": st.sampled_from(["GET", "HEAD", "POST", ""]),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(request, min_size=1, max_size=40), st.randoms())
def test_days_and_shards_in_any_order(requests: list[dict[str, object]], dice: random.Random) -> None:
    whole = rows(requests).sort("time")
    days = [rollup(part) for part in whole.with_columns(pl.col("time").floordiv(DAY).alias("day")).partition_by("day", include_key=False)]
    one = clients(merge([rollup(whole)]), judge())
    dice.shuffle(days)
    merged = merge(days)
    assert clients(merged, judge()).equals(one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crawlguard_analyzer.clients._AT_ONCE", 3)
        assert clients(merged, judge()).equals(one), "whichever clients are added up together"
    assert one["requests"].sum() == len(requests)
    assert set(one["class"]) <= {"declared", "crawler", "swarm", "spoofed", "tool", "feed", "monitor", "person", "unknown"}


def test_no_order_of_the_rollup_changes_anything() -> None:
    table = rollup(rows([*people(60), *crawler("198.51.7.7", 60), *crawler("198.51.7.7", 60, at=START + DAY), *crawler("198.51.7.8", 1)]))
    assert clients(table.sample(fraction=1, shuffle=True, seed=1), judge()).equals(clients(table, judge()))
