"""The choice of rules and the joining of subnets, against doing it the long way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from itertools import combinations
from math import log
from typing import NamedTuple

from crawlguard_analyzer.propose.cidrs import DENSE, WIDEST, holders, joined
from crawlguard_analyzer.propose.cover import PER_PERSON, Choice, Cover, choose, reach_of
from hypothesis import example, given, settings
from hypothesis import strategies as st


class Wish(NamedTuple):
    """A candidate whose reach is a plain dict, for doing it the long way."""

    reach: dict[int, int]
    complexity: float
    people: int = 0
    unsure: int = 0

    @property
    def cover(self) -> Cover:
        return Cover(reach_of(self.reach), self.complexity, self.people, self.unsure)


def chosen_of(wishes: Sequence[Wish], least: int, most: int) -> list[Choice]:
    return choose([wish.cover for wish in wishes], least, most)


def union(reaches: Iterable[dict[int, int]]) -> dict[int, int]:
    most: dict[int, int] = {}
    for reach in reaches:
        for row, requests in reach.items():
            most[row] = max(requests, most.get(row, 0))
    return most


whole = st.dictionaries(st.integers(0, 7), st.just(10), max_size=6)
partly = st.dictionaries(st.integers(0, 7), st.integers(1, 30), max_size=6)
prices = (st.sampled_from([1.0, 1.5, 2.0]), st.sampled_from([0, 0, 0, 1]), st.integers(0, 3))
wholes, parts = (st.lists(st.builds(Wish, reach, *prices), max_size=7) for reach in (whole, partly))


def cost(candidates: Sequence[Wish], numbers: Sequence[int]) -> float:
    return sum(candidates[n].cover.price for n in numbers)


@settings(deadline=None)
@given(wholes)
def test_the_cover_is_whole_and_within_the_known_bound_of_the_best(candidates: list[Wish]) -> None:
    chosen = [choice.number for choice in chosen_of(candidates, least=0, most=99)]
    worth = union(one.reach for one in candidates)
    assert union(candidates[n].reach for n in chosen) == worth or _too_dear(candidates, chosen)
    if union(candidates[n].reach for n in chosen) == worth:
        best = min(
            cost(candidates, some)
            for size in range(len(candidates) + 1)
            for some in combinations(range(len(candidates)), size)
            if union(candidates[n].reach for n in some) == worth
        )
        assert cost(candidates, chosen) <= best * (1 + log(max(1, len(worth)))) + 1e-9


def _too_dear(candidates: Sequence[Wish], chosen: Sequence[int]) -> bool:
    """Whether whoever was left out brings less than one request for each unit of its price."""
    covered = union(candidates[n].reach for n in chosen)
    gains = [
        sum(r - covered.get(row, 0) for row, r in one.reach.items() if r > covered.get(row, 0)) / one.cover.price for one in candidates
    ]
    return all(gain < 1 for gain in gains)


@settings(deadline=None)
@given(parts, st.integers(0, 40), st.integers(0, 4))
def test_each_choice_brings_what_it_says_and_enough_of_it(candidates: list[Wish], least: int, most: int) -> None:
    choices = chosen_of(candidates, least, most)
    assert len(choices) <= most
    assert len({choice.number for choice in choices}) == len(choices)
    for at, choice in enumerate(choices):
        before = union(candidates[c.number].reach for c in choices[:at])
        after = union(candidates[c.number].reach for c in choices[: at + 1])
        assert choice.gain == sum(after.values()) - sum(before.values())
        assert sum(candidates[choice.number].reach.values()) >= least
    together = sum(union(candidates[c.number].reach for c in choices).values())
    assert together == sum(choice.gain for choice in choices)


def test_what_later_choices_cover_is_left_out() -> None:
    # the middle one is the best first step, and needless once the two beside it are there
    candidates = [Wish({0: 10, 1: 10, 2: 9}, 1.0), Wish({2: 10, 3: 10, 4: 9}, 1.0), Wish({1: 10, 2: 10, 3: 10}, 1.0)]
    assert [choice.number for choice in chosen_of(candidates, 1, 9)] == [0, 1]


def test_partial_reaches_add_up_to_the_larger() -> None:
    candidates = [Wish({0: 60, 1: 60}, 1.0), Wish({0: 100}, 1.0)]
    assert chosen_of(candidates, 10, 9) == [Choice(0, 120), Choice(1, 40)]
    assert chosen_of(candidates, 50, 9) == [Choice(0, 120)]


def test_a_rule_is_not_given_up_for_a_dearer_one() -> None:
    candidates = [Wish({0: 80, 1: 80}, 1.5), Wish({0: 100, 1: 100}, 3.0)]
    assert chosen_of(candidates, 1, 9) == [Choice(0, 160), Choice(1, 40)]


def test_a_person_is_dearer_than_many_rules() -> None:
    wide = Wish(dict.fromkeys(range(10), 100), 1.0, people=1)
    narrow = [Wish({n: 100}, 2.0) for n in range(10)]
    assert sorted(choice.number for choice in chosen_of([wide, *narrow], 1, 20)) == list(range(1, 11))
    assert wide.cover.price > PER_PERSON


subnets = st.lists(st.builds("10.{}.{}.0/24".format, st.integers(0, 1), st.integers(0, 31)), unique=True, max_size=24)


@settings(deadline=None)
@given(subnets, subnets)
@example(["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"], ["10.0.4.0/24"])
def test_joined_prefixes_cover_what_was_seen_and_nothing_that_must_stay_out(seen: list[str], out: list[str]) -> None:
    out = [one for one in out if one not in seen]
    found = joined(seen, out)
    assert set(found) == set(seen)
    prefixes = [IPv4Network(prefix) for prefix in dict.fromkeys(found.values())]
    assert all(IPv4Network(subnet).subnet_of(IPv4Network(prefix)) for subnet, prefix in found.items())
    for barred in out:
        assert not any(IPv4Network(barred).subnet_of(prefix) for prefix in prefixes)
    assert not any(a.overlaps(b) for a, b in combinations(prefixes, 2))
    nets = [IPv4Network(one) for one in seen]
    for prefix in prefixes:
        assert sum(net.subnet_of(prefix) for net in nets) >= DENSE * 2 ** (24 - prefix.prefixlen)
        assert prefix.prefixlen == 24 or all(any(net.subnet_of(half) for net in nets) for half in prefix.subnets())
        assert prefix.prefixlen >= WIDEST[4]


def test_both_families_are_joined_apart() -> None:
    seen = [*(f"203.0.{n}.0/24" for n in range(112, 116)), *(f"2001:db8:{n:x}::/48" for n in range(4))]
    assert set(joined(seen).values()) == {"203.0.112.0/22", "2001:db8::/46"}


@settings(deadline=None)
@given(
    subnets, st.lists(st.builds("10.0.{}.0/{}".format, st.sampled_from([0, 8, 16, 24]), st.sampled_from([21, 22])), unique=True, max_size=1)
)
def test_who_lies_in_a_prefix(seen: list[str], prefixes: list[str]) -> None:
    wanted = {one: prefix for one in seen for prefix in prefixes if IPv4Network(one).subnet_of(IPv4Network(prefix))}
    assert holders([*seen, "k-1", "host", "2001:db8::/48"], prefixes) == wanted
