"""Words for notes."""

from __future__ import annotations

from collections.abc import Sequence


def few(words: Sequence[str], most: int = 6) -> str:
    """The first of some words, and how many more there are."""
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
