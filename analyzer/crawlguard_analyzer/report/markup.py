"""HTML and SVG from Python values. What is no Markup is made harmless and escaped, always: there is no other way into the page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

from .words import plain

EMPTY = frozenset(("meta", "link", "rect", "line", "path", "polyline", "br"))
"""Elements that have no content: void ones of HTML, and shapes of SVG."""

Content: TypeAlias = "str | Iterable[Content]"


class Markup(str):
    """Text that is markup already: only ``el``, ``join`` and constants of this package make it."""

    __slots__ = ()


def el(name: str, /, *children: Content, **attributes: object) -> Markup:
    """An element. Attributes that are None are left out; ``class_`` is class, ``text_anchor`` is text-anchor, ``viewBox`` is itself."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(plain(value if isinstance(value, str) else _number(value), 2000))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{told}/>" if name in EMPTY and not children else f"<{name}{told}>{join(*children)}</{name}>")


def join(*children: Content) -> Markup:
    """One after the other."""
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(str(child))
        elif isinstance(child, str):
            parts.append(escape(plain(child)))
        else:
            parts.append(str(join(*child)))
    return Markup("".join(parts))


def _number(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
