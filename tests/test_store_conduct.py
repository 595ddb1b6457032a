"""Profiles: the contract of every store against an exact model, the stated error of distinct counts, and that strangers push nobody out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard.signals.conduct import ASSET, DOCUMENT, EVIDENCE, ROBOTS, UNDER, Conduct, kind_of
from crawlguard.signals.rate import Keyer
from crawlguard.signals.sketch import BITS, MOST, Sketch, estimate
from crawlguard.store import MemoryStore, RateStore, SharedStore
from crawlguard.store.memory_conduct import MemoryConduct
from crawlguard.store.shared_conduct import SharedConduct

from .remote import each_kind
from .test_store import fresh_key

S = 1_000_000
NOW = 10**12


@pytest.fixture(scope="module", params=["memory", "shared", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RateStore]:
    with each_kind(request.param, tmp_path_factory.mktemp("store")) as made:
        yield made


class Diary:
    """Everything a key did in its window, written down."""

    def __init__(self, within: int) -> None:
        self.within, self.end = within, 0
        self.seen: list[tuple[int, int, int]] = []

    def add(self, now: int, kind: int, mark: int) -> None:
        if now >= self.end:
            self.seen, self.end = [], now + self.within
        self.seen.append((now, kind, mark))

    def told(self, now: int) -> Conduct:
        kinds = [kind for _, kind, _ in self.seen]
        times = [at for at, kind, _ in self.seen if kind == DOCUMENT]
        gaps = [b - a for a, b in pairwise(times)]
        return Conduct(
            requests=len(self.seen),
            documents=kinds.count(DOCUMENT),
            assets=kinds.count(ASSET),
            robots=kinds.count(ROBOTS),
            distinct=len({mark & BITS - 1 for _, kind, mark in self.seen if kind == DOCUMENT and mark}),
            gaps=len(gaps),
            mean=int(fmean(gaps)) if gaps else 0,
            deviation=int(pstdev(gaps)) if gaps else 0,
            left=self.end - now,
        )


def same(found: Conduct, exact: Conduct) -> bool:
    """Equal, but for the last microsecond of what is computed in floating point, and a path that the estimate rounds away."""
    near = abs(found.mean - exact.mean) <= 1 and abs(found.deviation - exact.deviation) <= 1 + exact.mean * 1e-6
    loose = {"mean": 0, "deviation": 0, "distinct": 0}
    return near and abs(found.distinct - exact.distinct) <= 1 and found._replace(**loose) == exact._replace(**loose)


requests = st.lists(
    st.tuples(st.integers(0, 30 * S) | st.just(0) | st.just(S), st.sampled_from((DOCUMENT, DOCUMENT, ASSET, ROBOTS)), st.integers(0, 40), st.booleans()),
    max_size=80,
)  # fmt: skip


class TestContract:
    """What RateStore promises of profiles, for every implementation of it."""

    @given(requests, st.integers(1, 1 << 44), st.sampled_from((10 * S, 600 * S, 86_400 * S)))
    def test_every_profile_is_that_of_the_exact_model(
        self, store: RateStore, requests: list[tuple[int, int, int, bool]], now: int, within: int
    ) -> None:
        key, diary = fresh_key(), Diary(within)
        for gap, kind, path, again in requests:
            now += gap
            mark = store.mark(f"/{path}") if path else 0
            diary.add(now, kind, mark)
            if again:
                assert same(store.conduct(key, now, within, kind, mark, dry=True), diary.told(now))
            assert same(store.conduct(key, now, within, kind, mark), diary.told(now))

    @given(requests, st.integers(1, 1 << 44), st.sampled_from((10 * S, 600 * S)), st.integers(1, 30))
    def test_with_a_limit_it_says_whether_that_is_over_and_then_what_was_asked_for(
        self, store: RateStore, requests: list[tuple[int, int, int, bool]], now: int, within: int, limit: int
    ) -> None:
        key, diary = fresh_key(), Diary(within)
        for gap, kind, path, dry in requests:
            now += gap
            mark = store.mark(f"/{path}") if path else 0
            diary.add(now, kind, mark)
            exact = diary.told(now)
            for found in [store.conduct(key, now, within, kind, mark, True, limit)] * dry + [
                store.conduct(key, now, within, kind, mark, False, limit)
            ]:
                assert abs(exact.distinct - limit) <= 1 or (found.distinct > limit) is (exact.distinct > limit)
                assert (found.documents >= EVIDENCE) is (exact.documents >= EVIDENCE)
                if found.distinct > limit:
                    assert (found.documents, found.assets, found.robots, found.left) == (
                        exact.documents,
                        exact.assets,
                        exact.robots,
                        exact.left,
                    )

    @pytest.mark.parametrize("paths", [1, 4, 5, 100, 1000, 10_000, 40_000])
    def test_distinct_paths_are_told_to_five_percent(self, store: RateStore, paths: int) -> None:
        key = fresh_key()
        for n in range(paths):
            store.conduct(key, NOW, 600 * S, DOCUMENT, store.mark(f"/page/{n}"))
        again = [store.conduct(key, NOW + n, 600 * S, DOCUMENT, store.mark(f"/page/{n}")).distinct for n in range(min(paths, 500))]
        assert abs(again[-1] - paths) <= 1 + paths * (0.05 if paths <= 10_000 else 0.13)
        assert set(again) == {again[0]}, "what was there before counts nothing"

    def test_only_documents_with_a_mark_are_distinct_paths(self, store: RateStore) -> None:
        key = fresh_key()
        for n in range(20):
            for kind in (ASSET, ROBOTS):
                store.conduct(key, NOW, S, kind, store.mark(f"/{n}"))
            found = store.conduct(key, NOW, S, DOCUMENT, 0)
        assert (found.distinct, found.documents, found.assets, found.robots) == (0, 20, 20, 20)

    def test_keys_are_counted_apart(self, store: RateStore) -> None:
        keys = [fresh_key() for _ in range(200)]
        for n in range(10):
            assert {store.conduct(key, NOW, S, DOCUMENT, store.mark(f"/{n % 4}"))[:2] for key in keys} == {(n + 1, n + 1)}
        assert {store.conduct(key, NOW, S, DOCUMENT, 0, dry=True).distinct for key in keys} == {4}

    def test_a_window_ends_as_a_whole_and_takes_its_paths_along(self, store: RateStore) -> None:
        key = fresh_key()
        for n in range(50):
            found = store.conduct(key, NOW + n, 10 * S, DOCUMENT, store.mark(f"/{n}"))
        assert (abs(found.distinct - 50) <= 2, found.left) == (True, 10 * S - 49)
        assert store.conduct(key, NOW + 10 * S - 1, 10 * S, ASSET, 0).documents == 50
        assert store.conduct(key, NOW + 10 * S, 10 * S, DOCUMENT, store.mark("/1")) == Conduct(1, 1, 0, 0, 1, 0, 0, 0, 10 * S)
        for n in range(9):
            found = store.conduct(key, NOW + 10 * S, 10 * S, DOCUMENT, store.mark(f"/new/{n}"))
        assert abs(found.distinct - 10) <= 1

    def test_a_clock_behind_that_of_another_worker_does_no_harm(self, store: RateStore) -> None:
        key = fresh_key()
        store.conduct(key, NOW, 10 * S, DOCUMENT, 1)
        assert store.conduct(key, NOW - 900_000, 10 * S, DOCUMENT, 2)[:2] == (2, 2)

    def test_a_window_that_no_clock_of_ours_began_is_none(self, store: RateStore) -> None:
        key = fresh_key()
        store.conduct(key, NOW, 86_400 * S, DOCUMENT, 1)
        assert store.conduct(key, NOW, 10 * S, DOCUMENT, 1).documents == 1

    def test_marks_are_keyed(self, store: RateStore, tmp_path: Path) -> None:
        assert store.mark("/a") == store.mark("/a") != store.mark("/b")
        assert MemoryStore().mark("/a") != store.mark("/a")
        assert 0 < store.mark("\ud800" * 5000) < 1 << 64


def test_the_error_of_the_estimate_is_what_the_docstring_says() -> None:
    rng = random.Random(7)
    for things, error in ((10_000, 0.010), (MOST, 0.025)):
        off = []
        for _ in range(30):
            sketch = Sketch()
            for _ in range(things):
                sketch.add(rng.getrandbits(64))
            off.append(estimate(sketch.ones) / things - 1)
        assert abs(fmean(off)) < error
        assert fmean(x * x for x in off) ** 0.5 < error * 1.4
    assert estimate(BITS) > MOST


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", DOCUMENT),
        ("/a.css", ASSET),
        ("/a.CSS", ASSET),
        ("/a.css/b", DOCUMENT),
        ("/css", DOCUMENT),
        ("/robots.txt", ROBOTS),
        ("", DOCUMENT),
    ],
)
def test_what_a_path_is(path: str, kind: int) -> None:
    assert kind_of(path) == kind


# ---- bounded, whoever comes


def crowd(store: RateStore, strangers: int, heavy: list[int], every: int) -> list[Conduct]:
    """Strangers of one request each, and heavy hitters that ask in between; what the store knows of those in the end."""
    conduct = store.conduct
    for n in range(strangers):
        conduct(fresh_key(), NOW + n, 3600 * S, DOCUMENT, n + 1)
        if n % every == 0:
            for key in heavy:
                conduct(key, NOW + n, 3600 * S, DOCUMENT, (n * 0x9E3779B97F4A7C15 & (1 << 64) - 1) or 1)
    return [conduct(key, NOW + strangers, 3600 * S, DOCUMENT, 1, dry=True) for key in heavy]


@pytest.mark.parametrize("kind", ["memory", "shared"])
def test_strangers_push_out_no_heavy_hitter_and_no_room_is_added(kind: str, tmp_path: Path) -> None:
    store: RateStore
    if kind == "memory":
        store = MemoryStore()
        store._profiles = MemoryConduct(profiles=2048, sketches=128)
    else:
        store = SharedStore(tmp_path / "rates", 1 << 20)  # 4,096 profiles, 256 bitmaps
    heavy = [fresh_key() for _ in range(50)]
    store.conduct(heavy[0], NOW, 3600 * S, DOCUMENT, 1)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    found = crowd(store, 60_000, heavy, every=300)
    assert sum(one.documents >= 195 and one.distinct >= 190 for one in found) >= 49
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == size
    if isinstance(store, MemoryStore):
        profiles = store._profiles
        assert len(profiles._new) + len(profiles._old) <= 2 * 2048
        assert len(profiles._new_bits) + len(profiles._old_bits) <= 2 * 128
    store.close()


def test_bitmaps_go_to_whoever_asks_for_most_paths(tmp_path: Path) -> None:
    store = SharedStore(tmp_path / "rates", 1 << 20)
    heavy = [fresh_key() for _ in range(20)]
    for key in heavy:
        for n in range(300):
            store.conduct(key, NOW, 3600 * S, DOCUMENT, store.mark(f"/{n}"))
    for _ in range(2000):  # an attacker whose every address asks for six pages: eight times the bitmaps that there are
        key = fresh_key()
        for n in range(6):
            store.conduct(key, NOW, 3600 * S, DOCUMENT, store.mark(f"/x/{n}"))
    assert all(abs(store.conduct(key, NOW, 3600 * S, DOCUMENT, store.mark("/1"), dry=True).distinct - 300) < 15 for key in heavy)
    store.close()


def test_keys_that_a_client_can_choose_cannot_be_aimed_at_one_place(tmp_path: Path) -> None:
    """Keys that agree in all bits by which the words are found (a fingerprint is no secret), and are evenly spaced, spread over the table of
    profiles whatever its seed: each lies as any other key does, and a quarter of a table leaves room for whoever asked less."""
    store = SharedStore(tmp_path / "rates", 1 << 20)
    victim = fresh_key()
    for n in range(3):
        store.conduct(victim, NOW, 3600 * S, DOCUMENT, store.mark(f"/{n}"))
    aimed = [victim ^ n << 40 for n in range(1, 2001)]
    for number, key in enumerate(aimed, 1):
        for n in range(4):
            store.conduct(key, NOW + 1, 3600 * S, DOCUMENT, store.mark(f"/{n}"))
        if number == 1000:
            assert store.conduct(victim, NOW + 2, 3600 * S, DOCUMENT, 0, dry=True).documents == 4
    kept = sum(store.conduct(key, NOW + 2, 3600 * S, DOCUMENT, 0, dry=True).documents == 5 for key in aimed)
    assert kept > 1900, "half a table's keys lie where they fall, not in one neighbourhood"
    store.close()


def test_clients_of_one_network_lie_apart_under_the_worst_of_secrets(tmp_path: Path) -> None:
    """Their keys are evenly spaced: the inverse of that step, as the secret, would put 2,000 neighbours into one place."""
    store, keyer = SharedStore(tmp_path / "rates", 1 << 20), Keyer(b"a secret of sixteen bytes")
    keys = [keyer.address(b"\x20\x01\x0d\xb8\0\x01" + n.to_bytes(2, "big") + bytes(8))[0] for n in range(2000)]
    profiles = store.profiles()
    assert isinstance(profiles, SharedConduct)
    profiles._odd = pow(keys[1] - keys[0], -1, 1 << 64)
    for key in keys:
        store.conduct(key, NOW, 3600 * S, DOCUMENT, 0)
    kept = sum(store.conduct(key, NOW + 1, 3600 * S, DOCUMENT, 0, dry=True).documents == 2 for key in keys)
    assert kept > 1900
    store.close()


def test_half_a_slot_of_one_client_and_half_of_another_is_nobodys(tmp_path: Path) -> None:
    store = SharedStore(tmp_path / "rates", 65_536)
    mine, other = fresh_key(), fresh_key()
    for _ in range(100):
        store.conduct(other, NOW, 3600 * S, DOCUMENT, 0)
    store.conduct(mine, NOW, 3600 * S, DOCUMENT, 0)
    profiles = store.profiles()
    assert isinstance(profiles, SharedConduct)
    words = profiles._words
    at = {words[slot]: slot for slot in range(0, profiles._heads, 8)}
    words[at[mine] + 2] = words[at[other] + 2]  # as if a worker had been stopped in the middle of a write
    assert store.conduct(mine, NOW, 3600 * S, DOCUMENT, 0).documents == 1
    store.close()


def test_where_there_is_too_little_room_nobody_is_judged_by_the_paths_of_others(tmp_path: Path) -> None:
    workers, rng = [SharedConduct(tmp_path / "profiles", 1, bytes(32)) for _ in range(2)], random.Random(4)
    asked: dict[int, set[int]] = {rng.getrandbits(64): set() for _ in range(400)}  # for 256 slots and 16 bitmaps
    keys, over = list(asked), 0
    for n in range(20_000):
        key, mark = keys[int(400 * rng.random() ** 3)], rng.getrandbits(64)
        asked[key].add(mark & BITS - 1)
        found = rng.choice(workers).conduct(key, NOW + n, 3600 * S, DOCUMENT, mark, False, 6)
        if found not in UNDER:
            over += 1
            assert 6 < found.distinct <= estimate(len(asked[key]))
    assert over > 2000
    for worker in workers:
        worker.close()


def test_workers_share_profiles_and_a_table_of_another_seed_is_made_anew(tmp_path: Path) -> None:
    path, key = tmp_path / "rates", fresh_key()
    one, two = SharedStore(path, 65_536), SharedStore(path, 65_536)
    for n in range(10):
        (one if n % 2 else two).conduct(key, NOW, 3600 * S, DOCUMENT, one.mark(f"/{n}"))
    assert one.conduct(key, NOW, 3600 * S, DOCUMENT, 0).documents == two.conduct(key, NOW, 3600 * S, DOCUMENT, 0).documents - 1
    assert two.conduct(key, NOW, 3600 * S, DOCUMENT, 0, dry=True).distinct in (9, 10)
    one.close()
    two.close()
    path.unlink()
    three = SharedStore(path, 65_536)
    assert three.conduct(key, NOW, 3600 * S, DOCUMENT, 0).documents == 1
    three.close()


def test_a_file_that_is_not_ours_is_left_alone_and_each_process_counts_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rates"
    (tmp_path / "rates.conduct").write_text("somebody's thesis")
    store = SharedStore(path, 65_536)
    assert store.conduct(1, NOW, S, DOCUMENT, 0).documents == 1
    assert store.conduct(1, NOW, S, DOCUMENT, 0).documents == 2
    assert (tmp_path / "rates.conduct").read_text() == "somebody's thesis"
    assert "counted by each process alone" in caplog.text
    store.close()


def test_the_table_of_profiles_is_made_when_it_is_needed(tmp_path: Path) -> None:
    store = SharedStore(tmp_path / "rates", 65_536)
    store.hit(1, NOW, S, S, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["rates"]
    store.conduct(1, NOW, S, DOCUMENT, 0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["rates", "rates.conduct"]
    store.close()
