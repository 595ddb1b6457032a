"""Points in time as logs write them, as seconds since 1970. One exact function, and the same for a column by way of its distinct values."""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

import polars as pl

from ..combined_exact import MONTHS

_EPOCH = re.compile(r"([0-9]{9,19})(?:\.[0-9]{1,18})?")
_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:[.,][0-9]{1,18})?"
_ZONE = r" ?(Z|UTC|([+-])([01][0-9]|2[0-3]):?([0-5][0-9]))?"
_ISO = re.compile(rf"([0-9]{{4}})[-/]([0-9]{{2}})[-/]([0-9]{{2}})[T ]{_CLOCK}{_ZONE}")
_CLF = re.compile(rf"([0-9]{{2}})/([A-Z][a-z]{{2}})/([0-9]{{4}}):{_CLOCK}{_ZONE}")
_ISO_SHAPE, _CLF_SHAPE = (rf"^{pattern.pattern}$" for pattern in (_ISO, _CLF))
_UNITS = ((18, 10**9), (15, 10**6), (12, 10**3), (0, 1))
"""An epoch of so many digits and more counts nanoseconds, microseconds, milliseconds; else seconds."""


@lru_cache(maxsize=8192)
def seconds(text: str) -> int | None:
    """Seconds since 1970 of ``23/Sep/2026:16:13:20 +0200``, ``2026-09-23T16:13:20.5Z`` or ``1790179200.5``, or None.

    Without a zone it is taken for UTC. Fractions are cut off; a leap second is the first of the next minute.
    """
    if found := _EPOCH.fullmatch(text):
        return int(found[1]) // next(unit for digits, unit in _UNITS if len(found[1]) > digits)
    if found := _ISO.fullmatch(text):
        year, month, day = found[1], int(found[2]), found[3]
    elif (found := _CLF.fullmatch(text)) and found[2].encode() in MONTHS:
        year, month, day = found[3], MONTHS[found[2].encode()], found[1]
    else:
        return None
    try:
        days = date(int(year), month, int(day)).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    zone = (int(found[9]) * 60 + int(found[10])) * 60 if found[8] else 0
    return days * 86_400 + int(found[4]) * 3600 + int(found[5]) * 60 + int(found[6]) - (-zone if found[8] == "-" else zone)


def column(texts: pl.Series) -> pl.Series:
    """The same of each, as Int64; null for what is none, and for what is written in another way than the first is."""
    first = next(iter(texts.drop_nulls().head(1)), "")
    if _EPOCH.fullmatch(first):
        return _epochs(texts)
    shape, hour = (_CLF_SHAPE, 14) if first[2:3] == "/" else (_ISO_SHAPE, 13)
    tails = texts.str.slice(hour + 6)
    if tails.str.contains("^[.,]").any():
        tails = tails.str.replace("^[.,][0-9]+", "")
    hours = pl.select(pl.concat_str(texts.str.slice(0, hour), pl.lit(":00:00"), tails)).to_series()
    distinct = hours.drop_nulls().unique()
    begun = hours.replace_strict(distinct, pl.Series([seconds(one) for one in distinct.to_list()], dtype=pl.Int64), default=None)
    minute, second = (texts.str.slice(hour + at, 2).cast(pl.Int64, strict=False) for at in (1, 4))
    return pl.select(pl.when(texts.str.contains(shape)).then(begun + minute * 60 + second)).to_series()


def _epochs(texts: pl.Series) -> pl.Series:
    whole = texts.str.split_exact(".", 1).struct.field("field_0")
    unit = pl.lit(1)
    for digits, size in reversed(_UNITS[:-1]):
        unit = pl.when(whole.str.len_bytes() > digits).then(size).otherwise(unit)
    return pl.select(pl.when(texts.str.contains(rf"^{_EPOCH.pattern}$")).then(whole.cast(pl.Int64, strict=False) // unit)).to_series()
