"""The store of many hosts under gunicorn's gevent workers: a preloaded application is forked, and only then made cooperative."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from crawlguard import Guard
from crawlguard.policy.model import Store
from crawlguard.store.remote_bans import RemoteBans

from .test_bans import by_hand
from .test_store_remote import THREE, policy_of
from .valkey_server import serving

WORKER = """
import os, sys, time
from crawlguard import Guard
from crawlguard.policy.model import Store
from tests.policy_corpus import view
from tests.test_store_remote import THREE, policy_of

guard = Guard(policy_of(THREE), store=Store("memory", url=sys.argv[1], site="cooperative", batch=int(sys.argv[2])))
child = os.fork()
if child == 0:
    import gevent
    from gevent import monkey
    monkey.patch_all()
    store, late, blocked = guard.store, [0.0], []
    store.link.limit = 1.0

    def beat():
        while True:
            before = time.monotonic()
            gevent.sleep(0.01)
            late[0] = max(late[0], time.monotonic() - before)

    def visit(number):
        deadline, visits = time.monotonic() + 30, 0
        while not blocked and time.monotonic() < deadline:
            visits += 1
            if guard.decide(view(ua="x", ip="192.0.2.1")).rule == "ban":
                blocked.append(number)
            guard.decide(view(ua="x", ip=f"10.{number}.{visits >> 8 & 255}.{visits & 255}"))
            gevent.sleep(0.02)

    gevent.spawn(beat)
    print("up", flush=True)
    gevent.joinall([gevent.spawn(visit, number) for number in range(8)])
    breaker = store.link.breaker
    print(bool(blocked), breaker.failed, breaker.opened, guard.counters.errors, late[0] < 0.8, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("batch", [0, 20_000])
def test_a_worker_that_becomes_cooperative_after_its_fork(tmp_path: Path, batch: int) -> None:
    with serving(tmp_path / "server") as server:
        command = [sys.executable, "-c", WORKER, server.url, str(batch)]
        worker = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        guard = Guard(policy_of(THREE), store=Store("memory", url=server.url, site="cooperative"))
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "up\n"
            assert isinstance(guard.bans.record, RemoteBans)
            now = time.monotonic_ns() // 1000
            assert guard.bans.record.put(by_hand(guard.store.seed, "192.0.2.1/32", now, 3600), now)
            said, errors = worker.communicate(timeout=60)
            assert said.split() == ["True", "0", "0", "0", "True"], errors
            assert "cannot be read" not in errors
        finally:
            guard.store.close()
            worker.kill()
            worker.wait()
