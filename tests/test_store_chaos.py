"""Requests that go on through both doors while their store is killed, paused, slow, full, locked, failed over or in parts: all are answered, in time.

Two workers of one host: each has a connection of its own to the server, and both have the host's table for the time without it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crawlguard import Guard
from crawlguard.asgi import CrawlGuardMiddleware as AsgiDoor
from crawlguard.policy.model import Store
from crawlguard.store.breaker import CLOSED, OPEN
from crawlguard.wsgi import CrawlGuardMiddleware as WsgiDoor

from .in_time import Stopwatch, assert_in_time, young_heap
from .policy_corpus import view
from .test_asgi import scope_of
from .test_cli import run as run_cli
from .test_store_outage import said
from .test_store_remote import policy_of, store_of
from .test_wsgi import environ_of
from .test_wsgi import run as run_wsgi
from .valkey_server import Proxy, Server, cluster, free_port, serving, until, watched

ADMITTED = 5
POLICY = f"""version: 1
rules:
  - {{id: limit, when: {{rate: {{per: ip, requests: {ADMITTED}, within: 10h}}}}, then: throttle}}
  - {{id: crawl, when: {{rate: {{per: subnet, distinct_paths: 5000, within: 10h}}}}, then: throttle}}
  - {{id: misses, when: {{rate: {{per: ip, misses: 50, within: 10h}}}}, then: throttle}}
  - {{id: swarm, when: {{swarm: {{clients: 1000, within: 10h}}}}, then: throttle}}
"""
CROWD = 4
"""Threads (or tasks) that ask all the time."""
PACE = 0.004
"""Seconds between two requests of each: so that they do not wait for one another more than for the store."""


class Trouble(NamedTuple):
    """A server's URL, what takes it away, and what gives it back."""

    url: str
    begin: Callable[[], object]
    end: Callable[[], object]


@contextmanager
def killed(directory: Path) -> Iterator[Trouble]:
    with serving(directory) as server:
        yield Trouble(server.url, server.kill, server.start)


@contextmanager
def paused(directory: Path) -> Iterator[Trouble]:
    with serving(directory) as server:
        yield Trouble(server.tcp, server.pause, server.resume)


@contextmanager
def _behind_a_proxy(directory: Path, delay: float, piece: int) -> Iterator[Trouble]:
    with serving(directory) as server:
        proxy = Proxy(server)

        def become(delay: float, piece: int) -> None:
            proxy.delay, proxy.piece = delay, piece

        try:
            yield Trouble(proxy.url, lambda: become(delay, piece), lambda: become(0, 0))
        finally:
            proxy.close()


def slow(directory: Path) -> AbstractContextManager[Trouble]:
    return _behind_a_proxy(directory, 0.1, 0)


def trickling(directory: Path) -> AbstractContextManager[Trouble]:
    return _behind_a_proxy(directory, 0.005, 1)


@contextmanager
def full(directory: Path) -> Iterator[Trouble]:
    with serving(directory, "maxmemory-policy noeviction") as server:

        def memory(most: str) -> str:
            return server.cli("config", "set", "maxmemory", most)

        yield Trouble(server.url, lambda: memory("1"), lambda: memory("0"))


@contextmanager
def locked(directory: Path) -> Iterator[Trouble]:
    with serving(directory) as server:

        def begin() -> None:
            server.cli("config", "set", "requirepass", "another-secret")
            server.password = "another-secret"
            server.cli("client", "kill", "type", "normal")

        yield Trouble(server.url, begin, lambda: server.cli("config", "set", "requirepass", ""))


@contextmanager
def failed_over(directory: Path) -> Iterator[Trouble]:
    with watched(directory) as (master, replica, sentinel):
        url = f"valkey+sentinel://127.0.0.1:{sentinel.port}/limits"
        yield Trouble(url, master.kill, lambda: until(lambda: replica.role() == "master", 60))


@contextmanager
def in_parts(directory: Path) -> Iterator[Trouble]:
    with cluster(directory, "cluster-require-full-coverage no") as nodes:
        url = "valkey+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        yield Trouble(url, nodes[1].kill, nodes[1].start)


