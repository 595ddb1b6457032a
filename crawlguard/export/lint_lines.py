"""Which lines of a robots.txt do nothing, or not what they seem to, each looked at for itself: bytes, keys, tokens, paths, signals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..signals.ua import Agent
from .lint_table import HEEDED, IN_GROUPS, LABELS, PAST_KEYS, PAST_TOKENS, Finding, finding
from .robotstxt import STAR, Group, Line, RobotsFile, google_token

_TOKEN = re.compile("[A-Za-z_-]+")  # RFC 9309 2.2: product-token
_NOT_IN_URLS = re.compile('[\x00-\x20"<>\\\\^`{|}\x7f]')
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_FLAWS = {"bom": "byte-order-mark", "cut": "too-big", "nul": "nul-byte", "not-utf8": "not-utf8", "long-line": "long-line"}

MAX_HINTS = 50
"""Unknown words of a file for which a known one that is close is looked for: about a millisecond each."""


@dataclass(slots=True, kw_only=True)
class Words:
    """What is known to compare with: tokens and names of the catalogue (lower case to as written), and how many hints are left."""

    tokens: Mapping[str, str]
    names: Mapping[str, str]
    hints: int = MAX_HINTS

    @classmethod
    def of(cls, agents: Sequence[Agent]) -> Words:
        tokens = {token.lower(): token for agent in agents for token in agent.robots}
        return cls(tokens=tokens, names={agent.name.lower(): agent.name for agent in agents})

    def close(self, word: str, known: Mapping[str, str], otherwise: str) -> str:
        """``did you mean X?``, or what to say otherwise."""
        from difflib import get_close_matches  # only when something is unknown

        if self.hints <= 0 or len(word) > 64:
            return otherwise
        self.hints -= 1
        near = get_close_matches(word.lower(), list(known), 1, 0.75)
        return f"did you mean {known[near[0]]!r}?" if near else otherwise


def line_findings(file: RobotsFile, words: Words) -> Iterator[Finding]:
    """Everything that single lines have to be told, in no order."""
    for flaw in file.problems:
        yield finding(flaw.line, _FLAWS[flaw.code], size=file.size)
    said = [line for line in file.lines if line.kind not in ("blank", "comment")]
    if said and said[0].text.lstrip("\ufeff \t").startswith("<"):
        yield finding(said[0].number, "web-page")
    elif not file.groups:
        yield finding(0, "no-groups")
    grouped = {line.number for group in file.groups for line in group.lines}
    for line in said:
        prose = line.kind == "other" and line.lenient and line.key.lower() not in HEEDED | PAST_KEYS.keys()  # two words, no colon
        if line.kind == "junk" or prose:
            yield finding(line.number, "no-key")
            continue
        yield from _key(line, line.number in grouped, words)
        if line.kind == "user-agent":
            yield from _agent(line, words)
        elif line.kind in ("allow", "disallow"):
            yield from _rule(line)
    yield from _groups(file)


def _key(line: Line, grouped: bool, words: Words) -> Iterator[Finding]:
    key = line.key.lower()
    if line.lenient:
        code = "misspelt-key" if line.kind not in (key, "other") else "no-colon"
        yield finding(line.number, code, key=line.key, value=line.value, kind=line.kind.capitalize())
    if line.kind in ("allow", "disallow") and not grouped:
        yield finding(line.number, "rule-before-group")
    elif key in IN_GROUPS and not grouped:
        yield finding(line.number, "outside-group", key=line.key)
    if key in PAST_KEYS:
        why, hint = PAST_KEYS[key]
        yield finding(line.number, "past-key", key=line.key, why=why, hint=hint)
    elif line.kind == "other" and key not in HEEDED:
        yield finding(
            line.number, "unknown-key", key=line.key, hint=words.close(key, {k: k for k in HEEDED}, "remove it, or comment it out")
        )
    if key == "crawl-delay":
        yield finding(line.number, "crawl-delay" if _SECONDS.fullmatch(line.value) else "crawl-delay-value", value=line.value)
    if (line.kind == "sitemap" or key == "license") and not re.match(r"(?i)https?://[^/\s]", line.value):
        yield finding(line.number, "not-absolute-url", key=line.key, value=line.value)
    if key in LABELS:
        yield from _signals(line, LABELS[key])


def _signals(line: Line, known: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """``name=value, ...``; a path that the signals are about may stand first."""
    path, space, rest = line.value.partition(" ")
    seen = set()
    for part in (rest if space and path.startswith("/") else line.value).split(","):
        name, _, value = (piece.strip().lower() for piece in part.partition("="))
        if name not in known:
            yield finding(line.number, "signal-key", key=line.key, value=name, hint="write one of: " + ", ".join(known))
        elif value not in known[name]:
            yield finding(
                line.number, "signal-value", key=line.key, value=part.strip(), hint=f"write {name}= and {' or '.join(known[name])}"
            )
        if name in seen:
            yield finding(line.number, "signal-twice", key=line.key, value=name)
        seen.add(name)


def _agent(line: Line, words: Words) -> Iterator[Finding]:
    value, low, cut = line.value, line.value.lower(), google_token(line.value)
    told = {"value": value, "cut": cut or "nobody"}
    if not value:
        yield finding(line.number, "no-token")
    elif cut == STAR:
        if value != STAR:
            yield finding(line.number, "star-and-more", **told)
    elif low in PAST_TOKENS:
        why, hint = PAST_TOKENS[low]
        yield finding(line.number, "past-token", value=value, why=why, hint=hint)
    elif low in words.tokens:
        if not _TOKEN.fullmatch(value):
            yield finding(line.number, "odd-token", **told)
    elif low in words.names:
        yield finding(line.number, "not-a-robots-token", **told)
    elif _TOKEN.fullmatch(value):
        hint = words.close(value, words.tokens, "nothing, if the site has an agent of that name")
        yield finding(line.number, "unknown-token", hint=hint, **told)
    elif "(" in value or low.startswith("mozilla/"):
        yield finding(line.number, "user-agent-string", hint=_inside(low, words), **told)
    elif STAR in value:
        yield finding(line.number, "star-in-token", **told)
    elif "," in value or ";" in value:
        yield finding(line.number, "several-tokens", **told)
    elif cut.lower() in words.tokens and value[len(cut)] in "/ ":
        yield finding(line.number, "token-version", **told)
    else:
        yield finding(
            line.number, "bad-token", hint=words.close(value, words.tokens, "write the token that the operator publishes"), **told
        )


def _inside(low: str, words: Words) -> str:
    """The longest known token that stands in a User-Agent string."""
    parts = set(re.split(r"[^a-z0-9_.-]+", low[:512]))
    found = max((words.tokens[part] for part in parts if part in words.tokens), key=len, default="")
    return f"write 'User-agent: {found}'" if found else "write the operator's token"


def _rule(line: Line) -> Iterator[Finding]:
    value = line.value
    if not value:
        return
    start = line.text.find("#")
    if start > 0 and not line.text[start - 1].isspace() and line.text[:start].rstrip().endswith(value):
        yield finding(line.number, "comment-in-pattern", value=value)
    if re.match(r"(?i)https?://", value):
        path = "/" + value.partition("//")[2].partition("/")[2]
        yield finding(line.number, "pattern-url", hint=f"{line.key}: {path}")
        return
    if value[0] not in "/*":
        yield finding(line.number, "pattern-start", value=value, hint=f"{line.key}: /{value}")
    if _NOT_IN_URLS.search(value):
        yield finding(line.number, "pattern-characters", value=value, hint=f"{line.key}: {_NOT_IN_URLS.sub(_escape, value)}")
    directory, slash, page = value.rpartition("/")
    if line.kind == "allow" and slash and page.startswith("index.htm"):
        yield finding(line.number, "index-page", value=directory + "/")


def _escape(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _groups(file: RobotsFile) -> Iterator[Finding]:
    first: dict[str, tuple[Group, int]] = {}
    for group in file.groups:
        for agent in group.agents:
            name = STAR if google_token(agent.value) == STAR else agent.value.lower()
            other, line = first.setdefault(name, (group, agent.line))
            if other is not group:
                yield finding(agent.line, "groups-merge", value=agent.value, first=line)
            elif line != agent.line:
                yield finding(agent.line, "token-twice", value=agent.value)
        if not group.rules and any(google_token(agent.value) != STAR for agent in group.agents):
            yield finding(group.agents[0].line, "no-rules", value=group.agents[0].value)
        rules = sum(1 for rule in group.rules if rule.pattern)
        for rule in group.rules:
            if not rule.pattern and (rules or rule.allow):
                yield finding(rule.line, "empty-rule")
        yield from _joined(group)


def _joined(group: Group) -> Iterator[Finding]:
    """User-agent lines after a line that is neither one nor a rule: the groups were meant to be two."""
    above = ""
    between = False
    for line in group.lines:
        if line.kind == "other":
            between = True
        elif line.kind == "user-agent":
            if between:
                yield finding(line.number, "joined-group", above=above)
            above, between = line.value, False
