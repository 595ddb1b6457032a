"""Shows the lint of a robots.txt to eyes. Everything that comes from the file is made printable before it reaches a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import click

from ..export.lint import Report
from ..export.lint_table import Finding, shown
from ..export.reach import Conflict, Reach
from ..signals.ua import Agent

MOST = 200
"""Findings, and contradictions, that are shown; ``--json`` has all."""
MOST_NAMES = 12
MOST_PLACES = 6

_COLUMNS = ("everywhere", "in part", "nowhere", "no_token")
_COLOURS = {"warning": "yellow", "info": "cyan"}


def show(report: Report, name: str = "robots.txt") -> str:
    """The report as text with click's styles: whom the file stops, its lines, its contradictions. Without an end of line at its end."""
    return "\n".join((*_head(report, name), "", *_reach(report), "", *_lines(report.findings), *_conflicts(report.conflicts)))


def _head(report: Report, name: str) -> Iterator[str]:
    file = report.file
    yield f"{click.style(shown(name), bold=True)}: {file.size:,} bytes, {_count(len(file.lines), 'line')}, {_count(len(file.groups), 'group')}"


def _reach(report: Report) -> Iterator[str]:
    rows = report.by_category()
    width = max((*map(len, rows), 8))
    yield click.style("  ".join(("stopped ".ljust(width + 2), *_COLUMNS)).replace("_", " ").rstrip(), bold=True)
    for category, row in rows.items():
        yield "  ".join((f"  {category.ljust(width)}", *(str(row[c] or "-").rjust(len(c)) for c in _COLUMNS)))
    told = [reach for reach in report.reach if reach.agent.ai]
    yield from _names("AI agents that it does not stop", (r for r in told if r.stopped == "nowhere"))
    yield from _names("AI agents that it stops in part", (r for r in told if r.stopped == "in part"))
    stopped = [r for r in told if r.stopped != "nowhere"]
    yield from _names(
        "stopped on paper only, as they do not heed it: the guard must", (r for r in stopped if r.agent.honours_robots == "no")
    )
    yield from _names("stopped if they heed it, which nobody says", (r for r in stopped if r.agent.honours_robots == "unknown"))
    yield from _names("stopped by this file alone, as no request carries their name", (r for r in stopped if r.token_only))
    yield from _names("with a token that RFC 9309 does not allow, so some readers miss it", (r for r in stopped if r.odd_token))
    beyond = sum(agent.ai for agent in report.out_of_reach)
    if beyond:
        yield f"  {_count(beyond, 'AI agent')} without a robots.txt token: only the guard reaches them"


def _names(what: str, found: Iterable[Reach]) -> Iterator[str]:
    agents = [reach.agent for reach in found]
    if agents:
        yield f"  {what}: {_few(agents)}"


def _few(agents: Sequence[Agent]) -> str:
    names = ", ".join(agent.name for agent in agents[:MOST_NAMES])
    return f"{names} and {len(agents) - MOST_NAMES} more" if len(agents) > MOST_NAMES else names


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        yield click.style("every line does what it says", fg="green")
    for found in findings[:MOST]:
        place = f"line {found.line}" if found.line else "the file"
        label = click.style(f"{found.severity} {found.code}", fg=_COLOURS[found.severity])
        yield f"{click.style(place, bold=True)}: {label}: {found.message}"
        yield f"    {found.cure}"
    if len(findings) > MOST:
        yield f"... and {len(findings) - MOST} more: see --json"


def _conflicts(conflicts: Sequence[Conflict] | None) -> Iterator[str]:
    if conflicts is None:
        return
    yield ""
    if not conflicts:
        yield click.style("it says what the policy says", fg="green")
    for conflict in conflicts[:MOST]:
        says = "it allows what the policy refuses" if conflict.allows else "it asks to stay away, and the policy would serve"
        yield f"{click.style(says, fg='yellow' if conflict.allows else 'cyan')}: {_few(conflict.agents)}"
        places = [f"{shown(path)} ({f'line {line}' if line else 'no rule'})" for path, line in conflict.places]
        yield "    at " + ", ".join(places[:MOST_PLACES]) + (f" and {len(places) - MOST_PLACES} more" if len(places) > MOST_PLACES else "")
    if len(conflicts) > MOST:
        yield f"... and {len(conflicts) - MOST} more: see --json"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
