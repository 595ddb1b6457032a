"""The choice of rules: greedy weighted set cover (Chvatal 1979), in which people are part of a rule's price.

A candidate covers requests of clients, whole or in part. Again and again the one is taken that covers most of what is not covered yet
for its price; what is not worth a rule any more is left alone. The cost is within 1 + ln(n) of the least possible, which no quick method beats.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import polars as pl

PER_PERSON = 20.0
"""What one person who would be hit costs, in simple rules: twenty rules are rather written than one person hit."""
PER_UNSURE = 0.1
"""The same for a client of whom it is not known what it is."""


class Reach(NamedTuple):
    """Clients by their row (UInt32, each once), and how many requests of each are covered (Int64)."""

    rows: pl.Series
    requests: pl.Series


def reach_of(requests: Mapping[int, int] | None = None) -> Reach:
    """From row -> requests."""
    told = requests or {}
    return Reach(pl.Series(list(told), dtype=pl.UInt32), pl.Series(list(told.values()), dtype=pl.Int64))


class Cover(NamedTuple):
    """What one candidate would do. ``complexity``: 1 for one condition with one value."""

    reach: Reach
    complexity: float
    people: int = 0
    unsure: int = 0

    @property
    def price(self) -> float:
        """Complexity, and the people it would hit."""
        return self.complexity + PER_PERSON * self.people + PER_UNSURE * self.unsure


class Choice(NamedTuple):
    """A candidate that was taken (by its number), and how many requests it covers that no earlier one does."""

    number: int
    gain: int


def choose(candidates: Sequence[Cover], least: int, most: int) -> list[Choice]:
    """At most ``most`` of the candidates, each of which covers ``least`` requests or more, for each unit of its price, that no other does.

    What later choices have made superfluous is left out again. Ties go to the one that stands first.
    """
    covered = united((), _size(candidates))
    heap = [(-float(one.reach.requests.sum()) / one.price, number) for number, one in enumerate(candidates) if one.reach.rows.len()]
    heapq.heapify(heap)
    taken: list[int] = []
    while heap and len(taken) < most:
        _, number = heapq.heappop(heap)
        one = candidates[number]
        gain = _gain(one.reach, covered)
        worth = -gain / one.price
        if gain < max(1, least) * max(1.0, one.price):
            continue  # gains only shrink: never again
        if heap and (worth, number) > heap[0]:
            heapq.heappush(heap, (worth, number))
            continue
        taken.append(number)
        _add(one.reach, covered)
    return _needed(candidates, taken, least)


def _size(candidates: Iterable[Cover]) -> int:
    return max((int(one.reach.rows.max()) + 1 for one in candidates if one.reach.rows.len()), default=0)  # type: ignore[arg-type]


def _gain(reach: Reach, covered: pl.Series) -> int:
    return int((reach.requests - covered.gather(reach.rows)).clip(lower_bound=0).sum())


def _add(reach: Reach, covered: pl.Series) -> None:
    before = covered.gather(reach.rows)
    covered.scatter(reach.rows, reach.requests.zip_with(reach.requests > before, before))


def _needed(candidates: Sequence[Cover], taken: list[int], least: int) -> list[Choice]:
    """Without those whose requests others cover that are no dearer: the dearest are looked at first."""
    size = _size(candidates)
    kept = list(taken)
    for number in sorted(taken, key=lambda n: (-candidates[n].price, -n)):
        others = [n for n in kept if n != number and candidates[n].price <= candidates[number].price]
        if _gain(candidates[number].reach, united((candidates[n].reach for n in others), size)) < max(1, least):
            kept.remove(number)
    before = united((), size)
    choices: list[Choice] = []
    for number in kept:
        choices.append(Choice(number, _gain(candidates[number].reach, before)))
        _add(candidates[number].reach, before)
    return choices


def united(reaches: Iterable[Reach], size: int = 0) -> pl.Series:
    """How many requests of each client several cover together: the most that one of them does. ``size``: clients, at least."""
    found = list(reaches)
    size = max([size, *(int(reach.rows.max()) + 1 for reach in found if reach.rows.len())])  # type: ignore[arg-type]
    covered = pl.zeros(size, dtype=pl.Int64, eager=True)
    for reach in found:
        _add(reach, covered)
    return covered
