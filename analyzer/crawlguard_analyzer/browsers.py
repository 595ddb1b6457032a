"""What a User-Agent looks like when it names no agent: a browser, a program, a robot, nothing; and whether such a browser can exist."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import polars as pl

from crawlguard.signals.ua import MAX_UA

_CHROME = (
    # major, build, released (chromiumdash.appspot.com/releases; those between lie on the line between their neighbours)
    (61, 3163, date(2017, 9, 5)), (70, 3538, date(2018, 10, 16)), (80, 3987, date(2020, 2, 4)), (90, 4430, date(2021, 4, 14)),
    (100, 4896, date(2022, 3, 29)), (110, 5481, date(2023, 2, 7)), (120, 6099, date(2023, 12, 5)), (131, 6778, date(2024, 11, 12)),
    (141, 7390, date(2025, 9, 30)), (153, 8010, date(2026, 9, 22)), (157, 8200, date(2026, 11, 17)),
)  # fmt: skip
_FIREFOX = (
    (60, date(2018, 5, 9)), (78, date(2020, 6, 30)), (91, date(2021, 8, 10)), (102, date(2022, 6, 28)), (115, date(2023, 7, 4)),
    (128, date(2024, 7, 9)), (140, date(2025, 6, 24)), (153, date(2026, 8, 18)), (160, date(2026, 11, 24)),
)  # fmt: skip
BUILDS = 120
"""How far a Chromium's build may lie off the line between the known ones. No real browser of the corpora lies further off than 60."""
_TEXT = r"(?i)^(?:lynx|e?links|w3m|dillo|netrik|retawq|edbrowse|netsurf|ibrowse|emacs)\b|NetSurf/|Dillo/"
"""Browsers that load no styles, no icons and hardly an image: what is absent tells nothing about the people who use them."""
_ROBOT = r"(?i)[a-z]bot\b|\bbot\b|crawler|spider\b"
_BRANDED = r"MSIE|Firefox/"
"""Toolbars and people wrote addresses into these browsers' names; elsewhere it is the mark of a program."""
_EPOCH = date(1970, 1, 1)


def kinds(uas: pl.Series) -> pl.DataFrame:
    """For each User-Agent: ua, ``kind`` ("none", "text", "robot", "browser", "other"), ``impossible`` (no browser says this), and ``released``,
    when its version came out (epoch seconds, null when unknown)."""
    frame = pl.DataFrame({"ua": uas}).with_columns(pl.col("ua").str.slice(0, MAX_UA).alias("cut"))
    cut = pl.col("cut")
    chrome = cut.str.extract_groups(r"Chrom(?:e|ium)/([0-9]{2,3})\.([0-9]{1,5})\.([0-9]{1,5})\.").struct
    frame = frame.with_columns(
        *(chrome.field(str(i)).cast(pl.Int64, strict=False).alias(name) for i, name in enumerate(("major", "minor", "build"), 1)),
        cut.str.extract(r"Firefox/([0-9]{2,3})\.").cast(pl.Int64, strict=False).alias("firefox"),
    )
    built = _between("major", [(major, build) for major, build, _ in _CHROME])
    off = (pl.col("build") > 0) & ((pl.col("build") - built).abs() > BUILDS)
    robot = cut.str.contains(_ROBOT) & ~cut.str.contains(r"(?i)cubot") | cut.str.contains(r"(?i)https?://") & ~cut.str.contains(_BRANDED)
    return frame.select(
        "ua",
        pl.when(cut.str.strip_chars() == "").then(pl.lit("none"))
        .when(cut.str.contains(_TEXT)).then(pl.lit("text"))
        .when(robot).then(pl.lit("robot"))
        .when(cut.str.contains(r"^(?:Mozilla/[0-9]|Opera/[0-9])")).then(pl.lit("browser"))
        .otherwise(pl.lit("other")).alias("kind"),
        (off | (pl.col("minor") > 0) & (pl.col("major") >= 61) | cut.str.contains("Windows NT 1[1-9]|Windows NT[.]")).fill_null(False).alias("impossible"),
        pl.coalesce(
            _between("major", [(major, _seconds(day)) for major, _, day in _CHROME]),
            _between("firefox", [(major, _seconds(day)) for major, day in _FIREFOX]),
        ).cast(pl.Int64).alias("released"),
    )  # fmt: skip


def _seconds(day: date) -> int:
    return (day - _EPOCH).days * 86_400


def _between(column: str, known: list[tuple[int, int]]) -> pl.Expr:
    """The value for a version, on the straight lines between the known ones; null outside of them."""
    version = pl.col(column)
    found = pl.lit(None, pl.Float64)
    for (low, at), (high, to) in pairwise(known):
        found = pl.when(version.is_between(low, high)).then(at + (version - low) * ((to - at) / (high - low))).otherwise(found)
    return found
