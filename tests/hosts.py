"""Hosts of a network of their own on this machine: network namespaces, each with one cable to a server's namespace. Needs root and iproute2."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

IP = shutil.which("ip") or "/usr/sbin/ip"
CURE = "it needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) and Debian's iproute2; .ci/run runs as root"


@dataclass(frozen=True, slots=True)
class Network:
    """A server and hosts around it. ``server``, ``hosts``: what a command begins with to run there; ``addresses``: the server's, as each host reaches it."""

    server: tuple[str, ...]
    hosts: tuple[tuple[str, ...], ...]
    addresses: tuple[str, ...]


def _ip(*words: str) -> None:
    try:
        done = subprocess.run([IP, *words], check=False, capture_output=True, text=True, timeout=30)
    except OSError as error:
        raise RuntimeError(f"no network namespaces can be made here ({error}): {CURE}") from error
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}: {CURE}")


@contextmanager
def network(hosts: int) -> Iterator[Network]:
    """A server with ``hosts`` hosts, of which none can reach another, or this machine. Raises RuntimeError where that cannot be made."""
    names = [f"cg{os.getpid()}-{role}" for role in ("server", *(f"host{n}" for n in range(hosts)))]
    made: list[str] = []
    addresses = [f"10.213.{n}.1" for n in range(hosts)]
    try:
        for name in names:
            _ip("netns", "add", name)
            made.append(name)
            _ip("-n", name, "link", "set", "lo", "up")
        server = names[0]
        for n, host in enumerate(names[1:]):
            _ip("-n", host, "link", "add", "up0", "type", "veth", "peer", "name", f"down{n}", "netns", server)
            _ip("-n", server, "address", "add", f"{addresses[n]}/24", "dev", f"down{n}")
            _ip("-n", host, "address", "add", f"10.213.{n}.2/24", "dev", "up0")
            _ip("-n", server, "link", "set", f"down{n}", "up")
            _ip("-n", host, "link", "set", "up0", "up")
        inside = [(IP, "netns", "exec", name) for name in names]
        yield Network(inside[0], tuple(inside[1:]), tuple(addresses))
    finally:
        for name in made:
            _ip("netns", "delete", name)  # and with it its cables
