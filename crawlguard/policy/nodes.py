"""A parsed document as plain values that remember where they stood. No YAML here: ``loader`` makes these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where something stood: file name as shown to people, line and column from 1 (0: the file as a whole)."""

    file: str = ""
    line: int = 0
    column: int = 0


@dataclass(slots=True)
class Node:
    """One value. ``kind``: "text" (any scalar, as written, in ``text``), "null", "list" (``items``) or "map" (``pairs``).

    Scalars stay text until a field says what it wants: so the country ``NO`` is Norway and never False.
    """

    kind: str
    place: Place
    text: str = ""
    quoted: bool = False
    items: list[Node] = field(default_factory=list)
    pairs: list[tuple[Node, Node]] = field(default_factory=list)

    def describe(self) -> str:
        """What this is, for error messages."""
        if self.kind == "text":
            return f"{self.text[:60]!r}"
        return {"null": "nothing", "list": "a list", "map": "a mapping"}[self.kind]


def plain(node: Node) -> list[Any]:
    """A tree as JSON, see ``node_of``; the file's name is left out."""
    inner = [plain(item) for item in node.items] if node.kind == "list" else [[plain(k), plain(v)] for k, v in node.pairs]
    return [node.kind, node.place.line, node.place.column, node.text, node.quoted, inner]


def node_of(tree: list[Any], file: str) -> Node:
    """The tree that ``plain`` has written, as one that was read from ``file``."""
    kind, line, column, text, quoted, inner = tree
    node = Node(kind, Place(file, line, column), text, quoted)
    if kind == "list":
        node.items = [node_of(item, file) for item in inner]
    else:
        node.pairs = [(node_of(key, file), node_of(value, file)) for key, value in inner]
    return node
