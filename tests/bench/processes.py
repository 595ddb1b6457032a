"""The rows that need processes of their own: the shared table under four workers, import time, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from crawlguard.store import SharedStore

from .table import Row

KEYS = 500_000
HAMMERS = 4

BARE = """
import sys, time
from crawlguard.store import SharedStore
store, clock, admitted = SharedStore(sys.argv[1], 1 << 20), time.monotonic_ns, 0
interval = 3600_000_000 // {requests}
hit, tolerance = store.hit, interval * {requests}
print(flush=True)
sys.stdin.readline()
for _ in range({hits}):
    admitted += hit(0x123456789ABCDEF, clock() // 1000, interval, tolerance, 0) == 0
print(admitted, flush=True)
"""
WORKERS = """
import sys
from crawlguard import Guard
from crawlguard.asgi import CrawlGuardMiddleware
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Store
from tests.bench.timing import Site, time_asgi
from tests.bench.traffic import BROWSERS
policy, _ = parse_policy("version: 1\\nrules: [{{id: hot, when: {{rate: {{per: ip, requests: {requests}, within: 1h}}}}, then: throttle}}]")
site = Site()
app = CrawlGuardMiddleware(site.asgi, Guard(policy, store=Store("shared", sys.argv[1], 1 << 20)))
print(flush=True)
sys.stdin.readline()
for _ in range({hits} // 100):  # making the next requests between the decisions is the work that a worker has besides
    time_asgi(app, [(BROWSERS[0], "192.0.2.1")] * 100)
print(site.served, flush=True)
"""
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


def shared_table() -> Iterator[Row]:
    """Its size, what it keeps of half a million keys, and what four processes on one key let through too much."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        store = SharedStore(Path(directory) / "rates.bin")
        keys = [n * 0x9E3779B97F4A7C15 * 0xD1342543DE82EF95 & (1 << 64) - 1 for n in range(1, KEYS + 1)]
        now, interval = 10**12, 30_000_000
        for key in keys:
            store.hit(key, now, interval, 2 * interval, 0)
        lost = sum(not store.peek(key, now, interval, interval, 0) for key in keys)
        size = store.path.stat().st_size
        store.close()
        yield Row("shared store: size of the file", size / (1 << 20), "MiB", 16.1, 16.1)
        yield Row("shared store: lost of 500,000 live keys", 100 * lost / KEYS, "%", 1, 0.5)
        for name, script in (("through the ASGI door", WORKERS), ("bare, nothing else to do", BARE)):
            over = median(_over_admission(script, Path(directory) / f"{number}-{len(script)}") for number in range(5))
            yield Row(f"shared store: 4 processes on one key, over-admission, {name}", over, "%", 2, 0.5)


def _over_admission(script: str, path: Path, requests: int = 5_000) -> float:
    """Percent admitted above ``requests``: a burst that four processes fight for; nearly nothing is refilled meanwhile."""
    text = script.format(requests=requests, hits=requests)
    command, pipe = [sys.executable, "-c", text, str(path)], subprocess.PIPE
    crowd = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=CLEAN) for _ in range(HAMMERS)]
    for worker in crowd:
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in crowd:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    admitted = sum(int(worker.communicate()[0]) for worker in crowd)
    return 100 * (admitted - requests) / requests


def _cpu_ms(code: str) -> float:
    """Milliseconds of CPU of a fresh interpreter."""
    worker = subprocess.Popen([sys.executable, "-c", code], env=CLEAN)
    _, status, usage = os.wait4(worker.pid, 0)
    worker.returncode = os.waitstatus_to_exitcode(status)
    if worker.returncode:
        raise RuntimeError(f"{code!r} failed")
    return (usage.ru_utime + usage.ru_stime) * 1e3


def import_time() -> Iterator[Row]:
    """What importing the ASGI door adds to starting Python: CPU time, median of 15 pairs."""
    _cpu_ms("import crawlguard.asgi")
    added = [_cpu_ms("import crawlguard.asgi") - _cpu_ms("pass") for _ in range(15)]
    yield Row("import crawlguard.asgi", median(added), "ms", 80, 40)


def commands() -> Iterator[Row]:
    """What a user waits for the commands that only look at the bundled policy: from their start to their end, median of 15 turns."""
    calls = {"check": [], "explain": ["--ua", "GPTBot/1.2", "--ip", "203.0.113.7"]}
    spent: dict[str, list[float]] = {name: [] for name in calls}
    with tempfile.TemporaryDirectory() as empty:
        for turn in range(16):  # the first one warms the caches up
            for name, arguments in calls.items():
                began = perf_counter()
                call = [sys.executable, "-m", "crawlguard", name, *arguments]
                subprocess.run(call, check=True, cwd=empty, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                if turn:
                    spent[name].append((perf_counter() - began) * 1e3)
    for name, times in spent.items():
        yield Row(f"crawlguard {name}, the bundled policy", median(times), "ms", 200, note=f"the fastest {min(times):.0f} ms")


MEASURE = """
from pathlib import Path
async def app(scope, receive, send): pass
{setup}
fields = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
kib = {{name: int(value.split()[0]) for name, value in fields.items()}}
print(kib["Rss"], kib["Private_Clean"] + kib["Private_Dirty"])
"""
GUARDED = """
from crawlguard.asgi import CrawlGuardMiddleware
app = CrawlGuardMiddleware(app)
headers = [(b"user-agent", b"Mozilla/5.0 Chrome/156"), (b"accept", b"text/html")]
scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": ("192.0.2.1", 1)}
for _ in range(100):
    try:
        app(scope, None, None).send(None)
    except StopIteration:
        pass
"""


def _memory(setup: str) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", MEASURE.format(setup=setup)], env=CLEAN, capture_output=True, text=True, check=True)
    rss, private = map(int, done.stdout.split())
    return rss, private


def memory() -> Iterator[Row]:
    """What a guard with the default policy adds to a fresh process; private memory alone in the note."""
    if not Path("/proc/self/smaps_rollup").exists():
        yield Row("memory added to a worker", 0.0, "MiB", note="cannot be measured here")
        return
    _memory(GUARDED)  # the catalogue's compiled form is in the cache now
    with_guard, without = ([_memory(setup) for _ in range(5)] for setup in (GUARDED, ""))
    rss, private = (median(m[n] for m in with_guard) - median(m[n] for m in without) for n in (0, 1))
    yield Row("memory added to a worker by the default policy", rss / 1024, "MiB", 30, 15, f"private {private / 1024:.1f} MiB")
