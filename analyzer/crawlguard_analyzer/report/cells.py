"""What the page's sections are made of: tables whose cells may hold bars, legends, second lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import polars as pl

from .markup import Markup, el, join
from .svg import swatch
from .words import NAMES, plain

ROWS = 20
"""Rows of each table; the rest is counted, and in the exports."""

Row = dict[str, Any]


class Column(NamedTuple):
    """A column of a table: its head, its cell for a row, its CSS classes (n: a number; w: a bar; opt: may go where there is little room)."""

    head: str
    cell: Callable[[Row], str]
    style: str = ""


def table_of(caption: str, columns: Sequence[Column], rows: pl.DataFrame, most: int = ROWS, whole: int = 0) -> Markup:
    """The first ``most`` rows, and how many more there are, of ``whole`` (as many as there are rows, if that is more)."""
    head = el("thead", el("tr", (el("th", c.head or "share", scope="col", class_=c.style or None) for c in columns)))
    body = [el("tr", (_cell(i, column, row) for i, column in enumerate(columns))) for row in rows.head(most).iter_rows(named=True)]
    whole = max(whole, rows.height)
    more = [el("p", f"and {whole - most:,} more, of fewer requests", class_="soft")] if whole > most else []
    table = el("table", el("caption", caption), head, el("tbody", body))
    return join(el("div", table, class_="scroll", role="region", aria_label=caption, tabindex=0), more)


def _cell(place: int, column: Column, row: Row) -> Markup:
    """The first cell of a row is its head."""
    style = column.style or None
    return el("td", column.cell(row), class_=style) if place else el("th", column.cell(row), scope="row", class_=style)


def legend(names: Iterable[str]) -> Markup:
    """What the classes' colours mean."""
    return el("ul", (el("li", swatch(f"c-{name}"), name_of(name)) for name in names), class_="legend")


def stroke(style: str) -> Markup:
    """A piece of a chart's line."""
    return el(
        "svg", el("path", d="M0 5H28", class_=f"step {style}"), class_="line", viewBox="0 0 28 10", aria_hidden="true",
    )  # fmt: skip


def both(*texts: str | None) -> str:
    """Those that are there, with commas between them."""
    return ", ".join(plain(text, 60) for text in texts if text)


def name_of(of_class: str) -> str:
    """What a class is called; one that is not known is called by its own name."""
    return NAMES.get(of_class, of_class)


def sub(text: str) -> Markup:
    """A second line in a cell."""
    return el("span", text, class_="sub")
