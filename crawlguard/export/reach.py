"""Whom a robots.txt stops, and where it contradicts the policy: asked of the file at witness paths, made from its own patterns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..signals.ua import Agent
from .lint_table import FOLLOWS, IGNORES_STAR
from .pattern import Pattern, canonical
from .robotstxt import STAR, Group, RobotsFile, Rule, always_allowed, google_token, strength

PROBES = ("/", "/any/page", "/any/page.html?a=b")
MAX_WITNESSES = 48
MAX_COMPARED = 12
"""Witness paths of an agent's rules at which the policy is asked."""
MAX_MATCHES = 2_000_000
"""Patterns that are held against paths, about: a second. Files that would need more get fewer witnesses."""

Verdict = Callable[[Agent, str], bool | None]


class Reach(NamedTuple):
    """What the file says to one agent of the catalogue.

    ``stopped``: "everywhere", "in part" or "nowhere". ``token``: by which of its tokens ("*": by the group for all; "": by none, as no
    group binds it). ``disallow`` and ``allow``: when in part, the patterns that decide. ``honours``: "yes", "no" or "unknown": whether
    the agent's operator, or somebody, says that it heeds robots.txt. ``odd_token``: its token is none to RFC 9309, so readers differ.
    ``token_only``: no request carries its name, so the file is the only place to stop it.
    """

    agent: Agent
    stopped: str
    token: str
    disallow: tuple[str, ...]
    allow: tuple[str, ...]
    odd_token: bool
    token_only: bool


class Conflict(NamedTuple):
    """Where file and policy differ, in the same way for all of ``agents``. ``places``: pairs of a path and the number of the line that
    decides there (0: nothing speaks of it).

    ``allows``: True when the file allows what the policy refuses; False when it asks agents to stay away from what they would be served.
    """

    allows: bool
    places: tuple[tuple[str, int], ...]
    agents: tuple[Agent, ...]


class Survey:
    """Answers of one file, each asked for once: many agents are bound by the same groups (a *combination*, here a number)."""

    def __init__(self, file: RobotsFile, agents: Sequence[Agent]) -> None:
        self.file = file
        self._combinations: dict[tuple[Group, ...], int] = {}
        self.bound = [(agent, *self._binds(agent)) for agent in agents if agent.robots]
        self._groups = list(self._combinations)
        work = sum(len(group.ranked) + 1 for groups in self._groups for group in groups)
        self._witnesses_each = min(MAX_WITNESSES, MAX_MATCHES // (work + 1))
        self._paths = [self._tell_tales(groups) for groups in self._groups]
        self._decided: dict[tuple[int, str], Rule | None] = {}
        self._by_group: dict[tuple[int, str], Rule | None] = {}
        self._stopped = [self._stops(number) for number in range(len(self._groups))]

    def _binds(self, agent: Agent) -> tuple[str, int]:
        """The token by which the file binds an agent, and the combination of groups that does."""
        exact = agent.operator != "Google"  # Google's crawlers read as its open parser does
        tokens = [*agent.robots, *(FOLLOWS[t.lower()] for t in agent.robots if t.lower() in FOLLOWS)]
        if not any(token.lower() in IGNORES_STAR for token in agent.robots):
            tokens.append(STAR)
        bound = next(((token, groups) for token in tokens if (groups := self.file.named(token, exact))), ("", ()))
        return bound[0], self._combinations.setdefault(bound[1], len(self._combinations))

    def _tell_tales(self, groups: tuple[Group, ...]) -> tuple[str, ...]:
        """Paths that tell what these groups say: the probes, and witnesses of their rules, spread evenly when there are many."""
        rules = [rule for group in groups for rule in group.ranked]
        rules = rules[:: max(1, -(-2 * len(rules) // self._witnesses_each))] if self._witnesses_each else []
        return tuple(dict.fromkeys((*PROBES, *(path for rule in rules for path in witnesses(rule.match)))))

    def decides(self, combination: int, path: str) -> Rule | None:
        """The rule that decides on a canonical path for those bound by these groups together."""
        key = combination, path
        if key not in self._decided:
            found = [rule for group in self._groups[combination] if (rule := self._decides_in(group, path)) is not None]
            self._decided[key] = max(found, key=strength) if found else None
        return self._decided[key]

    def _decides_in(self, group: Group, path: str) -> Rule | None:
        if len(group.ranked) < 16:
            return group.decides(path)
        key = group.number, path
        if key not in self._by_group:
            self._by_group[key] = group.decides(path)
        return self._by_group[key]

    def _stops(self, combination: int) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        deciding = [self.decides(combination, path) for path in self._paths[combination]]
        refusing = dict.fromkeys(rule.pattern for rule in deciding if rule is not None and not rule.allow)
        allowing = dict.fromkeys(rule.pattern for rule in deciding if rule is not None and rule.allow)
        if all(rule is not None and not rule.allow for rule in deciding):
            return "everywhere", (), ()
        return ("in part", tuple(refusing), tuple(allowing)) if refusing else ("nowhere", (), ())

    def reach(self) -> tuple[Reach, ...]:
        """What the file says to each agent that has a token."""
        found = []
        for agent, token, combination in self.bound:
            stopped, disallow, allow = self._stopped[combination]
            odd = any(google_token(t) != t for t in agent.robots)
            found.append(Reach(agent, stopped, token, disallow, allow, odd, not agent.user_agent))
        return tuple(found)

    def conflicts(self, verdict: Verdict, paths: Sequence[str] = ()) -> tuple[Conflict, ...]:
        """Where the policy's verdict is another one. ``paths``: where to look besides the witnesses of the file."""
        more = tuple(path for path in map(canonical, paths) if not always_allowed(path))
        found: dict[tuple[bool, tuple[tuple[str, int], ...]], list[Agent]] = {}
        for agent, _, combination in self.bound:
            differ: dict[bool, list[tuple[str, int]]] = {True: [], False: []}
            for path in dict.fromkeys((*self._paths[combination][: MAX_COMPARED + len(PROBES)], *more)):
                rule = self.decides(combination, path)
                allows = rule is None or rule.allow
                policy = verdict(agent, path)
                if policy is not None and policy != allows:
                    differ[allows].append((path, rule.line if rule else 0))
            for allows, places in differ.items():
                if places:
                    found.setdefault((allows, tuple(places)), []).append(agent)
        return tuple(Conflict(allows, places, tuple(who)) for (allows, places), who in found.items())


def witnesses(pattern: Pattern) -> tuple[str, ...]:
    """One or two paths that a pattern matches: the shortest, and when it is open at its end one that goes on."""
    tail = () if pattern.tail is None else (pattern.tail,)
    path = "x".join((pattern.head, *pattern.pieces, *tail))
    path = path if path.startswith("/") else "/" + path
    found = (path,) if pattern.whole or pattern.tail else (path, path + "x")
    return tuple(p for p in found if pattern.matches(p)) if not always_allowed(path) else ()
