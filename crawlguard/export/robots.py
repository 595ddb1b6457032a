"""robots.txt from a policy: one group for each verdict, in words that every reader takes alike (RFC 9309 and its common parsers).

No byte-order mark, LF, each token once, the User-agent lines of a group with nothing between, longest pattern first, no blank line
inside a group; License and Sitemap outside of groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import ConfigError
from ..policy.model import Policy
from .lint_table import IGNORES_STAR
from .merge import merge, site_wide
from .paths import UNSURE, Glob, Line, decide, lines_for
from .places import published
from .robotstxt import LIMIT, LINE_LIMIT, google_token, parse
from .verdicts import Speaker, Verdicts, speakers, unsaid
from .wording import few

ANYBODY = Speaker(None)

_SAYABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")

_NOTICED = re.compile(r"[A-Za-z_-]+[^]Ss]*")
"""The tokens whose line robotspy does not pass over. It gives the rules of a group that no other token opens to the group above: these
groups come first, where there is none.
"""

SIGNALS_OF = {
    "search": frozenset(("search-engine",)),
    "ai-input": frozenset(("ai-search", "user-fetch")),
    "ai-train": frozenset(("training", "dataset")),
}
"""For each use of a site's content the kinds of agents that collect for it."""


class Export(NamedTuple):
    """A document, and what could not be said in it."""

    text: str
    notes: tuple[str, ...] = ()


class Group(NamedTuple):
    """Agents that are told the same. ``tokens`` as the agents write them; ``("*",)`` is everybody else.

    ``mistaken``: readers that keep to RFC 9309 take the token for one that is told something else. ``others`` and ``comments``:
    what an existing file says to them besides, see ``merge``.
    """

    tokens: tuple[str, ...]
    lines: tuple[Line, ...]
    mistaken: bool = False
    others: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()


class Will(NamedTuple):
    """What the site says to whom: the groups of its robots.txt (everybody else's last), and what they cannot say."""

    groups: tuple[Group, ...]
    notes: tuple[str, ...]

    def lines(self, token: str) -> tuple[Line, ...]:
        """The lines that the agent with this token has to obey."""
        return self.by_token().get(token.lower(), self.groups[-1].lines)

    def by_token(self) -> dict[str, tuple[Line, ...]]:
        """The lines of all that are named, by token in lower case; "*" is everybody else."""
        return {token.lower(): group.lines for group in self.groups for token in group.tokens}


def sayable(token: str) -> bool:
    """Whether a token can stand in a User-agent line: printable ASCII, without what begins a comment or means everybody."""
    return bool(_SAYABLE.fullmatch(token)) and not set("#*") & set(token)


def will_of(policy: Policy, host: str | None = None, *, enforced: bool = False) -> Will:
    """The groups for a policy. ``host`` and ``enforced`` as for Verdicts."""
    verdicts = Verdicts(policy, host, enforced=enforced)
    spellings = {token.lower(): token for agent in policy.agents for token in agent.robots}
    by_key: dict[object, tuple[tuple[Line, ...], tuple[str, ...]]] = {}
    inexact: dict[str, list[str]] = {}

    def lines(who: Speaker, token: str) -> tuple[Line, ...]:
        key = verdicts.key(who)
        if key not in by_key:
            by_key[key] = lines_for(verdicts.globs(key), lambda path: verdicts.allowed(key, path))
        for path in by_key[key][1]:
            inexact.setdefault(path, []).append(token)
        return by_key[key][0]

    others = lines(ANYBODY, "*")
    who_speaks = speakers(policy)
    found = {token: lines(who, token) for token, who in who_speaks.items() if sayable(token)}
    named = _to_be_named(found, others)
    clashes = _clashes(found, named)
    groups: dict[tuple[tuple[Line, ...], str], list[str]] = {}
    for token in sorted(named):  # each of these alone: robotspy reads all lines of one token into whatever stands beside it
        groups.setdefault((found[token], token if google_token(token) in clashes else ""), []).append(spellings[token])
    ordered = sorted(groups.items(), key=lambda g: (not g[0][0], -len(g[1]), g[1]))
    made = [Group(tuple(tokens), said, mistaken=bool(alone)) for (said, alone), tokens in ordered]
    notes = [
        f"the path {path}: robots.txt has no words for what the rules say there ({few(tokens)})"
        if path != UNSURE
        else f"too many paths with wildcards overlap: some may be told something else than the rules say ({few(tokens)})"
        for path, tokens in inexact.items()
    ]
    notes += [f"the rule {rule.id!r} is left out: {why}, which robots.txt cannot" for rule, why in unsaid(policy, verdicts)]
    notes += _cut_short(named, clashes)
    notes += [f"the token {token!r} cannot stand in robots.txt" for token in who_speaks if not sayable(token)]
    made.append(Group(("*",), others))
    if policy.robots.existing is not None:
        merged, contradictions = merge(parse(policy.robots.existing), [(g.tokens, g.lines) for g in made])
        made = [Group(g.tokens, g.lines, others=g.others, comments=g.comments) for g in merged]
        notes += contradictions
    return Will(tuple(made), tuple(notes))