TROUBLES = (
    killed, paused, slow, trickling, full, locked, failed_over,
    pytest.param(in_parts, marks=pytest.mark.alone),  # beside other tests one event loop and three servers are not all in time for long
)  # fmt: skip


class Crowd:
    """Asks the workers' doors all the time, and keeps what came of it. ``ask`` is one more request, from an address, by the next worker."""

    def __init__(self, guards: list[Guard]) -> None:
        self.guards = guards
        self.took: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.strangers: list[BaseException] = []
        self._doors = cycle([self.door(guard) for guard in guards])
        self._over = threading.Event()
        self._rng = random.Random(7)

    def somebody(self) -> str:
        return f"10.{self._rng.randrange(250)}.{self._rng.randrange(250)}.{self._rng.randrange(250)}"

    def door(self, guard: Guard) -> Any:
        raise NotImplementedError

    def ask(self, ip: str) -> int:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def alone(self) -> int:
        """Requests that were decided by the host's table."""
        return sum(store_of(guard).fallen_back for guard in self.guards)

    def admitted(self, elsewhere: bool) -> int:
        """How many requests of somebody new are served, where all of them were decided by the server (``elsewhere``), or none."""
        for _ in range(200):
            ip, before = self.somebody(), [store_of(guard).fallen_back for guard in self.guards]
            statuses = [self.ask(ip) for _ in range(2 * ADMITTED)]
            if elsewhere == (before == [store_of(guard).fallen_back for guard in self.guards]):
                assert set(statuses) == {200, 429}
                return statuses.count(200)
        raise AssertionError("it did not come to that")


class Threads(Crowd):
    """By the WSGI door."""

    def door(self, guard: Guard) -> Any:
        def site(environ: Any, start: Any) -> list[bytes]:
            start("404 Not Found" if environ["PATH_INFO"] == "/miss" else "200 OK", [])
            return [b"hello"]

        return WsgiDoor(site, guard)

    def ask(self, ip: str) -> int:
        return run_wsgi(next(self._doors), environ_of(REMOTE_ADDR=ip))[0]

    def _work(self) -> None:
        while not self._over.wait(PACE):
            environ = environ_of(REMOTE_ADDR=self.somebody(), path=self._rng.choice(["/", "/a", "/style.css", "/miss"]))
            took = Stopwatch()
            try:
                status = run_wsgi(next(self._doors), environ)[0]
            except Exception as error:
                self.strangers.append(error)
                return
            self.took.append(took())
            self.statuses[status] += 1

    def __enter__(self) -> Threads:
        self._threads = [threading.Thread(target=self._work) for _ in range(CROWD)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


class Tasks(Crowd):
    """By the ASGI door."""

    def door(self, guard: Guard) -> Any:
        async def site(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 404 if scope["path"] == "/miss" else 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})

        return AsgiDoor(site, guard)

    async def _one(self, ip: str, path: str) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        await next(self._doors)(scope_of(client=(ip, 5), path=path), receive, send)
        return int(sent[0]["status"])

    async def _work(self) -> None:
        while not self._over.is_set():
            await asyncio.sleep(PACE)
            took = Stopwatch()
            try:
                status = await self._one(self.somebody(), self._rng.choice(["/", "/a", "/style.css", "/miss"]))
            except Exception as error:
                self.strangers.append(error)
                return
            self.took.append(took())
            self.statuses[status] += 1

    async def _all(self) -> None:
        await asyncio.gather(*(self._work() for _ in range(CROWD)))

    def ask(self, ip: str) -> int:
        one: Awaitable[int] = self._one(ip, "/")
        return asyncio.run_coroutine_threadsafe(one, self._loop).result(20)  # type: ignore[arg-type]

    def __enter__(self) -> Tasks:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._all(),))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._loop.run_until_complete(asyncio.sleep(0))
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[str], Guard]]:
    """Makes one more worker of the host, on a server."""
    made: list[Guard] = []

    def make(url: str) -> Guard:
        store = Store("shared", path=str(tmp_path / "rates"), size=1 << 20, url=url, site="chaos")
        made.append(Guard(policy_of(POLICY), store=store))
        return made[-1]

    yield make
    for guard in made:
        guard.store.close()


