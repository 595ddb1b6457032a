"""Marks that single views carry: let everybody in, or hold to a stricter policy. Plain attributes, so every framework keeps them.

    @exempt                          @strict("builtin:block-all-ai")
    def status(): ...                def archive(): ...

They work as decorators of Flask, Django, Starlette and FastAPI views alike; put them nearest to the function (below the route's own
decorator). For Django's class-based views use ``method_decorator(exempt, name="dispatch")``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .guard import Guard
    from .policy.schema import Policy

View = TypeVar("View", bound=Callable[..., Any])

EXEMPT = "crawlguard_exempt"
STRICT = "crawlguard_strict"


class Marks:
    """Whether any view of this process is marked: while none is, no door looks for a request's view."""

    used = False


def exempt(view: View) -> View:
    """Mark a view that is always served, whatever the policy says."""
    setattr(view, EXEMPT, True)
    Marks.used = True
    return view


def strict(policy: str | os.PathLike[str] | Policy | Guard, **settings: Any) -> Callable[[View], View]:
    """Mark a view that a second policy guards as well, after the site's own has let the request pass.

    Takes what ``Guard`` takes. Raises PolicyError when the policy cannot be used.
    """
    from .guard import Guard

    guard = policy if isinstance(policy, Guard) else Guard(policy, **settings)

    def mark(view: View) -> View:
        setattr(view, STRICT, guard)
        Marks.used = True
        return view

    return mark
