"""What a user meets who names logs elsewhere, or has not installed all: what it says can be acted on, and nothing else is said."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.commands import _install
from crawlguard_analyzer.sources import open_sources

from crawlguard.errors import DataError

from .object_store import object_store

NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there, so that nothing leaves this machine."""


@pytest.mark.parametrize("args", [["s3://nobodys-logs/access.log"], ["--merge", "s3://nobodys-logs/state"]])
def test_polars_guess_of_a_buckets_region_is_not_told(args: list[str]) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") and name.lower() != "no_proxy"}
    own = {"HTTPS_PROXY": NOWHERE, "https_proxy": NOWHERE, "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "none"}
    call = [sys.executable, "-m", "crawlguard", "analyze", *args]
    done = subprocess.run(call, env={**kept, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("crawlguard: s3://nobodys-logs/")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("name", ["logs/2026/*", "logs/2026/"])
def test_logs_in_a_bucket_are_read_where_they_are(scheme: str, name: str, tmp_path: Path) -> None:
    line = b'203.0.113.%d - - [26/Nov/2026:10:00:%02d +0000] "GET /%d HTTP/1.1" 200 512 "-" "GPTBot/1.2"\n'
    with object_store() as store:
        store.objects["logs/2026/access.log"] = b"".join(line % (1, n % 60, n) for n in range(300))
        store.objects["logs/2026/access.log.1"] = b"".join(line % (2, n % 60, n) for n in range(100))
        store.objects["logs/2025/access.log"] = line % (3, 0, 0)
        call = [sys.executable, "-m", "crawlguard", "analyze", f"{scheme}://{name}", "--clients", str(tmp_path / "clients.parquet")]
        done = subprocess.run(
            [*call, "--quiet"], env={**os.environ, **store.environment(tmp_path)}, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    found = pl.read_parquet(tmp_path / "clients.parquet").select("client", "requests").sort("client")
    assert found.rows() == [("203.0.113.1", 300), ("203.0.113.2", 100)]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_web_server_that_sends_no_parts_is_told_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text("a line\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/access.log"
    try:
        (source,) = open_sources([url])
        with pytest.raises(DataError) as told:
            source.sample()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert str(told.value).endswith(f"; its server sends no parts of files; read it by a pipe: curl '{url}' | crawlguard ... -")


def test_what_is_missing_is_installed_where_the_command_is(tmp_path: Path) -> None:
    assert _install(tmp_path) == f"{sys.executable} -m pip install 'crawlguard[analyze]'"
    (tmp_path / "pyproject.toml").touch()
    assert _install(tmp_path) == f"{sys.executable} -m pip install -e '{tmp_path}[analyze]'"
