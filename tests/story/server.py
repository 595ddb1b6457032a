"""The site's servers: nginx alone with the files, or nginx in front of a guarded FastAPI. Both write the same access log."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crawlguard.demo.sites import end

READY_WITHIN = 40.0
POLICY, ROOT = "STORY_POLICY", "STORY_ROOT"

_CONF = """\
daemon off;
{user}worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    include /etc/nginx/mime.types;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    access_log {home}/access.log combined;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location / {{ {pages} }}
        location ~ \\.(css|js|png|ico)$ {{ expires 1h; }}
    }}
}}
"""
_PROXY = "proxy_pass http://unix:{home}/app.sock; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;"


class ServerError(Exception):
    """A server did not start, or did not end as it should."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def nginx(home: Path, root: Path, port: int, *, in_front: bool = False) -> Iterator[Path]:
    """nginx with its files in ``home``, serving ``root``, and its access log, whole once the context is left.

    ``in_front``: pages come from ``guarded``, which must run with the same ``home``.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise ServerError("nginx is not installed; .ci/run names the packages")
    home.mkdir(parents=True, exist_ok=True)
    # Workers of an nginx that root starts run as nobody, who may not enter this directory.
    told = _CONF.format(
        home=home,
        root=root,
        port=port,
        user="user root;\n" if os.getuid() == 0 else "",
        pages=_PROXY.format(home=home) if in_front else "",
    )
    (home / "nginx.conf").write_text(told, "utf-8")
    command = [program, "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(home / "error.log")]
    with _process(command, home / "nginx.out", dict(os.environ), quit_by=signal.SIGQUIT) as process:
        _wait(process, home / "nginx.out", lambda: _connects(port))
        yield home / "access.log"


@contextmanager
def guarded(home: Path, root: Path, policy: Path) -> Iterator[Path]:
    """The site's pages under FastAPI with the middleware, on a unix socket in ``home``; the decision log."""
    home.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, POLICY: str(policy), ROOT: str(root), "STORY_LOG": str(home / "decisions.log"), "CRAWLGUARD_STATE_DIR": str(home)}
    flags = ["--uds", str(home / "app.sock"), "--no-access-log", "--no-proxy-headers", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "--factory", "tests.story.server:app", *flags]
    with _process(command, home / "app.out", env, quit_by=signal.SIGTERM) as process:
        _wait(process, home / "app.out", (home / "app.sock").exists)
        yield home / "decisions.log"


def app() -> object:
    """The application of ``guarded``: the files, behind the two lines that a site adds."""
    from fastapi import FastAPI
    from starlette.staticfiles import StaticFiles

    from crawlguard.asgi import CrawlGuardMiddleware

    site = FastAPI()
    site.add_middleware(CrawlGuardMiddleware, policy=os.environ[POLICY], log=os.environ["STORY_LOG"])
    site.mount("/", StaticFiles(directory=os.environ[ROOT], html=True))
    return site


@contextmanager
def _process(command: list[str], out: Path, env: dict[str, str], *, quit_by: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    with out.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(quit_by)
        end(process)


def _wait(process: subprocess.Popen[bytes], out: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not ready():
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
        if process.returncode is not None or time.monotonic() > deadline:
            raise ServerError(f"{process.args!r} did not start; it said:\n{out.read_text('utf-8', 'replace')}")


def _connects(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
