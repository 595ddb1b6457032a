"""From operations to calls: one for a server, one for each slot of a cluster that they lie in, all on their way before the first answer is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol

from ..errors import ConfigError
from ..policy.address import Address
from .awire import AsyncWire
from .health import Health, UnreachableError
from .ops import Op
from .script import Answer
from .wire import Argument, Wire

Call = tuple[list[str], list[Argument]]


def script() -> bytes:
    """The script that the server runs."""
    return files(__package__).joinpath("valkey.lua").read_bytes()


def call(ops: Sequence[Op], now: int = 0) -> Call:
    """Keys and arguments of the script for operations that lie together. ``now``: in us, 0 for the server's clock."""
    arguments: list[Argument] = [now]
    for _, numbers in ops:
        arguments.append(len(numbers))
        arguments += numbers
    return [key for key, _ in ops], arguments


class Link(Protocol):
    """The way to the store. ``run`` raises UnreachableError, after the limit at the latest, and nothing else."""

    spread: bool

    def run(self, ops: Sequence[Op], now: int = 0) -> list[Answer]: ...
    async def arun(self, ops: Sequence[Op], now: int = 0) -> list[Answer]: ...
    def once(self, *command: Argument) -> Any: ...
    def failed(self) -> None: ...
    def close(self) -> None: ...
    async def aclose(self) -> None: ...


class ServerLink:
    """One server, or the master that sentinels name."""

    spread = False

    def __init__(self, address: Address, site: str, limit: float) -> None:
        # The probe's word is nobody's: it shows that the script may read, write and tell the time.
        self.wire = Wire(address, script(), limit, call([(f"cg:{{{site}}}:probe", (1, 1, 1, 0))]), _finder(address))
        self.loops = AsyncWire(self.wire)
        self.once, self.close, self.aclose = self.wire.once, self.wire.close, self.loops.aclose

    def failed(self) -> None:
        """Somebody could not reach the server."""
        self.wire.health.failed()

    def run(self, ops: Sequence[Op], now: int = 0) -> list[Answer]:
        """The answers to operations, up to the first that is over its limit."""
        answer: list[Answer] = self.wire.run(*call(ops, now))
        return answer

    async def arun(self, ops: Sequence[Op], now: int = 0) -> list[Answer]:
        """``run`` for asynchronous callers."""
        answer: list[Answer] = await self.loops.run(*call(ops, now))
        return answer


def _finder(address: Address) -> Callable[[], tuple[str, int] | None]:
    if address.path:
        return lambda: None
    if address.topology == "sentinel":
        return lambda: _master(address)
    return lambda: address.hosts[0]


def _master(address: Address) -> tuple[str, int]:
    from valkey import sentinel as library

    sentinels: Any = library.Sentinel
    tls: dict[str, Any] = {"ssl": True, **({"ssl_ca_certs": address.ca} if address.ca else {})} if address.tls else {}
    sentinel = sentinels(list(address.hosts), socket_timeout=0.5, **tls)
    try:
        host, port = sentinel.discover_master(address.service)
    finally:
        for one in sentinel.sentinels:
            one.close()
    return str(host), int(port)


