"""A server that is killed, paused, slow, full or locked: no call waits longer than the limit, nothing but Unreachable comes out, and all mends by itself."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crawlguard.errors import ConfigError
from crawlguard.policy.urls import LinkSpec, parse_url
from crawlguard.store.breaker import CLOSED, LATE, OPEN
from crawlguard.store.links import LIMIT, Link, open_link
from crawlguard.store.ops import Op
from crawlguard.store.wire import Wire

from .in_time import Stopwatch, assert_in_time, young_heap
from .valkey_server import Proxy, Server, serving, until

SCRIPT = """
local out, at = {}, 1
for i, key in ipairs(KEYS) do
  local count = redis.call('INCRBY', key, ARGV[at + 1])
  redis.call('PEXPIRE', key, 60000)
  out[i] = {count}
  at = at + ARGV[at] + 1
end
return out
"""
OPS: list[Op] = [("{a}1", (1,)), ("{b}2", (2, 7))]


class Watcher:
    """Calls a link and keeps what came of it."""

    def __init__(self, link: Link, call: Callable[[], object]) -> None:
        self.link, self.call = link, call
        self.took: list[float] = []
        self.strangers = 0
        self.worked = self.failed = 0

    def __call__(self) -> bool:
        took = Stopwatch()
        try:
            self.call()
        except Exception as error:  # anything: what else comes out is the question
            self.strangers += type(error).__name__ not in {"Unreachable", "Moved"}
            self.failed += 1
            return False
        else:
            self.worked += 1
            return True
        finally:
            self.took.append(took())

    def held(self) -> None:
        """No call was too long or raised something strange."""
        assert self.strangers == 0
        assert_in_time(self.took)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "server") as running:
        yield running


@pytest.fixture(params=["sync", "async"])
def watch(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Watcher]]:
    """Opens links and calls them, from a thread or from an event loop."""
    links: list[Link] = []
    loop = asyncio.Runner()

    def opened(url: str) -> Watcher:
        link = open_link(url, SCRIPT, first=0.01, most=0.1)
        links.append(link)

        async def call() -> None:
            await link.arun(OPS)

        return Watcher(link, (lambda: link.run(OPS)) if request.param == "sync" else (lambda: loop.run(call())))

    yield opened
    for link in links:
        link.close()
    loop.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "crawlguard"]


def settled(watcher: Watcher) -> None:
    """Wait until calls are answered, and look at what an outage does from there."""
    until(watcher)
    watcher.took, watcher.strangers = [], 0


@pytest.fixture(scope="module", autouse=True)
def heap() -> None:
    young_heap()


@pytest.fixture(autouse=True)
def logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crawlguard")


def test_a_killed_server_is_left_alone_and_found_again(
    server: Server, watch: Callable[[str], Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    watcher = watch(server.url)
    settled(watcher)
    assert said(caplog) == []
    server.kill()
    until(lambda: not watcher())
    for _ in range(300):
        watcher()
    assert watcher.link.breaker.state is OPEN
    assert watcher.link.breaker.refused >= 299
    server.start()
    until(watcher)
    watcher.held()
    down, up = said(caplog)
    assert down.startswith(watcher.link.name)
    assert "by this host alone" in down
    assert "answers again" in up
    breaker = watcher.link.breaker
    assert (breaker.state, breaker.opened, breaker.closed) == (CLOSED, 1, 1)


def test_a_logging_handler_that_raises_keeps_nobody_from_the_server(server: Server, watch: Callable[[str], Watcher]) -> None:
    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record.getMessage())

    handler, log = Raises(), logging.getLogger("crawlguard")
    log.addHandler(handler)
    try:
        watcher = watch(server.url)
        settled(watcher)
        server.kill()
        until(lambda: not watcher())
        server.start()
        until(watcher)
        watcher.held()
    finally:
        log.removeHandler(handler)
    assert watcher.link.breaker.closed >= 1


def test_a_paused_server_costs_a_few_calls_the_limit_and_then_nothing(
    server: Server, watch: Callable[[str], Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    watcher = watch(server.tcp)
    settled(watcher)
    server.pause()
    for _ in range(LATE):
        watcher()
    until(lambda: not watcher() and watcher.link.breaker.state is OPEN)
    took = Stopwatch()
    for _ in range(300):
        assert not watcher()
    assert took() < 300 * LIMIT / 4
    server.resume()
    until(watcher)
    watcher.held()
    assert len(said(caplog)) == 2
    assert "does not answer in time" in said(caplog)[0]


@pytest.mark.parametrize(("delay", "piece"), [(0.1, 0), (0.005, 1)], ids=["slow", "trickling"])
def test_a_slow_network_is_not_waited_for(
    server: Server, watch: Callable[[str], Watcher], caplog: pytest.LogCaptureFixture, delay: float, piece: int
) -> None:
    proxy = Proxy(server)
    try:
        watcher = watch(proxy.url)
        settled(watcher)
        proxy.delay, proxy.piece = delay, piece
        until(lambda: not watcher() and watcher.link.breaker.state is OPEN)
        for _ in range(100):
            assert not watcher()
        proxy.delay = proxy.piece = 0
        until(watcher)
        watcher.held()
        breaker = watcher.link.breaker
        assert len(said(caplog)) == breaker.opened + breaker.closed == 2 * breaker.opened  # a busy machine is a slow network, too
    finally:
        proxy.close()


def test_a_full_server_is_told_with_its_cure(server: Server, watch: Callable[[str], Watcher], caplog: pytest.LogCaptureFixture) -> None:
    watcher = watch(server.url)
    settled(watcher)
    server.cli("config", "set", "maxmemory-policy", "noeviction")
    server.cli("config", "set", "maxmemory", "1")
    assert not watcher()
    assert watcher.link.breaker.state is OPEN
    server.cli("config", "set", "maxmemory", "0")
    until(watcher)
    watcher.held()
    assert len(said(caplog)) == 2
    assert "memory is full" in said(caplog)[0]
    assert "maxmemory-policy" in said(caplog)[0]


def test_a_password_that_changes_is_told_and_asked_for_rarely(
    server: Server, watch: Callable[[str], Watcher], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cli("config", "set", "requirepass", "right-secret")
    server.password = "right-secret"
    monkeypatch.setenv("STORE_PASSWORD", "wrong-secret")
    watcher = watch(f"{server.url}?password_env=STORE_PASSWORD")
    until(lambda: said(caplog))
    for _ in range(100):
        assert not watcher()
    monkeypatch.setenv("STORE_PASSWORD", "right-secret")
    until(watcher)
    watcher.held()
    down, _ = said(caplog)
    assert "password is wrong" in down
    assert "password_env" in down
    assert "secret" not in caplog.text + repr(watcher.link) + repr(vars(watcher.link)) + watcher.link.name


@pytest.mark.parametrize(
    ("url", "what", "cure"),
    [
        ("valkey://{}/99", "it has no such database", "after the host: /0"),
        ("valkey+cluster://{}", "it is no Cluster", "begin the store's URL with valkey://"),
        ("valkey+sentinel://{}/main", "it is no Sentinel", "name the Sentinels' port (26379)"),
    ],
)
def test_a_url_that_takes_the_server_for_another_is_told_with_its_cure(
    server: Server, watch: Callable[[str], Watcher], caplog: pytest.LogCaptureFixture, url: str, what: str, cure: str
) -> None:
    watcher = watch(url.format(server.tcp.partition("://")[2].partition("/")[0]))
    until(lambda: said(caplog))
    assert not watcher()
    (told,) = said(caplog)
    assert what in told
    assert cure in told


def test_a_user_without_permission_is_told(server: Server, watch: Callable[[str], Watcher], caplog: pytest.LogCaptureFixture) -> None:
    server.cli("acl", "setuser", "meek", "on", ">open-secret", "~*", "+get")
    watcher = watch(server.url.replace("unix://", "unix://meek:open-secret@"))
    until(lambda: said(caplog))
    assert not watcher()
    server.cli("acl", "setuser", "meek", "+@all")
    until(watcher)
    watcher.held()
    assert "may not do what is needed" in said(caplog)[0]
    assert "EVALSHA" in said(caplog)[0]
    assert "secret" not in caplog.text


def test_a_server_that_was_never_there(tmp_path: Path, watch: Callable[[str], Watcher], caplog: pytest.LogCaptureFixture) -> None:
    server = Server(tmp_path / "late")
    watcher = watch(server.tcp)
    until(lambda: said(caplog))
    for _ in range(100):
        assert not watcher()
    server.start()
    try:
        until(watcher)
        watcher.held()
        assert len(said(caplog)) == 2
    finally:
        server.end()


GARBAGE = (
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"*1\r\n*1\r\n$5\r\nwords\r\n",
    b"$-5\r\n",
    b"*99999999\r\n",
    b":1\r\n",
    b"",
    b"+OK\r\n" * 9,
    bytes(99),
)


@pytest.mark.parametrize("answer", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_an_outage_like_any_other(watch: Callable[[str], Watcher], caplog: pytest.LogCaptureFixture, answer: bytes) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
                with client:
                    while b"EVAL" not in (data := client.recv(65_536)) and data:
                        client.sendall(b"+OK\r\n" if b"SCRIPT" in data or b"SET" in data else answer)
                    client.sendall(answer)
            except OSError:
                if listening.fileno() < 0:
                    return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    watcher = watch(f"valkey://127.0.0.1:{listening.getsockname()[1]}")
    until(lambda: not watcher() and said(caplog))
    for _ in range(50):
        assert not watcher()
    watcher.held()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_a_script_that_fails_is_logged_once_with_what_the_server_says(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    link = open_link(server.url, "return redis.call('NONSENSE')", first=0.01, most=0.02)
    watcher = Watcher(link, lambda: link.run(OPS))
    until(lambda: not watcher() and link.breaker.failed >= 5)
    watcher.held()
    link.close()
    assert len(said(caplog)) == 1
    assert "Unknown Redis command" in said(caplog)[0]


def test_a_forgotten_script_is_sent_again_in_the_same_call(server: Server, watch: Callable[[str], Watcher]) -> None:
    watcher = watch(server.url)
    settled(watcher)
    for _ in range(3):
        server.cli("script", "flush")
        assert watcher()
    assert watcher.link.breaker.failed == 0


def test_idle_connections_that_the_server_closed_are_not_used(server: Server, watch: Callable[[str], Watcher]) -> None:
    watcher = watch(server.url)
    settled(watcher)
    server.cli("client", "kill", "type", "normal")
    until(watcher)
    assert watcher.strangers == 0


@pytest.mark.parametrize("poll", [True, False], ids=["poll", "as on Windows"])
def test_a_connection_that_has_lain_idle_is_looked_at(server: Server, monkeypatch: pytest.MonkeyPatch, poll: bool) -> None:
    monkeypatch.setattr("crawlguard.store.wire.IDLE", 0.0)
    if not poll:
        monkeypatch.delattr("select.poll")
    spec = parse_url(server.url)
    assert isinstance(spec, LinkSpec)
    wire = Wire(spec, spec.nodes[0])
    assert wire.alive()
    assert wire.ask("PING") == b"PONG"
    assert wire.alive()
    server.cli("client", "kill", "type", "normal")
    until(lambda: not wire.alive())
    wire.close()


def test_threads_share_a_bounded_number_of_connections(server: Server) -> None:
    link = open_link(server.url, SCRIPT, limit=5.0)
    until(lambda: link.breaker.state is CLOSED)
    before = int(server.cli("get", "{a}1") or 0)
    with ThreadPoolExecutor(40) as threads:
        list(threads.map(lambda _: link.run(OPS), range(2000)))
    assert int(server.cli("get", "{a}1")) == before + 2000
    assert len(server.cli("client", "list").splitlines()) <= 16 + 1
    assert link.breaker.failed == link.breaker.busy == 0
    link.close()
    until(lambda: len(server.cli("client", "list").splitlines()) == 1)


def test_several_loops_and_calls_that_are_cancelled(server: Server) -> None:
    link = open_link(server.url, SCRIPT, limit=5.0)
    until(lambda: link.breaker.state is CLOSED)

    async def crowd() -> int:
        tasks = [asyncio.create_task(link.arun(OPS)) for _ in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        answers = sorted(one[0][0] for one in done if isinstance(one, list))
        assert len(answers) == len(set(answers)) == 66  # nobody was given somebody else's answer
        return len(answers)

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda _: asyncio.run(crowd()), range(6))) == [66] * 6
    until(lambda: len(server.cli("client", "list").splitlines()) <= 2)  # the loops have ended, and their connections with them
    link.close()


def test_a_forked_worker_has_connections_of_its_own(server: Server) -> None:
    link = open_link(server.url, SCRIPT, limit=2.0)
    until(lambda: link.breaker.state is CLOSED)
    link.run(OPS)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - in the child
        found = b"fail"
        try:
            until(Watcher(link, lambda: link.run(OPS)))
            for _ in range(500):
                link.run(OPS)
            found = b"done"
        finally:
            os.write(writing, found)
            os._exit(0)
    for _ in range(500):
        link.run(OPS)
    assert os.read(reading, 4) == b"done"
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    assert int(server.cli("get", "{a}1")) == 1002
    link.close()


def test_a_seed_is_set_once_for_all(server: Server) -> None:
    one, two = open_link(server.url, SCRIPT), open_link(server.tcp, SCRIPT)
    assert one.set_once("seed", b"\x00first") == b"\x00first" == two.set_once("seed", b"second")
    assert server.cli("ttl", "seed") == "-1"
    one.close()
    two.close()


def test_a_closed_link_stays_closed(server: Server) -> None:
    link = open_link(server.url, SCRIPT)
    until(lambda: link.breaker.state is CLOSED)
    link.close()
    watcher = Watcher(link, lambda: link.run(OPS))
    for _ in range(20):
        assert not watcher()
    watcher.held()
    until(lambda: len(server.cli("client", "list").splitlines()) == 1)


def test_a_url_that_is_none_is_an_error_without_what_may_be_a_password() -> None:
    with pytest.raises(ConfigError, match="the store: a port is not between") as caught:
        open_link("valkey://me:very-secret@host:99999/0", SCRIPT)
    assert "secret" not in str(caught.value)
