"""Marks that single views carry: let everybody in, or hold to a stricter policy. Plain attributes, so every framework keeps them.

    @exempt                          @strict("builtin:block-all-ai")
    def status(): ...                def archive(): ...

They work as decorators of Flask, Django, Starlette and FastAPI views alike; put them nearest to the function (below the route's own
decorator). For Django's class-based views use ``method_decorator(exempt, name="dispatch")``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar, Unpack

from .guard import Guard
from .marks import EXEMPT, STRICT, Marks
from .policy.model import Policy
from .settings import Settings

View = TypeVar("View", bound=Callable[..., Any])


def exempt(view: View) -> View:
    """Mark a view that is always served, whatever the policy says."""
    setattr(view, EXEMPT, True)
    Marks.used = True
    return view


def strict(policy: str | os.PathLike[str] | Policy | Guard, **settings: Unpack[Settings]) -> Callable[[View], View]:
    """Mark a view that a second policy guards as well, after the site's own has let the request pass.

    Takes what ``Guard`` takes. Raises PolicyError when the policy cannot be used.
    """
    guard = policy if isinstance(policy, Guard) else Guard(policy, counts_as="strict", **settings)

    def mark(view: View) -> View:
        setattr(view, STRICT, guard)
        Marks.used = True
        return view

    return mark
