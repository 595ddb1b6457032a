"""The guard on real servers: uvicorn and gunicorn with two workers each, over TCP and a unix socket, one of them killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.alone

CRAWLER = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.4; +https://openai.com/gptbot)"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
PATIENCE = 30.0
"""Seconds after which a condition that has not come about is a failure."""

POLICY = """
version: 1
include: [builtin:default]
client_ip: {trusted_proxies: [private]}
log: decisions.log
rules:
  - {id: far, when: {ip: 203.0.113.66}, then: hide}
  - {id: limit, when: {path: /limited, rate: {per: ip, requests: 20, within: 1h}}, then: throttle}
"""
FASTAPI = """
import os, pathlib
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from crawlguard import Guard
from crawlguard.asgi import CrawlGuardMiddleware

app, guard = FastAPI(), Guard("crawlguard.yaml")
app.add_middleware(CrawlGuardMiddleware, policy=guard)
pathlib.Path("pids", str(os.getpid())).touch()

@app.api_route("/{path:path}", methods=["GET", "POST", "HEAD"])
def page(path: str):
    if path == "stream":
        return StreamingResponse(chunks())
    return {"pid": os.getpid(), "errors": guard.counters.errors}

def chunks():
    yield b"first"
    with open("fifo", "rb") as fifo:
        yield fifo.read()

