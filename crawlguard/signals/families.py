"""Families of paths: what a site keeps under one directory. "/shop/x/y" is in "/shop/"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FAMILIES: Final = 1024
LONG: Final = 64
"""Families whose hashes are remembered, and the characters of the longest that is: 300 KiB for each rule at most."""


def family(path: str) -> str:
    """The family of a path: its first segment, "/" for what lies at the top."""
    return path[: path.find("/", 1) + 1] or "/"


class Families:
    """A store's hashes of families, remembered: a site has few, and each request asks for one. ``known``: by ``family``, "" for "/"."""

    __slots__ = ("_held", "known")

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self._held: tuple[object, dict[str, int]] = None, self.known

    def mark(self, path: str, mark: Callable[[str], int]) -> int:
        """The hash of a path's family; ``mark``: the store's."""
        name = path[: path.find("/", 1) + 1]
        whose, known = self._held
        if whose is not mark:  # another store, another secret
            self.known = known = {}
            self._held = mark, known
        number = known.get(name)
        if number is None:
            number = mark(name or "/")
            if len(name) <= LONG:
                if len(known) >= FAMILIES:
                    known.clear()
                known[name] = number
        return number
