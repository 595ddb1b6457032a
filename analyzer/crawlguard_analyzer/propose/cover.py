"""The choice of rules: greedy weighted set cover (Chvatal 1979), in which people are part of a rule's price.

A candidate covers requests of clients, whole or in part. Again and again the one is taken that covers most of what is not covered yet
for its price; what is not worth a rule any more is left alone. The cost is within 1 + ln(n) of the least possible, which no quick method beats.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PER_PERSON = 20.0
"""What one person who would be hit costs, in simple rules: twenty rules are rather written than one person hit."""
PER_UNSURE = 0.1
"""The same for a client of whom it is not known what it is."""


class Cover(NamedTuple):
    """What one candidate would do. ``reach``: client's row -> requests of it that are covered. ``complexity``: 1 for one condition with one value."""

    reach: dict[int, int]
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
    """At most ``most`` of the candidates, none of which covers fewer than ``least`` requests for each unit of its price by itself.

    What later choices have made superfluous is left out again. Ties go to the one that stands first.
    """
    covered: dict[int, int] = {}
    heap = [(-sum(one.reach.values()) / one.price, number) for number, one in enumerate(candidates) if one.reach]
    heapq.heapify(heap)
    taken: list[int] = []
    while heap and len(taken) < most:
        _, number = heapq.heappop(heap)
        one = candidates[number]
        gain = _gain(one, covered)
        worth = -gain / one.price
        if gain < max(1, least) * max(1.0, one.price):
            continue  # gains only shrink: never again
        if heap and (worth, number) > heap[0]:
            heapq.heappush(heap, (worth, number))
            continue
        taken.append(number)
        for row, requests in one.reach.items():
            covered[row] = max(requests, covered.get(row, 0))
    return _needed(candidates, taken, least)


def _gain(one: Cover, covered: dict[int, int]) -> int:
    return sum(requests - covered.get(row, 0) for row, requests in one.reach.items() if requests > covered.get(row, 0))


def _needed(candidates: Sequence[Cover], taken: list[int], least: int) -> list[Choice]:
    """Without those whose requests others cover that are no dearer: the dearest are looked at first."""
    kept = list(taken)
    for number in sorted(taken, key=lambda n: (-candidates[n].price, -n)):
        others = [n for n in kept if n != number and candidates[n].price <= candidates[number].price]
        if _gain(candidates[number], united(candidates[n].reach for n in others)) < max(1, least):
            kept.remove(number)
    choices: list[Choice] = []
    for at, number in enumerate(kept):
        choices.append(Choice(number, _gain(candidates[number], united(candidates[n].reach for n in kept[:at]))))
    return choices


def united(reaches: Iterable[dict[int, int]]) -> dict[int, int]:
    """What several cover together."""
    covered: dict[int, int] = {}
    for reach in reaches:
        for row, requests in reach.items():
            covered[row] = max(requests, covered.get(row, 0))
    return covered
