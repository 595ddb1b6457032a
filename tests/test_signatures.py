"""Rates that are more than a limit on requests: what they count, whose shape they ask for, and how long they keep whom out."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard import Guard
from crawlguard.decision import Decision
from crawlguard.policy.model import Store
from crawlguard.policy.ruleset import RuleVerdict
from crawlguard.policy.terms import Charge
from crawlguard.request import RequestView
from crawlguard.signals import penalty
from crawlguard.signals.conduct import EVIDENCE, Conduct
from crawlguard.signals.families import family
from crawlguard.signals.headers import fingerprint
from crawlguard.signals.shape import ANY, even, judge
from crawlguard.store import MemoryStore, RateStore, SharedStore

from .policy_corpus import DATA, TELSTRA, Clock, guard_of, view


def rate(**parts: Any) -> dict[str, Any]:
    return {"id": "hot", "when": {"rate": {"per": "ip", **parts}}, "then": "throttle"}


def visit(guard: Guard, clock: Clock, seconds: float, path: str, **more: Any) -> Decision:
    clock.at(seconds)
    return guard.decide(view(path, **more))


def ask(guard: Guard, one: RequestView, status: int = 200, size: int = 0) -> bool:
    """A request through a door: whether it was served; then its response is charged."""
    decision = guard.decide(one)
    if decision.allowed:
        guard.responded(one, status, size)
    return decision.allowed


# ---- what is counted


def test_documents_are_counted_without_what_belongs_to_them() -> None:
    guard = guard_of(rate(documents=3, within="1m"))
    for n in range(3):
        assert guard.decide(view(f"/{n}")).allowed
        assert all(guard.decide(view(f"/{n}/{name}")).allowed for name in ("a.css", "b.JS", "c.woff2"))
    assert guard.decide(view("/4")).retry_after == 20
    assert guard.decide(view("/4/a.css")).allowed, "a page that was served gets its style"


def test_distinct_paths_count_a_page_once_and_wait_for_the_window_to_end() -> None:
    clock = Clock()
    guard = guard_of(rate(distinct_paths=30, within="10m"), clock=clock)
    for n in range(300):
        assert visit(guard, clock, n / 10, f"/{n % 30}").allowed
    last = [visit(guard, clock, 60, f"/new/{n}") for n in range(9)][-1]  # two paths in a hundred share a bit
    assert last.retry_after == 540
    assert visit(guard, clock, 60, "/a.css").allowed
    assert visit(guard, clock, 600, "/new").allowed


@pytest.mark.parametrize("paths", [100, 1000, 10_000])
def test_distinct_paths_trip_within_five_percent(paths: int) -> None:
    guard = guard_of(rate(distinct_paths=paths, within="1h"))
    tripped = next(n for n in range(2 * paths) if not guard.decide(view(f"/item/{n}")).allowed)
    assert abs(tripped - paths) <= paths * 0.05 + 1


@pytest.mark.parametrize(
    ("what", "answers"),
    [("errors", [(404, 5), (500, 1), (403, 9), (200, 1), (301, 2)]), ("misses", [(404, 1), (404, 1), (404, 1), (500, 1), (410, 1)])],
)
def test_errors_and_misses_are_counted_after_the_response(what: str, answers: list[tuple[int, int]]) -> None:
    counted = [status for status, _ in answers * 3 if (status == 404 if what == "misses" else status >= 400)]
    fresh = guard_of(rate(**{what: 3, "within": "1m"}))
    served = [ask(fresh, view(), status) for status in counted[:5]]
    assert served == [True, True, True, True, False], "the fourth is served and is one too many: it is known only afterwards"


def test_a_retry_after_of_responses_is_exact() -> None:
    clock = Clock()
    guard = guard_of(rate(errors=3, within="1m"), clock=clock)
    assert all(ask(guard, view(), 500) for _ in range(4))
    assert guard.decide(view()).retry_after == 20
    clock.at(19.999999)
    assert not ask(guard, view())
    clock.at(20)
    assert ask(guard, view())


def test_bytes_are_counted_to_the_byte_however_cheap_they_are() -> None:
    """1 TB in an hour are 277 bytes a microsecond: no answer of a few bytes costs a whole one."""
    clock = Clock()
    guard = guard_of(rate(bytes="1TB", within="1h"), clock=clock)
    ruleset, paid = guard.ruleset, 0
    one = view()
    ruleset.evaluate(one, ruleset.user_agent(None), guard.client_facts(b"\1\2\3\4"), guard.store, 1000)
    charge, key, _, _ = one.owed[0]

    class Words(MemoryStore):
        def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
            nonlocal paid
            paid += interval
            return 0

    words = Words()
    for n in range(100_000):
        charge.pay(words, key, 10**12 + n * 997, 200, 100)
    assert paid == pytest.approx(100_000 * 100 * 3600e6 / 1e12, rel=0.02)


def test_one_huge_answer_keeps_a_client_out_for_a_window_at_most() -> None:
    clock = Clock()
    guard = guard_of(rate(bytes="1MB", within="10m"), clock=clock)
    assert ask(guard, view(), size=500_000)
    assert ask(guard, view(), size=10**12)
    assert guard.decide(view()).retry_after == 600
    assert ask(guard, view(ip=TELSTRA), size=5), "nobody else pays"
    clock.at(600)
    assert guard.decide(view()).allowed


def test_the_guards_own_refusals_cost_nothing() -> None:
    clock = Clock()
    guard = guard_of({"when": {"path": "/no"}}, rate(errors=2, within="1h"), clock=clock)
    assert not any(ask(guard, view("/no"), 403) for _ in range(50))
    assert all(ask(guard, view(), 404) for _ in range(3))
    assert not ask(guard, view(), 404)


def test_only_responses_to_requests_that_the_rule_is_about_are_charged() -> None:
    guard = guard_of({"when": {"path": "/api", "rate": {"per": "ip", "misses": 2, "within": "1h"}}})
    assert all(ask(guard, view("/"), 404) for _ in range(20))
    assert [ask(guard, view("/api"), 404) for _ in range(4)] == [True, True, True, False]
    assert ask(guard, view("/"), 404)


def test_a_policy_that_counts_no_responses_asks_for_none() -> None:
    assert not guard_of(rate(requests=5, within="1m")).charges
    assert guard_of(rate(misses=5, within="1m")).charges
    assert guard_of(rate(windows=[{"requests": 5, "within": "1m"}, {"bytes": 5, "within": "1m"}])).charges


def test_what_goes_wrong_with_a_charge_reaches_nobody() -> None:
    guard, one = guard_of(rate(misses=5, within="1m")), view()
    guard.decide(one)
    one.owed.append("nonsense")
    guard.responded(one, 404, 1)
    assert guard.counters.errors == 1


def test_several_kinds_of_limits_at_once_count_together() -> None:
    clock = Clock()
    windows = [
        {"requests": 3, "within": "1s"},
        {"documents": 5, "within": "1m"},
        {"distinct_paths": 4, "within": "10m"},
        {"errors": 9, "within": "1h"},
    ]
    guard = guard_of(rate(windows=windows), clock=clock)
    assert [visit(guard, clock, 0, "/a").retry_after for _ in range(4)] == [None, None, None, 1]
    assert [visit(guard, clock, 10, "/b").retry_after for _ in range(3)] == [None, None, 2], (
        "what was refused used up nothing of the minute"
    )
    assert visit(guard, clock, 12, "/c").allowed
    assert visit(guard, clock, 50, "/d").allowed
    assert visit(guard, clock, 70, "/e").retry_after == 530


# ---- by which key


def test_paths_are_counted_by_family() -> None:
    assert [family(p) for p in ("/", "/a", "/shop/", "/shop/x/y", "//x", "", "x")] == ["/", "/", "/shop/", "/shop/", "//", "/", "/"]
    guard = guard_of({"when": {"rate": {"per": ["ip", "path"], "requests": 2, "within": "1h"}}})
    assert [guard.decide(view(p)).allowed for p in ("/shop/a", "/shop/b/c", "/shop/d", "/blog/a", "/a", "/b", "/c")] == [
        True, True, False, True, True, True, False,
    ]  # fmt: skip
    assert guard.decide(view("/shop/a", ip=TELSTRA)).allowed


def test_an_unknown_key_is_never_counted() -> None:
    for per in ("country", ["country", "ip"], "asn"):
        guard = guard_of({"when": {"rate": {"per": per, "documents": 1, "within": "1h"}}}, data=DATA)
        assert all(guard.decide(view(ip="203.0.113.7")).allowed for _ in range(9))


# ---- the shape


def shaped(**shape: Any) -> tuple[Guard, Clock]:
    clock = Clock()
    return guard_of(rate(documents=5, within="1h", **shape), clock=clock), clock


def person(guard: Guard, clock: Clock, rng: random.Random, pages: int, **more: Any) -> list[Decision]:
    """Pages of a site of 40, with their assets, read at a person's pace."""
    found, at = [], 0.0
    for _ in range(pages):
        at += rng.expovariate(1 / 8)
        found.append(visit(guard, clock, at, f"/page/{rng.randrange(40)}", **more))
        found += [visit(guard, clock, at, name, **more) for name in ("/a.css", "/b.js", "/c.png")]
    return found


