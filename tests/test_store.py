"""The contract of every rate store, held against an exact model, and that a flood of keys leaves the busy ones counted.

What only the shared table has (its file, other processes, full disks) is in test_store_shared.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from hashlib import blake2b
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard.signals.rate import Window
from crawlguard.store import MemoryStore, RateStore, SharedStore

from .remote import each_kind

S = 1_000_000
KEYS = count(1)


def fresh_key() -> int:
    """A key that no test has used: a hash, as those of the guard are. Multiples of one number would lie together under some seeds."""
    return int.from_bytes(blake2b(next(KEYS).to_bytes(8, "little"), digest_size=8).digest(), "little")


@pytest.fixture(scope="module", params=["memory", "shared", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RateStore]:
    with each_kind(request.param, tmp_path_factory.mktemp("store")) as made:
        yield made


class Bucket:
    """The rate as a leaky bucket, exact in fractions: another formulation than the TAT of the code under test."""

    def __init__(self, window: Window) -> None:
        self.rate, self.size = Fraction(1, window.interval), window.requests
        self.level, self.at, self.held, self.term = Fraction(0), 0, 0, 0

    def look(self, now: int) -> int:
        """The wait in us until a request is admitted."""
        if now < self.held:
            return self.held - now
        if self.held:  # it was full when that began
            self.level, self.at, self.held = min(Fraction(self.size), self.size - 1 + self.term * self.rate), self.held - self.term, 0
        self.level, self.at = max(Fraction(0), self.level - (now - self.at) * self.rate), now
        wait = (self.level + 1 - self.size) / self.rate
        assert wait.denominator == 1 or wait < 0
        return max(0, int(wait))

    def hit(self, now: int, hold: int) -> int:
        held = now < self.held
        wait = self.look(now)
        if held:
            return wait
        if not wait:
            self.level += 1
        elif hold:
            self.held, self.term = now + hold, hold
            return hold
        return wait


windows = st.builds(Window.of, st.integers(1, 50), st.integers(50, 100 * S))
gaps = st.lists(st.tuples(st.integers(0, 3 * S) | st.integers(0, 50) | st.sampled_from((0, S)), st.booleans()), max_size=80)


class TestContract:
    """What RateStore promises, for every implementation of it."""

    @given(windows, gaps, st.integers(1, 1 << 44), st.sampled_from((0, 1, 7 * S, 3600 * S)))
    def test_every_wait_is_that_of_the_exact_model(
        self, store: RateStore, window: Window, gaps: list[tuple[int, bool]], now: int, hold: int
    ) -> None:
        key, model = fresh_key(), Bucket(window)
        for gap, peek in gaps:
            now += gap
            if peek:
                assert store.peek(key, now, window.interval, window.tolerance, hold) == model.look(now)
            else:
                assert store.hit(key, now, window.interval, window.tolerance, hold) == model.hit(now, hold)

    @pytest.mark.parametrize(("requests", "within"), [(1, S), (1, 3600 * S), (3, S), (7, S), (1200, 60 * S), (10_000, S)])
    def test_a_burst_of_n_then_one_at_each_interval(self, store: RateStore, requests: int, within: int) -> None:
        window, key, now = Window.of(requests, within), fresh_key(), 10**12
        waits = [store.hit(key, now, window.interval, window.tolerance, 0) for _ in range(requests + 1)]
        assert waits == [0] * requests + [window.interval]
        for _ in range(5):
            now += window.interval
            assert store.hit(key, now - 1, window.interval, window.tolerance, 0) == 1
            assert store.hit(key, now, window.interval, window.tolerance, 0) == 0
            assert store.hit(key, now, window.interval, window.tolerance, 0) == window.interval

    @pytest.mark.parametrize("ahead", [1, 40, 900_000])
    def test_a_clock_that_is_read_before_another_worker_writes_refills_nothing(self, store: RateStore, ahead: int) -> None:
        # A worker may be descheduled between reading the clock and counting: its "now" is then behind the state.
        window, key, now = Window.of(10, 60 * S), fresh_key(), 10**12
        assert [store.hit(key, now, window.interval, window.tolerance, 0) for _ in range(10)] == [0] * 10
        late = now - ahead
        assert store.peek(key, late, window.interval, window.tolerance, 0) == window.interval + ahead
        assert store.hit(key, late, window.interval, window.tolerance, 0) == window.interval + ahead
        assert store.hit(key, now, window.interval, window.tolerance, 0) == window.interval

    def test_peek_never_counts(self, store: RateStore) -> None:
        window, key, now = Window.of(2, 10 * S), fresh_key(), 10**12
        for expected in (0, 0, 5 * S):
            assert [store.peek(key, now, window.interval, window.tolerance, 0) for _ in range(9)] == [expected] * 9
            assert store.hit(key, now, window.interval, window.tolerance, 0) == expected

    def test_a_held_key_stays_out_for_that_long_and_has_then_been_refilled(self, store: RateStore) -> None:
        window, key, now, hold = Window.of(2, S), fresh_key(), 10**12, 3600 * S
        waits = [store.hit(key, now, window.interval, window.tolerance, hold) for _ in range(4)]
        assert waits == [0, 0, hold, hold]
        assert store.hit(key, now + hold - 1, window.interval, window.tolerance, hold) == 1  # asking again does not prolong it
        assert store.peek(key, now + hold - 1, window.interval, window.tolerance, hold) == 1
        after = [store.hit(key, now + hold, window.interval, window.tolerance, hold) for _ in range(3)]
        assert after == [0, 0, hold]

    def test_a_hold_that_is_shorter_than_the_window_gives_no_burst_away(self, store: RateStore) -> None:
        window, key, now, hold = Window.of(10, 100 * S), fresh_key(), 10**12, 30 * S
        served = []
        for _ in range(4):
            served.append(next(n for n in range(20) if store.hit(key, now, window.interval, window.tolerance, hold)))
            assert store.hit(key, now + hold - 1, window.interval, window.tolerance, hold) == 1
            assert store.peek(key, now + hold, window.interval, window.tolerance, hold) == 0
            now += hold
        assert served == [10, 3, 3, 3]

    def test_a_penalty_that_the_policy_no_longer_has_is_over(self, store: RateStore) -> None:
        window, key, now, day = Window.of(1, S), fresh_key(), 10**12, 86_400 * S
        assert [store.hit(key, now, window.interval, window.tolerance, day) for _ in range(2)] == [0, day]
        assert store.peek(key, now, window.interval, window.tolerance, 0) == 0
        assert store.hit(key, now, window.interval, window.tolerance, 0) == 0

    def test_keys_are_counted_apart(self, store: RateStore) -> None:
        window, now = Window.of(5, S), 10**12
        keys = [fresh_key() for _ in range(100)]
        for _ in range(5):
            assert not any(store.hit(k, now, window.interval, window.tolerance, 0) for k in keys)
        assert all(store.hit(k, now, window.interval, window.tolerance, 0) for k in keys)
        assert store.hit(fresh_key(), now, window.interval, window.tolerance, 0) == 0

    def test_the_seed_is_secret_and_long(self, store: RateStore) -> None:
        assert len(store.seed) == 32
        assert len(set(store.seed)) > 8


@given(st.integers(1, 100_000), st.integers(100_000, 3600 * S))
def test_the_window_is_off_by_less_than_a_microsecond_a_request(requests: int, within: int) -> None:
    window = Window.of(requests, within)
    assert 0 <= Fraction(within, requests) - window.interval < 1
    assert window.tolerance == window.interval * requests


def flood(store: RateStore, keys: int, window: Window, now: int) -> None:
    for _ in range(keys):
        store.hit(fresh_key(), now, window.interval, window.tolerance, 0)


def test_strangers_push_no_client_in_use_out_of_the_memory_store() -> None:
    store, window, now, key = MemoryStore(generation=100), Window.of(1000, 60 * S), 10**12, fresh_key()
    for round_ in range(1, 41):  # a client that asks once for each 90 strangers: more than a generation between two rounds
        store.hit(key, now, window.interval, window.tolerance, 0)
        flood(store, 90, window, now)
        assert store.peek(key, now, window.interval, window.interval * round_, 0) == window.interval
    assert len(store._new) + len(store._old) <= 200


def test_a_full_table_keeps_the_most_loaded(tmp_path: Path) -> None:
    store, window, now = SharedStore(tmp_path / "rates", 65_536), Window.of(100, 60 * S), 10**12
    heavy = [fresh_key() for _ in range(400)]
    for key in heavy:
        for _ in range(100):
            store.hit(key, now, window.interval, window.tolerance, 0)
    flood(store, 40_000, window, now)  # ten times the table's slots
    kept = sum(store.peek(key, now, window.interval, window.tolerance, 0) > 0 for key in heavy)
    store.close()
    assert kept == len(heavy)


def test_half_a_million_keys_live_in_sixteen_mebibytes(tmp_path: Path) -> None:
    store, window, now = SharedStore(tmp_path / "rates"), Window.of(2, 60 * S), 10**12
    first = next(KEYS)
    keys = [n * 0x9E3779B97F4A7C15 * 0xD1342543DE82EF95 & (1 << 64) - 1 for n in range(first, first + 500_000)]
    hit, size = store.hit, store.path.stat().st_size
    for key in keys:
        hit(key, now, window.interval, window.tolerance, 0)
    # A key that was kept has one of its two requests left; a fresh one has both: ask with room for one only.
    lost = sum(store.peek(key, now, window.interval, window.interval, 0) == 0 for key in keys)
    assert store.path.stat().st_size == size
    assert size <= (16 << 20) + 65_536
    store.close()
    assert lost / len(keys) < 0.01
