"""The only reader of YAML: a file becomes Nodes that know where they stood. Bounded in size, depth and number of values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from .errors import Problem
from .paths import MAX_BYTES
from .policy.nodes import Node, Place
from .policy.problems import problem

MAX_NODES = 2_000_000
MAX_DEPTH = 40
MAX_ALIASED = 50_000
"""Values in a file that repeats any by aliases, written out: a file of 500 bytes can stand for a billion."""

_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TooMuchError(Exception):
    def __init__(self, place: Place, message: str) -> None:
        self.place, self.message = place, message


def read_document(path: Path, shown: str, report: Callable[[Problem], None]) -> Node | None:
    """The document in a file, None when it cannot be read (then the reason has been reported). ``shown``: its name for people."""
    top = Place(shown)
    try:
        if path.stat().st_size > MAX_BYTES:
            report(
                problem(
                    "CG035",
                    top,
                    f"the file is larger than {MAX_BYTES >> 20} MiB",
                    "put long address lists into files of their own and name them under networks:",
                )
            )
            return None
        raw = path.read_bytes()
    except OSError as error:
        report(problem("CG001", top, f"cannot be read: {error.strerror or error}", "check the name and the permissions"))
        return None
    return parse(raw, shown, report)


def parse(raw: bytes, shown: str, report: Callable[[Problem], None]) -> Node | None:
    """The document in ``raw``; None when it is malformed or empty (then the reason has been reported)."""
    try:
        return _Builder(shown, report).build(raw)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(shown, mark.line + 1, mark.column + 1) if mark else Place(shown)
        what = " ".join(filter(None, (error.context, error.problem)))
        report(
            problem("CG002", place, f"malformed YAML: {what}", "check the indentation, quotes and brackets there and on the line before")
        )
    except (yaml.YAMLError, ValueError) as error:
        line = _line_of(raw, error)
        report(
            problem(
                "CG002", Place(shown, line, 1 if line else 0), f"malformed YAML: {_first_line(error)}", "save the file as plain UTF-8 text"
            )
        )
    except _TooMuchError as much:
        report(problem("CG035", much.place, much.message, "split the file, and write values out instead of repeating them by aliases"))
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _line_of(raw: bytes, error: Exception) -> int:
    position = getattr(error, "position", None)
    return raw[:position].count(b"\n") + 1 if isinstance(position, int) else 0


class _Builder:
    """Builds the tree from the parser's events, without recursion: a file nested a million deep costs a message, not the stack.

    An alias is the anchored node once more; the nodes that aliases stand for are counted as if they were written out.
    """

    def __init__(self, shown: str, report: Callable[[Problem], None]) -> None:
        self.shown, self.report = shown, report
        self.count = 0
        self.anchors: dict[str, tuple[Node, int]] = {}

    def build(self, raw: bytes) -> Node | None:
        open_nodes: list[tuple[Node, str | None, int]] = []  # node, its anchor, the count before it
        root: Node | None = None
        documents = 0
        for event in yaml.parse(raw, Loader=_Loader):
            mark = event.start_mark
            place = Place(self.shown, mark.line + 1, mark.column + 1) if mark else Place(self.shown)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents == 2:
                    self.report(problem("CG002", place, "malformed YAML: a second document begins here", "keep one document in a file"))
                    return None
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._more(place, 1)
                kind = "map" if isinstance(event, yaml.MappingStartEvent) else "list"
                if len(open_nodes) > MAX_DEPTH:
                    raise _TooMuchError(place, f"values nest more than {MAX_DEPTH} deep")
                open_nodes.append((Node(kind, place), event.anchor, self.count))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                node, anchor, before = open_nodes.pop()
                if node.kind == "map":
                    self._pair(node)
                self._anchor(anchor, node, self.count - before + 1)
                root = self._attach(node, open_nodes, root)
            elif isinstance(event, yaml.ScalarEvent):
                self._more(place, 1)
                plain_null = not event.style and event.implicit[0] and event.value in ("", "~", "null", "Null", "NULL")
                leaf = Node("null", place) if plain_null else Node("text", place, event.value, bool(event.style))
                self._anchor(event.anchor, leaf, 1)
                root = self._attach(leaf, open_nodes, root)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self.anchors:
                    self.report(
                        problem(
                            "CG002", place, f"malformed YAML: no anchor &{event.anchor} stands before this alias", "write the value out"
                        )
                    )
                    return None
                node, weight = self.anchors[event.anchor]
                self._more(place, weight, MAX_ALIASED)
                root = self._attach(node, open_nodes, root)
        if root is None or root.kind == "null":
            self.report(problem("CG002", Place(self.shown, 1, 1), "the file is empty", "write at least version: 1"))
            return None
        return root

    def _more(self, place: Place, weight: int, limit: int = MAX_NODES) -> None:
        self.count += weight
        if self.count > limit and (limit == MAX_NODES or weight > 1):
            raise _TooMuchError(place, f"the file has more than {limit} values" + ("" if limit == MAX_NODES else ", aliases written out"))

    def _anchor(self, anchor: str | None, node: Node, weight: int) -> None:
        if anchor is not None:
            self.anchors[anchor] = node, weight

    def _attach(self, node: Node, open_nodes: list[tuple[Node, str | None, int]], root: Node | None) -> Node:
        if not open_nodes:
            return node
        open_nodes[-1][0].items.append(node)  # a mapping's keys and values alternate here until it ends
        return root or open_nodes[0][0]

    def _pair(self, node: Node) -> None:
        seen: dict[str, Place] = {}
        for key, value in zip(node.items[::2], node.items[1::2], strict=True):
            if key.kind != "text":
                self.report(problem("CG005", key.place, f"a key must be a word, found {key.describe()}", "quote it if it is meant as text"))
            elif key.text in seen:
                first = seen[key.text]
                self.report(
                    problem("CG003", key.place, f"the key {key.text!r} stands twice (first in line {first.line})", "keep one of the two")
                )
            else:
                seen[key.text] = key.place
                node.pairs.append((key, value))
        node.items = []