def crawler(guard: Guard, clock: Clock, pages: int, gap: Callable[[], float], **more: Any) -> list[Decision]:
    found, at = [], 0.0
    for n in range(pages):
        at += gap()
        found.append(visit(guard, clock, at, f"/page/{n}", **more))
    return found


@pytest.mark.parametrize(
    "shape", [{"assets": "under 2%"}, {"distinct_ratio": "over 0.9"}, {"regular": True}, {"assets": "under 2%", "regular": True}]
)
def test_a_shape_stops_the_crawler_and_spares_the_person(shape: dict[str, Any]) -> None:
    guard, clock = shaped(**shape)
    assert all(d.allowed for d in person(guard, clock, random.Random(5), 200))
    guard, clock = shaped(**shape)
    found = crawler(guard, clock, 60, lambda: 2.0)
    assert all(d.allowed for d in found[: EVIDENCE - 1])
    assert not any(d.allowed for d in found[EVIDENCE:])


def test_a_delay_that_is_varied_by_half_is_as_regular_as_a_fixed_one() -> None:
    rng = random.Random(3)
    guard, clock = shaped(regular=True)
    found = crawler(guard, clock, 200, lambda: rng.uniform(1, 3))  # Scrapy's RANDOMIZE_DOWNLOAD_DELAY
    assert sum(not d.allowed for d in found) > 100
    guard, clock = shaped(regular=True)
    assert all(d.allowed for d in crawler(guard, clock, 200, lambda: rng.expovariate(1 / 2)))


