"""The server under load: started on a free port, watched, ended. And locust, which is sent against it in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median
from typing import Any

import psutil  # type: ignore[import-untyped]

from crawlguard.demo.sites import end, orderly, unbreakable

HERE = Path(__file__).resolve().parent
GROWTH = 0.10
"""The share by which the private memory of the workers may grow after the warm-up."""
WARM_UP = 1 / 3
"""The share of the run after which memory must not grow: until then caches, pools and code that is used first fill."""
SERVERS = {
    "uvicorn": ("tests.load.serve", "{port}"),
    "gunicorn": (
        "gunicorn", "tests.load.wsgi:app", "--bind", "127.0.0.1:{port}", "--workers", "2", "--worker-class", "gthread", "--threads", "8",
        "--log-level", "warning",
    ),
}  # fmt: skip
"""What Python runs, for each server, as a module."""
TICK = 0.25
READY_WITHIN = 60.0
STOP_WITHIN = 20.0
MIB = 1 << 20


@dataclass(slots=True, kw_only=True)
class Run:
    """A finished run. ``report``: what the locust file wrote; ``start``, ``end``: bytes of each worker after the warm-up and at last; ``lost``: a worker died.

    ``cpu``: seconds of the workers' CPU; ``guard``: seconds of it within the guard, ``decisions``: how many it took; ``log``: the decision log's lines.
    """

    report: dict[str, Any]
    start: Sequence[int]
    end: Sequence[int]
    lost: bool
    cpu: float
    guard: float
    decisions: int
    log: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def site(directory: Path, policy: str | None = None, server: str = "uvicorn") -> Iterator[tuple[psutil.Process, str]]:
    """The site under load, by the bundled policy or a file: its server's process, and where it is. Raises RuntimeError when it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "CRAWLGUARD_STATE_DIR": str(directory), "LOAD_DIRECTORY": str(directory)}
    env["XDG_RUNTIME_DIR"] = str(directory)  # gunicorn's control socket
    if policy:
        env["LOAD_POLICY"] = policy
    with (directory / "server.out").open("wb") as out:
        command = [sys.executable, "-m", *(word.format(port=port) for word in SERVERS[server])]
        process = subprocess.Popen(command, cwd=HERE.parents[1], env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not _answers(port):
            with suppress(subprocess.TimeoutExpired):
                process.wait(TICK)
            if process.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the site did not start:\n{(directory / 'server.out').read_text('utf-8', 'replace')}")
        yield psutil.Process(process.pid), f"http://127.0.0.1:{port}"
    finally:
        with unbreakable():
            process.terminate()
            with suppress(subprocess.TimeoutExpired):  # the workers write down what they have measured
                process.wait(STOP_WITHIN)
            end(process)


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/", headers={"User-Agent": "load-test", "X-Forwarded-For": "198.51.100.1"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def workers(server: psutil.Process) -> dict[int, tuple[int, float]]:
    """Of each worker, by process id, the private memory in bytes and the CPU time in seconds.

    The rate table is not in the memory: it is shared, and of fixed size.
    """
    found = {}
    for child in server.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if not any("resource_tracker" in part for part in child.cmdline()):  # multiprocessing's, which uvicorn uses
                info, times = child.memory_info(), child.cpu_times()
                found[child.pid] = info.rss - getattr(info, "shared", 0), times.user + times.system
    return found


def load(file: str, users: int, seconds: float, classes: Sequence[str] = (), policy: str | None = None, *, server: str = "uvicorn") -> Run:
    """Send the users of a locust file against the site. Raises RuntimeError when the site or locust does not start."""
    with tempfile.TemporaryDirectory(prefix="crawlguard-load-") as made, orderly():
        directory = Path(made)
        with site(directory, policy, server) as (process, url):
            before = sum(cpu for _, cpu in workers(process).values())
            samples = _locust(directory, process, [file, *classes], users, seconds, {"LOAD_HOST": url})
        report = directory / "report.json"
        if not report.is_file():
            raise RuntimeError(f"locust did not do its work:\n{(directory / 'locust.out').read_text('utf-8', 'replace')}")
        found = _run(json.loads(report.read_bytes()), samples, directory)
        found.cpu -= before
        return found


def _locust(
    directory: Path, server: psutil.Process, what: Sequence[str], users: int, seconds: float, env: Mapping[str, str]
) -> list[tuple[float, dict[int, tuple[int, float]]]]:
    command = [
        sys.executable, "-m", "locust", "--locustfile", str(HERE / what[0]), "--host", env["LOAD_HOST"], "--headless", "--only-summary",
        "--loglevel", "WARNING", "--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds:.0f}s", *what[1:],
    ]  # fmt: skip
    own = {**os.environ, "LOAD_REPORT": str(directory / "report.json")}
    with (directory / "locust.out").open("wb") as out:
        locust = subprocess.Popen(command, cwd=HERE.parents[1], env=own, stdout=out, stderr=out, start_new_session=True)
    samples, began = [], time.monotonic()
    try:
        while locust.poll() is None:
            samples.append((time.monotonic() - began, workers(server)))
            with suppress(subprocess.TimeoutExpired):
                locust.wait(TICK)
        return samples
    finally:
        with unbreakable():
            if locust.poll() is None:
                locust.terminate()
            end(locust)


def _run(report: dict[str, Any], samples: Sequence[tuple[float, dict[int, tuple[int, float]]]], directory: Path) -> Run:
    whole = samples[-1][0]
    after = [seen for at, seen in samples if WARM_UP <= at / whole < WARM_UP + 1 / 6]
    last = [seen for at, seen in samples if at / whole >= 5 / 6]
    pids = sorted(samples[-1][1])
    start, finish = ([round(median(seen.get(pid, (0, 0.0))[0] for seen in part)) for pid in pids] for part in (after, last))
    log = directory / "decisions.log"
    meters = [json.loads(file.read_bytes()) for file in directory.glob("meter-*.json")]
    return Run(
        report=report,
        start=start,
        end=finish,
        lost=any(sorted(seen) != pids for seen in (*after, *last)),
        cpu=sum(cpu for _, cpu in samples[-1][1].values()),
        guard=sum(meter["spent"] for meter in meters) / 1e9,
        decisions=sum(meter["decisions"] for meter in meters),
        log=[json.loads(line) for line in log.read_bytes().splitlines()] if log.exists() else [],
    )


def growth(start: Sequence[int], finish: Sequence[int]) -> float:
    """The share by which the workers' memory has grown since the warm-up."""
    return sum(finish) / sum(start) - 1
