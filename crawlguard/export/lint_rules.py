"""Which rules of a group change nothing. Sound, not complete: a rule named here can go, and no path is judged otherwise.

Patterns are compared as patterns: one covers another when it matches each path that the other one does.
"""

from __future__ import annotations

from collections.abc import Iterator

from .lint_table import Finding, finding
from .pattern import Pattern
from .robotstxt import Group, Rule, strength

MAX_PAIRS = 500_000
"""Pairs of rules that are compared in one file: about half a second, and more than honest files have."""

_ANYTHING = "\0"  # stands for * in a pattern taken as a text: no pattern's own text holds it


def covers(wide: Pattern, narrow: Pattern) -> bool:
    """Whether each path that ``narrow`` matches is matched by ``wide``. False when it cannot tell."""
    anchored = narrow.whole or narrow.tail is not None
    if not anchored and (wide.whole or wide.tail):
        return False
    tail = () if narrow.tail is None else (narrow.tail,)
    return wide.matches(_ANYTHING.join((narrow.head, *narrow.pieces, *tail)))


def may_meet(one: Pattern, other: Pattern) -> bool:
    """Whether some path may be matched by both. True when it cannot tell."""
    if one.whole:
        return other.matches(one.head)
    if other.whole:
        return one.matches(other.head)
    return one.head.startswith(other.head) or other.head.startswith(one.head)


def idle_rules(groups: tuple[Group, ...]) -> Iterator[Finding]:
    """``groups``: those that share no agent with another group (where rules of two groups are one, nothing is said)."""
    left = MAX_PAIRS
    for group in groups:
        rules = group.ranked
        left -= len(rules) ** 2
        if left < 0:
            yield finding(group.agents[0].line, "not-compared")
            return
        for rule in sorted(rules):
            found = _idle(rule, rules)
            if found is not None:
                yield found


def _idle(rule: Rule, rules: tuple[Rule, ...]) -> Finding | None:
    mine = strength(rule)
    against = [r for r in rules if r.allow != rule.allow and may_meet(r.match, rule.match)]
    for other in against:
        if strength(other) > mine and covers(other.match, rule.match):
            return finding(rule.line, "overruled", first=other.line)
    weaker = [strength(r) for r in against if strength(r) < mine]
    for other in rules:
        if other.allow != rule.allow or other is rule or not covers(other.match, rule.match):
            continue
        if covers(rule.match, other.match) and (other.match.octets, -other.line) < (rule.match.octets, -rule.line):
            continue  # they are equals: the stronger one, or the first, stays
        if other.match == rule.match:
            return finding(rule.line, "same-rule", first=other.line)
        if not any(strength(other) < s for s in weaker):
            return finding(rule.line, "no-effect", because=f"line {other.line} covers it")
    if rule.allow and not weaker and not _says_all(rule.match):
        return finding(rule.line, "no-effect", because="nothing forbids it")
    return None


def _says_all(pattern: Pattern) -> bool:
    """``Allow: /`` is how a group says "you may"."""
    return pattern.head in ("", "/") and not pattern.pieces and not pattern.tail and not pattern.whole
