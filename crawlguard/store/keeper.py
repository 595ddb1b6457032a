"""The thread beside a link: it finds the servers, makes connections, and probes while the link is open. No request waits for what it does."""

from __future__ import annotations

import threading
from time import monotonic

from redis.exceptions import NoScriptError, ResponseError

from ..policy.urls import LinkSpec
from .breaker import OPEN, Breaker, Unreachable
from .pools import LoopPools, Pool
from .topology import Topology, discover, key_slot
from .wire import Moved, Wire, unreachable

LOOK_AGAIN = 0.1
"""Seconds between two looks for where a Cluster's keys have moved."""


class Keeper:
    """``known``: the servers, and a pool for each. ``tried``: set once they have been looked for."""

    breaker: Breaker
    answered, forgotten = ResponseError, NoScriptError
    """What the library raises for an error that a server answered with: the connection is as good as before."""

    def __init__(self, spec: LinkSpec, script: str, limit: float, probe: str) -> None:
        self._spec, self._script, self._limit, self._probe = spec, script, limit, probe
        self._closed = False
        self.known: tuple[Topology, list[Pool]] = (Topology(()), [])
        self._fresh()

    def _fresh(self) -> None:
        self.running = False
        self.tried = threading.Event()
        self._wanted = threading.Event()
        self._starting = threading.Lock()
        self._moved, self._looked = False, 0.0

    def start(self) -> None:
        """Start the thread of this process, once."""
        with self._starting:
            if self.running:
                return
            self.running = True
            threading.Thread(target=self._keep, name="crawlguard store", daemon=True).start()

    def wake(self) -> None:
        """There is something to do."""
        self._wanted.set()

    def renew(self) -> None:
        """In a forked child: nothing of the parent's is used."""
        _, pools = self.known
        self.known = (self.known[0], [])
        for pool in pools:
            pool.disown()
        self._fresh()

    def close(self) -> None:
        """End the thread, and close what is idle."""
        self._closed = True
        self.breaker.shut()
        self.wake()

    def meaning(self, error: Exception) -> Unreachable:
        """What a failure of a call means; keys that have moved are looked for."""
        found = unreachable(error)
        if isinstance(found, Moved):
            self._moved = True
            self.wake()
        return found

    def loop_pools(self) -> LoopPools:
        """Connections for the running event loop."""
        pools = LoopPools(self._spec)
        pools.failed = self.breaker.failure
        return pools

    def _keep(self) -> None:
        wanted, tried = self._wanted, self.tried
        while not self._closed:
            wanted.clear()
            if self.breaker.state is OPEN:
                if self.breaker.due() <= 0:
                    self.breaker.probed(self._probed())
                    tried.set()
            elif self._moved and monotonic() - self._looked > LOOK_AGAIN:
                self._moved, self._looked = False, monotonic()
                error = self._probed()
                if error is not None:
                    self.breaker.failure(error)
            else:
                self._grow()
            wanted.wait(LOOK_AGAIN if self._moved else self.breaker.due())
        for pool in self.known[1]:
            pool.close()

    def _grow(self) -> None:
        for pool in self.known[1]:
            while pool.wanted > 0:
                try:
                    pool.grow()
                except Unreachable as error:
                    self.breaker.failure(error)
                    return

    def _probed(self) -> Unreachable | None:
        """Find the servers again, connect to each, and see that it takes a write in time; None when all is well."""
        wires: list[Wire] = []
        try:
            topology = discover(self._spec, self.known[0].nodes)
            for number, address in enumerate(topology.nodes):
                wires.append(Wire(self._spec, address))
                wires[-1].ask("SCRIPT", "LOAD", self._script)
                wires[-1].ask("SET", self._key(topology, number), 1, "PX", 1000, within=self._limit)
        except Exception as error:
            for wire in wires:
                wire.close()
            return unreachable(error)
        old = self.known[1]
        pools = [Pool(self._spec, address, self.wake) for address in topology.nodes]
        for pool, wire in zip(pools, wires, strict=True):
            pool.add(wire)
        self.known = (topology, pools)
        for pool in old:
            pool.close()
        return None

    def _key(self, topology: Topology, node: int) -> str:
        """A key of a node's own."""
        if topology.slots is None:
            return self._probe
        bare = self._probe.replace("{", "").replace("}", "")  # a hash tag would keep all of them on one node
        return next(key for n in range(1 << 20) if topology.slots[key_slot(key := f"{bare}:{n}")] == node)
