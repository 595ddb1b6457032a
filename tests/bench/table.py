"""Rows of results: against what must be and what is aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement; less is better. ``must`` None: for information. ``slowness``: see ``clock``."""

    what: str
    measured: float
    unit: str
    must: float | None = None
    aim: float | None = None
    note: str = ""
    slowness: float = 1.0

    @property
    def there(self) -> float | None:
        """What it would be on the machine that the budgets were set on (times are CPU times); None for what no clock changes."""
        return self.measured / self.slowness if self.unit in ("us", "ms") else None

    @property
    def verdict(self) -> str:
        """``aim`` when the aim is reached, ``ok`` when only what must be, ``MISSED`` otherwise; ``by clock``: kept, if this machine were the budgets'."""
        if self.must is None:
            return ""
        if self.measured <= self.must:
            return "aim" if self.aim is not None and self.measured <= self.aim else "ok"
        return "by clock" if self.there is not None and self.there <= self.must else "MISSED"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "there": self.there, "verdict": self.verdict}


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
    """The table. The third column takes the machine's speed out of what was measured."""
    cells = [
        [r.what, show(r.measured, r.unit), show(r.there, r.unit), show(r.must, r.unit), show(r.aim, r.unit), r.verdict, r.note]
        for r in rows
    ]
    return layout(("what", "measured", "by the budget's clock", "must", "aim", "verdict", "note"), cells)