def test_too_little_evidence_never_fires_not_even_negated() -> None:
    for when in ({"rate": {"per": "ip", "requests": 1, "within": "1h", "assets": "under 2%"}},):
        for condition in (when, {"not": when}):
            guard = guard_of({"when": condition})
            assert all(guard.decide(view(f"/{n}")).allowed for n in range(EVIDENCE - 1))


def test_whoever_reads_robots_txt_is_told_from_who_does_not() -> None:
    for wanted in (True, False):
        guard, clock = shaped(robots_fetched=wanted)
        assert guard.decide(view("/robots.txt")).allowed
        found = crawler(guard, clock, 40, lambda: 1.0) + crawler(guard, clock, 40, lambda: 1.0, ip=TELSTRA)
        assert [found[39].allowed, found[79].allowed] == [not wanted, wanted]
    guard, _ = shaped(assets="under 2%")
    assert not guard.ruleset.watches


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 80), st.integers(0, 2), st.sampled_from((True, False, None)))
def test_a_shape_is_judged_as_it_is_written(documents: int, assets: int, distinct: int, robots: int, wanted: bool | None) -> None:
    conduct = Conduct(documents + assets, documents, assets, robots, distinct, max(0, documents - 1), 100, 31, 0)
    found = judge(conduct, (-1.0, 0.02), (0.9, 2.0), wanted, None)
    if documents < 20:
        assert found is None
    else:
        share = assets * 50 < documents + assets
        assert found is (share and distinct * 10 > documents * 9 and (wanted is None or wanted is bool(robots)))


