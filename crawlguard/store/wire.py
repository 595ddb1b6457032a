"""One connection to a server, by redis-py, and what each of its failures means. The only file that knows the client library.

Its own retries are off, and every read and write is armed with what is left of the whole call's time: a server that trickles bytes gains nothing.
"""

from __future__ import annotations

import os
import re
import select
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from redis import asyncio as aioredis
from redis import exceptions as wrong
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ..policy.urls import Address, LinkSpec
from .breaker import Unreachable

CONNECTING = 0.5
"""Seconds that a new connection may take. No request waits for it."""
IDLE = 1.0
"""Seconds after which a connection is looked at before it is used: the server may have closed it."""

_SCRIPT_ERROR = re.compile(r"[^ -~]")
_PERMISSION = "give the user of the URL the commands EVALSHA, EVAL, SCRIPT LOAD, GET, SET and those of the script, on this site's keys"
_LOGIN = "set the password with ?password_env=NAME or ?password_file=FILE in the store's URL, or the user before an '@'"
_MEMORY = "raise the server's maxmemory, or set maxmemory-policy to volatile-ttl"
_AUTHORITY = "name the certificate authority by ?ca=FILE, and the host as the certificate does"


class Timed:
    """A socket whose every read and write ends at ``deadline`` (``time.monotonic``), however many there are."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.deadline = sock, monotonic() + CONNECTING

    def _arm(self) -> None:
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        self.sock.settimeout(left)

    def recv(self, size: int) -> bytes:
        """As of a socket."""
        self._arm()
        return self.sock.recv(size)

    def recv_into(self, *args: Any) -> int:
        """As of a socket; what the parser of hiredis reads by."""
        self._arm()
        return self.sock.recv_into(*args)

    def sendall(self, data: bytes) -> None:
        """As of a socket."""
        self._arm()
        self.sock.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


class _Tcp(Connection):
    def _connect(self) -> Any:
        return Timed(super()._connect())  # type: ignore[no-untyped-call]


class _Tls(SSLConnection):
    def _connect(self) -> Any:
        return Timed(super()._connect())  # type: ignore[no-untyped-call]


class _Unix(UnixDomainSocketConnection):
    def _connect(self) -> Any:
        return Timed(super()._connect())  # type: ignore[no-untyped-call]


class Wire:
    """A blocking connection; used by one thread at a time."""

    def __init__(self, spec: LinkSpec, address: Address, sentinel: bool = False) -> None:
        kind: Any = _Tls if spec.tls else _Tcp if address[1] else _Unix
        try:
            self._connection: Any = kind(retry=Retry(NoBackoff(), 0), **settings(spec, address, sentinel))
            self._connection.connect()
        except Exception as error:
            raise unreachable(error, handshake=True) from None
        self._socket: Timed = self._connection._sock
        self.used = monotonic()

    def send(self, command: Iterable[str | bytes | int], deadline: float) -> None:
        """Write a command. Raises what the library raises."""
        self._socket.deadline = deadline
        self._connection.send_packed_command(self._connection.pack_command(*command))

    def read(self) -> Any:
        """The answer to the oldest command that has none, by the deadline of the last ``send``."""
        return self._connection.read_response(disconnect_on_error=False)

    def ask(self, *command: str | bytes | int, within: float = CONNECTING) -> Any:
        """One command and its answer. Raises Unreachable, and is not to be used again then."""
        try:
            self.send(command, monotonic() + within)
            return self.read()
        except Exception as error:
            raise unreachable(error) from None

    def alive(self) -> bool:
        """Whether a connection that has lain idle still stands: it has nothing to say, not even that it is closed."""
        if monotonic() - self.used < IDLE:
            return True
        if not hasattr(select, "poll"):  # Windows
            return not select.select([self._socket.sock], [], [], 0)[0]
        poll = select.poll()
        poll.register(self._socket.sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Let go of it. In a forked process this leaves the parent's connection standing."""
        self._connection._sock = None
        with suppress(OSError):
            self._socket.sock.close()


def async_connection(spec: LinkSpec, address: Address) -> Any:
    """A connection of asyncio that is still to be connected, by the loop that will use it."""
    kind: Any = aioredis.SSLConnection if spec.tls else aioredis.Connection if address[1] else aioredis.UnixDomainSocketConnection
    return kind(retry=AsyncRetry(NoBackoff(), 0), **settings(spec, address, False))


