"""One server of the store, asked in turn by the threads of a process, none of which waits longer than the limit for it.

The client library's own time limit holds for each read, so that a server which sends a byte now and then could keep a request for ever;
here it holds for the whole call. Connections are made by a thread of their own: resolving a name, TLS and a password take what they take.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha1
from time import monotonic
from typing import Any

from ..policy.address import Address
from .health import Health, UnreachableError, cure, said

MOST = 64
"""Connections of a process to one server; more threads than that wait for one another, within the limit."""
CONNECTING = 2.0
"""Seconds that the thread which connects waits for a server."""

Argument = str | bytes | int


class _Timed:
    """A socket on which all reads and writes together end at ``until``."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.until = monotonic() + CONNECTING

    def _hurry(self) -> None:
        left = self.until - monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        self._sock.settimeout(left)

    def recv(self, size: int) -> bytes:
        self._hurry()
        return self._sock.recv(size)  # type: ignore[no-any-return]

    def recv_into(self, buffer: Any) -> int:
        self._hurry()
        return self._sock.recv_into(buffer)  # type: ignore[no-any-return]

    def sendall(self, data: bytes) -> None:
        self._hurry()
        self._sock.sendall(data)

    def settimeout(self, seconds: float | None) -> None:
        """The library sets its own for each read; ours holds."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def options(address: Address) -> dict[str, Any]:
    """What the library's connections are to be made with."""
    found: dict[str, Any] = {"db": address.db, "username": address.user or None, "password": address.password or None}
    if address.path:
        return {**found, "path": address.path}
    if address.tls and address.ca:
        found["ssl_ca_certs"] = address.ca
    return found


def _connection_class(address: Address) -> Any:
    from valkey import connection as library

    base = library.UnixDomainSocketConnection if address.path else library.SSLConnection if address.tls else library.Connection

    class Timed(base):  # type: ignore[misc,valid-type]
        def _connect(self) -> Any:
            return _Timed(super()._connect())

    return Timed


def _async_class(address: Address) -> Any:
    from valkey.asyncio import connection as library

    return library.UnixDomainSocketConnection if address.path else library.SSLConnection if address.tls else library.Connection


class Wire:
    """Calls of one script on one server. ``find`` tells where the server is now, (host, port), or None for a unix socket.

    ``probe``: keys and arguments of a call that shows whether the script can do its work.
    """

    def __init__(
        self, address: Address, script: bytes, limit: float, probe: tuple[Sequence[str], Sequence[Argument]], find: Callable[[], tuple[str, int] | None]
    ) -> None:  # fmt: skip
        self.shown, self.script, self.limit, self._probe, self._find = address.shown, script, limit, probe, find
        self.sha = sha1(script, usedforsecurity=False).hexdigest()
        self._options, self._classes = options(address), (_connection_class(address), _async_class(address))
        self.calls = 0
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._ready: deque[Any] = deque()
        self._some = threading.Condition()
        self._made = self._waiting = 0
        self.health = Health(self.shown, self._connect)

    def run(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """What the script answers. Raises UnreachableError, after the limit at the latest."""
        return self.hear(self.say(keys, arguments))

    def say(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Send a call without waiting for its answer, which ``hear`` fetches. Raises UnreachableError."""
        until = monotonic() + self.limit
        connection = self._take(until)
        try:
            connection._sock.until = until
            connection.send_packed_command(connection.pack_command("EVALSHA", self.sha, len(keys), *keys, *arguments), check_health=False)
        except Exception as error:
            raise self._broken(connection, error) from None
        return connection

    def hear(self, connection: Any) -> Any:
        """The answer to what was said on a connection. Raises UnreachableError."""
        try:
            answer = connection.read_response()
        except Exception as error:
            raise self._broken(connection, error) from None
        self.calls += 1
        self._give(connection)
        return answer

    def _take(self, until: float) -> Any:
        self.follow_fork()
        if self.health.down:
            raise UnreachableError(self.shown)
        try:
            return self._ready.pop()
        except IndexError:
            pass
        with self._some:
            self._waiting += 1
            try:
                while not self._ready:
                    if self._made < MOST:
                        self.health.mend()
                    left = until - monotonic()
                    if left <= 0 or self.health.down:
                        raise UnreachableError(self.shown)
                    self._some.wait(left)
                return self._ready.pop()
            finally:
                self._waiting -= 1

    def follow_fork(self) -> None:
        """A forked worker must not speak on its parent's sockets."""
        if self._pid != os.getpid():
            self._begin()

    def _give(self, connection: Any) -> None:
        self._ready.append(connection)
        if self._waiting:
            with self._some:
                self._some.notify()

    def _broken(self, connection: Any, error: Exception) -> UnreachableError:
        """Drop a connection, and whatever else was open to that server."""
        self._drop(connection)
        self._drop_all()
        self.health.failed()
        return UnreachableError(f"{self.shown}: {said(error)}{cure(error)}")

    def _drop_all(self) -> None:
        while True:
            try:
                connection = self._ready.pop()
            except IndexError:
                return
            self._drop(connection)

    def _drop(self, connection: Any) -> None:
        with self._some:
            self._made -= 1
        with suppress(Exception):  # it is gone either way
            connection.disconnect()

    def _connect(self) -> None:
        """Make one more connection, see that the script does its work over it within the limit, and put it with the others."""
        connection = self.made_anew()
        try:
            connection.connect()
            keys, arguments = self._probe
            connection.send_command("SCRIPT", "LOAD", self.script)
            connection.read_response()
            connection._sock.until = monotonic() + self.limit
            connection.send_command("EVALSHA", self.sha, len(keys), *keys, *arguments)
            connection.read_response()
        except BaseException:
            connection.disconnect()
            raise
        with self._some:
            self._made += 1
        self._give(connection)

    def made_anew(self, loops: bool = False) -> Any:
        """A connection that is not connected yet. ``loops``: for an event loop. Waits for sentinels where there are any."""
        place = self._find()
        where = {} if place is None else {"host": place[0], "port": place[1]}
        return self._classes[loops](**self._options, **where, socket_timeout=CONNECTING, socket_connect_timeout=CONNECTING)

    def once(self, *command: Argument) -> Any:
        """One command on a connection of its own, by a thread that may wait. Raises what goes wrong."""
        connection = self.made_anew()
        try:
            connection.connect()
            connection._sock.until = monotonic() + CONNECTING
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()

    def close(self) -> None:
        """Let go of all connections."""
        self.health.close()
        self._drop_all()