@pytest.mark.parametrize("kind", ["memory", "shared"])
def test_distinct_paths_alone_can_be_asked_to_be_regular_too(kind: str, tmp_path: Path) -> None:
    rng, clock = random.Random(3), Clock()
    policy = guard_of(rate(distinct_paths=30, within="1h", regular=True)).policy
    guard = Guard(policy, store=Store(kind, str(tmp_path / "rates")), clock=clock)
    assert all(d.allowed for d in crawler(guard, clock, 60, lambda: rng.expovariate(1 / 2)))
    assert any(not d.allowed for d in crawler(guard, clock, 60, lambda: 2.0, ip=TELSTRA))


def test_a_burst_at_one_instant_is_not_regular() -> None:
    assert not even(Conduct(50, 50, 0, 0, 50, 49, 0, 0, 0))
    assert even(Conduct(50, 50, 0, 0, 50, 49, 1000, 299, 0))
    assert not even(Conduct(50, 50, 0, 0, 50, 49, 1000, 300, 0))
    assert judge(Conduct(50, 50, 0, 0, 50, 49, 0, 0, 0), ANY, ANY, None, False) is True


# ---- consequences


def test_terms_grow_for_repeat_offenders_and_are_forgotten_day_by_day() -> None:
    clock, minute, day = Clock(), 60, 86_400
    guard = guard_of(rate(requests=1, within="1s", block_for=["10m", "1h", "1d"]), clock=clock)
    at, terms = 0.0, []

    def offend(at: float) -> int:
        assert visit(guard, clock, at, "/").allowed
        wait = visit(guard, clock, at, "/").retry_after
        assert wait
        assert visit(guard, clock, at + wait - 0.5, "/").retry_after == 1, "asking does not prolong it"
        return wait

    for _ in range(4):
        terms.append(offend(at))
        at += terms[-1]
    assert terms == [10 * minute, 60 * minute, day, day]
    at += 1.1 * day
    assert offend(at) == 60 * minute, "two days after the last offence but one, two of three are forgotten"
    at += 4 * day
    assert offend(at) == 10 * minute
    assert visit(guard, clock, 0, "/", ip=TELSTRA).allowed


@pytest.mark.parametrize("kind", ["memory", "shared"])
def test_every_store_remembers_offences_and_holds(kind: str, tmp_path: Path) -> None:
    store: RateStore = MemoryStore() if kind == "memory" else SharedStore(tmp_path / "rates", 65_536)
    now, key, second = 10**12, 0x9E37_79B9_7F4A_7C15, 1_000_000
    terms = (600 * second, 3600 * second, 86_400 * second)
    got = []
    for _ in range(5):
        assert penalty.left(store, key, now, terms[-1]) == 0
        got.append(penalty.begin(store, key, now, terms))
        assert penalty.left(store, key, now, terms[-1]) == got[-1]
        assert penalty.left(store, key, now + got[-1] - 1, terms[-1]) == 1
        now += got[-1]
    assert got == [*terms, terms[-1], terms[-1]]
    penalty.hold(store, key, now, terms[1])
    assert penalty.left(store, key, now, terms[-1]) == terms[1]
    if isinstance(store, SharedStore):  # whose bans can be lifted by hand, in their last seconds too
        store.forget(key)
        assert penalty.left(store, key, now + terms[1] - 1, terms[-1]) == 0
    store.close()


