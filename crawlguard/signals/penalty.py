"""Growing terms for repeat offenders, kept in two words of the rate store: one that holds the key, and one that remembers its offences.

The second is a bucket that loses one offence a day. So a key's terms are as many as it has offended in the last days, and whoever
behaves for a day is one level down again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .rate import US, mix

DAY = 86_400 * US
"""The time after which one offence is forgotten."""


class Words(Protocol):
    """What a penalty needs of a store."""

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int: ...
    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int: ...


def offences_of(key: int) -> int:
    """The key of the word that remembers a key's offences."""
    return mix((key, 1))


def left(words: Words, key: int, now: int, longest: int) -> int:
    """The microseconds for which a key is still held, 0 when it is not. ``longest``: the longest term that the policy has."""
    return words.peek(key, now, 1, 1, longest)


def begin(words: Words, key: int, now: int, terms: Sequence[int]) -> int:
    """Hold a key for the term that its offences of the last days have earned, and return it."""
    number, offences = len(terms), offences_of(key)
    # Always the same tolerance: a store takes a time further ahead than that for another boot's.
    term = next((term for n, term in enumerate(terms) if not words.peek(offences, now, (number - n) * DAY, number * DAY, 0)), terms[-1])
    words.hit(offences, now, DAY, number * DAY, 0)
    hold(words, key, now, term)
    return term


def hold(words: Words, key: int, now: int, term: int) -> None:
    """Hold a key for so many microseconds."""
    words.hit(key, now, 1, 1, 0)  # uses up the only one that is admitted ...
    words.hit(key, now, 1, 1, term)  # ... so that this one is over
