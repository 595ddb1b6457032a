"""Real servers for tests: Debian's redis-server (or valkey-server), alone, as a Cluster or under Sentinels; killed, paused and started again at will."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

BINARY = shutil.which("valkey-server") or shutil.which("redis-server") or "redis-server"
CLI = shutil.which("valkey-cli") or shutil.which("redis-cli") or "redis-cli"


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition. Raises AssertionError when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not come to that")
        time.sleep(0.005)


def free_port() -> int:
    """A TCP port that nobody listens on, and that the system gives to nobody who asks for any: it is free when its server starts, too."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """One server, on a unix socket and on loopback. ``options``: lines of its configuration. ``directory``: of its log.

    What it keeps itself is kept in memory: a Cluster's node and a Sentinel write their state through to the disk while everybody waits,
    and where the disk is busy that takes seconds.
    """

    def __init__(self, directory: Path, *options: str, tls: Path | None = None, sentinel: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.port, self.password = directory, free_port(), ""
        self._home = tempfile.TemporaryDirectory(prefix="vk-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        home = Path(self._home.name)
        self.socket = home / "s"  # the path of a unix socket has 107 bytes at most
        self._config = home / "server.conf"
        self._mode = ("--sentinel",) if sentinel else ()
        self._process: subprocess.Popen[bytes] | None = None
        lines = ["bind 127.0.0.1", f"dir {home}", "daemonize no", f"unixsocket {self.socket}", *options]
        lines += (
            [f"port {self.port}"]
            if tls is None
            else ["port 0", f"tls-port {self.port}", "tls-auth-clients no", f"tls-ca-cert-file {tls / 'ca.pem'}"]
        )
        lines += [] if tls is None else [f"tls-cert-file {tls / 'valkey.pem'}", f"tls-key-file {tls / 'valkey.key'}"]
        lines += [] if sentinel else ['save ""', "appendonly no", "databases 4"]
        self._config.write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        """Its address by the unix socket."""
        return f"unix://{self.socket}"

    @property
    def tcp(self) -> str:
        """Its address by loopback."""
        return f"valkey://127.0.0.1:{self.port}/0"

    def start(self) -> Server:
        """Start it, and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([BINARY, str(self._config), *self._mode], stdout=log, stderr=subprocess.STDOUT)
        until(self._answers)
        return self

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"the server ended: {(self.directory / 'log').read_text()[-500:]}")
        found = subprocess.run([CLI, "-s", str(self.socket), "ping"], capture_output=True, check=False).stdout
        return found.startswith((b"PONG", b"NOAUTH"))

    def cli(self, *command: str) -> str:
        """What it answers to a command, by the socket. The password, if it has one, is ``password``."""
        login = ("--no-auth-warning", "-a", self.password) if self.password else ()
        return subprocess.run([CLI, "-s", str(self.socket), *login, *command], capture_output=True, check=True, text=True).stdout.strip()

    def role(self) -> str:
        """ "master" or "slave"; "" while it changes: Valkey 9 hangs up on whoever asks then."""
        try:
            return self.cli("role").split()[0]
        except subprocess.CalledProcessError:
            return ""

    def kill(self) -> None:
        """As kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end(self) -> None:
        """Kill it for good."""
        self.kill()
        self._home.cleanup()

    def pause(self) -> None:
        """Stop it in the middle of whatever it does; its sockets stay open."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def serving(directory: Path, *options: str, tls: Path | None = None) -> Iterator[Server]:
    """A server that runs, and is killed in the end."""
    server = Server(directory, *options, tls=tls)
    try:
        yield server.start()
    finally:
        server.end()


@contextmanager
def cluster(directory: Path, *options: str) -> Iterator[Sequence[Server]]:
    """Three masters without replicas, all slots given out."""
    servers = [
        Server(directory / str(n), "cluster-enabled yes", f"cluster-port {free_port()}", "cluster-node-timeout 500", *options)
        for n in range(3)
    ]
    try:
        for server in servers:
            server.start()
        hosts = [f"127.0.0.1:{server.port}" for server in servers]
        subprocess.run([CLI, "--cluster", "create", *hosts, "--cluster-yes"], check=True, capture_output=True, timeout=60)
        until(lambda: all("cluster_state:ok" in server.cli("cluster", "info") for server in servers))
        yield servers
    finally:
        for server in servers:
            server.end()


@contextmanager
def watched(directory: Path, service: str = "limits") -> Iterator[tuple[Server, Server, Server]]:
    """A master, its replica, and one Sentinel that is enough to have the replica take over half a second after the master's death."""
    master = Server(directory / "master", "repl-diskless-sync-delay 0")
    replica = Server(directory / "replica", f"replicaof 127.0.0.1 {master.port}")
    lines = (f"monitor {service} 127.0.0.1 {master.port} 1", f"down-after-milliseconds {service} 500", f"failover-timeout {service} 2000")
    sentinel = Server(directory / "sentinel", *(f"sentinel {line}" for line in lines), sentinel=True)
    try:
        master.start()
        replica.start()
        until(lambda: "master_link_status:up" in replica.cli("info", "replication"))
        sentinel.start()
        until(lambda: "slaves=1" in sentinel.cli("info", "sentinel"))
        yield master, replica, sentinel
    finally:
        for server in (sentinel, replica, master):
            server.end()


def certify(authority: Path) -> None:
    """valkey.pem and valkey.key for 127.0.0.1, by the authority of ``tls_site.make_authority``."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=authority, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", *key, "-keyout", "valkey.key", "-out", "valkey.csr", "-subj", "/CN=a store")
    (authority / "valkey.ext").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "valkey.ext")
    openssl("x509", "-req", "-in", "valkey.csr", "-out", "valkey.pem", *signed_by)


class Proxy:
    """Between a link and a server, on loopback: ``delay`` seconds before each piece of an answer, of ``piece`` bytes at most (0: as they come)."""

    def __init__(self, server: Server) -> None:
        self.delay, self.piece = 0.0, 0
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"valkey://127.0.0.1:{self._listening.getsockname()[1]}/0"
        self._open: list[socket.socket] = [self._listening]
        self._thread(self._accept)

    @staticmethod
    def _thread(work: Callable[..., None], *args: socket.socket) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                behind = socket.socket(socket.AF_UNIX)
                behind.connect(str(self._server.socket))
                self._open += [client, behind]
                self._thread(self._there, client, behind)
                self._thread(self._back, behind, client)

    def _there(self, client: socket.socket, behind: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                behind.sendall(data)
        with suppress(OSError):
            behind.shutdown(socket.SHUT_RDWR)

    def _back(self, behind: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := behind.recv(65_536):
                size = self.piece or len(data)
                for at in range(0, len(data), size):
                    if self.delay:
                        time.sleep(self.delay)  # this is what it is for
                    client.sendall(data[at : at + size])

    def close(self) -> None:
        """Close everything."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