async def drop(connection: Any) -> None:
    """Close a connection of the running loop at once, without TLS's farewell: the loop may be about to end."""
    writer = connection._writer
    if writer is not None:
        writer.transport.abort()
    await connection.disconnect(nowait=True)


def settings(spec: LinkSpec, address: Address, sentinel: bool) -> dict[str, Any]:
    """What a connection is made with. Raises Unreachable where the password's place is empty."""
    password = (
        _password(spec.sentinel_password_env, "", "") if sentinel else _password(spec.password_env, spec.password_file, spec.password)
    )
    found: dict[str, Any] = {"socket_timeout": CONNECTING, "socket_connect_timeout": CONNECTING, "protocol": 2, "driver_info": None}
    found |= {"password": password, "username": (not sentinel and spec.user) or None, "db": 0 if sentinel else spec.db}
    found |= {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}
    if not address[1]:
        return found | {"path": address[0]}
    found |= {"host": address[0], "port": address[1], "socket_keepalive": True}
    if spec.tls:
        found |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": spec.ca or None}
    return found


def _password(env: str, file: str, given: str) -> str | None:
    if env:
        if env not in os.environ:
            raise Unreachable(f"the environment variable {env}, which is to hold the password, is not set", cure=f"set {env}")
        return os.environ[env]
    if file:
        try:
            return Path(file).read_text("utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise Unreachable(f"the password file {file} cannot be read ({what})", cure="make it readable to the site's user") from None
    return given or None


_KNOWN: tuple[tuple[type[Exception], str, str], ...] = (
    (wrong.AuthenticationError, "the user or password is wrong, or missing", _LOGIN),
    (wrong.NoPermissionError, "the user may not do what is needed", _PERMISSION),
    (wrong.OutOfMemoryError, "the server's memory is full", _MEMORY),
    (wrong.ReadOnlyError, "the server is a read-only replica", ""),
    (wrong.BusyLoadingError, "the server is loading its data", ""),
    (wrong.ClusterDownError, "the Cluster is down", ""),
)
_CODES = (("NOAUTH", "WRONGPASS"), ("NOPERM",), ("OOM",), ("READONLY",), ("LOADING",), ("CLUSTERDOWN",))
"""How a server begins such an answer, in the rows' order."""
_MISTAKEN = (
    ("DB index is out of range", "it has no such database", "write one that it has after the host: /0"),
    (
        "SELECT is not allowed in cluster mode",
        "it is a Cluster, which has but one database",
        "begin the store's URL with valkey+cluster://",
    ),
    ("cluster support disabled", "it is no Cluster", "begin the store's URL with valkey://"),
    ("unknown command 'SENTINEL'", "it is no Sentinel", "name the Sentinels' port (26379), or begin the store's URL with valkey://"),
)
"""What a server says that is another than the URL takes it for, what that means, and the cure."""


def unreachable(error: BaseException, handshake: bool = False) -> Unreachable:
    """What a failure means. A server's own words are shown only where no password can be among them, and as printable ASCII."""
    if isinstance(error, Unreachable):
        return error
    if isinstance(error, wrong.TimeoutError | TimeoutError):
        return Unreachable("it does not answer in time", late=not handshake)
    if isinstance(
        error, wrong.MovedError | wrong.AskError | wrong.TryAgainError
    ):  # AskError is told apart from MovedError by nothing we do
        return Moved()
    for kind, what, cure in _KNOWN:
        if isinstance(error, kind):
            return Unreachable(what, cure=cure)
    text = str(error)
    for said, what, cure in _MISTAKEN:
        if said in text:
            return Unreachable(what, cure=cure)
    for row, codes in enumerate(_CODES):
        if any(code in text for code in codes):  # inside of a script's own error
            return Unreachable(_KNOWN[row][1], cure=_KNOWN[row][2])
    if isinstance(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in text or "certificate" in text:
        return Unreachable("its certificate is not accepted", cure=_AUTHORITY)
    if isinstance(error, wrong.ResponseError):
        return Unreachable("it refuses to work" if handshake else f"it answers with an error: {_SCRIPT_ERROR.sub('?', text)[:160]}")
    if isinstance(error, wrong.ConnectionError | OSError):
        return Unreachable("it cannot be reached" if handshake else "the connection broke")
    return Unreachable("it answers with something that is no answer")


class Moved(Unreachable):
    """A part of a Cluster's keys lies elsewhere than was known; the next call will find it."""

    def __init__(self) -> None:
        super().__init__("keys have moved to another node", blame=False)
