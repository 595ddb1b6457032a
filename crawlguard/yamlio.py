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
        root = yaml.compose(raw, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(shown, mark.line + 1, mark.column + 1) if mark else Place(shown)
        what = " ".join(filter(None, (error.context, error.problem)))
        report(
            problem("CG002", place, f"malformed YAML: {what}", "check the indentation, quotes and brackets there and on the line before")
        )
        return None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = _line_of(raw, error)
        report(
            problem(
                "CG002", Place(shown, line, 1 if line else 0), f"malformed YAML: {_first_line(error)}", "save the file as plain UTF-8 text"
            )
        )
        return None
    if root is None:
        report(problem("CG002", Place(shown, 1, 1), "the file is empty", "write at least version: 1"))
        return None
    before = 0

    def counted(found: Problem) -> None:
        nonlocal before
        before += 1
        report(found)

    try:
        node = _Converter(shown, counted).convert(root, 0)
    except _TooMuchError as much:
        report(problem("CG035", much.place, much.message, "split the file, and write values out instead of repeating them by aliases"))
        return None
    return node


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _line_of(raw: bytes, error: Exception) -> int:
    position = getattr(error, "position", None)
    return raw[:position].count(b"\n") + 1 if isinstance(position, int) else 0


class _Converter:
    def __init__(self, shown: str, report: Callable[[Problem], None]) -> None:
        self.shown, self.report, self.count = shown, report, 0

    def convert(self, node: yaml.Node, depth: int) -> Node:
        mark = node.start_mark
        place = Place(self.shown, mark.line + 1, mark.column + 1)
        self.count += 1
        if self.count > MAX_NODES:
            raise _TooMuchError(place, f"the file has more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise _TooMuchError(place, f"values nest more than {MAX_DEPTH} deep")
        if isinstance(node, yaml.ScalarNode):
            if node.tag == "tag:yaml.org,2002:null":
                return Node("null", place)
            return Node("text", place, node.value, node.style is not None)
        if isinstance(node, yaml.SequenceNode):
            return Node("list", place, items=[self.convert(n, depth + 1) for n in node.value])
        return Node("map", place, pairs=self._pairs(node, depth))

    def _pairs(self, node: yaml.Node, depth: int) -> list[tuple[Node, Node]]:
        pairs: list[tuple[Node, Node]] = []
        seen: dict[str, Place] = {}
        for raw_key, raw_value in node.value:
            key, value = self.convert(raw_key, depth + 1), self.convert(raw_value, depth + 1)
            if key.kind != "text":
                self.report(problem("CG005", key.place, f"a key must be a word, found {key.describe()}", "quote it if it is meant as text"))
            elif key.text in seen:
                first = seen[key.text]
                self.report(
                    problem("CG003", key.place, f"the key {key.text!r} stands twice (first in line {first.line})", "keep one of the two")
                )
            else:
                seen[key.text] = key.place
                pairs.append((key, value))
        return pairs
