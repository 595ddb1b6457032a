"""The conditions that count: what ``rate`` is as data, and how it is read. What it means is in ``compile_rates``.

A rate is one window written out, or several under ``windows``; beside them it may ask for the shape of what was done in the longest.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, Final, NamedTuple

from ..signals.sketch import MOST
from .nodes import Node, Place
from .problems import problem
from .types import INVALID, Choice, Duration, Field, Flag, Integer, Json, Many, Record, Report, Share

RATE_KEYS = ("ip", "subnet", "asn", "country", "agent", "fingerprint", "path", "global")
MAX_REQUESTS = 10_000_000
MAX_BYTES = 10**15
MAX_TERMS = 8
"""Terms of a growing block_for: a level is forgotten each day, so that what is kept of a key stays within days."""


class WindowIs(NamedTuple):
    """``requests`` of what is counted (``what``) within ``within`` microseconds."""

    place: Place
    requests: int
    within: int
    what: str = "requests"


class Bound(NamedTuple):
    """A share that is under, or over, a limit."""

    over: bool
    share: float


class Shape(NamedTuple):
    """What the requests of the longest window look like; None does not ask. See ``signals.shape``."""

    assets: Bound | None = None
    distinct_ratio: Bound | None = None
    robots_fetched: bool | None = None
    regular: bool | None = None


class RateOver(NamedTuple):
    """More than a window admits, counted by ``per``, by whoever has this shape. ``block_for``: terms in us, growing for repeat offenders."""

    place: Place
    per: tuple[str, ...]
    windows: tuple[WindowIs, ...]
    block_for: tuple[int, ...] = ()
    shape: Shape | None = None


_SIZES: Final = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


class _Size:
    """A number of bytes: whole, or with a unit (500MB, 2GiB)."""

    def read(self, node: Node, report: Report) -> Any:
        found = re.fullmatch(r"([0-9]{1,15})\s?([kmgt]i?b|)", node.text.strip().lower()) if node.kind == "text" else None
        if not found:
            report(
                problem(
                    "CG005", node.place, f"expected a number of bytes, found {node.describe()}", "write for example 500MB, 10GB or 2GiB"
                )
            )
            return INVALID
        size = int(found[1]) * _SIZES[found[2]]
        if not 1 <= size <= MAX_BYTES:
            report(problem("CG015", node.place, f"{node.text[:60]} is out of range", "use 1 byte to 1000TB"))
            return INVALID
        return size

    def schema(self) -> Json:
        text = {"type": "string", "pattern": "^[0-9]+ ?([kKmMgGtT]i?[bB])?$"}
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_BYTES}, text]}


class _Bound:
    """``under 2%`` or ``over 0.9``."""

    def read(self, node: Node, report: Report) -> Any:
        word, _, rest = node.text.strip().partition(" ") if node.kind == "text" else ("", "", "")
        if word not in ("under", "over"):
            report(
                problem(
                    "CG005",
                    node.place,
                    f"expected under or over a share, found {node.describe()}",
                    "write for example under 2%, or over 0.9",
                )
            )
            return INVALID
        share = Share().read(Node("text", node.place, rest), report)
        if share is INVALID:
            return INVALID
        if (word, share) in (("under", 0), ("over", 1)):
            report(problem("CG039", node.place, f"no share is {node.text.strip()}", "leave some room, for example under 2%"))
            return INVALID
        return Bound(word == "over", share)

    def schema(self) -> Json:
        return {"type": "string", "pattern": "^(under|over) +[0-9.]+%?$"}


class _Terms:
    """A duration, or several that grow."""

    def read(self, node: Node, report: Report) -> Any:
        terms = Many(Duration(), unique=False).read(node, report)
        if terms is INVALID:
            return INVALID
        if len(terms) > MAX_TERMS or any(a >= b for a, b in pairwise(terms)):
            report(
                problem(
                    "CG041",
                    node.place,
                    "the terms of block_for do not grow",
                    f"write up to {MAX_TERMS}, each longer than the one before: [10m, 1h, 1d]",
                )
            )
            return INVALID
        return terms

    def schema(self) -> Json:
        return Many(Duration()).schema()


COUNTS: Final[dict[str, Field]] = {
    "requests": Field(Integer(1, MAX_REQUESTS), "How many requests are admitted: the burst."),
    "documents": Field(Integer(1, MAX_REQUESTS), "How many requests for pages; what belongs to pages (CSS, images, ...) is neither counted nor stopped."),
    "distinct_paths": Field(Integer(1, MOST), "How many different pages; counted to 5%."),
    "errors": Field(Integer(1, MAX_REQUESTS), "How many answers with a status of 4xx or 5xx; the guard's own are not counted."),
    "misses": Field(Integer(1, MAX_REQUESTS), "How many answers with the status 404."),
    "bytes": Field(_Size(), "How many bytes of answers: 500MB, 10GB."),
}  # fmt: skip
RESPONSES: Final = ("errors", "misses", "bytes")
"""What is known after the response only."""

_WITHIN = {
    "within": Field(
        Duration(),
        "The time over which they are refilled evenly; for distinct_paths and the shape, a window from the first request on.",
        required=True,
    )
}
_SHAPE: Final[dict[str, Field]] = {
    "assets": Field(_Bound(), "The share of what belongs to pages (CSS, images, ...) among the requests: under 2%."),
    "distinct_ratio": Field(_Bound(), "The share of different pages among the pages asked for: over 0.9."),
    "robots_fetched": Field(Flag(), "Whether /robots.txt was fetched in the window."),
    "regular": Field(Flag(), "Whether the pages came at intervals as even as a machine's."),
}  # fmt: skip
_PLAIN: Final[dict[str, Field]] = {
    "per": Field(Many(Choice(RATE_KEYS)), "What is counted: one of these, or a mix. path: by the first segment. global: everybody.", required=True),
    **_SHAPE,
    "block_for": Field(_Terms(), "Once over the limit, keep the client out for this long; a list grows for repeat offenders."),
}  # fmt: skip
_ONE_COUNT: Final = {"oneOf": [{"required": [name]} for name in COUNTS]}


class _Counting(Record):
    """A mapping that names exactly one thing to count."""

    def read_fields(self, node: Node, report: Report) -> Any:
        found = super().read_fields(node, report)
        counts = [key.text for key, _ in node.pairs if key.text in COUNTS]
        if len(counts) == 1 or node.kind != "map":
            return found
        if counts:
            cure = f"keep one, or write windows: [{{{counts[0]}: ..., within: ...}}, {{{counts[1]}: ..., within: ...}}]"
            report(problem("CG041", node.place, f"one window counts several things: {', '.join(counts)}", cure))
        else:
            report(problem("CG006", node.place, f"{self.what} does not say what it counts", f"add one of: {', '.join(COUNTS)}"))
        return INVALID


def _window(node: Node, found: dict[str, Any], report: Report) -> Any:
    what = next(name for name in COUNTS if name in found)
    window = WindowIs(node.place, found[what], found["within"], what)
    if window.requests > window.within and what != "bytes":
        report(problem("CG015", window.place, "more than one request a microsecond", "use fewer requests or a longer time"))
        return INVALID
    return window


class _Window:
    """One of several windows."""

    record = _Counting("a window", {**COUNTS, **_WITHIN}, extra=_ONE_COUNT)

    def read(self, node: Node, report: Report) -> Any:
        found = self.record.read(node, report)
        return found if found is INVALID else _window(node, found, report)

    def schema(self) -> Json:
        return self.record.schema()


class Rate:
    """``rate``: one window written out, or several under ``windows``."""

    one = _Counting("'rate'", {**_PLAIN, **COUNTS, **_WITHIN}, extra=_ONE_COUNT)
    several = Record(
        "'rate'", {**_PLAIN, "windows": Field(Many(_Window(), single=False, unique=False), "Several limits at once.", required=True)}
    )

    def read(self, node: Node, report: Report) -> Any:
        several = node.kind == "map" and any(key.text == "windows" for key, _ in node.pairs)
        found = (self.several if several else self.one).read(node, report)
        if found is INVALID:
            return INVALID
        windows = found["windows"] if several else (_window(node, found, report),)
        if any(window is INVALID for window in windows):
            return INVALID
        seen: set[object] = set()
        for window in windows:
            if window[1:] in seen:
                report(problem("CG038", window.place, "this window stands twice", "remove one of the two: each would count the request"))
                return INVALID
            seen.add(window[1:])
        per = tuple(found["per"])
        if "global" in per and len(per) > 1:
            report(problem("CG041", node.place, "'global' beside other keys adds nothing to them", "remove global, or the others"))
            return INVALID
        asked = {name: found[name] for name in _SHAPE if name in found}
        return RateOver(node.place, per, windows, found.get("block_for", ()), Shape(**asked) if asked else None)

    def schema(self) -> Json:
        return {"anyOf": [self.one.schema(), self.several.schema()]}
