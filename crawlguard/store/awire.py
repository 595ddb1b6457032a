"""The same for asynchronous callers: connections that belong to their event loop, made by tasks of it, and the limit over the whole call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from .health import UnreachableError, cure, said
from .wire import CONNECTING, MOST, Argument, Wire


class AsyncWire:
    """Calls over connections of the running loop; what is known of the server's health is the threads' too."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()

    async def run(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """What the script answers. Raises UnreachableError, after the limit at the latest."""
        wire = self._wire
        wire.follow_fork()
        if wire.health.down:
            raise UnreachableError(wire.shown)
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = _Pool(wire)
        connection = None
        try:
            async with asyncio.timeout(wire.limit):
                connection = await pool.take()
                await connection.send_command("EVALSHA", wire.sha, len(keys), *keys, *arguments, check_health=False)
                answer = await connection.read_response()
        except Exception as error:
            if connection is None:  # none was free, or none could be made in time: the task that makes one tells the health
                raise UnreachableError(wire.shown) from None
            pool.drop(connection)
            wire.health.failed()
            raise UnreachableError(f"{wire.shown}: {said(error)}{cure(error)}") from None
        except BaseException:  # the visitor has gone: what comes in on this connection is nobody's
            if connection is not None:
                pool.drop(connection)
            raise
        wire.calls += 1
        pool.give(connection)
        return answer

    async def aclose(self) -> None:
        """Let go of the running loop's connections."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()


class _Pool:
    """Connections of one loop, the last used first."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._ready: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        self._made = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self) -> Any:
        if self._ready.empty() and self._made < MOST:
            self._made += 1
            self._start(self._connect())
        return await self._ready.get()

    def give(self, connection: Any) -> None:
        self._ready.put_nowait(connection)

    def drop(self, connection: Any) -> None:
        self._made -= 1
        self._start(_disconnect(connection))

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        connection = None
        try:
            async with asyncio.timeout(CONNECTING):
                connection = await asyncio.to_thread(self._wire.made_anew, True)
                await connection.connect()
                await connection.send_command("SCRIPT", "LOAD", self._wire.script)
                await connection.read_response()
        except Exception:
            self._made -= 1
            if connection is not None:
                await _disconnect(connection)
            self._wire.health.failed()
            return
        except BaseException:
            if connection is not None:
                await _disconnect(connection)
            raise
        self.give(connection)

    async def aclose(self) -> None:
        for task in [*self._tasks]:
            task.cancel()
        while not self._ready.empty():
            await _disconnect(self._ready.get_nowait())


async def _disconnect(connection: Any) -> None:
    with suppress(Exception):
        await connection.disconnect(nowait=True)
