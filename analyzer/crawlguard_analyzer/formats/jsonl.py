"""JSON lines: each line one object, of which some values are fields. polars decodes whole chunks; what it refuses is found by halving."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from .base import Tabular
from .fields import PLAIN, Ways

_LEAST: Final = 64
"""Lines that are no longer halved to find the one that polars refuses, but read exactly."""
_SURROGATE = r"\\u[dD][89a-fA-F]"
"""Halves of characters, which decoders treat differently when the other half is missing."""
_LONE = re.compile("[\ud800-\udfff]")

Path = tuple[str, ...]


class Json(Tabular):
    """``paths``: where in an object each field is. A value that is a list counts by its first item (headers in Caddy's logs)."""

    def __init__(
        self,
        name: str,
        paths: Mapping[str, Path],
        ways: Ways = PLAIN,
        *,
        lists: frozenset[str] = frozenset(),
        assumed: str = "",
    ) -> None:
        self.name, self.paths, self.ways, self.lists, self.assumed = name, dict(paths), ways, lists, assumed
        self._type = _struct({path: pl.List(pl.String()) if field in lists else pl.String() for field, path in self.paths.items()})

    def describe(self) -> str:
        told = ", ".join(f"{field} from {'.'.join(path)}" for field, path in self.paths.items())
        return f"{self.name}: {told}{'; ' + self.assumed if self.assumed else ''}"

    def columns(self, lines: pl.Series) -> tuple[pl.DataFrame, pl.Series | None]:
        sure = lines.str.starts_with("{") & lines.str.ends_with("}") & ~lines.str.contains(_SURROGATE)
        parts: list[pl.Series] = []
        self._decode(pl.select(pl.when(sure).then(lines)).to_series(), parts)
        whole = pl.concat(parts).struct.unnest()
        return whole.select(self._at(field, path) for field, path in self.paths.items()), sure

    def _decode(self, lines: pl.Series, parts: list[pl.Series]) -> None:
        try:
            parts.append(lines.str.json_decode(self._type))
        except pl.exceptions.PolarsError:
            if lines.len() <= _LEAST:
                parts.append(pl.Series([None] * lines.len(), dtype=self._type))
            else:
                half = lines.len() // 2
                self._decode(lines[:half], parts)
                self._decode(lines[half:], parts)

    def _at(self, field: str, path: Path) -> pl.Expr:
        value = pl.col(path[0])
        for key in path[1:]:
            value = value.struct.field(key)
        return (value.list.first() if field in self.lists else value).alias(field)

    def line(self, line: bytes) -> dict[str, str | None] | None:
        try:
            one = json.loads(line.decode("utf-8", "replace"), object_pairs_hook=_first, parse_constant=_refuse, parse_float=_number)
        except (ValueError, RecursionError):
            return None
        if not isinstance(one, dict):
            return None
        return {field: _told(one, path) for field, path in self.paths.items()}


def _struct(types: Mapping[Path, pl.DataType]) -> pl.Struct:
    """The nested type that has these paths."""
    inner: dict[str, dict[Path, pl.DataType]] = {}
    for path, kind in types.items():
        inner.setdefault(path[0], {})[path[1:]] = kind
    return pl.Struct([pl.Field(key, below[()] if () in below else _struct(below)) for key, below in inner.items()])


def _first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that comes twice the first counts, as with polars."""
    return dict(reversed(pairs))


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _number(text: str) -> str:
    """A float as text, whole ones without a point, as polars writes them."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return str(int(value)) if value.is_integer() else str(value)


def _told(one: Any, path: Path) -> str | None:
    for key in path:
        one = one.get(key) if isinstance(one, dict) else None
    if isinstance(one, list):
        one = one[0] if one else None
    if one is None or isinstance(one, dict | list):
        return None
    if isinstance(one, bool):
        return str(one).lower()
    return _LONE.sub("\ufffd", str(one))