@pytest.fixture(scope="module", autouse=True)
def heap() -> None:
    young_heap()


@pytest.fixture(autouse=True)
def logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crawlguard")


def states(guards: list[Guard]) -> set[str]:
    return {store_of(guard).link.breaker.state for guard in guards}


@pytest.mark.parametrize("kind", [Threads, Tasks])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_requests_go_on(
    tmp_path: Path,
    worker: Callable[[str], Guard],
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[[Path], AbstractContextManager[Trouble]],
    kind: Callable[[list[Guard]], Threads | Tasks],
) -> None:
    with trouble(tmp_path / "store") as (url, begin, end):
        guards = [worker(url), worker(url)]
        until(lambda: all(store_of(guard).joined for guard in guards))
        with kind(guards) as crowd:
            assert crowd.admitted(elsewhere=True) == ADMITTED
            begin()
            until(lambda: states(guards) == {OPEN})
            before = crowd.alone()
            assert crowd.admitted(elsewhere=False) == ADMITTED
            until(lambda: crowd.alone() > before + 100)
            end()
            until(lambda: states(guards) == {CLOSED}, 60)
            assert crowd.admitted(elsewhere=True) == ADMITTED
        assert crowd.strangers == []
        assert set(crowd.statuses) == {200, 404}
        assert [guard.counters.errors for guard in guards] == [0, 0]
        assert_in_time(crowd.took)
        breakers = [store_of(guard).link.breaker for guard in guards]
        assert all(breaker.opened == breaker.closed >= 1 for breaker in breakers)
        opened, lines = sum(breaker.opened for breaker in breakers), [line for line in said(caplog) if "the bans of all hosts" not in line]
        gone, back = (sum(words in line for line in lines) for words in ("by this host alone", "answers again"))
        assert (back, gone + back) == (opened, len(lines))
        assert opened <= gone <= opened * (2 if trouble is locked else 1)  # the connections broke, and then a cure became known


