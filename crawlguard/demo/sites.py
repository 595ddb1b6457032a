"""The servers of the demo: started on free loopback ports, waited for, and ended again whatever happens."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import CrawlGuardError
from .apps import POLICY

READY_WITHIN = 25.0
"""Seconds for a server to answer: a cold start of both frameworks on a busy small machine takes five."""
STOP_WITHIN = 3.0
"""Seconds between asking a server to end and ending it."""
TICK = 0.05
"""Seconds between two looks at a server that is starting."""


_NULL = subprocess.DEVNULL


class DemoError(CrawlGuardError):
    """The demo could not be carried out: a server did not start, say."""


@dataclass(frozen=True, slots=True)
class Site:
    """One guarded site. ``policy`` is the file that it is guarded by, ``log`` its decision log."""

    name: str
    server: str
    workers: int
    port: int
    policy: Path
    log: Path

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def events(self, start: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The decision log's whole lines from a byte offset on, and the offset behind them."""
        if not self.log.is_file():
            return [], start
        with self.log.open("rb") as file:
            file.seek(start)
            whole, newline, _ = file.read().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()], start + len(whole) + len(newline)


def loopback_is_wide() -> bool:
    """Whether all of 127.0.0.0/8 belongs to this machine, so that every client can have an address of its own."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.66.0.1", 0))
        except OSError:
            return False
    return True


def plan(directory: Path, port: int, *, trust_proxy: bool) -> tuple[Site, Site]:
    """The two sites, with their policies written. ``port`` is FastAPI's, Flask's is the next; 0 takes free ones."""
    ports = (port, port + 1) if port else _free_ports()
    has_gunicorn = sys.platform != "win32"
    flask_server, flask_workers = ("gunicorn", 2) if has_gunicorn else ("wsgiref", 1)
    return (
        Site("FastAPI", "uvicorn", 2, ports[0], *_write_policy(directory, "fastapi", trust_proxy)),
        Site("Flask", flask_server, flask_workers, ports[1], *_write_policy(directory, "flask", trust_proxy)),
    )


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _write_policy(directory: Path, name: str, trust_proxy: bool) -> tuple[Path, Path]:
    """The demo's policy with the places of this run added: (the policy file, the decision log that it names)."""
    policy, log, rates = (directory / f"{name}.{kind}" for kind in ("yaml", "log", "rates"))
    text = files(__package__).joinpath("policy.yaml").read_text("utf-8")
    # Plain allows go to the log as well: what a browser got can be told from there only.
    text += f"\nlog: {{to: {json.dumps(str(log))}, sample: 1}}\nstore: {{kind: shared, path: {json.dumps(str(rates))}}}\n"
    if trust_proxy:
        text += "client_ip: {trusted_proxies: [127.0.0.1], header: x-forwarded-for}\n"
    policy.write_text(text, "utf-8")
    return policy, log


_APPS = "crawlguard.demo.apps"


def _command(site: Site) -> list[str]:
    python, port = [sys.executable, "-m"], str(site.port)
    if site.server == "uvicorn":
        # Without --no-proxy-headers uvicorn itself replaces the peer's address by what a loopback peer says it is.
        flags = ["--log-level", "warning", "--no-access-log", "--no-proxy-headers", "--timeout-graceful-shutdown", "1"]
        return [*python, "uvicorn", "--factory", f"{_APPS}:fastapi_site", "--port", port, "--workers", str(site.workers), *flags]
    if site.server == "gunicorn":
        flags = ["--worker-class", "gthread", "--threads", "4", "--log-level", "warning", "--graceful-timeout", "1"]
        return [*python, "gunicorn", f"{_APPS}:flask_site()", "--bind", f"127.0.0.1:{port}", "--workers", str(site.workers), *flags]
    return [*python, "crawlguard.demo.threads", port]


@contextmanager
def running(sites: Sequence[Site], directory: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The sites' servers, answering while the context is open and gone after it. Raises DemoError when one does not start."""
    started: list[subprocess.Popen[bytes]] = []
    # Options of the user's own servers, which these two would read too.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("UVICORN_", "GUNICORN_")) and k != "WEB_CONCURRENCY"}
    env["XDG_RUNTIME_DIR"] = str(directory)  # gunicorn's control socket
    try:
        for site in sites:
            with _output(site).open("wb") as out:
                # A session of its own: Ctrl-C reaches the demo alone, which then ends the servers in good order.
                own = {**env, POLICY: str(site.policy)}
                started.append(subprocess.Popen(_command(site), stdin=_NULL, stdout=out, stderr=out, env=own, start_new_session=True))  # noqa: S603
        deadline = time.monotonic() + READY_WITHIN
        for site, process in zip(sites, started, strict=True):
            _wait(site, process, deadline)
        yield started
    finally:
        with unbreakable():
            for process in started:
                process.terminate()
            for process in started:
                end(process)


def _output(site: Site) -> Path:
    return site.log.with_suffix(".out")


def _wait(site: Site, process: subprocess.Popen[bytes], deadline: float) -> None:
    while not _answers(site):
        with suppress(subprocess.TimeoutExpired):
            process.wait(TICK)
        if process.returncode is not None or time.monotonic() > deadline:
            told = _output(site).read_text("utf-8", "replace").strip().splitlines()
            why = "ended" if process.returncode is not None else "did not answer in time"
            raise DemoError("\n    ".join([f"the {site.name} site ({site.server}) {why}; it said:", *(told[-8:] or ["nothing"])]))


def _answers(site: Site) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=2)
    try:
        connection.request("GET", "/", headers={"User-Agent": "crawlguard-demo"})
        # With a line in the log it is ours that answered, and not somebody else who has the port.
        return connection.getresponse().status == 200 and site.log.is_file()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def end(process: subprocess.Popen[Any]) -> None:
    """See a process that was asked to end through its end, and that of whatever it started."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WITHIN)
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of which only zombies are left
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def orderly() -> Iterator[None]:
    """Every signal that asks the demo to end becomes a KeyboardInterrupt, so that its processes end with it."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    with _handled(stop):
        yield


@contextmanager
def unbreakable() -> Iterator[None]:
    """A second Ctrl-C must not leave processes behind."""
    with _handled(signal.SIG_IGN):
        yield


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    before: dict[int, Any] = {}
    with suppress(ValueError):  # signals belong to the main thread; elsewhere nothing is to be done
        for number in _ENDING:
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays in force
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
