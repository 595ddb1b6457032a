"""Gives a program that cannot choose its own address one: connections go on to nginx from the address of the visitor.

A relay is a SOCKS5 proxy (RFC 1928) for browsers, and leads straight to nginx for clients that know no proxies. It leads nowhere else,
so a browser that wants to tell its maker something is refused.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress

_SOCKS = b"\x05"
_NO_AUTHENTICATION, _DONE, _NOT_ALLOWED = b"\x05\x00", b"\x05\x00\x00\x01\0\0\0\0\0\0", b"\x05\x02\x00\x01\0\0\0\0\0\0"
_ADDRESS, _NAME = 1, 3
_CHUNK = 1 << 16


class Relay:
    """Listens on a port of 127.0.0.1 for one visitor. ``port`` is 0 until it listens."""

    def __init__(self, address: str, target: int) -> None:
        self.address, self.target, self.port = address, target, 0

    async def listen(self) -> asyncio.Server:
        """Start to listen."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            first = await reader.readexactly(1)
            if first == _SOCKS:
                first = b""
                if not await self._agree(reader, writer):
                    return
            onward, back = await asyncio.open_connection("127.0.0.1", self.target, local_addr=(self.address, 0))
            with closing(back):
                back.write(first)
                await asyncio.gather(_pour(reader, back), _pour(onward, writer))

    async def _agree(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the client of a SOCKS conversation, whose first byte is read, wants to go to nginx."""
        await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(_NO_AUTHENTICATION)
        *_, kind = await reader.readexactly(4)
        length = 4 if kind == _ADDRESS else (await reader.readexactly(1))[0] if kind == _NAME else 16
        await reader.readexactly(length)
        allowed = int.from_bytes(await reader.readexactly(2)) == self.target
        writer.write(_DONE if allowed else _NOT_ALLOWED)
        await writer.drain()
        return allowed


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while some := await reader.read(_CHUNK):
            writer.write(some)
            await writer.drain()
        writer.write_eof()


@contextmanager
def relays(addresses: Sequence[str], target: int) -> Iterator[Mapping[str, int]]:
    """A relay for each address, to a port of 127.0.0.1, while the context is open: address -> port that it listens on."""
    made = [Relay(address, target) for address in addresses]
    loop, ready, over = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        servers = [await relay.listen() for relay in made]
        ready.set()
        await over.wait()
        for server in servers:
            server.close()
        still = asyncio.all_tasks() - {asyncio.current_task()}
        for task in still:
            task.cancel()
        await asyncio.gather(*still, return_exceptions=True)

    def run() -> None:
        with closing(loop):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, name="relays")
    thread.start()
    try:
        ready.wait()
        yield {relay.address: relay.port for relay in made}
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
