"""A dask scheduler and workers as processes of their own on loopback, and a rollup that stops in the middle of its work when a test wants it to."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from crawlguard_analyzer.marks import Marked, Numbered
from crawlguard_analyzer.rollup import Clients

ROOT = Path(__file__).resolve().parents[1]
DEADLINE = 60
"""Seconds for anything that a test waits for."""
GATE, AFTER = "CRAWLGUARD_TEST_GATE", "CRAWLGUARD_TEST_AFTER"


class Statuses:
    """Another collector, small."""

    def __call__(self, rows: pl.DataFrame, /) -> pl.DataFrame:
        return rows.group_by("status").agg(pl.len().cast(pl.Int64).alias("hits")).sort("status")

    def merge(self, parts: Iterable[pl.DataFrame], /) -> pl.DataFrame:
        found = pl.concat([pl.DataFrame(schema={"status": pl.Int16, "hits": pl.Int64}), *parts])
        return found.group_by("status").agg(pl.col("hits").sum()).sort("status")


class Gated(Clients):
    """The clients' rollup; but in a worker behind a gate the call after so many ones knocks there with its process's number, and waits to be
    let through.
    """

    calls = itertools.count(1)

    def mark(self, rows: pl.DataFrame, uas: Numbered | None = None) -> Marked:
        if next(Gated.calls) == int(os.environ.get(AFTER, "-1")) + 1:
            with socket.create_connection(("127.0.0.1", int(os.environ[GATE])), DEADLINE) as gate:
                gate.sendall(f"{os.getpid()}\n".encode())
                gate.recv(1)
        return super().mark(rows, uas)


class Broken(Clients):
    def mark(self, rows: pl.DataFrame, uas: Numbered | None = None) -> Marked:
        raise ZeroDivisionError("here")


class Gate:
    """Where workers that have come so far wait until the connection is closed."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(DEADLINE)

    def behind(self, calls: int) -> dict[str, str]:
        """The environment of a worker that waits after so many chunks."""
        return {GATE: str(self.server.getsockname()[1]), AFTER: str(calls)}

    def arrivals(self, number: int) -> dict[int, socket.socket]:
        """So many workers that wait, by their process's number."""
        waiting = {}
        for _ in range(number):
            connection, _ = self.server.accept()
            with connection.makefile() as lines:
                waiting[int(lines.readline())] = connection
        return waiting


class Process:
    """A part of a cluster, that is there once it has said ``words``: then ``said`` is the line. What it says later is read and forgotten."""

    def __init__(self, directory: Path, what: str, words: str, *args: str, **environment: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", *args],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "POLARS_MAX_THREADS": "1", **environment},
            cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self.said = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(words,))
        self._reader.start()

    def _read(self, words: str) -> None:
        assert self.popen.stderr is not None
        with self.popen.stderr as lines:
            for line in lines:
                if not self.said:
                    self.lines.append(line)
                    self.said = line if words in line else ""
                    if self.said:
                        self._ready.set()
        self._ready.set()

    def there(self) -> str:
        self._ready.wait(DEADLINE)
        assert self.said, "".join(self.lines)
        return self.said

    def kill(self) -> None:
        """SIGKILL; it is gone when this returns."""
        self.popen.kill()
        self.popen.wait(DEADLINE)
        self._reader.join(DEADLINE)


def certificates(directory: Path) -> dict[str, str]:
    """dask's settings, as environment variables, with which all parts of a cluster trust one certificate, made here, and talk by TLS alone."""
    key, pem = directory / "dask.key", directory / "dask.pem"
    made = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=a cluster")
    subprocess.run(["openssl", *made, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True)
    comm = "DASK_DISTRIBUTED__COMM__"
    own = {
        f"{comm}TLS__{role}__{part}": str(path)
        for role in ("SCHEDULER", "WORKER", "CLIENT")
        for part, path in (("KEY", key), ("CERT", pem))
    }
    return {f"{comm}TLS__CA_FILE": str(pem), f"{comm}REQUIRE_ENCRYPTION": "True", **own}


class Cluster:
    """``address`` as --cluster takes it. ``tls``: the settings of ``certificates``, for a cluster that talks by TLS."""

    def __init__(self, directory: Path, tls: dict[str, str] | None = None) -> None:
        self.directory, self.tls, self.protocol = directory, tls or {}, "tls" if tls else "tcp"
        quiet = ("--no-dashboard", "--no-show", "--protocol", self.protocol)
        self.scheduler = Process(directory, "scheduler", "Scheduler at:", "--host", "127.0.0.1", "--port", "0", *quiet, **self.tls)
        self.processes = [self.scheduler]

    @property
    def place(self) -> str:
        return self.scheduler.there().split(f"{self.protocol}://")[1].strip()

    @property
    def address(self) -> str:
        return f"dask{'+tls' if self.tls else ''}://{self.place}"

    def workers(self, *environments: dict[str, str]) -> list[Process]:
        """One more with each environment, with one thread; they are there when this returns."""
        quiet = ("--no-nanny", "--no-dashboard", "--nthreads", "1", "--memory-limit", "0", "--death-timeout", str(DEADLINE))
        to = f"{self.protocol}://{self.place}"
        started = [
            Process(self.directory, "worker", "Registered to:", to, *quiet, **self.tls, **environment) for environment in environments
        ]
        self.processes += started
        for one in started:
            one.there()
        return started


@contextmanager
def cluster(directory: Path, tls: dict[str, str] | None = None) -> Iterator[Cluster]:
    """A scheduler; workers are up to the test."""
    found = Cluster(directory, tls)
    try:
        yield found
    finally:
        for process in reversed(found.processes):
            process.kill()
