"""The report on a terminal: at most 100 columns, plain characters only of what the log holds, colour as an extra that may be missing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import click
import polars as pl

from ..analysis import Analysis
from ..tables import CLASSES, UNDECLARED
from .words import (
    NAMES,
    NEXT,
    UNTIMED,
    acted,
    buckets,
    count,
    duration,
    in_short,
    members,
    moment,
    obedience,
    percent,
    period,
    plain,
    reasons,
    short,
    size,
)  # fmt: skip

ROWS = 8
"""Rows of each table; the page and the exports have more."""
NARROW, WIDE = 80, 100
SPARKS = 36
BAR = 20
_COLOURS = {"person": "green", "declared": "blue", "crawler": "red", "swarm": "red", "spoofed": "magenta"}
_VERDICTS = {"verified": "green", "spoofed": "red", "yes": "green", "no": "red"}
BLOCKS, ASCII_BLOCKS = " ▁▂▃▄▅▆▇█", " ..::-=+#"


class Cell(NamedTuple):
    """A text, which is cut where there is no room, and its colour."""

    text: str
    colour: str | None = None


def show(analysis: Analysis, *, then: str = NEXT, brief: bool = False, width: int | None = None, blocks: bool = True) -> str:
    """The report as text with click's styles, without an end of line at its end.

    ``then``: the command that comes next. ``brief``: only who takes the load, and what the log was. ``width``: columns, by default the
    terminal's, between 80 and 100. ``blocks``: whether the terminal has block characters.
    """
    columns = min(max(width or shutil.get_terminal_size((NARROW, 24)).columns, NARROW), WIDE)
    view = _View(analysis, columns, BLOCKS if blocks else ASCII_BLOCKS)
    more = () if brief else (view.days(), view.agents(), view.undeclared(), view.networks(), view.guard(), view.threshold())
    parts = map(list, (view.head(), view.load(), *more, view.log()))
    lines = [line for part in parts if part for line in (*part, "")]
    follows = "shows who they are, and why" if brief else "proposes rules against this load, with evidence and the people at risk"
    return "\n".join([*lines, f"{click.style('Next:', bold=True)} {plain(then)}", f"      {follows}"])


def echo(analysis: Analysis, *, then: str = NEXT, brief: bool = False) -> None:
    """Print the report, in characters that the output can write, and in colour where it is a terminal."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        blocks = bool(BLOCKS.encode(encoding))
    except UnicodeEncodeError:
        blocks = False
    click.echo(show(analysis, then=then, brief=brief, blocks=blocks).encode(encoding, "backslashreplace").decode(encoding))


