"""An existing robots.txt and a policy in one file: what the file asks is kept, unless it invites somebody whom the policy refuses.

Each agent that either of them names gets its own group, holding what the file told it (by name, else to everybody) and what
the policy says. A Disallow of the file always stays: a site may ask for more than it enforces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .paths import EVERYTHING, Glob, Line, decide, overlap
from .robotstxt import STAR, Group, RobotsFile, google_token
from .wording import few


class Merged(NamedTuple):
    """One group of the merged file. ``others``: lines besides rules, as they stood; ``comments``: lines that stood before the group."""

    tokens: tuple[str, ...]
    lines: tuple[Line, ...]
    others: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()


class Told(NamedTuple):
    """What the file tells one agent."""

    lines: tuple[Line, ...]
    others: tuple[str, ...]


def merge(file: RobotsFile, groups: Sequence[tuple[tuple[str, ...], tuple[Line, ...]]]) -> tuple[list[Merged], list[str]]:
    """The groups of both, everybody else's last, and notes on what contradicts.

    ``groups``: the policy's, as (tokens, lines), the one for ``*`` last.
    """
    ours = {token.lower(): lines for tokens, lines in groups for token in tokens}
    spelled = {token.lower(): token for tokens, _ in groups for token in tokens}
    theirs = {a.value.lower(): STAR if google_token(a.value) == STAR else a.value for g in file.groups for a in g.agents if a.value}
    merged: dict[tuple[tuple[Line, ...], tuple[str, ...]], list[str]] = {}
    dropped: dict[tuple[str, str], list[str]] = {}
    for token in dict.fromkeys([*theirs, *spelled]):
        told = _told(file, token)
        said = ours.get(token, ours[STAR])
        lines, lost = _both(told.lines, said)
        for why in lost if file.named(token) else ():  # what the file told everybody contradicts nothing
            dropped.setdefault(why, []).append(theirs.get(token) or spelled[token])
        merged.setdefault((lines, told.others), []).append(theirs.get(token) or spelled[token])
    notes = [f"{what} is left out for {few(tokens)}: {why}" for (what, why), tokens in dropped.items()]
    comments = {a.value.lower(): _comments(g) for g in reversed(file.groups) for a in g.agents[:1]}
    found = [_split(tokens, lines, others, comments) for (lines, others), tokens in merged.items()]
    everybody = [g for parts in found for g in parts if STAR in g.tokens]
    return [*(g for parts in found for g in parts if STAR not in g.tokens), *everybody], notes


def _split(tokens: list[str], lines: tuple[Line, ...], others: tuple[str, ...], comments: dict[str, tuple[str, ...]]) -> list[Merged]:
    """One group for the named and one for everybody else, who would be lost among the names."""
    said = tuple(line for token in tokens for line in comments.get(token.lower(), ()))
    named = tuple(t for t in tokens if t != STAR)
    parts = [Merged(named, lines, others, said)] if named else []
    return [*parts, Merged((STAR,), lines, others, () if parts else said)] if STAR in tokens else parts


def _told(file: RobotsFile, token: str) -> Told:
    """What an agent with this token reads in the file today."""
    groups = file.groups_of(token)
    rules = [r for g in groups for r in g.rules if r.pattern]
    lines = tuple(dict.fromkeys(Line(r.allow, r.pattern, Glob.parse(r.pattern)) for r in rules))
    return Told(lines, tuple(dict.fromkeys(o.text.strip() for g in groups for o in g.others if o.kind == "other")))


def _both(theirs: tuple[Line, ...], ours: tuple[Line, ...]) -> tuple[tuple[Line, ...], list[tuple[str, str]]]:
    """The lines of both, the longest first, and what of the file had to go: (the line, why)."""
    if {(line.allow, line.glob) for line in ours} == {(False, EVERYTHING)}:
        open_ = [line for line in theirs if line.allow]
        lost = [(f"Allow: {line.pattern}", "the policy refuses it everywhere") for line in open_]
        if not theirs or not decide(theirs, "/"):
            return ours, lost
        return ours, lost or [("the permission to come", "the policy refuses it everywhere")]
    kept, lost = list(ours), []
    for line in theirs:
        if any(k.allow == line.allow and k.pattern == line.pattern for k in kept):
            continue
        if line.allow and _invites(line, ours):
            lost.append((f"Allow: {line.pattern}", "the policy refuses some of it"))
        else:
            kept.append(line)
    for line in kept:
        if line.allow and line in ours and any(_invites(line, (other,)) for other in theirs if not other.allow):
            lost.append((f"a part of a Disallow that Allow: {line.pattern} of the policy lies in", "the longer line wins"))
    return tuple(sorted(kept, key=lambda one: (-len(one.pattern), not one.allow, one.pattern))), lost


def _invites(line: Line, rules: Sequence[Line]) -> bool:
    """Whether an Allow would open a path that these rules close."""
    for rule in rules:
        if rule.allow:
            continue
        try:
            shared = overlap(line.glob, rule.glob)
        except OverflowError:
            return True
        if any(not decide(rules, path) and decide((*rules, line), path) for path in (g.member() for g in shared)):
            return True
    return False


def site_wide(file: RobotsFile) -> list[str]:
    """The lines of the file that speak for the whole site: sitemaps, licences, and what else stands in no group."""
    kept = [line.text.strip() for line in file.outside if line.kind in ("sitemap", "other")]
    return list(dict.fromkeys(kept))


def _comments(group: Group) -> tuple[str, ...]:
    found = []
    for line in group.lines:
        if line.kind == "user-agent":
            break
        if line.kind == "comment":
            found.append(line.text.strip())
    return tuple(found)
