"""Rows of results: against what must be and what is aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement; less is better. ``must`` None: for information."""

    what: str
    measured: float
    unit: str
    must: float | None = None
    aim: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """``aim`` when the aim is reached, ``ok`` when only what must be, ``MISSED`` otherwise."""
        if self.must is None:
            return ""
        return "aim" if self.aim is not None and self.measured <= self.aim else "ok" if self.measured <= self.must else "MISSED"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "verdict": self.verdict}


def show(value: float | None, unit: str) -> str:
    """A number with its unit."""
    if value is None:
        return ""
    digits = 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f}{'' if unit in ('x', '%') else ' '}{unit}"


def layout(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the first and the last to the left, numbers to the right."""
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    last = len(head) - 1

    def line(cells: Sequence[str]) -> str:
        return "  ".join(c.ljust(w) if n in (0, last) else c.rjust(w) for n, (c, w) in enumerate(zip(cells, widths, strict=True))).rstrip()

    return "\n".join([line(head), "  ".join("-" * w for w in widths), *map(line, rows)])


def budgets(rows: Sequence[Row]) -> str:
    """The table: what | measured | must | aim | verdict."""
    cells = [[r.what, show(r.measured, r.unit), show(r.must, r.unit), show(r.aim, r.unit), r.verdict, r.note] for r in rows]
    return layout(("what", "measured", "must", "aim", "verdict", "note"), cells)