class _View:
    def __init__(self, analysis: Analysis, width: int, blocks: str) -> None:
        self.analysis, self.width, self.blocks = analysis, width, blocks
        self.requests = int(analysis.clients["requests"].sum())
        self.heights = analysis.heights()

    def head(self) -> Iterator[str]:
        totals = self.analysis.totals
        yield f"{click.style('Who visits this site', bold=True)}  {period(totals)}"
        yield f"  {count(totals.rows, 'request')} by {count(self.analysis.clients.height, 'client')}, {size(totals.bytes)} sent"
        yield ""
        yield from self._wrapped(" ".join(in_short(self.analysis)))

    def load(self) -> Iterator[str]:
        table = self.analysis.classes()
        clients, spent = int(table["clients"].sum()), self.analysis.totals.spent
        if not clients:
            return
        rows = [
            [
                Cell(NAMES.get(row["class"], row["class"]), _COLOURS.get(row["class"])),
                Cell(f"{row['clients']:,}"), Cell(percent(row["clients"], clients)),
                Cell(f"{row['requests']:,}"), Cell(percent(row["requests"], self.requests)),
                Cell(""),
                Cell(size(row["bytes"])), *[Cell(duration(row["spent"]))] * bool(spent),
            ]
            for row in table.iter_rows(named=True)
        ]  # fmt: skip
        head = ("", "clients", "", "requests", "", "", "sent", *["server"] * bool(spent))
        most = min(BAR, self.width - sum(width + 2 for width in _widths(head, rows)))
        for row, one in zip(rows, table.iter_rows(named=True), strict=True):
            row[5] = Cell(self._bar(one["requests"], self.requests, most), _COLOURS.get(one["class"]))
        yield from self._table("Who takes the load", head, rows, right=(1, 2, 3, 4, 6, 7))

    def days(self) -> Iterator[str]:
        days = self.analysis.every_day()
        if len(days) < 2:
            return
        width = -(-len(days) // SPARKS)
        rows = []
        for name in CLASSES:
            each = self.analysis.by_day(name)
            if any(each):
                colour = _COLOURS.get(name)
                mean, most = short(sum(each) / len(each)), short(max(each))
                rows.append([Cell(NAMES[name], colour), Cell(self._spark(each), colour), Cell(mean), Cell(most)])
        title = f"Requests per day, {days[0]} to {days[-1]}" + (f" ({width} days a mark)" if width > 1 else "")
        yield from self._table(title, ("", "each on its own scale", "mean", "most"), rows, right=(2, 3))

    def agents(self) -> Iterator[str]:
        table = self.analysis.agents
        rows = [
            [
                Cell(plain(row["agent"], 22)), Cell(plain(row["category"] or "", 14), "bright_black"),
                Cell(f"{row['requests']:,}"), Cell(percent(row["requests"], self.requests)),
                Cell(row["identity"], _VERDICTS.get(row["identity"])), Cell(obedience(row), _VERDICTS.get(row["obeys"])),
            ]
            for row in table.head(ROWS).iter_rows(named=True)
        ]  # fmt: skip
        if rows:
            yield from self._table("Agents that name themselves", ("", "", "requests", "", "identity", "robots.txt"), rows, right=(2, 3))
            yield from self._more(self.heights["agents"])

    def undeclared(self) -> Iterator[str]:
        swarms, alone = self.analysis.swarms, self.analysis.undeclared
        if swarms.height:
            yield click.style("Swarms: many addresses that behave as one crawler", bold=True)
            for row in swarms.head(ROWS).iter_rows(named=True):
                what = f"{count(row['requests'], 'request')} ({percent(row['requests'], self.requests)}) by {members(row)} in {count(row['subnets'], 'subnet')}"
                yield f"  {click.style(plain(row['swarm'], 40), fg='red')}  {what}"
                yield from self._why(row)
            yield from self._more(self.heights["swarms"])
        if alone.height:
            if swarms.height:
                yield ""
            yield click.style("Crawlers that do not say so", bold=True)
            for row in alone.head(ROWS).iter_rows(named=True):
                network = ", ".join(plain(str(text), 30) for text in (row["asn"] and f"AS{row['asn']}", row["country"]) if text)
                what = f"{count(row['requests'], 'request')} ({percent(row['requests'], self.requests)}), {count(row['days'], 'day')}"
                what += f", last {moment(row['last'])[:10]}{network and f', {network}'}"
                yield f"  {click.style(plain(row['client'], 45), fg=_COLOURS[row['class']])}  {what}"
                yield from self._why(row)
            yield from self._more(self.heights["undeclared"])

    def _why(self, row: dict[str, Any]) -> Iterator[str]:
        alias = [f"calls itself {plain(row['agent'], 40)}"] if row.get("agent") else []
        told = [*alias, f"{count(row['documents'], 'page')}, {count(row['assets'], 'asset')}", *reasons(row)]
        for line in self._wrapped("; ".join(told), "      "):
            yield click.style(line, fg="bright_black")

    def networks(self) -> Iterator[str]:
        by_asn = self.analysis.networks.filter(pl.col("kind") == "asn")
        table = by_asn if by_asn.height else self.analysis.networks
        rows = []
        for row in table.head(ROWS).iter_rows(named=True):
            hidden = sum(row[name] for name in UNDECLARED)
            mostly = max(CLASSES, key=lambda name: int(row[name]))
            rows.append(
                [
                    Cell(plain(row["network"], 30)), Cell(plain(row["country"] or "", 4), "bright_black"), Cell(f"{row['clients']:,}"),
                    Cell(f"{row['requests']:,}"), Cell(percent(row["requests"], self.requests)), Cell(percent(hidden, row["requests"]), "red" if hidden else None),
                    Cell(NAMES[mostly], _COLOURS.get(mostly)),
                ]
            )  # fmt: skip
        if rows:
            title = "Networks" if by_asn.height else "Networks (subnets: no --asn database was named)"
            yield from self._table(title, ("", "", "clients", "requests", "", "hide it", "mostly"), rows, right=(2, 3, 4, 5))
            yield from self._more(self.heights["asn" if by_asn.height else "subnet"])

    def guard(self) -> Iterator[str]:
        table = self.analysis.actions
        if table is None or not table.height:
            return
        whole = int(table["hits"].sum())
        rows = [
            [
                Cell(plain(row["rule"], 40) or "no rule matched"), Cell(plain(row["action"], 20), "red" if acted(row["action"]) else "green"),
                Cell(f"{row['hits']:,}"), Cell(percent(row["hits"], whole)), Cell(self._bar(row["hits"], whole), "bright_black"),
            ]
            for row in table.head(ROWS).iter_rows(named=True)
        ]  # fmt: skip
        yield from self._table("What the guard did", ("rule", "action", "requests", "", ""), rows, right=(2, 3))
        yield from self._more(table.height)

    def threshold(self) -> Iterator[str]:
        points, threshold = self.analysis.curve, self.analysis.threshold
        clients, requests = int(points["clients"][0]), int(points["requests"][0])
        if not clients:
            return
        least, most = points["threshold"][0], points["threshold"][-1]
        yield click.style(f"Where the line is drawn: undeclared clients by score, from {least:g} to {most:g}", bold=True)
        steps = points["threshold"].to_list()
        for name in ("requests", "clients"):
            yield f"  {name:<10}{self._spark(points[name].to_list(), len(steps))}"
        if threshold is not None:
            here = points.filter(pl.col("threshold") == threshold)
            yield f"{'':<12}{' ' * steps.index(threshold)}^"
            yield f"  {threshold:g} is in force: {percent(here['requests'][0], requests)} of requests, {percent(here['clients'][0], clients)} of clients"

    def log(self) -> Iterator[str]:
        totals = self.analysis.totals
        missed = sum(totals.unparsed.values())
        yield click.style("The log", bold=True)
        for line in totals.formats[:ROWS]:
            yield f"  {plain(line, self.width - 2)}"
        what = ", ".join(
            f"{number:,} {plain(reason, 30)}" for reason, number in sorted(totals.unparsed.items(), key=lambda pair: -pair[1])[:ROWS]
        )
        told = (
            f"{count(totals.lines, 'line')}, of which {count(missed, 'line')} could not be read ({percent(missed, totals.lines)}): {what}"
        )
        yield from self._wrapped(told if missed else f"{count(totals.lines, 'line')}, all of which could be read")
        if totals.rows and not totals.spent:
            yield from self._wrapped(f"time the server took: n/a; to know it, {UNTIMED}")
        for note in self.analysis.notes[:ROWS]:
            yield from self._wrapped(plain(note))

    # ---- what they are made of

    def _table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[int]) -> Iterator[str]:
        """Aligned columns; the last one is cut at the width."""
        yield click.style(title, bold=True)
        widths = _widths(head, rows)
        for cells in ([Cell(text, "bright_black") for text in head] if any(head) else None, *rows):
            if cells is None:
                continue
            line, room = "  ", self.width - 2
            for i, (text, colour) in enumerate(cells):
                shown = text if len(text) <= room else f"{text[: max(room - 3, 0)]}..."
                gap = " " * max(min(widths[i], room) - len(shown), 0)
                styled = click.style(shown, fg=colour) if colour and shown else shown
                line += (gap + styled if i in right else styled + gap) + "  "
                room -= widths[i] + 2
            yield line.rstrip()

    def _more(self, whole: int) -> Iterator[str]:
        if whole > ROWS:
            yield click.style(f"  and {whole - ROWS:,} more, of fewer requests", fg="bright_black")

    def _wrapped(self, text: str, indent: str = "  ") -> Iterator[str]:
        return wrapped(text, self.width, indent)

    def _bar(self, part: int, whole: int, most: int = BAR) -> str:
        return self.blocks[-1] * max(round(most * part / whole), 1 if part else 0) if whole else ""

    def _spark(self, counts: Sequence[int], most: int = SPARKS) -> str:
        values = buckets(counts, most)
        top = max(values, default=0) or 1
        return "".join(self.blocks[-(-8 * n // top)] for n in values)


def wrapped(text: str, width: int, indent: str = "  ") -> Iterator[str]:
    """Lines of at most ``width`` columns, cut at blanks."""
    line = indent.rstrip("\n")
    for word in text.split():
        if len(line) + len(word) + 1 > width and line.strip():
            yield line
            line = indent
        line += word if line == indent else f" {word}"
    if line.strip():
        yield line


def _widths(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[int]:
    return [max(len(head[i]), *(len(row[i].text) for row in rows)) for i in range(len(head))]
