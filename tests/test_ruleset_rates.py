"""Rates in a compiled policy: what counts, for whom, and how long a client is asked to wait, to the second."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard.policy.model import RETRY_WITHOUT_RATE

from .policy_corpus import DATA, LEVEL3, NOBODY, TELSTRA, Clock, guard_of, view


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/api"},
        {"header": {"name": "x-a", "is": "1"}},
        {"method": "POST"},
        {"user_agent": "bot"},
        {"not": {"user_agent": "human"}},
        {"all": [{"any": [{"path": "/api"}, {"path": "/x"}]}]},
        {"asn": 1221},
        {"score": 5},
    ],
    ids=json.dumps,
)
def test_only_requests_that_match_the_other_conditions_count(other: dict[str, Any]) -> None:
    """Wherever the rate stands among them."""
    rate: dict[str, Any] = {"rate": {"per": "subnet", "requests": 2, "within": "1h"}}
    weigh: dict[str, Any] = {"id": "w", "when": {"path": "/api"}, "then": {"weigh": 5}}
    match: dict[str, Any] = {"path": "/api", "ua": "bot", "method": "POST", "headers": {"x-a": "1"}, "ip": TELSTRA}
    differ: dict[str, Any] = {"path": "/", "ua": "human", "ip": TELSTRA}
    if "asn" in other:  # what differs is the address, so the count is by something that both share
        rate = {"rate": {"per": "fingerprint", "requests": 2, "within": "1h"}}
        differ = {**match, "ip": LEVEL3}
    for when in ({**rate, **other}, {**other, **rate}, {"all": [rate, other]}):
        guard = guard_of(weigh, {"id": "hot", "when": when}, data=DATA)
        assert {guard.decide(view(**differ)).rule for _ in range(9)} == {None}
        assert [guard.decide(view(**match)).rule for _ in range(3)] == [None, None, "hot"]
        assert guard.decide(view(**differ)).rule is None


def test_what_is_unknown_counts_nothing() -> None:
    guard = guard_of({"when": {"asn": 1221, "rate": {"per": "fingerprint", "requests": 1, "within": "1h"}}}, data=DATA)
    assert {guard.decide(view(ip=NOBODY)).rule for _ in range(5)} == {None}
    assert [guard.decide(view(ip=TELSTRA)).rule for _ in range(2)] == [None, "r1"]


def test_what_an_earlier_rule_decides_counts_nothing() -> None:
    guard = guard_of({"when": {"path": "/a"}, "then": "allow"}, {"when": {"rate": {"per": "ip", "requests": 1, "within": "1h"}}})
    assert {guard.decide(view("/a")).rule for _ in range(5)} == {"r1"}
    assert [guard.decide(view("/b")).rule for _ in range(2)] == [None, "r2"]


def test_each_rule_counts_for_itself() -> None:
    rate = {"per": "ip", "requests": 2, "within": "1h"}
    guard = guard_of({"when": {"path": "/a", "rate": rate}}, {"when": {"path": "/b", "rate": rate}})
    assert [guard.decide(view(p)).rule for p in ("/a", "/a", "/b", "/b", "/a", "/b")] == [None, None, None, None, "r1", "r2"]


def test_each_rate_in_one_rule_counts_for_itself() -> None:
    rate = {"per": "ip", "requests": 2, "within": "1h"}
    guard = guard_of({"when": {"any": [{"path": "/a", "rate": rate}, {"path": "/b", "rate": rate}]}})
    assert [guard.decide(view(p)).rule for p in ("/a", "/a", "/b", "/b", "/a", "/b")] == [None, None, None, None, "r1", "r1"]


def test_two_rates_must_both_be_over_and_the_longer_wait_counts() -> None:
    rates = [{"rate": {"per": "ip", "requests": 1, "within": "10s"}}, {"rate": {"per": "subnet", "requests": 2, "within": "1m"}}]
    guard = guard_of({"when": {"all": rates}, "then": "throttle"})
    answers = [guard.decide(view()).retry_after for _ in range(4)]
    assert answers == [None, None, None, 30]


@pytest.mark.parametrize("windows", [[(2, "10s"), (3, "1h")], [(3, "1h"), (2, "10s")]])
def test_several_windows_count_a_request_in_all_or_in_none(windows: list[tuple[int, str]]) -> None:
    clock = Clock()
    rate = {"per": "ip", "windows": [{"requests": n, "within": t} for n, t in windows]}
    guard = guard_of({"when": {"rate": rate}, "then": "throttle"}, clock=clock)
    assert [guard.decide(view()).retry_after for _ in range(20)] == [None, None] + [5] * 18
    clock.at(5)
    assert [guard.decide(view()).retry_after for _ in range(3)] == [None, 1195, 1195], "refused requests used up nothing of the hour"
    clock.at(1199.999)
    assert guard.decide(view()).retry_after == 1
    clock.at(1200)
    assert guard.decide(view()).allowed


def test_block_for_keeps_out_whoever_went_over_any_window() -> None:
    clock = Clock()
    rate = {"per": "ip", "windows": [{"requests": 1, "within": "1s"}, {"requests": 9, "within": "1m"}], "block_for": "10m"}
    guard = guard_of({"when": {"rate": rate}, "then": "throttle"}, clock=clock)
    assert [guard.decide(view()).retry_after for _ in range(2)] == [None, 600]
    for seconds, wait in ((1, 599), (599.5, 1), (600, None)):
        clock.at(seconds)
        assert guard.decide(view()).retry_after == wait
    assert guard.decide(view(ip=TELSTRA)).allowed


@pytest.mark.parametrize(
    ("requests", "within", "at", "wait"),
    [
        (1, "1m", 0, 60),
        (3, "1m", 0, 20),
        (3, "1m", 0.001, 20),
        (3, "1m", 19, 1),
        (3, "1m", 19.999999, 1),
        (100, "1s", 0, 1),
        (7, "1m", 0, 9),
        (1000, "1d", 0, 87),
        (1, "500ms", 0, 1),
        (2, "4w", 0, 14 * 86_400),
    ],
)
def test_retry_after_is_the_exact_wait_in_whole_seconds(requests: int, within: str, at: float, wait: int) -> None:
    clock = Clock()
    guard = guard_of({"when": {"rate": {"per": "ip", "requests": requests, "within": within}}, "then": "throttle"}, clock=clock)
    assert all(guard.decide(view()).allowed for _ in range(requests))
    clock.at(at)
    assert guard.decide(view()).retry_after == wait
    clock.at(at + wait)
    assert guard.decide(view()).allowed, "whoever waits as long as told is let in"


@pytest.mark.parametrize(("option", "wait"), [("30s", 30), ("1500ms", 2), ("2h", 7200), ("auto", 60)])
def test_retry_after_of_ones_own(option: str, wait: int) -> None:
    guard = guard_of({"when": {"rate": {"per": "ip", "requests": 1, "within": "1m"}}, "then": {"throttle": {"retry_after": option}}})
    guard.decide(view())
    assert guard.decide(view()).retry_after == wait


def test_a_throttle_without_a_rate_asks_for_a_polite_pause() -> None:
    assert guard_of({"when": {"path": "/"}, "then": "throttle"}).decide(view()).retry_after == RETRY_WITHOUT_RATE
    assert guard_of({"when": {"path": "/"}, "then": "hide"}).decide(view()).retry_after is None


@given(gaps=st.lists(st.integers(0, 30_000), min_size=1, max_size=60), requests=st.integers(1, 7), seconds=st.integers(1, 40))
def test_a_rate_is_a_bucket_that_refills_evenly(gaps: list[int], requests: int, seconds: int) -> None:
    """Against a bucket of tokens, written the plain way; gaps in milliseconds."""
    clock = Clock()
    within = seconds * 840  # divisible by 1..7, so that both count in whole microseconds
    guard = guard_of({"when": {"rate": {"per": "ip", "requests": requests, "within": f"{within}ms"}}, "then": "throttle"}, clock=clock)
    each = within * 1000 // requests
    bucket, now = requests * each, 0
    for gap in gaps:
        now += gap * 1000
        bucket = min(requests * each, bucket + gap * 1000)
        clock.at(now / 1e6)
        decision = guard.decide(view())
        assert decision.allowed is (bucket >= each)
        if decision.allowed:
            bucket -= each
        else:
            assert decision.retry_after == -(-(each - bucket) // 1_000_000)
