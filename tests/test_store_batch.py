"""The store of many hosts in batches: what a process decides by itself, tells later and hears of others, on a real server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from crawlguard import Guard
from crawlguard.decision import Decision
from crawlguard.policy.model import Store
from crawlguard.signals import penalty
from crawlguard.signals.conduct import DOCUMENT
from crawlguard.store import MemoryStore
from crawlguard.store import script as op
from crawlguard.store.batch import BatchStore
from crawlguard.store.batch_mirror import HELD, Mirror
from crawlguard.store.ops import Op

from .policy_corpus import view
from .remote import PATIENCE
from .test_store_remote import BROWSER, FIVE, THREE, beside, policy_of, told, traffic
from .valkey_server import Server, serving, until

HOUR = 3_600_000_000
CLIENT = "203.0.113.1"
WORDS = """version: 1
rules:
  - {id: burst, when: {rate: {per: ip, requests: 60, within: 10h}}, then: throttle}
  - {id: subnet, when: {rate: {per: subnet, documents: 400, within: 20h}}, then: throttle}
  - {id: family, when: {rate: {per: [ip, path], requests: 40, within: 10h, block_for: [1h, 2h]}}, then: block}
"""
TERM = "version: 1\nrules: [{id: term, when: {rate: {per: ip, requests: 3, within: 10h, block_for: 2h}}, then: throttle}]\n"
PATHS = "version: 1\nrules: [{id: crawl, when: {rate: {per: ip, distinct_paths: 25, within: 10h}}, then: throttle}]\n"
SWARM = "version: 1\nrules: [{id: swarm, when: {swarm: {clients: 20, within: 10h}}, then: throttle}]\n"

Made = Callable[..., tuple[Guard, BatchStore]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def process(request: pytest.FixtureRequest, server: Server) -> Iterator[Made]:
    """Makes what one process has: guards of one site, each with a store that tells the server something when a test says so."""
    made: list[Guard] = []

    def make(text: str, url: str = "", flushes: bool = False) -> tuple[Guard, BatchStore]:
        site = re.sub(r"\W", "-", request.node.name)[:60]
        guard = Guard(policy_of(text), store=Store("memory", url=url or server.url, site=site, batch=20_000))
        store = guard.store
        assert isinstance(store, BatchStore)
        store.link.limit = store.patience = PATIENCE
        store._running = not flushes
        made.append(guard)
        return guard, store

    yield make
    for guard in made:
        guard.store.close()


def ask(guard: Guard, number: int = 1, ip: str = CLIENT) -> list[bool]:
    return [guard.decide(view(ua=BROWSER, ip=ip)).allowed for _ in range(number)]


def listen(store: BatchStore) -> list[tuple[threading.Thread, Sequence[Op]]]:
    """What a store sends from now on, and who sends it."""
    heard: list[tuple[threading.Thread, Sequence[Op]]] = []
    run = store.link.run

    def noted(ops: Sequence[Op], *until: float) -> Any:
        heard.append((threading.current_thread(), ops))
        return run(ops, *until)

    store.link.run = noted  # type: ignore[method-assign,assignment]
    return heard


def test_no_request_is_a_call(process: Made) -> None:
    guard, store = process(FIVE, flushes=True)
    heard = listen(store)
    for one in traffic(5, 300):
        guard.decide(one)
    until(lambda: heard)
    assert threading.main_thread() not in [thread for thread, _ in heard]
    assert (store.fallen_back, store.lost, guard.counters.errors) == (0, 0, 0)


def test_many_hits_of_a_word_are_one_operation(process: Made) -> None:
    guard, store = process("version: 1\nrules: [{id: a, when: {rate: {per: ip, requests: 1000, within: 1000s}}, then: throttle}]\n")
    heard = listen(store)
    assert all(ask(guard, 70))
    store.flush()
    store.flush()
    assert [[numbers for _, numbers in ops] for _, ops in heard] == [[(op.ADD, 70_000_000, 1_000_000_000, 0, 0, 1_000_000)]]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_words_of_one_process_are_those_of_the_store_in_memory(process: Made, seed: int) -> None:
    guard, store = process(WORDS)
    near = beside(guard)
    seen = set()
    for number, one in enumerate(traffic(seed, 1200)):
        far = told(guard.decide(one))
        assert far == told(near.decide(one))
        seen.add(far)
        if number % 7 == 0:
            store.flush()
    assert {rule for _, rule in seen} >= {"burst"}


def test_processes_that_hear_of_each_other_are_exact(process: Made) -> None:
    crowd = [process(THREE) for _ in range(3)]
    admitted = 0
    for _ in range(4):
        for guard, store in crowd:
            ask(guard, ip="198.51.100.1")  # another client's
            store.flush()
            admitted += sum(ask(guard))
            store.flush()
    assert 3 <= admitted <= 3 + 2  # each of the other two may have one that the first has not heard of
    _, store = crowd[0]
    assert store.lost == 0


def test_the_excess_is_what_the_others_did_not_hear_of_and_it_is_paid_back(process: Made) -> None:
    crowd = [process(THREE) for _ in range(3)]
    assert [sum(ask(guard, 5)) for guard, _ in crowd] == [3, 3, 3]
    for _, store in crowd:
        store.flush()
    for guard, store in crowd:
        ask(guard)
        store.flush()
    waits = [guard.decide(view(ua=BROWSER, ip=CLIENT)).retry_after for guard, _ in crowd]
    for wait in waits:
        assert wait is not None
        assert wait > 2 * 36_000  # two windows more than a client who kept to the limit


def test_a_term_that_one_process_begins_is_heard_of_by_the_others(process: Made) -> None:
    (first, one), (second, two) = process(TERM), process(TERM)
    assert ask(first, 4) == [True, True, True, False]
    one.flush()
    assert ask(second) == [True]  # nothing has been heard of him here
    two.flush()
    decision = second.decide(view(ua=BROWSER, ip=CLIENT))
    assert not decision.allowed
    assert decision.retry_after is not None
    assert 7100 < decision.retry_after <= 7200


def test_a_term_begins_when_the_sum_is_over_the_limit(process: Made) -> None:
    (first, one), (second, two) = process(TERM), process(TERM)
    assert ask(first, 2) == ask(second, 2) == [True, True]
    one.flush()
    two.flush()
    assert ask(second) == [False]
    ask(first)
    one.flush()
    assert first.decide(view(ua=BROWSER, ip=CLIENT)).retry_after == 7200


def test_profiles_are_heard_of(process: Made) -> None:
    (first, one), (second, two) = process(PATHS), process(PATHS)
    for number in range(20):
        assert first.decide(view(f"/a/{number}", ua=BROWSER)).allowed
        assert second.decide(view(f"/b/{number}", ua=BROWSER)).allowed
    one.flush()
    two.flush()
    assert second.decide(view("/c", ua=BROWSER)).rule == "crawl"
    first.decide(view("/a/1", ua=BROWSER))
    one.flush()
    assert first.decide(view("/a/1", ua=BROWSER)).rule == "crawl"


def test_what_lies_between_requests_survives_a_flush(process: Made) -> None:
    _, store = process(PATHS)
    mirror = store.mirror
    now = store._clock() // 1000
    for number in range(5):  # a machine's pace: one each 20 s
        mirror.conduct(9, now - (5 - number) * 20_000_000, HOUR, DOCUMENT, number + 1)
    store.flush()
    found = mirror.conduct(9, now, HOUR, DOCUMENT, 0)
    assert (found.documents, found.gaps, found.distinct) == (5, 4, 5)
    assert abs(found.mean - 20_000_000) < 1000
    assert found.deviation < 1000


# ---- swarms


def settle(guard: Guard, store: BatchStore) -> None:
    """Have 120 people load what belongs to pages, and 60 others go through the site with one request each."""
    for n in range(120):
        guard.decide(view("/style.css", ua=BROWSER, ip=f"198.51.{n}.7"))
    for n in range(60):
        guard.decide(view(f"/far/{n}", ua=BROWSER, ip=f"192.0.{n}.9"))
    store.flush()


def test_members_of_a_swarm_are_refused_by_what_the_server_says_of_them(process: Made) -> None:
    (first, one), (second, two) = process(SWARM), process(SWARM)
    settle(first, one)
    assert second.decide(view("/far/first", ua=BROWSER, ip="192.0.200.9")).allowed  # of the swarm nothing has been heard here
    two.flush()
    heard = listen(two)
    assert second.decide(view("/far/a", ua=BROWSER, ip="192.0.201.9")).rule == "swarm"
    assert asyncio.run(second.adecide(view("/far/b", ua=BROWSER, ip="192.0.202.9"))).rule == "swarm"
    assert second.decide(view("/far/c", ua=BROWSER, ip="192.0.201.9")).rule == "swarm"
    assert len(heard) == 1  # the second was asked by the loop, and the third is known
    for n in range(120):  # people of whom the other process knows
        assert second.decide(view(f"/near/{n}", ua=BROWSER, ip=f"198.51.{n}.7")).allowed
    before = len(heard)
    assert second.decide(view("/near/again", ua=BROWSER, ip="198.51.3.7")).allowed
    assert len(heard) == before


def test_a_request_in_doubt_counts_once(process: Made) -> None:
    text = SWARM.replace("rules: [", "rules: [{id: burst, when: {rate: {per: ip, requests: 2, within: 10h}}, then: throttle}, ")
    guard, store = process(text)
    settle(guard, store)
    assert guard.decide(view("/far/x", ua=BROWSER, ip="192.0.250.9")).rule == "swarm"
    found = [guard.decide(view(f"/far/y{n}", ua=BROWSER, ip="192.0.250.9")).rule for n in range(2)]
    assert found == ["swarm", "burst"]


def test_a_request_in_doubt_is_asked_only_what_it_comes_to(process: Made) -> None:
    """Members of the swarm get two requests; the rules after it ask something else, of others."""
    text = SWARM.replace(
        "swarm: {clients: 20, within: 10h}", "swarm: {clients: 20, within: 10h}, rate: {per: ip, requests: 2, within: 10h}"
    )
    after = "{id: crawl, when: {rate: {per: ip, distinct_paths: 25, within: 10h}}, then: block}"
    burst = "{id: burst, when: {rate: {per: ip, requests: 3, within: 10h}}, then: block}"
    guard, store = process(text.replace("]\n", f", {after}, {burst}]\n"))
    settle(guard, store)
    found = [guard.decide(view(f"/far/y{n}", ua=BROWSER, ip="192.0.250.9")).rule for n in range(4)]
    assert (found, guard.counters.errors) == ([None, None, "swarm", "swarm"], 0)


def test_a_newcomer_is_served_by_each_process_from_his_first_asset_on(process: Made) -> None:
    """He comes in by a page that people ask for; what his browser asks for at once reaches other processes, before any of them tells of it."""
    made = [process(SWARM) for _ in range(3)]
    first, second, third = (guard for guard, _ in made)
    one = made[0][1]
    settle(first, one)
    for n in range(4):
        first.decide(view("/door", ua=BROWSER, ip=f"198.51.{n}.7"))
    one.flush()
    for guard, store in made[1:]:  # they have heard of the swarm
        guard.decide(view("/far/1", ua=BROWSER, ip="192.0.1.9"))
        store.flush()
    assert first.decide(view("/door", ua=BROWSER, ip="198.51.200.7")).allowed
    assert second.decide(view("/style.css", ua=BROWSER, ip="198.51.200.7")).allowed
    found = [guard.decide(view(f"/api/{n}", ua=BROWSER, ip="198.51.200.7")).rule for n in range(2) for guard in (first, second, third)]
    assert found == [None] * 6
    assert third.decide(view("/api/3", ua=BROWSER, ip="192.0.201.9")).rule == "swarm"  # who loads none


def test_where_no_assets_are_seen_no_request_waits(process: Made) -> None:
    """A proxy serves them, say: then nobody can be told apart, and the server could only say so."""
    guard, store = process(SWARM)
    for n in range(60):
        guard.decide(view(f"/far/{n}", ua=BROWSER, ip=f"192.0.{n}.9"))
    store.flush()
    heard = listen(store)
    assert [guard.decide(view(f"/far/y{n}", ua=BROWSER, ip=f"192.0.{n}.99")).rule for n in range(40)] == [None] * 40
    assert heard == []


def test_nobody_is_refused_on_hearsay(tmp_path: Path, process: Made) -> None:
    with serving(tmp_path / "shaky") as shaky:
        guard, store = process(SWARM, shaky.url)
        settle(guard, store)
        assert guard.decide(view("/far/a", ua=BROWSER, ip="192.0.201.9")).rule == "swarm"
        shaky.kill()
        assert guard.decide(view("/far/a", ua=BROWSER, ip="192.0.202.9")).allowed
        assert asyncio.run(guard.adecide(view("/far/a", ua=BROWSER, ip="192.0.203.9"))).allowed
        assert guard.counters.errors == 0


# ---- the server away, bans, processes


def test_a_process_goes_on_by_itself_while_the_server_is_away(tmp_path: Path, process: Made) -> None:
    with serving(tmp_path / "shaky") as shaky:
        guard, store = process(THREE, shaky.url)
        assert ask(guard, 2) == [True, True]
        store.flush()
        shaky.kill()
        assert ask(guard, 2) == [True, False]
        store.flush()
        assert (store.lost, store.fallen_back) == (1, 0)
        shaky.start()

        def told() -> bool:
            before = store.lost
            ask(guard, ip="203.0.113.9")
            store.flush()
            return store.lost == before

        until(told)
        assert sum(ask(guard, 4, "203.0.113.10")) == 3


def test_who_is_let_go_on_one_host_is_let_in_on_the_others(process: Made) -> None:
    (first, one), (second, two) = process(TERM), process(TERM)
    assert ask(first, 4) == [True, True, True, False]
    one.flush()
    ask(second)
    two.flush()
    assert ask(second) == [False]
    key = next(iter(one.mirror._new))
    one.forget_all([key])
    assert ask(first) == [True]
    ask(second)
    two.flush()
    assert ask(second) == [True]


def test_holds_are_looked_up_after_what_this_process_began(process: Made) -> None:
    guard, store = process(TERM)
    assert ask(guard, 4) == [True, True, True, False]
    key = next(iter(store.mirror._new))
    assert store.held([(key, 12_000_000_000, 36_000_000_000, 7_200_000_000)])[0] > 0


def test_an_offence_that_several_processes_see_counts_once_and_the_next_term_is_known_to_all(process: Made, server: Server) -> None:
    """Terms of an hour and two: who comes again after the first is kept out for the second, by whichever process."""
    text = TERM.replace("block_for: 2h", "block_for: [1h, 2h, 3h]")
    made = [process(text) for _ in range(3)]
    for guard, _ in made:
        assert ask(guard, 4) == [True, True, True, False]
    for _ in range(3):
        for guard, store in made:
            assert ask(guard, 1) == [False]
            store.flush()
    (hold,) = made[0][0].ruleset.holds["term"]
    key = hold.key(
        view(ua=BROWSER, ip=CLIENT),
        made[0][0].live.user_agent(BROWSER.encode()),
        made[0][0].client_facts(bytes([203, 0, 113, 1])),
        made[0][1],
    )
    word = key ^ hold.offences
    offences = penalty.offences_of(word)
    left = int(server.cli("pttl", f"cg:{{{made[0][1].site}}}:w{offences:x}")) * 1000
    assert penalty.DAY - HOUR < left <= penalty.DAY
    for _, store in made:
        store.mirror.let_go([word])  # as if the hour had passed
        store.flush()
        now = store._clock() // 1000
        assert penalty.begin(store.mirror, word, now, (HOUR, 2 * HOUR, 3 * HOUR)) == 2 * HOUR
        store.mirror.renew()


def test_what_is_gathered_is_bounded_and_its_loss_counted() -> None:
    mirror = Mirror(bytes(32), lambda: 10**15)
    for key in range(HELD + 5):
        assert mirror.hit(key, 10**12, 1_000_000, 10_000_000, 0) == 0
        mirror.conduct(key, 10**12, HOUR, DOCUMENT, key + 1)
    assert len(mirror.take()) == 2 * HELD
    assert mirror.lost == 10


def test_an_event_loop_does_not_wait_either(process: Made) -> None:
    guard, store = process(THREE)
    heard = listen(store)

    async def main() -> list[Decision]:
        return await asyncio.gather(*(guard.adecide(view(ua=BROWSER)) for _ in range(40)))

    assert sum(one.allowed for one in asyncio.run(main())) == 3
    assert heard == []


FORKS = """
import os, sys
from crawlguard import Guard
from crawlguard.policy.model import Store
from tests.policy_corpus import view
from tests.test_store_remote import policy_of
from tests.valkey_server import until
text = "version: 1\\nrules: [{id: a, when: {rate: {per: ip, requests: 100, within: 10h}}, then: throttle}]\\n"
guard = Guard(policy_of(text), store=Store("memory", url=sys.argv[1], site="forks", batch=1_000_000))
store = guard.store
store.link.limit = 5
for _ in range(5):
    assert guard.decide(view(ua="x")).allowed
