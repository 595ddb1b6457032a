"""What a policy says to an agent that comes as itself: by its own name, from its own addresses, at a polite pace, about any path.

That is the reader of robots.txt. What such a reader cannot know of itself (where else it comes from, which headers it sends) is
unknown here too, and a rule that hangs on it says nothing. Three-valued, as the guard is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeGuard

from ..decision import Action
from ..policy import conditions as c
from ..policy.check import agents_of, missing_data, networks_of, walk
from ..policy.model import Policy, Rule
from ..policy.rates import RateOver
from ..policy.ruleset import POLICY_FILES
from ..policy.swarms import SwarmIs
from ..signals.match import path_test, text_test
from ..signals.ua import Agent, folded
from .paths import Glob

REFUSING = frozenset((Action.BLOCK, Action.HIDE))
"""Actions that send an agent away. A throttled one may come more slowly, and one that is asked for a price may pay it."""

Truth = bool | None
PathTest = Callable[[str], bool]


class Speaker(NamedTuple):
    """Whom a verdict is about: an agent of the policy by its number; None is any agent that nobody has listed."""

    number: int | None
    agent: Agent | None = None


class Verdicts:
    """The verdicts of one policy. ``host``: the site's name, for rules that name hosts; without it they say nothing.

    ``enforced``: take rules in shadow for what they would do.
    """

    def __init__(self, policy: Policy, host: str | None = None, *, enforced: bool = False) -> None:
        self.policy, self.host = policy, host.lower() if host else None
        shadow = () if enforced else ("shadow",)
        self.rules = tuple(r for r in policy.rules if _mode(r, policy) not in shadow and not _idle(r, policy))
        self._agents: dict[int, frozenset[int]] = {}
        self._leaves = tuple(leaf for rule in self.rules for leaf in walk(rule.when) if not isinstance(leaf, c.All | c.AnyOf | c.Not))
        self._tests = {id(leaf): _path_tests(leaf) for leaf in self._leaves if _is_path(leaf)}
        self._fixed = tuple(leaf for leaf in self._leaves if id(leaf) not in self._tests and not isinstance(leaf, c.ScoreIs))
        self._homes = _homes(policy)

    def key(self, who: Speaker) -> tuple[Truth, ...]:
        """What is true of a speaker whatever the path is: speakers with equal keys get equal verdicts."""
        return tuple(self._leaf(leaf, who) for leaf in self._fixed)

    def globs(self, key: tuple[Truth, ...]) -> list[Glob]:
        """The path patterns that a verdict for this key looks at."""
        known = dict(zip(map(id, self._fixed), key, strict=True))
        found: dict[Glob, None] = {}
        for rule in self.rules:
            if self._holds(rule.when, known, None, 0) is False:
                continue
            for leaf in walk(rule.when):
                if _is_path(leaf):
                    found.update(dict.fromkeys(_globs(leaf)))
        return list(found)

    def allowed(self, key: tuple[Truth, ...], path: str) -> bool:
        """Whether the policy serves a speaker with this key at a decoded path."""
        if path in POLICY_FILES:
            return True
        known, score = dict(zip(map(id, self._fixed), key, strict=True)), 0
        for rule in self.rules:
            if self._holds(rule.when, known, path, score):
                score += rule.then.weigh
                if rule.then.action:
                    return Action(rule.then.action) not in REFUSING
        return True

    def _holds(self, when: c.Condition, known: dict[int, Truth], path: str | None, score: int) -> Truth:
        """A condition in three values; a path of None is unknown itself."""
        if isinstance(when, c.All | c.AnyOf):
            parts = [self._holds(part, known, path, score) for part in when.of]
            deciding = isinstance(when, c.AnyOf)
            return deciding if deciding in parts else None if None in parts else not deciding
        if isinstance(when, c.Not):
            inner = self._holds(when.of, known, path, score)
            return None if inner is None else not inner
        if id(when) in known:
            return known[id(when)]
        if isinstance(when, c.ScoreIs):
            if path is None:
                return None
            return (when.at_least is None or score >= when.at_least) and (when.below is None or score < when.below)
        return None if path is None else all(test(path) for test in self._tests[id(when)])

    def _leaf(self, leaf: c.Condition, who: Speaker) -> Truth:
        if isinstance(leaf, c.AgentIs):
            if id(leaf) not in self._agents:
                self._agents[id(leaf)] = frozenset(agents_of(leaf, self.policy))
            return who.number in self._agents[id(leaf)]
        if isinstance(leaf, c.MethodIs):
            return "GET" in {m.upper() for m in leaf.methods}
        if isinstance(leaf, SwarmIs):
            return False
        if isinstance(leaf, RateOver):
            return None if who.number is None and "agent" in leaf.per else False  # nobody counts agents that nobody knows
        if isinstance(leaf, c.NetworkIs):
            home = self._homes.get(who.agent.name) if who.agent else None
            return True if home and home & set(networks_of(leaf, self.policy)) else None
        if isinstance(leaf, c.TextIs) and leaf.what == "user_agent":
            return _names(leaf, who.agent)
        if isinstance(leaf, c.TextIs) and leaf.what == "host" and self.host is not None:
            return _host(leaf, self.host)
        return None


def _mode(rule: Rule, policy: Policy) -> str:
    return rule.mode or (policy.mode if rule.then.action else "enforce")


def _idle(rule: Rule, policy: Policy) -> bool:
    return not (rule.then.action or rule.then.weigh) or bool(missing_data(rule.when, policy))


def _is_path(leaf: c.Condition) -> TypeGuard[c.TextIs]:
    """Whether a condition is one on paths that robots.txt can repeat: any but a regex."""
    return isinstance(leaf, c.TextIs) and leaf.what == "path" and all(kind != "regex" for kind, _ in leaf.tests)


def _path_tests(leaf: c.TextIs) -> list[PathTest]:
    return [path_test(values) if kind == "robots" else text_test(kind, values, fold=False) for kind, values in leaf.tests]


def _globs(leaf: c.TextIs) -> Iterator[Glob]:
    """The patterns of a path condition."""
    make: dict[str, Callable[[str], Glob]] = {
        "robots": Glob.parse,
        "prefix": lambda v: Glob((v,)),
        "is": lambda v: Glob((v,), True),
        "suffix": lambda v: Glob(("", v), True).plain(),
        "contains": lambda v: Glob(("", v)).plain(),
    }
    for kind, values in leaf.tests:
        yield from (make[kind](value) for value in values)


def _homes(policy: Policy) -> dict[str, frozenset[str]]:
    """For each agent the networks that hold the addresses which its operator publishes."""
    by_list: dict[str, set[str]] = {}
    for name, network in policy.networks.items():
        for url in network.ranges:
            by_list.setdefault(url, set()).add(name)
    return {agent.name: frozenset().union(*(by_list.get(url, ()) for url in agent.ranges)) for agent in policy.agents if agent.ranges}


def _names(leaf: c.TextIs, agent: Agent | None) -> Truth:
    """Whether an agent's User-Agent is what the condition asks for, as far as the agent's own tokens tell."""
    if agent is None or not agent.user_agent:
        return None
    tokens = [folded(p.token) for p in agent.user_agent]
    found: list[Truth] = [] if leaf.missing is None else [not leaf.missing]
    for kind, values in leaf.tests:
        found.append(True if kind == "contains" and all(any(folded(v) in t for v in values) for t in tokens) else None)
    return False if False in found else None if None in found else True


def _host(leaf: c.TextIs, host: str) -> bool:
    for kind, values in leaf.tests:
        lower = [v.lower() for v in values]
        if kind == "is":
            if not any(host.endswith(v[1:]) if v.startswith("*.") else host == v for v in lower):
                return False
        elif not text_test(kind, lower, fold=True)(host):
            return False
    return True


def unsaid(policy: Policy, verdicts: Verdicts) -> Iterator[tuple[Rule, str]]:
    """The refusing rules that robots.txt cannot repeat in full, and why."""
    reasons: tuple[tuple[type, str], ...] = (
        (RateOver, "it counts requests"),
        (SwarmIs, "it counts requests"),
        (c.AddressIn, "it asks for the client's address"),
        (c.AsnIs, "it asks for the client's network"),
        (c.CountryIs, "it asks for the client's country"),
        (c.NetworkIs, "it asks for the client's network"),
    )
    for rule in verdicts.rules:
        if not rule.then.action or Action(rule.then.action) not in REFUSING:
            continue
        for leaf in walk(rule.when):
            why = next((words for kind, words in reasons if isinstance(leaf, kind)), "")
            if isinstance(leaf, c.TextIs):
                why = _unsaid_text(leaf, verdicts)
            if why:
                yield rule, why
                break


def _unsaid_text(leaf: c.TextIs, verdicts: Verdicts) -> str:
    if leaf.what == "path":
        return "" if _is_path(leaf) else "it reads paths with a regex"
    if leaf.what == "host":
        return "" if verdicts.host is not None else "it asks for the host, and none is named here"
    return "it reads a header" if leaf.what == "header" else "it reads the User-Agent's text"


def speakers(policy: Policy) -> dict[str, Speaker]:
    """For each robots.txt token (lower case) the agent that speaks by it.

    Several agents may obey one token: it is the agent of that name that counts, else the first whose own (first) token it is,
    else the first that lists it.
    """
    best: dict[str, tuple[int, Speaker]] = {}
    for number, agent in enumerate(policy.agents):
        for place, token in enumerate(agent.robots):
            rank = 0 if agent.name.lower() == token.lower() else 1 if place == 0 else 2
            if token.lower() not in best or rank < best[token.lower()][0]:
                best[token.lower()] = (rank, Speaker(number, agent))
    return {token: speaker for token, (_, speaker) in best.items()}
