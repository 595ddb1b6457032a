"""A link to the servers that many hosts count on: operations in, answers out, or Unreachable, within one time limit for all of it.

A thread of its own (the keeper) finds the servers, makes the connections and probes while the link is open; requests only use what is ready.
redis-py is the client library: it is released monthly, pure Python, MIT, has sync and asyncio, TLS and unix sockets, and speaks to Valkey and Redis alike.
valkey-py is its fork of 2024 with a tenth of the releases and nothing that is needed here.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any

from ..errors import ConfigError
from ..forks import in_child
from ..policy.urls import LinkSpec, parse_url
from .breaker import FIRST, MOST, OPEN, Breaker, Unreachable
from .ops import Op

LIMIT = 0.02
"""Seconds for a whole call: a person does not notice it, and the local store is there."""
PATIENCE = 1.0
"""Seconds that ``set_once`` waits for the first connection; it is called while a policy is loaded, by no request."""

LOOP_LATE = 0.002
"""Seconds after the limit at which a loop that only then notices was busy with other things: that may not be the server's fault."""

Answers = list[list[int]]


def open_link(
    url: str, script: str, *, limit: float = LIMIT, first: float = FIRST, most: float = MOST, probe: str = "crawlguard:probe"
) -> Link:
    """A link to the servers of a URL (see ``urls``), which may all be down. ``script``: the Lua text that runs the operations.

    ``first`` and ``most``: seconds between probes at first and in the end. ``probe``: the beginning of the keys that probes write.
    Raises ConfigError for a URL that is none, and when the client library is not installed.
    """
    spec = parse_url(url)
    if isinstance(spec, str):
        raise ConfigError(f"the URL of the store: {spec}")
    try:
        import redis as _  # noqa: F401
    except ImportError:
        raise ConfigError(f'a store at {spec.name} needs a client library: pip install "crawlguard[valkey]"') from None
    return Link(spec, script, limit, first, most, probe)


