"""Where a use of the site's content is allowed, and the words for it that several documents share.

Where agents that collect for one use are told different things, training counts as refused (a reservation of rights must not leak),
and search and AI input as served: robots.txt and the guard keep the single agent away, the other documents cannot name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote

from ..policy.model import Policy
from .paths import EVERYTHING, Line, decide, lines_for
from .robots import SIGNALS_OF, Will

Told = frozenset[tuple[tuple[Line, ...], ...]]


def url_text(text: str | None) -> str:
    """A URL in characters that can end neither a header's line nor the <> around it."""
    return quote(text or "", safe="%:/?#[]@!$&'()*+,;=~-._", errors="replace")


def told_by(policy: Policy, wills: Sequence[Will], use: str) -> Told:
    """What each of the agents that collect for a use is told, by each of the wills; where none is known, what everybody is told."""
    kinds = SIGNALS_OF[use]
    tokens = {token for agent in policy.agents if agent.category in kinds for token in agent.robots} or {"*"}
    return frozenset(tuple(will.lines(token) for will in wills) for token in tokens)


def where(policy: Policy, will: Will, use: str, enough: Callable[[Iterable[bool]], bool] = all) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """Where a use of SIGNALS_OF is allowed to ``all`` (or to ``any``) of the agents that collect for it, as ``lines_for`` says it."""
    said = [lines for (lines,) in told_by(policy, (will,), use)]
    globs = dict.fromkeys(line.glob for lines in said for line in lines)
    return lines_for(list(globs), lambda path: enough(decide(lines, path) for lines in said))


def training(policy: Policy, will: Will) -> tuple[Line, ...]:
    """Where training is allowed: longest pattern first, and a last line that matches every path."""
    lines, _ = where(policy, will, "ai-train")
    return lines if any(line.pattern == "/" for line in lines) else (*lines, Line(True, "/", EVERYTHING))
