"""The choice of rules and the joining of subnets, against doing it the long way."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from itertools import combinations
from math import log

from crawlguard_analyzer.propose.cidrs import DENSE, WIDEST, joined
from crawlguard_analyzer.propose.cover import PER_PERSON, Choice, Cover, choose, united
from hypothesis import example, given
from hypothesis import strategies as st

whole = st.dictionaries(st.integers(0, 7), st.just(10), max_size=6)
covers = st.lists(st.builds(Cover, whole, st.sampled_from([1.0, 1.5, 2.0]), st.sampled_from([0, 0, 0, 1]), st.integers(0, 3)), max_size=7)


def cost(candidates: Sequence[Cover], numbers: Sequence[int]) -> float:
    return sum(candidates[n].price for n in numbers)


@given(covers)
def test_the_cover_is_whole_and_within_the_known_bound_of_the_best(candidates: list[Cover]) -> None:
    chosen = [choice.number for choice in choose(candidates, least=0, most=99)]
    worth = united(one.reach for one in candidates)
    assert united(candidates[n].reach for n in chosen) == worth or _too_dear(candidates, chosen)
    if united(candidates[n].reach for n in chosen) == worth:
        best = min(
            cost(candidates, some)
            for size in range(len(candidates) + 1)
            for some in combinations(range(len(candidates)), size)
            if united(candidates[n].reach for n in some) == worth
        )
        assert cost(candidates, chosen) <= best * (1 + log(max(1, len(worth)))) + 1e-9


def _too_dear(candidates: Sequence[Cover], chosen: Sequence[int]) -> bool:
    """Whether whoever was left out brings less than one request for each unit of its price."""
    covered = united(candidates[n].reach for n in chosen)
    gains = [sum(r - covered.get(row, 0) for row, r in one.reach.items() if r > covered.get(row, 0)) / one.price for one in candidates]
    return all(gain < 1 for gain in gains)


@given(covers, st.integers(0, 40), st.integers(0, 4))
def test_each_choice_brings_what_it_says_and_enough_of_it(candidates: list[Cover], least: int, most: int) -> None:
    choices = choose(candidates, least, most)
    assert len(choices) <= most
    assert len({choice.number for choice in choices}) == len(choices)
    for at, choice in enumerate(choices):
        before = united(candidates[c.number].reach for c in choices[:at])
        after = united(candidates[c.number].reach for c in choices[: at + 1])
        assert choice.gain == sum(after.values()) - sum(before.values())
        assert sum(candidates[choice.number].reach.values()) >= least
    together = sum(united(candidates[c.number].reach for c in choices).values())
    assert together == sum(choice.gain for choice in choices)


def test_what_later_choices_cover_is_left_out() -> None:
    # the middle one is the best first step, and needless once the two beside it are there
    candidates = [Cover({0: 10, 1: 10, 2: 9}, 1.0), Cover({2: 10, 3: 10, 4: 9}, 1.0), Cover({1: 10, 2: 10, 3: 10}, 1.0)]
    assert [choice.number for choice in choose(candidates, 1, 9)] == [0, 1]


def test_partial_reaches_add_up_to_the_larger() -> None:
    candidates = [Cover({0: 60, 1: 60}, 1.0), Cover({0: 100}, 1.0)]
    assert choose(candidates, 10, 9) == [Choice(0, 120), Choice(1, 40)]
    assert choose(candidates, 50, 9) == [Choice(0, 120)]


def test_a_rule_is_not_given_up_for_a_dearer_one() -> None:
    candidates = [Cover({0: 80, 1: 80}, 1.5), Cover({0: 100, 1: 100}, 3.0)]
    assert choose(candidates, 1, 9) == [Choice(0, 160), Choice(1, 40)]


def test_a_person_is_dearer_than_many_rules() -> None:
    wide = Cover(dict.fromkeys(range(10), 100), 1.0, people=1)
    narrow = [Cover({n: 100}, 2.0) for n in range(10)]
    assert sorted(choice.number for choice in choose([wide, *narrow], 1, 20)) == list(range(1, 11))
    assert wide.price > PER_PERSON


subnets = st.lists(st.builds("10.{}.{}.0/24".format, st.integers(0, 1), st.integers(0, 31)), unique=True, max_size=24)


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
