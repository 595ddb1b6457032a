"""Which server holds which keys: one, the master that Sentinels name, or the nodes of a Cluster by hash slot."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any

from ..policy.urls import Address, LinkSpec
from .breaker import Unreachable
from .ops import Op
from .wire import Wire

SLOTS = 16_384


class Topology:
    """The servers, and for a Cluster the number of the node of each slot."""

    def __init__(self, nodes: Sequence[Address], slots: Sequence[int] | None = None) -> None:
        self.nodes, self.slots = tuple(nodes), slots

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and (self.nodes, self.slots) == (other.nodes, other.slots)

    __hash__ = None  # type: ignore[assignment]

    def groups(self, ops: Sequence[Op]) -> dict[tuple[int, int], list[int]]:
        """The positions of the operations that can go out together: by node and slot, as a Cluster runs no script across slots."""
        if self.slots is None:
            return {(0, 0): list(range(len(ops)))}
        found: dict[tuple[int, int], list[int]] = {}
        for position, (key, _) in enumerate(ops):
            slot = key_slot(key)
            found.setdefault((self.slots[slot], slot), []).append(position)
        return found

    def node_of(self, key: str) -> int:
        """The number of the node that holds a key."""
        return 0 if self.slots is None else self.slots[key_slot(key)]


def key_slot(key: str) -> int:
    """The hash slot of a key: CRC16 (XMODEM) of what stands in its first braces, else of all of it (Redis Cluster specification)."""
    begin = key.find("{")
    if begin >= 0:
        end = key.find("}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return crc_hqx(key.encode(), 0) % SLOTS


def discover(spec: LinkSpec, known: Sequence[Address]) -> Topology:
    """Ask where the keys are now. ``known``: nodes that were there before. Raises Unreachable."""
    if spec.kind == "single":
        return Topology(spec.nodes)
    last = Unreachable("no node answers")
    for address in dict.fromkeys((*spec.nodes, *known)) if spec.kind == "cluster" else spec.nodes:
        try:
            wire = Wire(spec, address, sentinel=spec.kind == "sentinel")
            try:
                return _slots(wire, address) if spec.kind == "cluster" else _master(wire, spec.service)
            finally:
                wire.close()
        except Unreachable as error:
            last = error
        except (TypeError, ValueError, IndexError, UnicodeDecodeError):
            last = Unreachable("it answers with something that is no answer")
    raise last


def _master(wire: Wire, service: str) -> Topology:
    found = wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    if not found:
        raise Unreachable(f"the Sentinels know no service {service}", cure="name it as the Sentinels' configuration does")
    return Topology([(found[0].decode(), int(found[1]))])


def _slots(wire: Wire, address: Address) -> Topology:
    nodes: list[Address] = []
    slots = [-1] * SLOTS
    answer: list[Any] = wire.ask("CLUSTER", "SLOTS")
    for first, last, (host, port, *_), *_ in answer:
        node = ((host or b"").decode() or address[0], int(port))
        if node not in nodes:
            nodes.append(node)
        slots[first : last + 1] = [nodes.index(node)] * (last + 1 - first)
    if -1 in slots or len(slots) != SLOTS:
        raise Unreachable("the Cluster does not serve all of its slots", cure="look at what `CLUSTER INFO` says")
    return Topology(nodes, slots)
