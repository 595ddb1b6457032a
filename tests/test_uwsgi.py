"""uWSGI loads a site, forks without telling Python, and runs no threads unless it is asked to. With a store on a server: test_store_chaos_servers.py."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_store_chaos_servers import ROOT, UWSGI
from .valkey_server import free_port, until

pytestmark = pytest.mark.alone

LIMIT, WORKERS = 12, 3
POLICY = """version: 1
client_ip: {trusted_proxies: private, header: X-Forwarded-For}
store: {path: rates}
rules:
  - {id: limit, when: {rate: {per: ip, requests: %d, within: 1h}}, then: throttle}
"""
SITE = """
import os
from crawlguard.wsgi import CrawlGuardMiddleware

def site(environ, start):
    start("200 OK", [])
    return [str(os.getpid()).encode()]

app = CrawlGuardMiddleware(site, "crawlguard.yaml")
"""


class Site:
    def __init__(self, directory: Path) -> None:
        self.policy, self.output, self.port = directory / "crawlguard.yaml", directory / "output", free_port()
        self.policy.write_text(POLICY % LIMIT)
        (directory / "site_of_three.py").write_text(SITE)
        more = ["--processes", str(WORKERS), "--enable-threads", "--module", "site_of_three:app", "--pythonpath", "."]
        call = [sys.executable, *UWSGI, *more, "--http-socket", f"127.0.0.1:{self.port}"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(call, cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=output, stderr=output)

    def ask(self, ip: str) -> tuple[int, str]:
        """Status and the worker's number, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/", headers={"X-Forwarded-For": ip, "User-Agent": "Mozilla/5.0 Firefox/153.0"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return self.ask("198.51.100.1")[0] == 200
        except OSError:
            assert self.process.poll() is None, self.output.read_text()
            return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        until(made.answers, 40)
        yield made
    finally:
        made.process.terminate()
        made.process.wait(20)


def test_workers_count_together_and_heed_a_changed_policy(site: Site) -> None:
    workers: set[str] = set()

    def all_have_answered() -> bool:
        workers.add(site.ask(f"198.51.101.{len(workers)}")[1])
        return len(workers) == WORKERS

    until(all_have_answered, 40)
    assert [site.ask("203.0.113.7")[0] for _ in range(2 * LIMIT)].count(200) == LIMIT
    site.policy.write_text(POLICY % (1000 * LIMIT))
    heeding: set[str] = set()

    def all_heed() -> bool:
        status, worker = site.ask("203.0.113.7")
        heeding.update({worker} if status == 200 else ())
        return heeding == workers

    until(all_heed, 40)
    assert "Traceback" not in site.output.read_text()


def test_one_without_threads_is_told_once_what_to_add(tmp_path: Path) -> None:
    (tmp_path / "crawlguard.yaml").write_text(POLICY % LIMIT)
    code = """
import sys, threading, types
sys.modules["uwsgi"] = types.SimpleNamespace(has_threads=0)
from crawlguard import Guard
Guard("crawlguard.yaml"), Guard("crawlguard.yaml")
print(threading.active_count())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert done.stderr == (
        "uWSGI runs no threads, so a changed policy is not noticed, nor what other hosts count: start it with --enable-threads\n"
    )


@pytest.mark.parametrize("decorators", [True, False])
def test_whoever_else_wants_to_know_of_forks_is_told_too(decorators: bool) -> None:
    code = f"""
import os, sys, types
told, later = [], []
server = sys.modules["uwsgi"] = types.SimpleNamespace(has_threads=1, post_fork_hook=lambda: told.append("theirs"))
if {decorators}:
    sys.modules["uwsgidecorators"] = types.SimpleNamespace(postfork=later.append)
from crawlguard import forks
forks.in_child(lambda: told.append("ours"))
forks.os = types.SimpleNamespace(getpid=lambda: os.getpid() + len(told) + 1)  # as in a child
for tell in later or [server.post_fork_hook]:
    tell()
print(*told)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ("ours\n" if decorators else "theirs ours\n")
