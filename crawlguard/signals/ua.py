"""User agents: which agents of the catalogue a User-Agent string names, and which literals of the policy it holds.

One Aho-Corasick pass over the string finds every candidate; each candidate is then held against its boundary
conditions. Nothing here can backtrack, so a hostile string costs what its length costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
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


class UserAgentIndex:
    """All agents' patterns and all of a policy's UA literals in one automaton."""

    __slots__ = ("_automaton", "_empty", "agents")

    def __init__(self, agents: Sequence[Agent], literals: Iterable[tuple[str, int]] = ()) -> None:
        """``literals``: pairs of (literal, bit), found anywhere in the string, whatever surrounds them."""
        self.agents = tuple(agents)
        words: dict[str, list[tuple[int, Pattern | None]]] = {}
        for number, agent in enumerate(self.agents):
            for pattern in agent.user_agent:
                seen = pattern if pattern.token.isascii() else replace(pattern, token=pattern.token.encode().decode("latin-1"))
                words.setdefault(folded(pattern.token), []).append((number, seen))
        for literal, bit in literals:
            words.setdefault(folded(literal), []).append((bit, None))
        self._automaton = ahocorasick.Automaton()
        for word, entries in words.items():
            self._automaton.add_word(word, (len(word), tuple(entries)))
        self._automaton.make_automaton()
        self._empty = not words

    def find(self, raw: bytes) -> tuple[tuple[int, ...], int]:
        """The numbers of the agents that ``raw`` (cut to MAX_UA) names, the primary one first, and the bits of its literals.

        Primary is the longest token, then the leftmost: ``Googlebot-Image`` before ``Googlebot``.
        """
        if self._empty:
            return (), 0
        low = raw.lower().decode("latin-1")
        text, bits = "", 0
        found: list[tuple[int, int, int]] = []
        for end, (length, entries) in self._automaton.iter(low):
            start = end - length + 1
            for number, pattern in entries:
                if pattern is None:
                    bits |= number
                else:
                    text = text or raw.decode("latin-1")
                    if pattern.holds(text, low, start):
                        found.append((-length, start, number))
        if not found:
            return (), bits
        return tuple(dict.fromkeys(number for _, _, number in sorted(found))), bits

    def identify(self, user_agent: str) -> Agent | None:
        """The agent that the string names (the primary one), None for people and for strangers."""
        found, _ = self.find(user_agent.encode("latin-1", "replace")[:MAX_UA])
        return self.agents[found[0]] if found else None
