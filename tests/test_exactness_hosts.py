"""Two hosts, one server between them: network namespaces, so that the hosts share nothing but the network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .hosts import Network, network
from .test_exactness import Host, judge
from .valkey_server import BINARY, until

pytestmark = pytest.mark.alone

PORT = 6379
PAUSE = 0.04
"""Seconds between two questions of a worker: eight that never pause would take the processors away from the server."""
PING = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], 6379), 5); s.sendall(b'PING\\r\\n'); print(s.recv(99).decode().strip())"
)


def ping(host: tuple[str, ...], address: str) -> str:
    """What the server at an address answers to a host, or why it does not."""
    done = subprocess.run([*host, sys.executable, "-c", PING, address], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@contextmanager
def reachable(directory: Path) -> Iterator[Network]:
    """Two hosts, and a Valkey or Redis in the server's namespace that answers to both."""
    with network(hosts=2) as made:
        options = ["--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir", str(directory), "--port", str(PORT)]
        with (directory / "server.log").open("wb") as log:
            server = subprocess.Popen([*made.server, BINARY, *options, "--bind", *made.addresses], stdout=log, stderr=log)
        try:
            until(lambda: all(ping(host, address) == "+PONG" for host, address in zip(made.hosts, made.addresses, strict=True)))
            yield made
        finally:
            server.kill()
            server.wait()


def test_hosts_reach_the_server_and_not_each_other(tmp_path: Path) -> None:
    with reachable(tmp_path) as made:
        assert "unreachable" in ping(made.hosts[0], made.addresses[1]).lower()
        assert "unreachable" in ping(made.hosts[1], made.addresses[0]).lower()
    listed = subprocess.run([made.server[0], "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert made.server[3] not in listed


def test_eight_processes_on_two_hosts_share_one_limit_exactly(tmp_path: Path) -> None:
    with reachable(tmp_path) as made:
        judge(*(Host(host, f"valkey://{address}:{PORT}/0", PAUSE) for host, address in zip(made.hosts, made.addresses, strict=True)))