def _to_be_named(found: dict[str, tuple[Line, ...]], others: tuple[Line, ...]) -> set[str]:
    """The tokens that are told something else than everybody, and those that a reader could mistake for one of them.

    Some readers (Protego) apply a group to every agent whose name holds the group's token; some agents heed no group but their own.
    """
    named = {token for token, lines in found.items() if lines != others or (lines and token in IGNORES_STAR)}
    return named | {t for t in found if t not in named and any(n in t for n in named)}


def _clashes(found: dict[str, tuple[Line, ...]], named: set[str]) -> dict[str, list[str]]:
    """Tokens that are told different things and that readers which keep to RFC 9309 take for one: by what these make of them."""
    by_cut: dict[str, list[str]] = {}
    for token in sorted(found):
        by_cut.setdefault(google_token(token), []).append(token)
    by_cut.pop("", None)
    return {cut: tokens for cut, tokens in by_cut.items() if len({found[t] for t in tokens}) > 1 and named.intersection(tokens)}


def _cut_short(named: set[str], clashes: dict[str, list[str]]) -> list[str]:
    """Notes on tokens that readers which keep to RFC 9309 take for another, or for none."""
    odd = sorted(t for t in named if google_token(t) != t)
    notes = []
    if odd:
        notes.append(f"readers that keep to RFC 9309's product tokens (letters, '_', '-') do not see these tokens as written: {few(odd)}")
    return notes + [
        f"such readers take {few(tokens)} for {cut!r} all, and the rules tell them different things" for cut, tokens in clashes.items()
    ]


def robots_txt(policy: Policy, host: str | None = None, *, enforced: bool = False) -> Export:
    """The whole file. Raises ConfigError when it would be longer than what crawlers read."""
    will = will_of(policy, host, enforced=enforced)
    settings = policy.robots
    delays = {token.lower(): seconds for token, seconds in settings.delays}
    blocks = [_head(policy)]
    groups = [part for group in will.groups for part in _by_delay(group, delays)]
    stray = {token.lower(): token for token, _ in settings.delays}
    for token in {t.lower() for g in groups for t in g.tokens}:
        stray.pop(token, None)
    groups = [Group((token,), _told(will, token)) for token in sorted(stray.values())] + groups
    groups.sort(key=lambda g: g.tokens != ("*",) and not any(map(_NOTICED.fullmatch, g.tokens)), reverse=True)
    signals = [f"{name}: {value}" for name, value in signal_lines(policy, will)]
    places = published(policy, host)
    blocks += [_group(group, delays, signals, places) for group in groups]
    outside = [f"Sitemap: {url}" for url in settings.sitemaps]
    if settings.license:
        outside.append(f"License: {settings.license}")
    if settings.existing is not None:
        outside += [line for line in site_wide(parse(settings.existing)) if line not in outside]
    blocks += [outside] if outside else []
    text = "\n\n".join("\n".join(block) for block in blocks) + "\n"
    if len(text.encode()) > LIMIT:
        raise ConfigError(
            f"robots.txt would have {len(text.encode()):,} bytes, and crawlers read {LIMIT:,} (RFC 9309 2.5); "
            "name fewer paths in rules that speak to agents, or use wildcards"
        )
    longest = max(text.splitlines(), key=len)
    if len(longest) > LINE_LIMIT:
        raise ConfigError(
            f"robots.txt would have a line of {len(longest):,} bytes, and Google reads {LINE_LIMIT:,}: {longest[:60]}...; shorten the path"
        )
    return Export(text, will.notes)