@pytest.mark.parametrize("kind", ["memory", "shared"])
@given(st.integers(1, 10**9), st.integers(1000, 10**10), st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)), max_size=20))
def test_every_store_charges_responses_alike(kind: str, limit: int, within: int, steps: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store: RateStore = MemoryStore() if kind == "memory" else SharedStore(Path(directory) / "rates", 65_536)
        charge, now, debt, at, key = Charge("bytes", limit, within), 10**12, 0.0, 10**12, 77 << 20
        for gap, size in steps:
            now += gap
            debt, at = max(0.0, debt - (now - at)), now
            wait = store.peek(key, now, within, 2 * within, 0)
            assert abs(wait - max(0.0, debt - within)) <= len(steps) + 1e-6 * within
            charge.pay(store, key, now, 200, size)
            debt = min(debt + size * within / limit, 2 * within)
        store.close()


@pytest.mark.parametrize("counted", [{"documents": 1}, {"distinct_paths": 1}])
def test_block_for_holds_for_whatever_is_counted(counted: dict[str, int]) -> None:
    clock = Clock()
    guard = guard_of(rate(**counted, within="1s", block_for="10m"), clock=clock)
    assert [visit(guard, clock, 0, f"/{n}").retry_after for n in range(3)] == [None, 600, 600]
    assert visit(guard, clock, 300, "/a.css").retry_after == 300
    assert visit(guard, clock, 600, "/").allowed


def test_a_block_of_the_action_holds_too() -> None:
    clock = Clock()
    guard = guard_of(
        {"id": "hot", "when": {"rate": {"per": "ip", "documents": 1, "within": "1s"}}, "then": {"throttle": {"block_for": "1h"}}},
        clock=clock,
    )
    assert [visit(guard, clock, 0, f"/{n}").retry_after for n in range(2)] == [None, 3600]


def test_whoever_is_not_of_the_shape_is_not_held() -> None:
    clock = Clock()
    guard = guard_of(rate(documents=5, within="1h", assets="under 2%", block_for="1d"), clock=clock)
    assert all(d.allowed for d in person(guard, clock, random.Random(1), 100))


# ---- what explain says


def test_explaining_counts_a_request_once() -> None:
    windows = [{"documents": 3, "within": "1h"}, {"distinct_paths": 3, "within": "1h"}, {"misses": 3, "within": "1h"}]
    guard = guard_of(rate(windows=windows, block_for=["10m", "1h"]))

    def explained(path: str) -> tuple[Decision, RuleVerdict]:
        decision, verdicts, _, _ = guard.explain(view(path))
        return decision, verdicts[0]

    for n in range(3):
        decision, verdict = explained(f"/{n}")
        assert (decision.allowed, verdict.verdict) == (True, "not matched")
    decision, verdict = explained("/4")
    assert (decision.retry_after, verdict.verdict) == (600, "matched")


# ---- attackers


def test_an_attacker_who_hops_in_a_32_gains_nothing_by_subnet_and_leaves_others_alone() -> None:
    rng = random.Random(9)
    guard = guard_of({"id": "net", "when": {"rate": {"per": "subnet", "distinct_paths": 50, "within": "1h", "assets": "under 2%"}}})
    people = [f"2001:db8:ffff:{n:x}::1" for n in range(5)]
    refused = 0
    for n in range(2000):
        ip = f"2001:db8:{rng.randrange(8):x}:{rng.getrandbits(16):x}::{rng.getrandbits(32) >> 16:x}"  # eight /48 of a /32
        refused += not guard.decide(view(f"/{n}?{n}", ip=ip, ua=f"Mozilla/{rng.random()}", headers={f"x-{n}": "1"})).allowed
        if n % 100 == 0:
            assert all(guard.decide(view("/start", ip=one)).allowed for one in people)
    assert refused > 1500


def test_random_paths_and_families_fill_no_memory_and_ban_nobody_else() -> None:
    rng = random.Random(2)
    guard = guard_of(
        {"id": "a", "when": {"rate": {"per": ["ip", "path"], "distinct_paths": 20, "within": "1h", "block_for": "1d"}}},
        {"id": "b", "when": {"rate": {"per": "fingerprint", "documents": 500, "within": "1h", "distinct_ratio": "over 0.9"}}},
    )
    for n in range(3000):
        guard.decide(
            view(
                f"/{rng.getrandbits(40)}/{'x' * 3000}{n}",
                ip=f"198.51.100.{rng.randrange(256)}",
                ua=str(rng.random()),
                headers={"a": "\xff" * 99},
            )
        )
    assert guard.decide(view("/shop/1", ip="203.0.113.9", ua="Firefox")).allowed
    assert guard.counters.errors == 0


def test_hostile_paths_break_nothing() -> None:
    guard = guard_of({"when": {"rate": {"per": ["path", "ip"], "distinct_paths": 5, "within": "1h"}}})
    for path in ("", "\ud800", "/\0", "/" * 70_000, "/a." + "css" * 9999, "\udcff/\udcff"):
        guard.decide(view(path))
    assert guard.counters.errors == 0


def test_the_order_and_number_of_headers_hide_nobody_from_a_fingerprint() -> None:
    rng = random.Random(8)
    guard = guard_of({"when": {"rate": {"per": "fingerprint", "documents": 50, "within": "1h"}}})
    told = []
    for n in range(200):
        headers = [
            ("accept", "*/*"),
            ("accept-language", "en"),
            ("accept-encoding", "gzip"),
            (f"x-{rng.random()}", "1"),
            ("cookie", str(n)),
        ]
        rng.shuffle(headers)
        told.append(guard.decide(view(f"/{n}", ip=f"10.0.{n}.1", ua="same", headers=dict(headers))).allowed)
    assert told == [True] * 50 + [False] * 150


def test_of_a_repeated_header_the_first_makes_the_fingerprint() -> None:
    once = [(b"user-agent", b"a"), (b"accept-language", b"b"), (b"accept-encoding", b"c")]
    plain = fingerprint(RequestView(headers=once))
    assert fingerprint(RequestView(headers=[*once, *((name, b"other") for name, _ in once)])) == plain
    assert fingerprint(RequestView(headers=[*reversed(once), (b"cookie", b"d")])) == plain
    assert fingerprint(RequestView(headers=[(name, bytearray(value)) for name, value in once])) == plain  # type: ignore[misc]
    assert len({plain, *(fingerprint(RequestView(headers=[*once[:n], (once[n][0], b""), *once[n + 1 :]])) for n in range(3))}) == 4
    assert len({plain, *(fingerprint(RequestView(headers=[*once[:n], *once[n + 1 :]])) for n in range(3))}) == 4


COUNTED = [
    {"requests": 5, "within": "1m"}, {"documents": 5, "within": "10m"}, {"distinct_paths": 5, "within": "1h"}, {"misses": 5, "within": "1h"},
    {"errors": 5, "within": "1h"}, {"bytes": 5000, "within": "1h"}, {"windows": [{"requests": 5, "within": "1m"}, {"misses": 5, "within": "1h"}]},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["memory", "shared"])
@pytest.mark.parametrize("terms", ["4s", ["4s", "2h"]])
@pytest.mark.parametrize("counted", COUNTED)
def test_who_comes_back_when_told_to_is_served(counted: dict[str, Any], terms: str | list[str], kind: str, tmp_path: Path) -> None:
    clock, now = Clock(), 0.0
    policy = guard_of(rate(**counted, block_for=terms)).policy
    guard = Guard(policy, store=Store(kind, str(tmp_path / "rates")), clock=clock)
    waits = []
    for offence in range(4):
        served = next(n for n in range(40) if not ask(guard, view(f"/{offence}/{n}"), 404, 1000))
        assert served >= (1 if offence else 5)
        wait = guard.decide(view("/x")).retry_after
        assert wait is not None
        waits.append(wait)
        clock.at(now + wait - 0.01)
        assert not guard.decide(view("/x")).allowed
        now += wait
        clock.at(now)
    assert waits[0] >= 4
    assert (waits[1] >= 7200) is (terms != "4s"), "another offence"


LIMITS = st.builds(
    lambda what, number, within: {what: number, "within": f"{within}s"},
    st.sampled_from(["requests", "documents"]),
    st.integers(9, 20),
    st.integers(1, 60),
)
"""One request is refilled in 7 s at most."""


@given(
    st.lists(LIMITS, min_size=1, max_size=2, unique_by=str),
    st.sampled_from(["7s", "2m", ["7s", "9s", "1m"]]),
    st.lists(st.integers(0, 30_000), max_size=80),
)
def test_keeping_out_never_admits_more_than_the_limit_alone(windows: list[dict[str, Any]], terms: Any, gaps: list[int]) -> None:
    clock, now = Clock(), 0
    alone, held = guard_of(rate(windows=windows), clock=clock), guard_of(rate(windows=windows, block_for=terms), clock=clock)
    admitted = [0, 0]
    for n, gap in enumerate(gaps):
        now += gap if gap % 3 else 0  # many at once
        clock.at(now / 1000)
        for side, guard in enumerate((alone, held)):
            admitted[side] += guard.decide(view(f"/{n}")).allowed
        assert admitted[1] <= admitted[0]