class ClusterLink:
    """A cluster: which node has which slot is asked of any that answers, whenever one does not answer as it should."""

    spread = True

    def __init__(self, address: Address, site: str, limit: float) -> None:
        self._address, self._site, self._limit = address, site, limit
        self._wires: dict[tuple[str, int], Wire] = {}
        self._loops: dict[Wire, AsyncWire] = {}
        self._slots: list[tuple[int, int, Wire]] = []
        self._health = Health(address.shown, self._look)

    def _look(self) -> None:
        """Ask the nodes for the map of slots. Raises what the last of them says."""
        error: Exception = UnreachableError(self._address.shown)
        for place in [*self._wires, *self._address.hosts]:
            try:
                found = self._wire(place).once("CLUSTER", "SLOTS")
            except Exception as wrong:
                error = wrong
                continue
            slots = [(low, high, (_text(node[0]) or place[0], int(node[1]))) for low, high, node, *_ in found]
            if sum(high - low + 1 for low, high, _ in slots) < 16384:
                error = UnreachableError("CLUSTER SLOTS does not name a node for every slot")
                continue
            self._slots = [(low, high, self._wire(at)) for low, high, at in slots]
            return
        raise error

    def _wire(self, place: tuple[str, int]) -> Wire:
        if place not in self._wires:
            wire = self._wires[place] = Wire(self._address, script(), self._limit, call([]), lambda: place)
            self._loops[wire] = AsyncWire(wire)
        return self._wires[place]

    def groups(self, ops: Sequence[Op]) -> list[tuple[Wire, list[int]]]:
        """Which operations go together, and where to. Raises UnreachableError while the map is not known."""
        if not self._slots or self._health.down:
            self._health.mend()
            raise UnreachableError(self._address.shown)
        together: dict[int, list[int]] = {}
        for at, op in enumerate(ops):
            together.setdefault(_slot(op[0]), []).append(at)
        return [(self._at(slot), places) for slot, places in together.items()]

    def _at(self, slot: int) -> Wire:
        for low, high, wire in self._slots:
            if low <= slot <= high:
                return wire
        raise UnreachableError(self._address.shown)

    def run(self, ops: Sequence[Op], now: int = 0) -> list[Answer]:
        """The answers to operations, up to the first that was not done."""
        said: list[tuple[Wire, Any, list[int]]] = []
        answers: dict[int, Answer] = {}
        error: UnreachableError | None = None
        try:
            for wire, places in self.groups(ops):
                said.append((wire, wire.say(*call([ops[at] for at in places], now)), places))
        except UnreachableError as wrong:
            error = wrong
        for wire, connection, places in said:
            try:
                answers.update(zip(places, wire.hear(connection), strict=False))
            except UnreachableError as wrong:
                error = wrong
        return self._told(answers, error)

    async def arun(self, ops: Sequence[Op], now: int = 0) -> list[Answer]:
        """``run`` for asynchronous callers."""
        groups = self.groups(ops)
        calls = [self._loops[wire].run(*call([ops[at] for at in places], now)) for wire, places in groups]
        answers: dict[int, Answer] = {}
        error: UnreachableError | None = None
        for (_, places), said in zip(groups, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            if isinstance(said, UnreachableError):
                error = said
            elif isinstance(said, BaseException):
                raise said
            else:
                answers.update(zip(places, said, strict=False))
        return self._told(answers, error)

    def _told(self, answers: dict[int, Answer], error: UnreachableError | None) -> list[Answer]:
        if error is not None:
            self.failed()
            raise error
        return in_order(answers)

    def failed(self) -> None:
        """A node did not answer as it should: the map of slots is asked for again."""
        self._health.failed()

    def once(self, *command: Argument) -> Any:
        """One command at the node that has its key, by a thread that may wait. Raises what goes wrong."""
        if not self._slots:
            self._look()
        return self._at(_slot(str(command[1]))).once(*command)

    def close(self) -> None:
        """Let go of all connections."""
        self._health.close()
        for wire in self._wires.values():
            wire.close()

    async def aclose(self) -> None:
        """Let go of the running loop's connections."""
        for loops in self._loops.values():
            await loops.aclose()


def in_order(answers: dict[int, Answer]) -> list[Answer]:
    """The answers to the first operations, as far as there are any."""
    found: list[Answer] = []
    while len(found) in answers:
        found.append(answers[len(found)])
    return found


@lru_cache(4096)
def _slot(tag: str) -> int:
    from valkey.crc import key_slot

    return int(key_slot(tag.encode()))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def open_link(address: Address, site: str, limit: float = 0.02) -> Link:
    """The link to a store. ``site`` sets the sites of one store apart. Raises ConfigError where the client library is missing."""
    try:
        import valkey  # noqa: F401 - tells early what would be missing later
    except ImportError:
        raise ConfigError(f"the store {address.shown} needs a client library: pip install 'crawlguard[valkey]'") from None
    return (ClusterLink if address.topology == "cluster" else ServerLink)(address, site, limit)


__all__ = ["Link", "UnreachableError", "open_link"]