@app.websocket("/ws")
async def echo(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
"""
FLASK = """
import os, pathlib
from flask import Flask, Response, jsonify
from crawlguard.wsgi import CrawlGuardMiddleware

app = Flask(__name__, static_folder=None)
guarded = app.wsgi_app = CrawlGuardMiddleware(app.wsgi_app, policy="crawlguard.yaml")
pathlib.Path("pids", str(os.getpid())).touch()

@app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
@app.route("/<path:path>", methods=["GET", "POST"])
def page(path):
    if path == "stream":
        return Response(chunks())
    return jsonify({"pid": os.getpid(), "errors": guarded.guard.counters.errors})

def chunks():
    yield b"first"
    with open("fifo", "rb") as fifo:
        yield fifo.read()
"""


class Server:
    """A server with two workers in a directory of its own."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind, self.directory = kind, directory
        (directory / "pids").mkdir()
        os.mkfifo(directory / "fifo")
        (directory / "crawlguard.yaml").write_text(POLICY)
        (directory / "live_site.py").write_text(FASTAPI if kind == "uvicorn" else FLASK)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = {
            "uvicorn": ["uvicorn", "live_site:app", "--workers", "2", "--port", str(self.port), "--timeout-keep-alive", "60"],
            "gunicorn": [
                *["gunicorn", "live_site:app", "-w", "2", "-k", "gthread", "--threads", "4", "--keep-alive", "60"],
                *["-b", f"127.0.0.1:{self.port}", "-b", "unix:socket", "--no-control-socket"],
            ],
        }[kind]
        with (directory / "output").open("wb") as output:
            self.process = subprocess.Popen([sys.executable, "-m", *command], cwd=directory, stdout=output, stderr=output)
        try:
            self.until(lambda: len(self.workers()) == 2 and self.answers())
        except BaseException:
            self.stop()
            raise

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition; fail when the server has ended or time is up."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
                raise AssertionError(f"the server ended:\n{self.output()}")
            assert time.monotonic() < deadline, self.output()

    def output(self) -> str:
        return (self.directory / "output").read_text(errors="replace")

    def workers(self) -> list[int]:
        """The workers that have loaded the site and live."""
        return [int(p.name) for p in (self.directory / "pids").iterdir() if state_of(int(p.name)) not in ("", "Z")]

    def answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError), self.client() as client:
            return client.get("/").status_code == 200
        return False

    def client(self, user_agent: str = BROWSER, *, unix: bool = False) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.directory / "socket")) if unix else None
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"user-agent": user_agent, "x-forwarded-for": "203.0.113.7"},
            timeout=10,
            transport=transport,
        )

    @contextlib.contextmanager
    def client_of(self, worker: int) -> Iterator[httpx.Client]:
        """A client whose one kept connection is with a certain worker: the others are stopped while it connects."""
        others = [w for w in self.workers() if w != worker]
        with self.client() as client:
            try:
                for other in others:
                    os.kill(other, signal.SIGSTOP)
                    self.until(lambda other=other: state_of(other) == "T")  # type: ignore[misc]
                assert client.get("/").json()["pid"] == worker
            finally:
                for other in others:
                    os.kill(other, signal.SIGCONT)
            yield client

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def state_of(pid: int) -> str:
    """The letter of a process's state, "" when it is gone (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture(scope="module", params=["uvicorn", "gunicorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    started.stop()


def test_crawlers_are_refused_and_people_are_served(server: Server) -> None:
    with server.client(CRAWLER) as crawler, server.client() as person:
        for _ in range(10):
            refused = crawler.get("/", headers={"accept": "application/json"})
            assert (refused.status_code, refused.json()["rule"]) == (403, "ai-training")
            assert person.get("/").status_code == 200
        assert crawler.get("/robots.txt").status_code == 200
        head = crawler.head("/", headers={"accept": "application/json"})
        assert (head.status_code, head.headers["content-length"]) == (403, refused.headers["content-length"])


def test_a_refused_upload_is_never_read_by_the_site_and_harms_nobody(server: Server) -> None:
    for _ in range(5):
        with server.client(CRAWLER) as crawler:  # gunicorn may close such a connection afterwards, whoever answers without reading
            assert crawler.post("/", content=b"x" * 20_000).status_code == 403
        with server.client() as person:
            assert person.post("/", content=b"x" * 20_000).status_code == 200


def test_a_limit_counts_over_all_workers(server: Server) -> None:
    server.until(lambda: len(server.workers()) == 2)
    first, second = server.workers()
    with server.client_of(first) as one, server.client_of(second) as other:
        admitted = {first: 0, second: 0}
        for _ in range(13):
            for client, worker in ((one, first), (other, second)):
                answer = client.get("/limited")
                if answer.status_code == 200:
                    assert answer.json()["pid"] == worker
                    admitted[worker] += 1
                else:
                    assert answer.status_code == 429
                    assert 0 < int(answer.headers["retry-after"]) <= 180  # an hour for 20: one each 180 s
        assert admitted == {first: 10, second: 10}
        assert one.get("/").status_code == other.get("/").status_code == 200


def test_a_killed_worker_leaves_the_rest_deciding(server: Server) -> None:
    server.until(lambda: len(server.workers()) == 2)
    victim, other = server.workers()
    with server.client_of(other) as client:
        os.kill(victim, signal.SIGKILL)
        server.until(lambda: state_of(victim) in ("", "Z"))
        for _ in range(20):
            assert client.get("/", headers={"user-agent": CRAWLER}).status_code == 403
            assert client.get("/").json() == {"pid": other, "errors": 0}
    server.until(lambda: len(server.workers()) == 2)  # the server puts another in its place
    (new,) = set(server.workers()) - {other}
    with server.client_of(new) as client:
        assert client.get("/", headers={"user-agent": CRAWLER}).status_code == 403


def test_the_first_chunk_arrives_before_the_second_is_made(server: Server) -> None:
    with server.client() as client, client.stream("GET", "/stream") as answer:
        chunks = answer.iter_raw()
        assert next(chunks) == b"first"
        (server.directory / "fifo").write_bytes(b"second")  # the site waits for this
        assert b"".join(chunks) == b"second"


HOSTILE = [
    b"User-Agent: " + bytes(range(0x80, 0x100)) + b" GPTBot\xff",
    b"User-Agent: GPTBot/1.4 " + b"(" * 4000,
    b"User-Agent:",
    b"User-Agent: a\r\nUser-Agent: GPTBot/1.4",
    b"User-Agent: %00%0a{0}{}%s%n\t",
    b"X-Forwarded-For: " + b"1.1.1.1, " * 400 + b"junk",
    b"X-Forwarded-For: " + b", " * 2000,
    b'X-Forwarded-For: "\\\xff[::',
    b'Forwarded: for="' + b"\\" * 3000,
    b"Accept: " + b"text/html;q=" * 300,
    b"Accept: \xff\xfe;q=\xb2",
    b"Accept-Language: " + b"\xc3\x28" * 500,
    b"X-Forwarded-For: 203.0.113.9\nX-Other: bare newline",
    b"User-Agent: bare\rreturn",
    b"User-Agent: nul\0byte",
]
PATHS = [b"/", b"/%00%0a%0d%22", b"/%ff%fe%ed%a0%80", b"/..%2f..%2f", b"//example.org/", b"/?" + b"%" * 2000, b"/" + b"%e2%82%ac" * 800]


def raw_status(server: Server, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n" not in answer:
            received = connection.recv(4096)
            if not received:
                break
            answer += received
    return int(answer.split()[1]) if answer else 0


def test_hostile_requests_make_no_error_and_no_forged_line(server: Server) -> None:
    statuses = set()
    for path in PATHS:
        for header in HOSTILE:
            statuses.add(
                raw_status(server, b"GET " + path + b" HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n" + header + b"\r\n\r\n")
            )
    assert statuses <= {0, 200, 308, 400, 403, 404, 414, 431}, statuses  # the servers themselves refuse some of these
    assert {200, 403} <= statuses
    for worker in server.workers():
        with server.client_of(worker) as client:
            assert client.get("/").json() == {"pid": worker, "errors": 0}
    for line in (server.directory / "decisions.log").read_bytes().splitlines():
        assert json.loads(line)["rule"]
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("server", ["uvicorn"], indirect=True)
def test_a_websocket_is_refused_in_its_handshake(server: Server) -> None:
    url = f"ws://127.0.0.1:{server.port}/ws"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, user_agent_header=CRAWLER, proxy=None)
    assert refused.value.response.status_code == 403
    with connect(url, user_agent_header=BROWSER, proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=10) == "hello"


@pytest.mark.parametrize("server", ["gunicorn"], indirect=True)
def test_behind_a_unix_socket_the_proxys_header_counts(server: Server) -> None:
    with server.client(unix=True) as client:
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"user-agent": CRAWLER}).status_code == 403
        for header, status in (
            ("203.0.113.66", 404),
            ("203.0.113.65", 200),
            ("203.0.113.66, 203.0.113.65", 200),
            ("junk, 203.0.113.66", 404),
        ):
            assert client.get("/", headers={"x-forwarded-for": header}).status_code == status, header
        for address, wanted in (("203.0.113.1", [200] * 20 + [429]), ("203.0.113.2", [200])):
            assert [client.get("/limited", headers={"x-forwarded-for": address}).status_code for _ in wanted] == wanted
