"""What the guard may do with a request, and what it decided. Values only: nothing here knows a framework or a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Action(StrEnum):
    """The final actions. ``weigh`` and ``tag`` are not among them: they go on to the next rule."""

    ALLOW = "allow"
    BLOCK = "block"
    THROTTLE = "throttle"
    HIDE = "hide"
    PRICE = "price"


# 403 for policy, 429 + Retry-After for rate (another 4xx can deindex a search bot that was only too fast), 404 to conceal,
# 402 for pay per crawl.
DEFAULT_STATUS: Mapping[Action, int] = {
    Action.ALLOW: 200,
    Action.BLOCK: 403,
    Action.THROTTLE: 429,
    Action.HIDE: 404,
    Action.PRICE: 402,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a refused request gets: status, headers, and a body per media type (None: the door's own words)."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    html: str | None = None
    json: str | None = None


class Page(NamedTuple):
    """A document that the guard answers by itself."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict on one request.

    ``action`` is what is done. ``rule`` is the id of the rule that decided, None when none did. ``reason`` is one
    sentence for logs and for the refused client. ``retry_after`` is in whole seconds, only for throttles.
    ``shadow`` holds the decisions that rules in shadow mode would have made: they are logged, never acted on.
    ``page`` is what an allowed request for one of the policy's own documents gets, where the policy says ``serve``.
    """

    action: Action = Action.ALLOW
    rule: str | None = None
    reason: str = "no rule matched"
    tags: tuple[str, ...] = ()
    retry_after: int | None = None
    shadow: tuple[Decision, ...] = ()
    score: int = 0
    answer: Answer | None = field(default=None, repr=False)
    page: Page | None = field(default=None, repr=False)

    @property
    def allowed(self) -> bool:
        """True when the request goes on to the application."""
        return self.action is Action.ALLOW

    @property
    def status(self) -> int:
        """The HTTP status that the guard answers with; 200 stands for "the application's own"."""
        return self.answer.status if self.answer else DEFAULT_STATUS[self.action]

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON: action, rule, reason, tags, retry_after, score, status, shadow (a list of the same)."""
        return {
            "action": str(self.action),
            "rule": self.rule,
            "reason": self.reason,
            "tags": list(self.tags),
            "retry_after": self.retry_after,
            "score": self.score,
            "status": self.status,
            "shadow": [d.as_dict() for d in self.shadow],
        }


ALLOW = Decision()
"""The plain allow: no rule spoke. One object, so that doors and logs can tell it by identity."""