def _head(policy: Policy) -> list[str]:
    said = (policy.robots.comment or "").splitlines()
    return [f"# {line}".rstrip() for line in (*said, "Written by crawlguard from the site's policy.")]


def _told(will: Will, token: str) -> tuple[Line, ...]:
    """The lines for a token that has a pause and nothing else of its own: those of the token that readers cut it to."""
    told = will.by_token()
    read_as = (token.partition("/")[0].strip().lower(), google_token(token).lower(), "*")
    return next(told[t] for t in read_as if t in told)


def _by_delay(group: Group, delays: dict[str, int]) -> list[Group]:
    """The group, cut where its agents are asked for different pauses."""
    cut: dict[int | None, list[str]] = {}
    for token in group.tokens:
        cut.setdefault(delays.get(token.lower(), delays.get("*")), []).append(token)
    return [group._replace(tokens=tuple(tokens)) for tokens in cut.values()]


def _group(group: Group, delays: dict[str, int], signals: list[str], places: Iterable[str]) -> list[str]:
    lines = [*group.comments, *(f"User-agent: {token}" for token in group.tokens)]
    # Who is sent away may still read why, and what a licence would cost.
    lines += [f"Allow: {Glob((place,), True).line()}" for place in places if not decide(group.lines, place)]
    lines += [f"{'Allow' if line.allow else 'Disallow'}: {line.pattern}" for line in group.lines]
    if not group.lines:  # both allow everything, but where readers join two groups "Allow: /" would beat the other's "Disallow: /"
        lines.append("Disallow:" if group.mistaken else "Allow: /")
    delay = delays.get(group.tokens[0].lower(), delays.get("*"))
    if delay is not None:
        lines.append(f"Crawl-delay: {delay}")
    said = {line.partition(":")[0].lower() for line in lines}
    lines += [line for line in group.others if line.partition(":")[0].strip().lower() not in said]
    signals = [
        line for line in signals if line.partition(":")[0].lower() not in {o.partition(":")[0].strip().lower() for o in group.others}
    ]
    if not refused_everywhere(group.lines):  # who may not come at all needs no word on what may be done with what it fetched
        lines += signals
    return lines


def refused_everywhere(lines: Iterable[Line]) -> bool:
    """Whether nothing is allowed."""
    return {(line.allow, line.pattern) for line in lines} == {(False, "/")}


def signal_lines(policy: Policy, will: Will) -> list[tuple[str, str]]:
    """The Content-Signal and Content-Usage of the whole site: (field name, value)."""
    found, settings = [], policy.robots
    uses = uses_allowed(policy, will)
    signals = settings.signals
    if signals == "auto":
        signals = tuple((label, "yes" if uses[label] else "no") for label in SIGNALS_OF if uses[label] is not None)
    if signals:
        found.append(("Content-Signal", ",".join(f"{label}={value}" for label, value in signals)))
    usage = settings.usage
    if usage == "auto":
        words = (("train-ai", uses["ai-train"]), ("search", uses["search"]))
        usage = tuple((label, "y" if allowed else "n") for label, allowed in words if allowed is not None)
    if usage:
        found.append(("Content-Usage", ", ".join(f"{label}={value}" for label, value in usage)))
    return found


def uses_allowed(policy: Policy, will: Will, path: str = "/") -> dict[str, bool | None]:
    """For each use of SIGNALS_OF whether all agents that collect for it are served at a path; None when some are and some are not."""
    found: dict[str, bool | None] = {}
    told = will.by_token()
    categories = {token.lower(): agent.category for agent in policy.agents for token in agent.robots}
    for use, kinds in SIGNALS_OF.items():
        said = {
            decide(lines, path) for lines in {told.get(token, told["*"]) for token, category in categories.items() if category in kinds}
        }
        found[use] = said.pop() if len(said) == 1 else None
    return found
