"""Lines that follow a template: literal text and fields in turn, such as an nginx ``log_format`` or an Apache ``LogFormat``.

A field ends where the text that follows it in the template first occurs; in quotes, at the first quote that is not escaped. What stands
after the last field that a row needs is passed over.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import polars as pl

from crawlguard.errors import DataError

from ..combined_exact import text
from .base import Tabular
from .fields import PLAIN, Ways

_QUOTED = re.compile(rb'((?:[^"\\]|\\.)*)"', re.DOTALL)


class Piece(NamedTuple):
    """A field, and the text behind it. ``name`` is one of fields.FIELDS, or "" for what no row needs."""

    name: str
    behind: str


class Template(Tabular):
    """``before`` is the text before the first field. ``assumed`` is said to the user."""

    def __init__(self, name: str, before: str, pieces: list[Piece], ways: Ways = PLAIN, assumed: str = "") -> None:
        self.name, self.before, self.ways, self.assumed = name, before, ways, assumed
        last = max(number for number, piece in enumerate(pieces) if piece.name)
        self.pieces = pieces[: last + 1]
        if any(not piece.behind for piece in self.pieces[:-1]):
            raise DataError(
                f"{name}: two fields follow each other with nothing between them, so lines cannot be cut; put a blank between them"
            )

    def describe(self) -> str:
        return f"{self.name}{'; ' + self.assumed if self.assumed else ''}"

    def columns(self, lines: pl.Series) -> tuple[pl.DataFrame, pl.Series | None]:
        rest, sure = lines, ~lines.str.contains("\\", literal=True)
        if self.before:
            sure &= rest.str.starts_with(self.before)
            rest = rest.str.slice(len(self.before))
        found = {}
        quoted = self.before.endswith('"')
        for piece in self.pieces:
            if piece.behind:
                cut = rest.str.splitn(piece.behind, 2).struct
                value, rest = cut.field("field_0"), cut.field("field_1")
                sure &= rest.is_not_null()
            else:
                value = rest
            if quoted and piece.behind != '"':
                sure &= ~value.str.contains('"', literal=True)
            if piece.name:
                found[piece.name] = value
            quoted = piece.behind.endswith('"')
        return pl.DataFrame(found), sure

    def line(self, line: bytes) -> dict[str, str | None] | None:
        if not line.startswith(self.before.encode()):
            return None
        at, quoted = len(self.before.encode()), self.before.endswith('"')
        found: dict[str, str | None] = {}
        for piece in self.pieces:
            behind = piece.behind.encode()
            if quoted and behind.startswith(b'"'):
                match = _QUOTED.match(line, at)
                if not match or not line.startswith(behind, match.end() - 1):
                    return None
                end = match.end() - 1
            else:
                end = line.find(behind, at) if behind else len(line)
                if end < 0:
                    return None
            if piece.name and piece.name not in found:
                found[piece.name] = text(line[at:end])
            at, quoted = end + len(behind), behind.endswith(b'"')
        return found
