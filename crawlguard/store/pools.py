"""Connections that are ready: a bounded number for each server, made aside, so that no request waits for one to be made."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from ..policy.urls import Address, LinkSpec
from .breaker import Unreachable
from .wire import CONNECTING, IDLE, Wire, async_connection, drop, unreachable

SIZE = 16
"""Connections of a process (and of each event loop) to one server. A call takes about 0.1 ms of one, so that they carry 100,000 calls a second."""
EARLY = 0.001
"""Seconds before a call's end that waiting for a connection of a loop ends: nobody is to blame the server for it."""


def _busy() -> Unreachable:
    return Unreachable("no connection is free in time", blame=False)


class Pool:
    """Blocking connections to one server. ``wake`` asks for one more to be made by ``grow``."""

    def __init__(self, spec: LinkSpec, address: Address, wake: Callable[[], None]) -> None:
        self.wanted = 0
        self._spec, self._address, self._wake = spec, address, wake
        self._idle: list[Wire] = []
        self._made, self._closed = 0, False
        self._change = threading.Condition()

    def take(self, deadline: float) -> Wire:
        """A connection for one call. Raises Unreachable when none is free in time."""
        with self._change:
            while True:
                while self._idle:
                    wire = self._idle.pop()
                    if wire.alive():
                        return wire
                    wire.close()
                    self._made -= 1
                self.wanted += 1
                self._wake()
                left = deadline - monotonic()
                if left <= 0 or self._closed or not self._change.wait(left):
                    raise _busy()

    def give(self, wire: Wire, good: bool = True) -> None:
        """Give one back; ``good``: all answers were read."""
        with self._change:
            if good and not self._closed:
                wire.used = monotonic()
                self._idle.append(wire)
                self._change.notify()
                return
            self._made -= 1
        wire.close()

    def grow(self) -> None:
        """Make one more connection. Raises Unreachable."""
        self.wanted -= 1
        if self._made < SIZE and not self._closed:
            self.add(Wire(self._spec, self._address))

    def add(self, wire: Wire) -> None:
        """Take in a connection that was made elsewhere."""
        with self._change:
            self._made += 1
        self.give(wire)

    def disown(self) -> None:
        """In a forked child: give up the parent's sockets. Takes no lock, which a thread of the parent may have held."""
        for wire in self._idle:
            wire.close()

    def close(self) -> None:
        """Close what is idle; what is out is closed when it is given back."""
        with self._change:
            self._closed, idle, self._idle = True, self._idle, []
            self._change.notify_all()
        for wire in idle:
            wire.close()


class LoopPools:
    """Connections of one event loop, to all servers. A task of the loop makes them, and closes them when the loop ends."""

    def __init__(self, spec: LinkSpec) -> None:
        self._spec = spec
        self._idle: dict[Address, list[tuple[Any, float]]] = {}
        self._made: dict[Address, int] = {}
        self._waiting: dict[Address, deque[asyncio.Future[None]]] = {}
        self._dead: list[Any] = []
        self._event = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.task = self.loop.create_task(self._keep(), name="crawlguard store connections")
        self.failed: Callable[[Unreachable], None] = lambda error: None

    async def take(self, address: Address, deadline: float) -> Any:
        """A connection for one call. Raises Unreachable when none is free a little before the deadline (by the loop's clock)."""
        while True:
            idle = self._idle.setdefault(address, [])
            while idle:
                connection, used = idle.pop()
                if monotonic() - used < IDLE or not connection._reader.at_eof():
                    return connection
                self.give(address, connection, good=False)
            waiting = self._waiting.setdefault(address, deque())
            future: asyncio.Future[None] = self.loop.create_future()
            waiting.append(future)
            self._event.set()
            try:
                async with asyncio.timeout_at(deadline - EARLY):
                    await future
            except BaseException as error:
                if future in waiting:
                    waiting.remove(future)
                self._pass(address)  # we may have been woken for one that somebody else can use now
                raise (_busy() if isinstance(error, TimeoutError) else error) from None

    def _pass(self, address: Address) -> None:
        """Wake the next who waits, where there is something to take."""
        waiting = self._waiting.get(address)
        while waiting and self._idle.get(address):
            future = waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    def give(self, address: Address, connection: Any, good: bool) -> None:
        """Give one back; ``good``: all answers were read."""
        if good and not self.task.done():
            self._idle.setdefault(address, []).append((connection, monotonic()))
            self._pass(address)
            return
        self._made[address] -= 1
        self._dead.append(connection)
        self._event.set()

    async def _keep(self) -> None:
        try:
            while True:
                await self._event.wait()
                self._event.clear()
                while self._dead:
                    await drop(self._dead.pop())
                for address, waiting in list(self._waiting.items()):
                    while waiting and self._made.get(address, 0) < SIZE and await self._grow(address):
                        pass
        finally:
            for idle in self._idle.values():
                self._dead += [connection for connection, _ in idle]
                idle.clear()
            while self._dead:
                await drop(self._dead.pop())

    async def _grow(self, address: Address) -> bool:
        connection = None
        try:
            connection = async_connection(self._spec, address)
            async with asyncio.timeout(CONNECTING):
                await connection.connect()
            # Calls are bounded as a whole. The library would bound each write by wait_for, which may swallow that very cancellation
            # (Python 3.11) and leaves the read to wait for CONNECTING.
            connection.socket_timeout = None
        except BaseException as error:
            if connection is not None:
                self._dead.append(connection)
            if not isinstance(error, Exception):  # the loop ends
                raise
            self.failed(unreachable(error, handshake=True))
            return False
        self._made[address] = self._made.get(address, 0) + 1
        self.give(address, connection, good=True)
        return True