def test_a_server_that_was_emptied_gets_its_seed_back(
    tmp_path: Path, worker: Callable[[str], Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawlguard.store.remote.AGAIN", 0.05)
    with serving(tmp_path / "store") as server:
        old = worker(server.url)
        until(lambda: store_of(old).joined)
        seed, key = store_of(old).seed, "cg:{chaos}:seed"
        assert server.cli("exists", key) == "1"
        server.cli("flushall")
        until(lambda: server.cli("exists", key) == "1")
        assert store_of(worker(server.url)).seed == seed
        server.kill()
        server.start()
        until(lambda: server.cli("exists", key) == "1")
        assert store_of(worker(server.url)).seed == seed
        other = "x" * 32
        server.cli("set", key, other)
        until(lambda: store_of(old).seed == other.encode())  # whoever was first


def test_who_starts_while_the_server_is_away_counts_with_the_others(tmp_path: Path, worker: Callable[[str], Guard]) -> None:
    with serving(tmp_path / "store") as server:
        old, url = worker(server.url), server.url
        until(lambda: store_of(old).joined)
        server.kill()
        until(lambda: old.decide(view(ip="192.0.2.1")).allowed and store_of(old).fallen_back)
        new = worker(url)
        assert not store_of(new).joined
        assert sum(guard.decide(view(ip="192.0.2.7")).allowed for _ in range(ADMITTED) for guard in (old, new)) == ADMITTED


def test_who_has_not_been_told_counts_with_who_was(tmp_path: Path, worker: Callable[[str], Guard]) -> None:
    early = worker(f"valkey://127.0.0.1:{free_port()}")
    assert sum(early.decide(view(ip="192.0.2.7")).allowed for _ in range(9)) == ADMITTED
    with serving(tmp_path / "store") as server:
        other = worker(server.url)
        until(lambda: store_of(early).seed == store_of(other).seed)
        assert not store_of(early).joined
        assert sum(early.decide(view(ip="192.0.2.9")).allowed for _ in range(9)) == ADMITTED


def test_a_request_that_finds_a_new_seed_compiles_nothing(tmp_path: Path, worker: Callable[[str], Guard]) -> None:
    server = Server(tmp_path / "store")
    try:
        guard = worker(server.tcp)
        guard.decide(view())
        ruleset, before = guard.ruleset, guard.live.seed
        server.start()
        until(lambda: store_of(guard).joined)
        assert guard.decide(view()).allowed
        assert guard.live.seed == store_of(guard).seed != before
        assert guard.ruleset is ruleset
        guard.swap(guard.policy)
        assert guard.live.seed is store_of(guard).seed
    finally:
        server.end()


def test_the_servers_memory_is_bounded_and_who_asks_much_is_still_caught(tmp_path: Path, worker: Callable[[str], Guard]) -> None:
    most = 3 << 20
    with serving(tmp_path / "store", f"maxmemory {most}", "maxmemory-policy volatile-ttl") as server:
        guard = worker(server.url)
        until(lambda: store_of(guard).joined)
        store_of(guard).link.limit = 5.0
        rng, heavy, peak, caught = random.Random(3), [f"192.0.2.{n}" for n in range(20)], 0, set()
        for number in range(8000):
            guard.decide(view(f"/{number}", ip=f"10.{rng.randrange(250)}.{rng.randrange(250)}.{rng.randrange(250)}"))
            ip = heavy[number // 10 % len(heavy)]  # one of its requests among 200 of strangers
            if number % 10 == 0 and not guard.decide(view("/", ip=ip)).allowed:
                caught.add(ip)
            if number % 500 == 0:
                peak = max(peak, used_memory(server))
        assert "evicted_keys:0" not in server.cli("info", "stats")
        assert most / 2 < peak < most * 1.05
        assert caught == set(heavy)
        assert (guard.counters.errors, store_of(guard).fallen_back, store_of(guard).lost) == (0, 0, 0)
        assert server.cli("exists", "cg:{chaos}:seed") == "1"  # it has no time to live, and is not evicted


def used_memory(server: Server) -> int:
    return next(int(line.partition(":")[2]) for line in server.cli("info", "memory").splitlines() if line.startswith("used_memory:"))


def test_check_asks_no_server_and_explain_waits_for_none(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    with socket.create_server(("127.0.0.1", 0)) as mute:
        policy.write_text(POLICY.replace("rules:", f"store: {{url: 'valkey://127.0.0.1:{mute.getsockname()[1]}'}}\nrules:"))
        done = run_cli("check", str(policy))
        assert (done.returncode, done.stdout[:3]) == (0, "ok ")
        mute.setblocking(False)
        with pytest.raises(BlockingIOError):
            mute.accept()
        begin = time.monotonic()
        done = run_cli("explain", "--policy", str(policy), "--ip", "192.0.2.1")
        assert time.monotonic() - begin < 30  # its own second and a busy machine's start; without a bound it were for ever
        assert (done.returncode, done.stdout[:5]) == (0, "ALLOW")
        assert "bans are not known" in done.stderr
        mute.accept()[0].close()  # it was asked for those


def test_without_the_extra_check_works_and_the_guard_says_what_to_install(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.replace("rules:", "store: {url: 'valkey://:a-secret@127.0.0.1:1'}\nrules:"))
    bare = "import sys; sys.modules['redis'] = None; from crawlguard.cli import main; main()"

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", bare, *args], capture_output=True, text=True, check=False)

    assert run("check", str(policy)).returncode == 0
    for command in (["explain", "--policy", str(policy), "--ip", "192.0.2.1"], ["ban", "list", str(policy)]):
        done = run(*command)
        assert done.returncode == 1
        assert 'a store at valkey://127.0.0.1:1 needs a client library: pip install "crawlguard[valkey]"' in done.stderr
        assert "secret" not in done.stderr
        assert "Traceback" not in done.stderr
