"""The attributes that mark single views, and whether any view of this process has one. ``views`` has the decorators."""

from __future__ import annotations

EXEMPT = "crawlguard_exempt"
STRICT = "crawlguard_strict"


class Marks:
    """``used`` is False until a view is marked: until then no door looks for a request's view."""

    used = False
