"""User agents: which agents of the catalogue a User-Agent string names, and which literals of the policy it holds.

The words of the string (and for literals one Aho-Corasick pass) find every candidate; each candidate is then held against its boundary
conditions. Nothing here can backtrack, so a hostile string costs what its length costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import ahocorasick

MAX_UA = 512
"""Bytes of a User-Agent that are looked at: more than any browser sends, less than an attacker would like."""

AI_CATEGORIES = frozenset(
    ("training", "dataset", "ai-search", "user-fetch", "agent-browser", "coding-agent", "ai-unspecified"),
)
CATEGORIES = AI_CATEGORIES | frozenset(
    (
        "search-engine", "seo", "archive", "link-preview", "feed-reader", "podcast", "monitor", "ads",
        "security-scanner", "webhook", "scraper-library", "tool",
    ),
)  # fmt: skip

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class Pattern(NamedTuple):
    """How an agent shows in a User-Agent: a literal, and what must surround it.

    By default the literal is compared without case, and neither neighbour may be a letter, digit, "_" or "-" (so
    ``Applebot`` is not in ``Applebot-Extended``). ``at``: "start" or "whole". ``after``: literals of which one must
    follow. ``open``: "left", "right" or "both" lift the boundary there. ``with_`` and ``without``: literals that must,
    or must not, stand anywhere in the string.
    """

    token: str
    exact: bool = False
    at: str = ""
    after: tuple[str, ...] = ()
    open: str = ""
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def holds(self, text: str, low: str, start: int) -> bool:
        """Whether the token, found at ``start`` of ``low`` (the lower-cased ``text``), stands as it must."""
        end = start + len(self.token)
        if self.exact and text[start:end] != self.token:
            return False
        if self.at and (start or (self.at == "whole" and end != len(low))):
            return False
        if start and self.open not in ("left", "both") and low[start - 1] in _WORD:
            return False
        if self.after:
            if not low.startswith(self.after, end):
                return False
        elif end < len(low) and self.open not in ("right", "both") and low[end] in _WORD:
            return False
        return all(w in low for w in self.with_) and not any(w in low for w in self.without)


class Agent(NamedTuple):
    """One entry of the catalogue: who it is, never what to do with it.

    ``user_agent`` holds UA patterns, ``robots`` robots.txt product tokens: two different things (``Google-Extended`` is
    never a UA). ``honours_robots`` is "yes", "no" or "unknown".
    """

    name: str
    operator: str
    category: str
    does: str = ""
    user_agent: tuple[Pattern, ...] = ()
    robots: tuple[str, ...] = ()
    honours_robots: str = "unknown"
    honours_says: str = "nobody"
    docs: str | None = None
    ranges: tuple[str, ...] = ()
    fcrdns: tuple[str, ...] = ()
    web_bot_auth: str | None = None
    samples: tuple[str, ...] = ()
    near_misses: tuple[str, ...] = ()
    source: str = ""
    date: str = ""

    @property
    def ai(self) -> bool:
        """True for agents that collect for, or act for, a language model."""
        return self.category in AI_CATEGORIES


def folded(text: str) -> str:
    """A text as it looks in a User-Agent that has been lower-cased and read as latin-1: clients send UTF-8, a few of them."""
    return text.encode("utf-8", "replace").lower().decode("latin-1")


_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz")
_DIGITS = b"0123456789"
_BREAK = bytes(byte if byte in _LETTERS else 0x20 for byte in bytes(range(256)).lower())
"""A table for ``translate``: what is no letter parts words, and case does not matter."""

COMMON = frozenset(
    b"android apple applewebkit bot browser chrome chromium compatible cpu crawler en firefox gecko google https http intel khtml like linux "
    b"mac macintosh mobile mozilla msie nt opera os phone safari spider version win windows wow www x com org net html".split(),
)
"""Words that browsers and half of the catalogue send: a pattern is not known by one of them if it has another."""

Entry = tuple[str, tuple[tuple[int, Pattern | None], ...]]
"""A lower-cased token, and what it stands for: an agent's number with its pattern, or a literal's bit with None."""


def _word(token: str, loose: Sequence[Pattern | None]) -> bytes | None:
    """The best of a token's words that are whole words in every string that one of its patterns matches; None: it has none.

    ``loose``: those of its patterns that need no end of a word at both sides.
    """
    raw = token.encode("latin-1")
    # A digit parts no words, so at the loose end of a token it belongs to the word beside it.
    if loose:
        start, end = 0, len(raw)
        if any(p is None or p.open in ("left", "both") for p in loose):
            start = next((i for i, byte in enumerate(raw) if byte not in _LETTERS and byte not in _DIGITS), len(raw))
        if any(p is None or p.open in ("right", "both") or any(a[:1].isalnum() for a in p.after) for p in loose):
            end = next((i for i in range(len(raw) - 1, -1, -1) if raw[i] not in _LETTERS and raw[i] not in _DIGITS), -1) + 1
        raw = raw[start:end]
    whole = raw.translate(_BREAK, _DIGITS).split()
    if len(whole) < 2:
        return whole[0] if whole else None
    return min(whole, key=lambda word: (word in COMMON, -len(word), word))


Entries = tuple[dict[bytes, tuple[Entry, ...]], list[Entry]]
"""By their words, and those that have none."""


def _by_words(tokens: dict[str, list[tuple[int, Pattern | None]]]) -> Entries:
    by_word: dict[bytes, list[Entry]] = {}
    anywhere: list[Entry] = []
    for token, entries in tokens.items():
        word = _word(token, [p for _, p in entries if p is None or p.open or p.after])  # hardly any
        (by_word.setdefault(word, []) if word else anywhere).append((token, tuple(entries)))
    return {word: tuple(found) for word, found in by_word.items()}, anywhere


_last: tuple[tuple[Agent, ...], Entries] = (), ({}, [])


def _of_agents(agents: tuple[Agent, ...]) -> Entries:
    """Those of the agents; of the same tuple as the last time they are known: nearly every policy has the catalogue's, and no others."""
    global _last
    last = _last
    if last[0] is not agents:
        tokens: dict[str, list[tuple[int, Pattern | None]]] = {}
        for number, agent in enumerate(agents):
            for pattern in agent.user_agent:
                token = pattern.token
                plain = token.isascii()
                seen = pattern if plain else pattern._replace(token=token.encode().decode("latin-1"))
                tokens.setdefault(token.lower() if plain else folded(token), []).append((number, seen))
        last = _last = agents, _by_words(tokens)
    return last[1]