class Link:
    """See ``open_link``. Safe for threads, several event loops and fork. ``breaker`` has the state and the counters."""

    def __init__(self, spec: LinkSpec, script: str, limit: float, first: float, most: float, probe: str) -> None:
        from . import keeper

        self.name = spec.name
        self.limit, self._script = limit, script
        self._sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()
        self._spec, self._lock = spec, threading.Lock()
        self._keeper = keeper.Keeper(spec, script, limit, probe)
        self.breaker = self._keeper.breaker = Breaker(spec.name, monotonic, self._keeper.wake, first, most)
        self._keeper.start()
        _LINKS.add(self)

    def run(self, ops: Sequence[Op], until: float = inf) -> Answers:
        """The answer to each operation, in order; [] for one that was not run as its group had stopped before (at the end: left out).

        ``until``: the ``monotonic`` time at which the caller's patience ends, if that is before the limit. Raises Unreachable, and nothing else.
        """
        deadline = min(until, monotonic() + self.limit)
        if not self._keeper.running:
            self._keeper.start()
        self.breaker.admit()
        try:
            answers = self._ask(ops, deadline)
        except Exception as error:
            raise self._failed(error) from None
        except BaseException:
            self.breaker.released()
            raise
        self.breaker.worked()
        return answers

    async def arun(self, ops: Sequence[Op], until: float = inf) -> Answers:
        """As ``run``, for an event loop; cancelling it is safe."""
        if not self._keeper.running:
            self._keeper.start()
        self.breaker.admit()
        clock = asyncio.get_running_loop().time
        deadline = clock() + min(self.limit, until - monotonic())
        try:
            async with asyncio.timeout_at(deadline):
                answers = await self._aask(ops, deadline)
        except TimeoutError as error:
            raise self._failed(
                Unreachable("it does not answer in time, or this event loop does not read", late=True, doubtful=True)
                if clock() - deadline > LOOP_LATE
                else error
            ) from None
        except Exception as error:
            raise self._failed(error) from None
        except BaseException:
            self.breaker.released()
            raise
        self.breaker.worked()
        return answers

    def ask(self, key: str, *command: str | bytes | int, patience: float = PATIENCE) -> Any:
        """One plain command, put to the server that holds ``key``, for what no request waits for: a load, a thread of its own, an operator.

        Waits ``patience`` seconds at most, and does not ask a server that is known to be away. What comes of it says nothing to the breaker.
        Raises Unreachable.
        """
        if not self._keeper.running:
            self._keeper.start()
        end = monotonic() + patience
        self._keeper.tried.wait(patience)
        if self.breaker.state is OPEN:
            raise Unreachable("the server has not been reached", blame=False)
        topology, pools = self._keeper.known
        pool = pools[topology.node_of(key)]
        wire = pool.take(end)
        good = False
        try:
            found = wire.ask(*command, within=patience)
            good = True
        except Unreachable as error:
            raise self._keeper.meaning(error) from None
        finally:
            pool.give(wire, good)
        return found

    def set_once(self, key: str, value: bytes, patience: float = PATIENCE) -> bytes:
        """What stands under a key, after setting it to ``value`` where nothing did; it does not expire. For a load, as ``ask``.

        Raises Unreachable.
        """
        self.ask(key, "SET", key, value, "NX", patience=patience)
        found = self.ask(key, "GET", key, patience=patience)
        if not isinstance(found, bytes) or not found:
            raise Unreachable("it answers with something that is no answer")
        return found

    def close(self) -> None:
        """Let go of all connections; calls raise Unreachable from then on."""
        self._keeper.close()
        with self._lock:
            loops = list(self._loops.items())
        for loop, pools in loops:
            if not loop.is_closed():
                with suppress(RuntimeError):  # closed just now
                    loop.call_soon_threadsafe(pools.task.cancel)

    def _command(self, ops: Sequence[Op], positions: Sequence[int]) -> list[str | int]:
        command: list[str | int] = ["EVALSHA", self._sha, len(positions)]
        command += [ops[position][0] for position in positions]
        for position in positions:
            args = ops[position][1]
            command.append(len(args))
            command += args
        return command

    def _ask(self, ops: Sequence[Op], deadline: float) -> Answers:
        topology, pools = self._keeper.known
        groups = topology.groups(ops)
        wires: dict[int, Any] = {}
        replies: list[tuple[list[int], Any]] = []
        good = False
        try:
            for (node, _), positions in groups.items():
                if node not in wires:
                    wires[node] = pools[node].take(deadline)
                wires[node].send(self._command(ops, positions), deadline)
            errors: list[Exception] = []
            unknown: list[tuple[int, list[int]]] = []
            for (node, _), positions in groups.items():
                try:
                    replies.append((positions, wires[node].read()))
                except self._keeper.forgotten:
                    unknown.append((node, positions))
                except self._keeper.answered as error:  # the others' answers are still to be read
                    errors.append(error)
            for node, positions in unknown:
                command = self._command(ops, positions)
                command[:2] = ["EVAL", self._script]
                wires[node].send(command, deadline)
                replies.append((positions, wires[node].read()))
            good = True
            if errors:
                raise errors[0]
        finally:
            for node, wire in wires.items():
                pools[node].give(wire, good)
        return _in_order(len(ops), replies)

    async def _aask(self, ops: Sequence[Op], deadline: float) -> Answers:
        topology, _ = self._keeper.known
        loop = asyncio.get_running_loop()
        pools = self._loops.get(loop)
        if pools is None or pools.task.done():
            pools = self._keeper.loop_pools()
            with self._lock:
                self._loops[loop] = pools
        groups = topology.groups(ops)
        wires: dict[int, Any] = {}
        replies: list[tuple[list[int], Any]] = []
        good = False
        try:
            for (node, _), positions in groups.items():
                if node not in wires:
                    wires[node] = await pools.take(topology.nodes[node], deadline)
                await wires[node].send_command(*self._command(ops, positions))
            errors: list[Exception] = []
            unknown: list[tuple[int, list[int]]] = []
            for (node, _), positions in groups.items():
                try:
                    replies.append((positions, await wires[node].read_response(disconnect_on_error=False)))
                except self._keeper.forgotten:
                    unknown.append((node, positions))
                except self._keeper.answered as error:
                    errors.append(error)
            for node, positions in unknown:
                command = self._command(ops, positions)
                command[:2] = ["EVAL", self._script]
                await wires[node].send_command(*command)
                replies.append((positions, await wires[node].read_response(disconnect_on_error=False)))
            good = True
            if errors:
                raise errors[0]
        finally:
            for node, wire in wires.items():
                pools.give(topology.nodes[node], wire, good)
        return _in_order(len(ops), replies)

    def _failed(self, error: Exception) -> Unreachable:
        found = self._keeper.meaning(error)
        self.breaker.failure(found)
        return found

    def _forked(self) -> None:
        """In a child: the parent's connections and threads are not ours. Those of its loops are kept, untouched: closing them would stop the parent's."""
        _INHERITED.append(self._loops)
        self._loops, self._lock = weakref.WeakKeyDictionary(), threading.Lock()
        self._keeper.renew()
        self.breaker.renew()


def _in_order(count: int, replies: Sequence[tuple[list[int], Any]]) -> Answers:
    """The answers of all groups in the order of the operations. Raises Unreachable for what is no answer."""
    answers: Answers = [[] for _ in range(count)]
    for positions, reply in replies:
        if type(reply) is not list or len(reply) > len(positions):
            raise Unreachable("the script answers with something that is no answer")
        for position, answer in zip(positions, reply, strict=False):
            if type(answer) is not list or not all(type(number) is int for number in answer):
                raise Unreachable("the script answers with something that is no answer")
            answers[position] = answer
    while answers and not answers[-1]:
        answers.pop()
    return answers


_LINKS: weakref.WeakSet[Link] = weakref.WeakSet()
_INHERITED: list[Any] = []


def _after_fork() -> None:
    for link in list(_LINKS):
        link._forked()


in_child(_after_fork)
