"""A real gunicorn gthread worker with a CPU-bound thread beside it: what the guard adds to the slowest requests.

Times are taken inside the worker, around the middleware, so that the network and the wait for the thread do not hide
them: guard and no-op take turns on the same request. A guard that let go of the interpreter lock would wait 5 ms to get it back.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

from .table import Row

REQUESTS, WARM_UP, THREADS = 2000, 200, 4
PEER_ADDRESSES = 200


def make_app() -> Any:
    """The application that gunicorn loads."""
    from crawlguard.wsgi import CrawlGuardMiddleware

    from .timing import NoOpWsgi, Site
    from .traffic import PEOPLE

    site = Site()
    sides = NoOpWsgi(site.wsgi), CrawlGuardMiddleware(site.wsgi)
    times: tuple[list[int], list[int]] = ([], [])
    turn = 0

    def burn() -> None:
        while True:
            sum(range(1000))

    threading.Thread(target=burn, daemon=True).start()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        nonlocal turn
        if environ["PATH_INFO"] == "/times":
            body = json.dumps({"times": times, "served": site.served}).encode()
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
            return [body]
        turn += 1
        environ["REMOTE_ADDR"] = PEOPLE[turn % PEER_ADDRESSES]
        for side in (0, 1) if turn % 2 else (1, 0):
            mine = dict(environ)
            started = time.perf_counter_ns()
            sides[side](mine, start_response)
            times[side].append(time.perf_counter_ns() - started)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    return application


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _connect(port: int, server: subprocess.Popen[bytes], seconds: float = 30) -> http.client.HTTPConnection:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.connect()
        except OSError:
            connection.close()
        else:
            return connection
    raise RuntimeError("gunicorn does not answer")


def _ask(port: int, server: subprocess.Popen[bytes], requests: int) -> None:
    from .traffic import BROWSERS, HEADERS

    connection = _connect(port, server)
    for number in range(requests):
        ua = BROWSERS[number % len(BROWSERS)]
        sent = {n.decode(): (ua if n == b"user-agent" else v).decode() for n, v in HEADERS if n not in (b"connection", b"host")}
        connection.request("GET", "/articles/1", headers=sent)
        connection.getresponse().read()
    connection.close()


def beside_a_busy_thread() -> Iterator[Row]:
    """Added p99 over the no-op, in a worker that also computes."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        command = [
            sys.executable, "-m", "gunicorn", "tests.bench.gthread:make_app()", "--worker-class", "gthread", "--workers", "1",
            "--threads", str(THREADS), "--bind", f"127.0.0.1:{port}", "--log-level", "error", "--no-control-socket",
        ]  # fmt: skip
        with log.open("wb") as output:
            server = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "CRAWLGUARD_STATE_DIR": directory})
        try:
            askers = [threading.Thread(target=_ask, args=(port, server, (REQUESTS + WARM_UP) // THREADS)) for _ in range(THREADS)]
            for asker in askers:
                asker.start()
            for asker in askers:
                asker.join()
            connection = _connect(port, server)
            connection.request("GET", "/times")
            found = json.loads(connection.getresponse().read())
            connection.close()
        except (RuntimeError, OSError, http.client.HTTPException) as error:
            yield Row("gunicorn gthread beside a CPU-bound thread", 0.0, "us", note=f"not measured: {error}; {log.read_text()[-200:]}")
            return
        finally:
            server.terminate()
            server.wait()
    noop, guard = (quantiles(side[WARM_UP:], n=100) for side in found["times"])
    if found["served"] != sum(map(len, found["times"])):
        raise RuntimeError("the guard refused some of the bench's visitors")
    medians = f"added p50 {(guard[49] - noop[49]) / 1e3:.1f} us; {len(found['times'][0]) - WARM_UP} requests, real gunicorn"
    yield Row("gunicorn gthread beside a CPU-bound thread: added p99", (guard[98] - noop[98]) / 1e3, "us", 200, 50, medians)
