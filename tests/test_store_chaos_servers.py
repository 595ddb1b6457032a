"""Real servers with two workers each, under HTTP load while the server of their store is killed and comes back: uvicorn, and gunicorn and uWSGI that load
the site before they fork.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .in_time import assert_in_time
from .test_store_chaos import ADMITTED, POLICY
from .valkey_server import Server as Store
from .valkey_server import free_port, until

pytestmark = pytest.mark.alone

SITE = """
import json, os
from crawlguard import Guard
from tests.in_time import Stopwatch

guard, took = Guard("crawlguard.yaml"), 0.0

def told(took):
    store, link = guard.store, guard.store.link
    counts = {"fallen_back": store.fallen_back, "opened": link.breaker.opened, "closed": link.breaker.closed, "errors": guard.counters.errors}
    return json.dumps({"pid": os.getpid(), "took": took, "state": link.breaker.state, "joined": store.joined, **counts}).encode()
"""
ASGI = (
    SITE
    + """
from crawlguard.asgi import CrawlGuardMiddleware

async def site(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": told(scope["took"]())})

guarded = CrawlGuardMiddleware(site, guard)

async def app(scope, receive, send):
    if scope["type"] == "http":
        await guarded({**scope, "took": Stopwatch()}, receive, send)
"""
)
WSGI = (
    SITE
    + """
from crawlguard.wsgi import CrawlGuardMiddleware

def site(environ, start):
    start("200 OK", [])
    return [told(environ["took"]())]

guarded = CrawlGuardMiddleware(site, guard)

def app(environ, start):
    return guarded({**environ, "took": Stopwatch()}, start)
"""
)
UWSGI = ["-c", "from pyuwsgi import run; run()", "--master", "--need-app", "--die-on-term"]
"""uWSGI as far as its command is always the same; it forks without telling Python."""
COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "site_of_two:app", "--workers", "2", "--lifespan", "off", "--log-level", "warning"],
    "gunicorn": ["-m", "gunicorn", "site_of_two:app", "-w", "2", "-k", "gthread", "--threads", "4", "--preload", "--no-control-socket"],
    "uwsgi": [*UWSGI, "--processes", "2", "--threads", "4", "--module", "site_of_two:app", "--pythonpath", "."],
}
ROOT = Path(__file__).parents[1]
KILLS = 2


class Site:
    """A server with two workers, and what they have told."""

    def __init__(self, kind: str, directory: Path, url: str) -> None:
        self.port, self._output = free_port(), directory / "output"
        store = f"store: {{url: '{url}', site: two}}\nclient_ip: {{trusted_proxies: [127.0.0.1], header: X-Forwarded-For}}\n"
        (directory / "crawlguard.yaml").write_text(POLICY.replace("rules:", store + "rules:"))
        (directory / "site_of_two.py").write_text(ASGI if kind == "uvicorn" else WSGI)
        place = f"127.0.0.1:{self.port}"
        bound = {"uvicorn": ["--port", str(self.port)], "gunicorn": ["-b", place], "uwsgi": ["--http-socket", place]}[kind]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "CRAWLGUARD_STATE_DIR": str(directory / "state")}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *COMMANDS[kind], *bound], cwd=directory, env=env, stdout=output, stderr=output
            )
        self.workers: dict[int, dict[str, Any]] = {}
        self.took: list[float] = []
        self.statuses: list[int] = []
        self.strangers: list[BaseException] = []
        self._over, self._somebody = threading.Event(), itertools.count(1)
        self._threads = [threading.Thread(target=self._load, args=(n,)) for n in range(4)]

    def ask(self, ip: str, path: str = "/") -> int:
        """One request, on a connection of its own, so that either worker may get it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"X-Forwarded-For": ip, "User-Agent": "Mozilla/5.0 Firefox/153.0"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status == 200:
            told = json.loads(body)
            self.workers[told["pid"]] = told
            self.took.append(told["took"])
        return response.status

    def admitted(self) -> int:
        """How many requests of somebody new are served, of twice as many as are allowed."""
        ip = f"192.0.2.{next(self._somebody)}"
        return [self.ask(ip) for _ in range(2 * ADMITTED)].count(200)

    def admitted_elsewhere(self) -> int:
        """``admitted``, where the server of the store has decided on each: none came too late for a busy machine."""
        for _ in range(50):
            before = self.told("fallen_back")
            found = self.admitted()
            if self.told("fallen_back") == before:
                return found
        raise AssertionError("it did not come to that")

    def told(self, name: str) -> list[Any]:
        """What each of the two workers tells from now on, by its process."""
        self.workers.clear()
        until(lambda: len(self.workers) == 2)
        return [told[name] for _, told in sorted(self.workers.items())]

    def _load(self, number: int) -> None:
        try:
            for n in itertools.count():
                if self._over.wait(0.005):
                    return
                self.statuses.append(self.ask(f"10.{number}.{n >> 8 & 255}.{n & 255}", f"/{n % 9}"))
        except Exception as error:
            self.strangers.append(error)

    def begin(self) -> None:
        until(self._answers, 40)
        for thread in self._threads:
            thread.start()

    def _answers(self) -> bool:
        try:
            return self.ask("10.9.0.1") in {200, 429}
        except OSError:
            assert self._process.poll() is None, self.output()
            return False

    def rest(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        self._over.set()
        self._process.terminate()
        self._process.wait(20)

    def output(self) -> str:
        return self._output.read_text(errors="replace")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.end()


@pytest.fixture(params=COMMANDS)
def site(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> Iterator[Site]:
    store.start()
    made = Site(request.param, tmp_path, store.url)
    yield made
    made.stop()


def test_a_site_under_load_does_not_notice(site: Site, store: Store) -> None:
    site.begin()
    until(lambda: site.told("joined") == [True, True], 40)
    until(lambda: site.told("state") == ["closed", "closed"])
    assert site.admitted_elsewhere() == ADMITTED
    for _ in range(KILLS):
        store.kill()
        until(lambda: site.told("state") == ["open", "open"])
        before = site.told("fallen_back")
        assert site.admitted() == ADMITTED  # both workers together, by the host's table
        until(lambda before=before: all(now > then + 20 for now, then in zip(site.told("fallen_back"), before, strict=True)))  # type: ignore[misc]
        store.start()
        until(lambda: site.told("state") == ["closed", "closed"])
        assert site.admitted_elsewhere() == ADMITTED
    assert site.told("errors") == [0, 0]
    assert min(site.told("opened")) >= KILLS
    for counter, words in (("opened", "by this host alone"), ("closed", "answers again")):
        # Each transition is told once. On a busy machine it may happen once more at any time; gunicorn's master, which has loaded the site, may see each kill.
        until(lambda counter=counter, words=words: site.output().count(words) >= sum(site.told(counter)))  # type: ignore[misc]
        written = site.output().count(words)
        assert sum(site.told(counter)) >= written - KILLS
    site.rest()
    assert site.strangers == []
    assert set(site.statuses) == {200}
    assert_in_time(site.took)
    assert "Traceback" not in site.output()