def _automaton(entries: Iterable[Entry]) -> Any:
    made = ahocorasick.Automaton()
    for entry in entries:
        made.add_word(entry[0], entry)
    made.make_automaton()
    return made


class UserAgentIndex:
    """All agents' patterns and all of a policy's UA literals, looked up by the words of a string.

    A word is a run of letters, and digits count for nothing: User-Agents differ in their version numbers most of all. Each pattern is known
    by one whole word of its token, so a string none of whose words is known names nobody: one set operation tells, and that is all that a
    browser or somebody's invention costs. What has no whole word (a policy's ``contains``, a token open to letters) goes into an automaton.
    Which candidates really are there, the string tells.
    """

    __slots__ = ("_automaton", "_by_word", "_known", "agents")

    def __init__(self, agents: Sequence[Agent], literals: Iterable[tuple[str, int]] = ()) -> None:
        """``literals``: pairs of (literal, bit), found anywhere in the string, whatever surrounds them."""
        self.agents = tuple(agents)
        self._by_word, anywhere = _of_agents(self.agents)
        tokens: dict[str, list[tuple[int, Pattern | None]]] = {token: list(entries) for token, entries in anywhere}
        for literal, bit in literals:
            tokens.setdefault(folded(literal), []).append((bit, None))
        by_word, anywhere = _by_words(tokens)
        if by_word:
            self._by_word = self._by_word | {word: (*self._by_word.get(word, ()), *entries) for word, entries in by_word.items()}
        self._known = frozenset(self._by_word).intersection
        self._automaton = _automaton(anywhere) if anywhere else None

    def find(self, raw: bytes) -> tuple[tuple[int, ...], int]:
        """The numbers of the agents that ``raw`` (cut to MAX_UA) names, the primary one first, and the bits of its literals.

        Primary is the longest token, then the leftmost: ``Googlebot-Image`` before ``Googlebot``.
        """
        words = self._known(raw.translate(_BREAK, _DIGITS).split())
        if not words and self._automaton is None:
            return (), 0
        low, text = raw.lower().decode("latin-1"), raw.decode("latin-1")
        candidates = [entry for word in words for entry in self._by_word[word]]
        if self._automaton is not None:
            candidates += {entry[0]: entry for _, entry in self._automaton.iter(low)}.values()
        bits = 0
        found: list[tuple[int, int, int]] = []
        for token, entries in candidates:
            start = low.find(token)
            while start >= 0:
                for number, pattern in entries:
                    if pattern is None:
                        bits |= number
                    elif pattern.holds(text, low, start):
                        found.append((-len(token), start, number))
                start = low.find(token, start + 1)
        if not found:
            return (), bits
        return tuple(dict.fromkeys(number for _, _, number in sorted(found))), bits

    def identify(self, user_agent: str) -> Agent | None:
        """The agent that the string names (the primary one), None for people and for strangers."""
        found, _ = self.find(user_agent.encode("latin-1", "replace")[:MAX_UA])
        return self.agents[found[0]] if found else None
