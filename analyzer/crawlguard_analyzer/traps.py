"""Traps: paths that no person and no obedient crawler asks for, so that who does is told by it. This file does not know who asked.

Three kinds: those that a site names as its own; well-known probes (``traps.yaml``), which only scanners ask for; and what robots.txt forbids
everybody. People may know a forbidden path all the same (a search, a cart): the clients' table leaves out those that likely people asked for.

A request's trap is one small number, and what a client has touched is one number with a bit for each, so that days and hosts add up. A path's
bit follows from its text, never from its place in a list; two that share one are only told together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

import polars as pl
import yaml

from crawlguard.errors import ConfigError
from crawlguard.export.pattern import Pattern, compile_pattern
from crawlguard.export.robotstxt import STAR, Rule, parse, strength

PROBES: Final = Path(__file__).with_name("traps.yaml")
OWN: Final = 0
"""The bit of all traps that the site names."""
_PROBES, _ROBOTS = range(1, 17), range(17, 41)
_OPEN: Final = 40
"""So many bits above a probe's own stands that somebody was answered with 200: then it is no probe here."""
MOST_RULES: Final = 64
"""Rules of a robots.txt that are looked at, the longest ones."""

BY_ROBOTS: Final = sum(1 << bit for bit in _ROBOTS)
TOUCHED: Final = sum(1 << bit for bit in (OWN, *_PROBES, *_ROBOTS))
"""All bits of traps."""
MOST_TOUCHED: Final = _ROBOTS.stop
"""The highest number of ``Traps.touched`` that is a trap; those above are probes that were answered."""


def opened(seen: int) -> int:
    """The probes that a site answers, by all that its clients have touched."""
    return seen >> _OPEN & sum(1 << bit for bit in _PROBES)


@dataclass(frozen=True, slots=True)
class Traps:
    """``own``: regexes of the site's own traps. ``rules``: regexes of robots.txt's rules for everybody, the one that wins first, each with its
    bit, None for what is allowed. All are linear, made here, and held against targets as they were logged: what is written with other
    escapes is missed. Make it with ``traps``.
    """

    own: tuple[str, ...] = ()
    rules: tuple[tuple[str, int | None], ...] = ()

    def touched(self, rows: pl.DataFrame, probing: pl.Series | None) -> pl.Series | None:
        """For each row (columns target, path, status) the trap that it touches, as its bit + 1 (UInt8), 0 for none; None when no row does.

        ``probing``: which rows may be probes, see ``ends``; None: none.
        """
        kinds = (self._forbidden(rows), _probes(rows, probing), self._owned(rows))
        hits = [(places.filter(traps > 0), traps.filter(traps > 0)) for places, traps in filter(None, kinds)]
        if not any(places.len() for places, _ in hits):
            return None
        found = pl.zeros(rows.height, dtype=pl.UInt8, eager=True)
        for places, traps in hits:
            found = found.scatter(places, traps)
        return found

    def _forbidden(self, rows: pl.DataFrame) -> tuple[pl.Series, pl.Series] | None:
        if not self.rules:
            return None
        any_ = "|".join(f"(?:{rule})" for rule, bit in self.rules if bit is not None)
        places = rows["target"].str.contains(any_).arg_true()
        found = pl.lit(0, pl.UInt8)
        for rule, bit in reversed(self.rules):
            found = pl.when(pl.col("target").str.contains(rule)).then(pl.lit(0 if bit is None else bit + 1, pl.UInt8)).otherwise(found)
        return places, rows[places].select(found.alias("trap")).to_series()

    def _owned(self, rows: pl.DataFrame) -> tuple[pl.Series, pl.Series] | None:
        if not self.own:
            return None
        places = rows["target"].str.contains("|".join(f"(?:{trap})" for trap in self.own)).arg_true()
        return places, pl.repeat(OWN + 1, places.len(), dtype=pl.UInt8, eager=True)


NO_TRAPS: Final = Traps()


def _probes(rows: pl.DataFrame, probing: pl.Series | None) -> tuple[pl.Series, pl.Series] | None:
    if probing is None:
        return None
    places = probing.arg_true()
    bit = pl.col("path").replace_strict({path: bit + 1 for path, bit in probes().items()}, default=0, return_dtype=pl.UInt8)
    answered, refused = pl.col("status").is_between(200, 299), pl.col("status").is_in((403, 404))
    found = rows[places].select(pl.when(refused).then(bit).when(answered & (bit > 0)).then(bit + _OPEN).otherwise(0).cast(pl.UInt8))
    return places, found.to_series()


def ends(length: int) -> list[str]:
    """The last characters of all probes: what ends otherwise is none."""
    return sorted({path[-length:] for path in probes()})


def traps(patterns: Sequence[str] = (), robots: bytes | None = None) -> Traps:
    """``patterns``: the site's own, written as in robots.txt: a beginning, with * for anything and $ for the end. ``robots``: its robots.txt.

    Raises ConfigError for a pattern that is no path, or holds of the home page, so of every site's visitors.
    """
    for pattern in patterns:
        if not pattern.startswith(("/", "*")) or compile_pattern(pattern).matches("/"):
            raise ConfigError(
                f"--trap {pattern}: not a path that only machines ask for; write it as in robots.txt, such as /trap/ or /*/hidden$"
            )
    return Traps(tuple(_regex(compile_pattern(pattern)) for pattern in patterns), tuple(_rules(robots)))


def _rules(robots: bytes | None) -> Iterator[tuple[str, int | None]]:
    """The rules for everybody but those that speak of the home page: a site that is closed altogether has no traps."""
    if robots is None:
        return
    found = [rule for group in parse(robots).named(STAR) for rule in group.rules if rule.pattern and not rule.match.matches("/")]
    ranked = sorted(found, key=strength, reverse=True)
    kept: Iterable[Rule] = [rule for rule in ranked if not rule.allow][:MOST_RULES]
    for rule in ranked:
        if rule.allow or rule in kept:
            yield _regex(rule.match), None if rule.allow else _bit(rule.pattern, _ROBOTS)


def _regex(pattern: Pattern) -> str:
    if pattern.whole:
        return f"^{re.escape(pattern.head)}$"
    end = "" if pattern.tail is None else f".*{re.escape(pattern.tail)}$"
    return "(?s)^" + ".*".join(map(re.escape, (pattern.head, *pattern.pieces))) + end


def _bit(text: str, places: range) -> int:
    return places[int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=4).digest()) % len(places)]


@cache
def probes() -> dict[str, int]:
    """The well-known probes and their bits."""
    return {path: _bit(path, _PROBES) for path in yaml.safe_load(PROBES.read_bytes())["probes"]}
