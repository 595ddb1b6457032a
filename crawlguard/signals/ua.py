"""User agents: which agents of the catalogue a User-Agent string names, and which literals of the policy it holds.

One Aho-Corasick pass finds every candidate; each candidate is then held against its boundary conditions. Nothing here can
backtrack, so a hostile string costs what its length costs.
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


_DIGITS = b"0123456789"
_NO_DIGITS = str.maketrans("", "", _DIGITS.decode())

MAX_SHAPES = 2048
"""Shapes whose candidates are kept: 1 MiB at the most, and more than the User-Agents of a busy site have."""

SHAPELY = 4
"""Characters from which on a word's shape tells something: ``k6`` without its digit would be everywhere, so it is looked for itself."""

Found = tuple[str, tuple[tuple[int, Pattern | None], ...]]
"""A word, and what it stands for: an agent's number with its pattern, or a literal's bit with None."""


class UserAgentIndex:
    """All agents' patterns and all of a policy's UA literals in one automaton.

    User-Agents differ in their version numbers, most of all those that somebody makes up. So the automaton knows the words without
    their digits, reads the *shape* of a string (the string without its digits), and its answer is kept for the next string of
    that shape. A word that is in the string has its shape in the string's; which candidates really are there, the string tells.
    """

    __slots__ = ("_always", "_automaton", "_candidates", "agents")

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
        shapes: dict[str, list[Found]] = {}
        for word, entries in words.items():
            shape = word.translate(_NO_DIGITS)
            known_by = shape if len(shape) >= SHAPELY else ""
            shapes.setdefault(known_by if shape != word else word, []).append((word, tuple(entries)))
        self._always = tuple(shapes.pop("", ()))
        self._automaton = ahocorasick.Automaton()
        for shape, found in shapes.items():
            self._automaton.add_word(shape, tuple(found))
        self._automaton.make_automaton()
        self._candidates: dict[bytes, tuple[Found, ...]] = {}

    def find(self, raw: bytes) -> tuple[tuple[int, ...], int]:
        """The numbers of the agents that ``raw`` (cut to MAX_UA) names, the primary one first, and the bits of its literals.

        Primary is the longest token, then the leftmost: ``Googlebot-Image`` before ``Googlebot``.
        """
        lower = raw.lower()
        shape = lower.translate(None, _DIGITS)
        candidates = self._candidates.get(shape)
        if candidates is None:
            candidates = self._look(shape)
        candidates += self._always
        if not candidates:
            return (), 0
        low, text = lower.decode("latin-1"), raw.decode("latin-1")
        bits = 0
        found: list[tuple[int, int, int]] = []
        for word, entries in candidates:
            start = low.find(word)
            while start >= 0:
                for number, pattern in entries:
                    if pattern is None:
                        bits |= number
                    elif pattern.holds(text, low, start):
                        found.append((-len(word), start, number))
                start = low.find(word, start + 1)
        if not found:
            return (), bits
        return tuple(dict.fromkeys(number for _, _, number in sorted(found))), bits

    def _look(self, shape: bytes) -> tuple[Found, ...]:
        """What may be in a string of this shape, by the automaton."""
        words = self._automaton.iter(shape.decode("latin-1")) if len(self._automaton) else ()
        found = tuple({word: (word, entries) for _, many in words for word, entries in many}.values())
        if len(self._candidates) >= MAX_SHAPES:
            self._candidates.clear()
        self._candidates[shape] = found
        return found

    def identify(self, user_agent: str) -> Agent | None:
        """The agent that the string names (the primary one), None for people and for strangers."""
        found, _ = self.find(user_agent.encode("latin-1", "replace")[:MAX_UA])
        return self.agents[found[0]] if found else None