child = os.fork()
if not child:
    assert not store.mirror.take()
    assert guard.decide(view(ua="x")).allowed
    until(lambda: not store.mirror._words)  # a thread of the child's own is telling it
    with store._flushing:
        pass
    os._exit(store.lost)
print(os.waitpid(child, 0)[1], flush=True)
assert guard.decide(view(ua="x")).allowed
store.flush()
print(store.lost, sum(guard.decide(view(ua="x")).allowed for _ in range(200)))
"""


def test_a_forked_process_tells_what_it_did_and_no_more(server: Server) -> None:
    command = [sys.executable, "-c", FORKS, server.url]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["0", "0", "93"], done.stderr


def test_a_thread_outlives_what_it_runs_into(process: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("crawlguard.store.threads.AGAIN", 0.05)
    guard, store = process(THREE, flushes=True)
    hear, failed = store.mirror.hear, threading.Event()

    def fails(asked: Sequence[op.Asked], answers: Sequence[op.Answer]) -> None:
        store.mirror.hear = hear  # type: ignore[method-assign]
        failed.set()
        raise IndexError("an answer of another shape")

    store.mirror.hear = fails  # type: ignore[method-assign]
    assert ask(guard, 1) == [True]
    assert failed.wait(30)
    heard = listen(store)
    assert ask(guard, 1) == [True]
    until(lambda: heard)
    assert "begins again" in caplog.text


LAST_HITS = """
import sys
from crawlguard import Guard
from crawlguard.policy.model import Store
from tests.policy_corpus import view
from tests.test_store_remote import THREE, policy_of
guard = Guard(policy_of(THREE), store=Store("memory", url=sys.argv[1], site=sys.argv[2], batch=1_000_000))
guard.store.link.limit = 5
assert guard.store.joined
sys.exit([guard.decide(view(ua="x")).allowed for _ in range(3)] != [True] * 3)
"""


def test_a_process_that_ends_tells_what_it_did(server: Server, process: Made) -> None:
    site = "test_a_process_that_ends_tells_what_it_did"
    command = [sys.executable, "-c", LAST_HITS, server.url, site]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    guard, store = process(THREE)
    assert store.site == site
    assert guard.decide(view(ua="x")).allowed
    store.flush()
    assert not guard.decide(view(ua="x")).allowed


def test_a_process_that_ends_does_not_wait_for_a_server_that_hangs(tmp_path: Path, process: Made, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path / "hangs") as server:
        guard, store = process(FIVE, server.url)
        for one in traffic(5, 3000):
            guard.decide(one)
        server.pause()
        began = time.monotonic()
        store.flush(began + 0.3)
        took, said = time.monotonic() - began, caplog.text
        server.resume()
    assert took < 2
    assert store.lost > 1000
    assert "by this host alone" not in said


def test_before_the_common_seed_is_known_the_host_decides(tmp_path: Path, process: Made) -> None:
    server = Server(tmp_path / "late")
    try:
        guard, store = process(THREE, server.url)
        assert ask(guard, 4) == [True, True, True, False]
        assert (store.joined, store.fallen_back) == (False, 4)
        assert isinstance(store.local, MemoryStore)
        server.start()
        until(lambda: store.joined)
        assert ask(guard, 4) == [True, True, True, False]
        assert store.fallen_back == 4
    finally:
        server.end()
