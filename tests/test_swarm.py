"""Swarms: the contract of every store, who is struck and who is spared, and that nothing grows whoever comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard import Guard
from crawlguard.policy.compile_rates import SIGNATURE
from crawlguard.signals.conduct import ASSET, DOCUMENT
from crawlguard.signals.swarm import EVIDENCE, PAUSE, SLOWLY, Swarm, learnt, strikes
from crawlguard.store import MemoryStore, RateStore, SharedStore
from crawlguard.store.filters import EVER, ROOM, Filter, room
from crawlguard.store.memory_swarm import MemorySwarm
from crawlguard.store.shared_swarm import SharedSwarm

from .policy_corpus import Clock, guard_of, view
from .test_store import fresh_key

S = 1_000_000
NOW = 10**12
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/157.0.0.0 Safari/537.36"


@pytest.fixture(scope="module", params=["memory", "shared"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RateStore]:
    made: RateStore = MemoryStore() if request.param == "memory" else SharedStore(tmp_path_factory.mktemp("store") / "rates", 1 << 20)
    yield made
    made.close()


@pytest.fixture(params=["memory", "shared"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RateStore]:
    """One that knows no residents: of ten thousand strangers a filter that other tests have filled takes some for residents."""
    made: RateStore = MemoryStore() if request.param == "memory" else SharedStore(tmp_path / "rates", 1 << 20)
    yield made
    made.close()


class TestContract:
    """What RateStore promises of swarms, for every implementation of it."""

    @pytest.mark.parametrize("clients", [1, 50, 1000, 10_000])
    def test_clients_and_paths_are_told_to_five_percent(self, empty: RateStore, clients: int) -> None:
        store, key = empty, fresh_key()
        for n in range(clients):
            for again in (False, True):
                found = store.swarm(key, store.mark(f"c{n}"), NOW + n, 600 * S, DOCUMENT, store.mark(f"/{n % 500}"))
                assert found.seen or not again  # a filter that is full takes a stranger in a hundred for somebody
        assert abs(found.clients - clients) <= clients * 0.05 + 1
        assert abs(found.distinct - min(clients, 500)) <= 26
        assert (found.documents, found.left) == (2 * clients, 600 * S - clients + 1)

    def test_whoever_loads_an_asset_is_a_resident_and_no_bare_client(self, store: RateStore) -> None:
        key, other, window = fresh_key(), fresh_key(), 600 * S
        people = [store.mark(f"person {key} {n}") for n in range(40)]
        for n, member in enumerate(people):
            assert not store.swarm(key, member, NOW, window, DOCUMENT, store.mark(f"/{key}/{n}")).resident
        before = store.swarm(key, people[0], NOW, window, DOCUMENT, 0, dry=True)
        assert 37 <= before.clients <= 40
        for member in people:
            store.swarm(key, member, NOW, window, ASSET, 0)
        after = store.swarm(key, people[0], NOW, window, DOCUMENT, store.mark(f"/{key}/door"))
        assert (after.clients <= 3, after.resident, after.seen, after.known) == (True, True, True, False)
        assert after.residents >= 40
        assert after.settled >= 40
        stranger = store.swarm(other, store.mark(f"stranger {key}"), NOW, window, DOCUMENT, store.mark(f"/{key}/door"))
        assert (stranger.resident, stranger.known) == (False, True), "on the whole host, and so are the paths that residents ask for"
        assert store.swarm(other, people[3], NOW + 7200 * S, window, DOCUMENT, 0).resident, "for longer than a window"

    def test_the_page_by_which_a_resident_came_in_is_known_from_then_on(self, store: RateStore) -> None:
        key, window = fresh_key(), 600 * S
        door, deep, forged = (store.mark(f"/{key}/{name}") for name in ("door", "deep", "forged"))
        person, cached = store.mark(f"person {key}"), store.mark(f"cached {key}")

        def known(path: int) -> bool:
            return store.swarm(key, store.mark(f"asks {key}"), NOW, window, DOCUMENT, path, dry=True).known

        store.swarm(key, person, NOW, window, DOCUMENT, door)
        store.swarm(key, person, NOW, window, ASSET, door, dry=True)
        assert not known(door)
        assert not store.swarm(key, person, NOW, window, ASSET, door).known
        assert known(door)
        assert store.swarm(key, person, NOW, window, ASSET, door).known
        for path in (deep, forged):  # a resident has to ask for a page to make it known
            assert not store.swarm(key, person, NOW, window, ASSET, path).known
            assert not known(path)
        store.swarm(key, cached, NOW, window, ASSET, forged)  # and so has whoever was not seen to come in
        assert not known(forged)

    def test_a_dry_run_counts_nothing(self, store: RateStore) -> None:
        key = fresh_key()
        for n in range(30):
            found = store.swarm(key, store.mark(f"d{n}"), NOW, S, DOCUMENT, store.mark(f"/d{n}"), dry=True)
            assert (found.clients, found.documents, found.distinct) == (1, 1, 1)
        store.swarm(key, store.mark("d0"), NOW, S, ASSET, 0, dry=True)
        assert store.swarm(key, store.mark("d0"), NOW, S, DOCUMENT, 0, dry=True).residents == 0

    def test_what_is_usual_is_learnt_slowly_and_forgotten_slowly(self, store: RateStore) -> None:
        key, usual = fresh_key(), []
        for window in range(200):
            at = NOW + window * 60 * S
            for n in range(100):
                found = store.swarm(key, store.mark(f"{window} {n}"), at, 60 * S, DOCUMENT, 0)
            usual.append(found.usual)
        assert (usual[0], usual[1]) == (0, 1)
        assert usual == sorted(usual)
        assert 25 <= usual[-1] <= 40, "1.6% more in each window"
        assert store.swarm(key, 1, NOW + 100 * 86_400 * S, 60 * S, DOCUMENT, 0).usual == 0

    def test_groups_are_counted_apart(self, store: RateStore) -> None:
        keys = [fresh_key() for _ in range(20)]
        for n in range(30):
            for key in keys:
                found = store.swarm(key, store.mark(f"g{n}"), NOW, S, DOCUMENT, store.mark(f"/{n}"))
                assert (found.documents, abs(found.clients - n - 1) <= 1) == (n + 1, True)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 9), st.sampled_from((DOCUMENT, DOCUMENT, ASSET)), st.integers(0, 9), st.integers(0, 3 * S)
        ),
        max_size=60,
    )
)
def test_both_stores_say_the_same(steps: list[tuple[int, int, int, int, int]]) -> None:
    shared = SHARED_TABLE
    memory, now, base = MemorySwarm(), NOW, fresh_key()
    for group, member, kind, path, gap in steps:
        now += gap
        who = (base ^ (member + 1) * 0x9FB21C651E98DF25) & (1 << 64) - 1
        where = (base ^ path * 0xD1342543DE82EF95) & (1 << 64) - 1 or 1
        told = [s.swarm(base + group & (1 << 64) - 1, who, now, 10 * S, kind, where if path else 0) for s in (memory, shared)]
        assert told[0]._replace(settled=0) == told[1]._replace(settled=0)


@pytest.fixture(scope="module", autouse=True)
def _shared_table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    global SHARED_TABLE
    SHARED_TABLE = SharedSwarm(tmp_path_factory.mktemp("swarm") / "swarm", 16 << 20, b"s" * 32)
    yield
    SHARED_TABLE.close()


SHARED_TABLE: SharedSwarm


# ---- the verdict

HOT = Swarm(100, 300, 290, 0, 0, 300 * S, 1000, False, True, False)


@pytest.mark.parametrize(
    ("changed", "struck"),
    [
        ({}, True),
        ({"clients": 49}, False),
        ({"usual": 20}, True),
        ({"usual": 21}, False),
        ({"distinct": 240}, False),
        ({"resident": True}, False),
        ({"known": True, "seen": False}, True),
        ({"known": True, "seen": False, "residents": 2}, False),
        ({"known": False, "seen": False, "residents": 500}, True),
        ({"known": True, "seen": True, "residents": 500}, True),
    ],
)
def test_who_is_struck(changed: dict[str, Any], struck: bool) -> None:
    assert strikes(HOT._replace(**changed), 50, 5) == (PAUSE if struck else 0)
    assert strikes(HOT._replace(**changed, settled=EVIDENCE - 1), 50, 5) is None


def test_a_wait_is_short() -> None:
    assert strikes(HOT._replace(left=7), 50, 5) == 7


def test_a_window_teaches_at_most_twice_what_is_usual() -> None:
    assert learnt(10 << 8, 5000, NOW, NOW, S) == ((10 << 8) + (10 << 8) // SLOWLY) * 1
    assert learnt(0, 64, NOW, NOW, S) >> 8 == 1
    assert learnt(1000 << 8, 0, NOW, NOW + 10**15, S) == 0


# ---- through a guard


def site(
    guard: Guard, clock: Clock, rng: random.Random, people: int, swarm: int, each: int = 2, pages: int = 20_000
) -> tuple[list[bool], list[bool]]:
    """People and a swarm of one fingerprint, mixed over nine minutes: who was let through, document by document, of each.

    People come by one of thirty doors, load three assets with each page that they get, and go on to pages at random.
    """
    events: list[tuple[float, int, int]] = []
    for n in range(people):
        start = rng.uniform(0, 500)
        events += [(start + step * 9, 0, n) for step in range(4)]
    for n in range(swarm):
        events += [(rng.uniform(0, 540), 1, n) for _ in range(each)]
    found: tuple[list[bool], list[bool]] = ([], [])
    been, fresh = set(), iter(rng.sample(range(pages), swarm * each))
    for at, kind, n in sorted(events):
        clock.at(at)
        if kind:
            ip, path = f"2001:db8:{n >> 8:x}:{n & 255:x}::1", f"/item/{next(fresh)}"
        else:
            ip = f"10.{n >> 8}.{n & 255}.9"
            path = f"/door/{rng.randrange(30)}" if n not in been else f"/item/{rng.randrange(pages)}"
        allowed = guard.decide(view(path, ip=ip, ua=CHROME)).allowed
        found[kind].append(allowed)
        if not kind and allowed:
            been.add(n)
            assert all(guard.decide(view(asset, ip=ip, ua=CHROME)).allowed for asset in ("/a.css", "/b.js", "/c.png"))
    return found


RULE = {"id": "swarm", "when": {"swarm": True}, "then": "throttle"}


def warmed(clock: Clock) -> Guard:
    """A guard that has seen a few hundred people, an hour ago."""
    guard = guard_of(RULE, clock=clock)
    clock.at(-3600)
    for n in range(200):
        for path in (f"/door/{n % 30}", "/a.css", f"/door/{(n + 7) % 30}"):
            guard.decide(view(path, ip=f"10.99.{n}.9", ua=CHROME))
    return guard


def test_a_swarm_among_people_who_share_its_fingerprint() -> None:
    clock = Clock(100_000)
    people, swarm = site(warmed(clock), clock, random.Random(4), people=1000, swarm=2500)
    late = swarm[500:]
    assert sum(late) / len(late) <= 0.05
    assert people.count(False) / len(people) <= 0.002


def test_a_crowd_of_people_is_no_swarm() -> None:
    clock = Clock(100_000)
    people, _ = site(warmed(clock), clock, random.Random(4), people=2000, swarm=0)
    assert all(people)


def test_a_swarm_on_a_site_whose_assets_never_reach_the_guard_stops_nobody() -> None:
    clock = Clock(100_000)
    guard = guard_of(RULE, clock=clock)
    assert all(guard.decide(view(f"/{n}", ip=f"10.{n >> 8}.{n & 255}.9", ua=CHROME)).allowed for n in range(3000))


def test_feed_readers_ask_for_one_page_and_are_no_swarm() -> None:
    clock = Clock(100_000)
    guard = warmed(clock)
    clock.at(0)
    assert all(guard.decide(view("/feed.xml", ip=f"10.{n >> 8}.{n & 255}.9", ua="NetNewsWire/7")).allowed for n in range(3000))


def test_people_are_seen_to_load_assets_whatever_an_earlier_rule_says_of_assets() -> None:
    clock = Clock(100_000)
    guard = guard_of({"id": "static", "when": {"path": {"suffix": [".css"]}}, "then": "allow"}, RULE, clock=clock)
    for n in range(300):
        assert guard.decide(view("/a.css", ip=f"10.{n >> 8}.{n & 255}.9", ua=CHROME)).rule == "static"
        assert guard.decide(view(f"/page/{n}", ip=f"10.{n >> 8}.{n & 255}.9", ua=CHROME)).allowed


def test_a_refused_person_who_loads_a_favicon_comes_in() -> None:
    clock = Clock(100_000)
    guard = warmed(clock)
    clock.at(0)
    for n in range(200):
        guard.decide(view(f"/item/{n}", ip=f"2001:db8:0:{n:x}::1", ua=CHROME))
    decision = guard.decide(view("/deep/link", ip="203.0.113.9", ua=CHROME))
    assert (decision.rule, decision.retry_after) == ("swarm", 60)
    assert guard.decide(view("/favicon.ico", ip="203.0.113.9", ua=CHROME)).allowed
    assert guard.decide(view("/deep/link", ip="203.0.113.9", ua=CHROME)).allowed


def entering(guard: Guard, referer: str) -> list[bool]:
    """People who all come in by one of three pages and go no further, while a swarm of their fingerprint is there: whose first page was let through."""
    found = []
    for n in range(400):
        guard.decide(view(f"/item/{n}", ip=f"2001:db8:0:{n:x}::1", ua=CHROME))
        ip, path = f"10.{n >> 8}.{n & 255}.9", f"/entry/{n % 3} é"
        found.append(guard.decide(view(path, ip=ip, ua=CHROME)).allowed)
        headers = {"host": "Shop.example:8000", "referer": referer.format(n=n % 3)}
        assert guard.decide(view("/a.css", ip=ip, ua=CHROME, headers=headers)).allowed
    return found


@pytest.mark.parametrize(
    ("referer", "known"),
    [
        ("https://shop.example:8000/entry/{n}%20%C3%A9?q=/x#y", True),
        ("http://shop.example:8000/entry/{n}%20%C3%A9", True),
        ("https://shop.example:8000/", False),
        ("https://shop.example/entry/{n}%20%C3%A9", False),
        ("https://other.example/entry/{n}%20%C3%A9", False),
        ("shop.example:8000/entry/{n}%20%C3%A9", False),
        ("https://shop.example:8000", False),
        ("", False),
    ],
)
def test_people_who_come_in_by_a_page_that_no_resident_asks_for_are_known_by_those_before_them(referer: str, known: bool) -> None:
    clock = Clock(100_000)
    guard = warmed(clock)
    clock.at(0)
    refused = entering(guard, referer).count(False)
    assert refused <= 3 if known else refused >= 300


def test_one_resident_cannot_make_pages_known_by_naming_them() -> None:
    clock = Clock(100_000)
    guard = warmed(clock)
    clock.at(0)
    for n in range(300):
        headers = {"host": "shop.example", "referer": f"https://shop.example/item/{n}"}
        guard.decide(view("/a.css", ip="203.0.113.9", ua=CHROME, headers=headers))
    found = [guard.decide(view(f"/item/{n}", ip=f"2001:db8:0:{n:x}::1", ua=CHROME)).allowed for n in range(300)]
    assert not any(found[60:])


def test_an_unknown_client_is_in_no_swarm() -> None:
    clock = Clock(100_000)
    guard = warmed(clock)
    headers = {"x-forwarded-for": "203.0.113.7"}
    assert all(guard.decide(view(f"/{n}", ip="127.0.0.1", ua=CHROME, headers=headers)).allowed for n in range(500))


def test_explaining_a_swarm_counts_once_and_a_log_cannot_judge_it() -> None:
    clock = Clock(100_000)
    guard = warmed(clock)
    clock.at(0)
    for n in range(60):
        guard.explain(view(f"/item/{n}", ip=f"2001:db8:0:{n:x}::1", ua=CHROME))
    decision, verdicts, _, _ = guard.explain(view("/item/x", ip="2001:db8:0:ffff::1", ua=CHROME))
    assert (decision.rule, verdicts[0].verdict) == ("swarm", "matched")
    assert guard.ruleset.rules[0].term.reads == SIGNATURE  # type: ignore[union-attr]


# ---- attackers


@pytest.mark.parametrize("kind", ["memory", "shared"])
def test_random_fingerprints_and_members_fill_no_memory_and_push_out_no_busy_group(kind: str, tmp_path: Path) -> None:
    store: RateStore
    if kind == "memory":
        store = MemoryStore()
        store._swarms = MemorySwarm(groups=64, residents=1000)
    else:
        store = SharedStore(tmp_path / "rates", 1 << 20)  # 128 groups
    rng, busy = random.Random(1), fresh_key()
    for n in range(200):
        store.swarm(busy, n + 1, NOW, 600 * S, DOCUMENT, n + 1)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    for n in range(6000):
        member = rng.getrandbits(64)
        store.swarm(rng.getrandbits(64), member, NOW, 600 * S, ASSET if n % 2 else DOCUMENT, member)
        if n % 20 == 0:
            found = store.swarm(busy, n + 1, NOW, 600 * S, DOCUMENT, n + 1)
    assert found.documents >= 490
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == size
    if isinstance(store, MemoryStore):
        swarms = store._swarms
        assert len(swarms._new) + len(swarms._old) <= 128
        assert len(swarms._people) <= 2000
        assert len(swarms._seen) <= 2000
    store.close()


def test_few_strangers_are_taken_for_residents_even_when_the_filter_is_full(tmp_path: Path) -> None:
    swarms, rng = SharedSwarm(tmp_path / "swarm", 1 << 20, b"s" * 32), random.Random(1)
    for _ in range(16_000):  # two generations of 8,192
        swarms.swarm(1, rng.getrandbits(64), NOW, 600 * S, ASSET, 0)
    wrong = sum(swarms.swarm(1, rng.getrandbits(64), NOW, 600 * S, DOCUMENT, 0, dry=True).resident for _ in range(4000))
    assert wrong / 4000 < 0.02
    swarms.close()


def test_each_worker_hears_when_a_site_is_settled(tmp_path: Path) -> None:
    workers = [SharedSwarm(tmp_path / "swarm", 1 << 20, b"s" * 32) for _ in range(2)]
    rng = random.Random(2)

    def told() -> list[int]:
        return [w.swarm(1, rng.getrandbits(64), NOW, 600 * S, DOCUMENT, 0, False, 50, 5).settled for w in workers]

    for n in range(EVIDENCE):
        assert told() == [0, 0], "nobody is struck yet"
        workers[n % 2].swarm(1, rng.getrandbits(64), NOW, 600 * S, ASSET, 0, False, 50, 5)
    assert told() == [EVIDENCE, EVIDENCE]
    for worker in workers:
        worker.close()


def test_a_filter_forgets_its_older_half_as_a_whole() -> None:
    words, rng = memoryview(bytearray(8 * room(1 << 14))).cast("Q"), random.Random(3)
    filter_, full = Filter(words, 0, 1 << 14), (1 << 14) // ROOM
    numbers: list[int] = []
    while len(numbers) < 3 * full:
        number = rng.getrandbits(64)
        if not filter_.note(number):  # else it passes for another one
            numbers.append(number)
    assert words[EVER] == 3 * full
    assert all(filter_.has(number) for number in numbers[full:])
    assert sum(filter_.has(number) for number in numbers[:full]) < full / 20
    assert filter_.note(numbers[-1])
    assert words[EVER] == 3 * full


@pytest.mark.parametrize("seed", range(3))
def test_workers_that_take_turns_say_what_one_says_whoever_pushes_out_whom(tmp_path: Path, seed: int) -> None:
    rng, now = random.Random(seed), NOW
    alone = SharedSwarm(tmp_path / "alone", 4096, bytes(32))
    workers = [SharedSwarm(tmp_path / "both", 4096, bytes(32)) for _ in range(2)]
    keys = [rng.getrandbits(64) for _ in range(40)]  # more than there is room for, so that windows are pushed out
    shown = set()
    for _ in range(6000):
        now += rng.choice((0, 1, 1000, S))
        kind = ASSET if rng.random() < 0.02 else DOCUMENT
        asked = rng.choice(keys), (rng.randrange(100) + 1) * 0x9E3779B97F4A7C15 >> 5, now, 60 * S, kind, rng.getrandbits(4)
        found = rng.choice(workers).swarm(*asked)
        assert found == alone.swarm(*asked)
        shown.add((found.documents > 1, found.seen, found.resident))
    assert len(shown) >= 6
    for table in (alone, *workers):
        table.close()
