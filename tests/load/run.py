"""Runs the load test and prints one table. The exit code is 0 when everything was as it must be, else 1.

It must hold: no server error; every declared crawler refused, nobody else; every refusal of a crawler in the decision log, each
line whole; no worker lost; the private memory of the workers grown by no more than GROWTH after the warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median
from typing import Any

import psutil  # type: ignore[import-untyped]

from crawlguard.demo.sites import end, orderly, unbreakable

from .kinds import CRAWLERS, KINDS, USERS

GROWTH = 0.10
WARM_UP = 1 / 3
"""The share of the run after which memory must not grow: until then caches, pools and code that is used first fill."""
TICK = 0.25
READY_WITHIN = 60.0
MIB = 1 << 20
HERE = Path(__file__).resolve().parent


@dataclass(slots=True, kw_only=True)
class Result:
    """A finished run. ``rows``: what locustfile wrote; ``start``, ``end``: bytes of each worker; ``logged``: crawlers' refusals."""

    seconds: float
    rows: dict[str, dict[str, Any]]
    start: Sequence[int]
    end: Sequence[int]
    logged: int
    lost: bool
    complaints: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The share by which the workers' memory has grown since the warm-up."""
        return sum(self.end) / sum(self.start) - 1

    def problems(self) -> list[str]:
        """Everything that is not as it must be."""
        found = list(self.complaints)
        for kind in KINDS:
            row = self.rows.get(kind)
            if row is None or not row["requests"]:
                found.append(f"{kind}: sent no request")
                continue
            if row["errors"]:
                found.append(f"{kind}: {row['errors']} server errors or broken connections")
            wrong = "served" if kind == CRAWLERS else "refused"
            if row[wrong]:
                found.append(f"{kind}: {row[wrong]} requests {wrong}")
        refused = self.rows.get(CRAWLERS, {}).get("refused", 0)
        if not refused <= self.logged <= refused + USERS:  # locust ends with requests in flight, which it does not count
            found.append(f"the decision log has {self.logged} refusals of crawlers, and they met {refused}")
        if self.lost:
            found.append("a worker died and was replaced")
        if self.growth > GROWTH:
            found.append(f"the workers' memory grew by {self.growth:.1%}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """The same for machines."""
        memory = {"start": list(self.start), "end": list(self.end), "growth": round(self.growth, 4)}
        return {
            "version": 1,
            "ok": not self.problems(),
            "seconds": self.seconds,
            "rows": self.rows,
            "memory": memory,
            "problems": self.problems(),
        }

    def show(self) -> None:
        """The table, for people."""
        print(f"{'who':<20}{'requests':>10}{'served':>10}{'refused':>10}{'5xx':>6}{'p50 ms':>9}{'p99 ms':>9}")
        for kind in KINDS:
            row = self.rows.get(kind)
            if row:
                print(
                    f"{kind:<20}{row['requests']:>10,}{row['served']:>10,}{row['refused']:>10,}{row['errors']:>6}{row['p50']:>9.0f}{row['p99']:>9.0f}"
                )
        total = sum(row["requests"] for row in self.rows.values())
        start, last = (" + ".join(f"{size / MIB:.1f}" for size in sizes) for sizes in (self.start, self.end))
        print(
            f"\n{total:,} requests in {self.seconds:.0f} s, {total / self.seconds:,.0f} a second from {USERS} users, uvicorn with {len(self.start)} workers"
        )
        print(
            f"private memory of the workers: {start} MiB after warm-up, {last} MiB at the end ({self.growth:+.1%}, at most {GROWTH:+.0%})"
        )
        print("\n".join(["NOT as it must be:", *(f"  {p}" for p in self.problems())]) if self.problems() else "all as it must be")


@contextmanager
def site(directory: Path) -> Iterator[tuple[psutil.Process, str]]:
    """The site under load: its server's process, and where it is. Raises RuntimeError when it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "CRAWLGUARD_STATE_DIR": str(directory), "LOAD_LOG": str(directory / "decisions.log")}
    with (directory / "server.out").open("wb") as out:
        command = [sys.executable, "-m", "tests.load.serve", str(port)]
        server = subprocess.Popen(command, cwd=HERE.parents[1], env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not _answers(port):
            with suppress(subprocess.TimeoutExpired):
                server.wait(TICK)
            if server.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the site did not start:\n{(directory / 'server.out').read_text('utf-8', 'replace')}")
        yield psutil.Process(server.pid), f"http://127.0.0.1:{port}"
    finally:
        with unbreakable():
            server.terminate()
            end(server)


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/", headers={"User-Agent": "load-test", "X-Forwarded-For": "198.51.100.1"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def memory(server: psutil.Process) -> dict[int, int]:
    """The private memory of each worker in bytes, by process id. The rate table is not in it: it is shared, and of fixed size."""
    found = {}
    for child in server.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("spawn_main" in part for part in child.cmdline()):  # not multiprocessing's resource tracker
                info = child.memory_info()
                found[child.pid] = info.rss - getattr(info, "shared", 0)
    return found


def run(seconds: float) -> Result:
    """The load test itself. Raises RuntimeError when the site or locust does not start."""
    with tempfile.TemporaryDirectory(prefix="crawlguard-load-") as made, orderly():
        directory = Path(made)
        with site(directory) as (server, url):
            report, samples, began = directory / "report.json", [], time.monotonic()
            flags = [
                "--headless",
                "--only-summary",
                "--loglevel",
                "WARNING",
                "--users",
                str(USERS),
                "--spawn-rate",
                str(USERS),
                "--run-time",
                f"{seconds:.0f}s",
            ]
            with (directory / "locust.out").open("wb") as out:
                locust = subprocess.Popen(
                    [sys.executable, "-m", "locust", "--locustfile", str(HERE / "locustfile.py"), "--host", url, *flags],
                    cwd=HERE.parents[1], env={**os.environ, "LOAD_REPORT": str(report)}, stdout=out, stderr=out, start_new_session=True,
                )  # fmt: skip
            try:
                while locust.poll() is None:
                    samples.append((time.monotonic() - began, memory(server)))
                    with suppress(subprocess.TimeoutExpired):
                        locust.wait(TICK)
            finally:
                with unbreakable():
                    if locust.poll() is None:
                        locust.terminate()
                    end(locust)
            if not report.is_file():
                raise RuntimeError(f"locust did not do its work:\n{(directory / 'locust.out').read_text('utf-8', 'replace')}")
            return _result(seconds, json.loads(report.read_bytes()), samples, directory / "decisions.log")


def _result(seconds: float, rows: dict[str, dict[str, Any]], samples: Sequence[tuple[float, dict[int, int]]], log: Path) -> Result:
    whole = samples[-1][0]
    after = [sizes for at, sizes in samples if WARM_UP <= at / whole < WARM_UP + 1 / 6]
    last = [sizes for at, sizes in samples if at / whole >= 5 / 6]
    workers = sorted(samples[-1][1])
    lost = any(sorted(sizes) != workers for sizes in (*after, *last))
    start, finish = ([round(median(sizes.get(worker, 0) for sizes in part)) for worker in workers] for part in (after, last))
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    logged = sum(line["rule"] == "ai-training" for line in lines)
    return Result(seconds=seconds, rows=rows, start=start, end=finish, logged=logged, lost=lost)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load", description="Load a guarded site with people and crawlers, and judge what each met."
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        result = run(options.seconds)
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(result.as_dict(), indent=2))
    else:
        result.show()
    return 1 if result.problems() else 0
