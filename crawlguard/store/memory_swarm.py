"""Swarms of one process, in two generations of dicts and sets: what every other store's are held against."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..signals.conduct import ASSET, DOCUMENT, running
from ..signals.rate import mix
from ..signals.sketch import Sketch, estimate
from ..signals.swarm import Swarm, learnt

GROUPS = 512
"""Groups in a generation; two are kept, 2 KiB a group."""
RESIDENTS = 65_536
"""Residents and paths of theirs in a generation; two are kept, about 70 bytes each."""


@dataclass(slots=True)
class _Group:
    until: int = 0
    documents: int = 0
    residents: int = 0
    usual: int = 0
    clients: Sketch = field(default_factory=Sketch)
    paths: Sketch = field(default_factory=Sketch)


class _Generations:
    """A set of numbers of which the older half is forgotten as a whole."""

    def __init__(self, limit: int) -> None:
        self._limit, self.ever = limit, 0
        self._new: set[int] = set()
        self._old: set[int] = set()

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def has(self, number: int) -> bool:
        return number in self._new or number in self._old

    def add(self, number: int) -> None:
        if number not in self._new:
            if len(self._new) >= self._limit:
                self._old, self._new = self._new, set()
            self._new.add(number)
            self.ever += 1

    def forget(self) -> None:
        self._new, self._old = set(), set()


class MemorySwarm:
    """Dicts from key to group, and sets: residents with the paths that they ask for, and who was seen in which group's window."""

    def __init__(self, groups: int = GROUPS, residents: int = RESIDENTS) -> None:
        self._groups = groups
        self._new: dict[int, _Group] = {}
        self._old: dict[int, _Group] = {}
        self._people, self._seen = _Generations(residents), _Generations(residents)

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        """Count one request of a member; see RateStore."""
        group = self._group(key, now, within, dry)
        once = mix((key, member, group.until))
        resident, seen, known = self._people.has(member), self._seen.has(once), bool(mark) and self._people.has(~mark)
        bare, documents, paths, residents = group.clients.ones, group.documents, group.paths.ones, group.residents
        there = group.clients.holds(member)
        if kind == ASSET:
            residents += 1
            if seen and not resident:  # neither the client nor the page that the asset belongs to is bare
                bare, documents = bare - there, documents - (documents > 0)
        elif resident:
            residents += 1
        elif kind == DOCUMENT:
            bare, documents, paths = bare + (not there), documents + 1, paths + (bool(mark) and not group.paths.holds(mark))
        if not dry:
            if kind == ASSET:
                self._people.add(member)
                if seen and not resident:
                    group.clients.drop(member)
                    if mark:
                        self._people.add(~mark)
            elif resident and mark:
                self._people.add(~mark)
            elif kind == DOCUMENT and not resident:
                self._seen.add(once)
                group.clients.add(member)
                if mark:
                    group.paths.add(mark)
            group.documents, group.residents = documents, residents
        return Swarm(
            estimate(bare),
            documents,
            estimate(paths),
            residents,
            group.usual >> 8,
            group.until - now,
            self._people.ever,
            resident,
            seen,
            known,
        )

    def _group(self, key: int, now: int, within: int, dry: bool) -> _Group:
        group = self._new.get(key) or self._old.get(key)
        if group is None or not running(group.until, now, within):
            usual = learnt(group.usual, group.clients.ones, group.until, now, within) if group is not None else 0
            group = _Group(now + within, usual=usual)
        if not dry and self._new.get(key) is not group:
            if key not in self._new and len(self._new) >= self._groups:
                self._old, self._new = self._new, {}
            self._new[key] = group
        return group

    def forget(self) -> None:
        """Forget everything."""
        self._new, self._old = {}, {}
        self._people.forget()
        self._seen.forget()
