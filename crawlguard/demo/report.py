"""What the demo tells: one table for people, or one JSON object with the same in it.

The JSON object: version (1), ok, seconds, sites, clients (client, program, site, must, requests, served, refused, statuses,
errors, rules, problems), log (rule, action, shadow, count), absent (programs that could have taken part), problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from .sites import Site
from .visitors import REFUSED, SERVED, SLOWED, Visit

VERSION = 1

Cell = tuple[str, str | None]
"""A text and its colour."""


@dataclass(slots=True, kw_only=True)
class Report:
    """A finished demo. ``events``: the decision logs' lines; ``absent``: clients whose program is not installed."""

    sites: Sequence[Site]
    visits: Sequence[Visit]
    events: Sequence[dict[str, Any]]
    seconds: float
    absent: Sequence[str] = ()
    notes: Sequence[str] = ()

    def problems(self) -> list[str]:
        """Everything that is not as it must be."""
        return [f"{visit.client} at the {visit.site.name} site {problem}" for visit in self.visits for problem in visit.problems()]

    def summary(self) -> list[tuple[str | None, str, bool, int]]:
        """(rule, action, shadow, count) over both decision logs: refusals first, then what was only watched, then allows."""
        counted = Counter((e["rule"], e["action"], e["shadow"]) for e in self.events)
        rows = [(rule, action, shadow, count) for (rule, action, shadow), count in counted.items()]
        return sorted(rows, key=lambda row: (row[1] == "allow", row[2], -row[3], row[0] or ""))

    def as_dict(self) -> dict[str, Any]:
        """The JSON object; its shape is in the docstring of this file."""
        problems = self.problems()
        return {
            "version": VERSION,
            "ok": not problems,
            "seconds": round(self.seconds, 1),
            "sites": [{"name": s.name, "server": s.server, "workers": s.workers, "url": s.url} for s in self.sites],
            "clients": [_client(visit) for visit in self.visits],
            "log": [{"rule": r, "action": a, "shadow": s, "count": n} for r, a, s, n in self.summary()],
            "absent": list(self.absent),
            "notes": list(self.notes),
            "problems": problems,
        }

    # ---- for people

    def show(self, call: str) -> None:
        """Print it all. ``call``: what to type for the command."""
        for site in self.sites:
            workers = f"{site.workers} workers" if site.workers > 1 else "1 worker"
            what = f"under {site.server}, {workers}, with crawlguard's two lines in front"
            click.echo(f"{click.style(f'{site.name} site', bold=True):<24}{site.url}  {what}")
        for note in self.notes:
            click.secho(note, fg="yellow")
        click.echo()
        _table(("client", "site", "requests", "served", "refused", "rule that decided"), self._rows(), right=(2, 3))
        if self.absent:
            click.secho(f"  not installed, hence not sent: {', '.join(self.absent)}", dim=True)
        click.echo(f"\n{click.style('What the decision logs say', bold=True)}\n")
        _table(("rule", "action", "", "requests"), [_event(*row) for row in self.summary()], right=(3,))
        click.echo()
        self._close(call)

    def _rows(self) -> list[tuple[Cell, ...]]:
        """A client's rows stand together, one for each site, and name it once."""
        rows: list[tuple[Cell, ...]] = []
        last = self.visits[0].must
        for client, must in {v.client: v.must for v in self.visits}.items():
            if must != last:
                rows.append(())
                last = must
            for place, visit in enumerate(v for v in self.visits if v.client == client):
                name, *rest = _row(visit)
                rows.append((name if place == 0 else ("", None), *rest))
        return rows

    def _close(self, call: str) -> None:
        problems = self.problems()
        if problems:
            click.secho(f"Not as it must be ({self.seconds:.1f} s):", fg="red", bold=True)
            for problem in problems:
                click.echo(f"  {problem}")
        else:
            crawlers = {v.client for v in self.visits if v.must == REFUSED}
            stopped, slowed = (sum(v.refused.total() for v in self.visits if v.must == must) for must in (REFUSED, SLOWED))
            served = sum(v.served for v in self.visits if v.must == SERVED)
            click.secho(
                f"All as it must be: {len(crawlers)} crawlers refused {stopped} times, a flood slowed down {slowed} times, {served} requests of everybody else served, in {self.seconds:.1f} s.",
                fg="green", bold=True,
            )  # fmt: skip
        click.echo("Next, in your project's directory:\n")
        lines = {
            f"{call} init": "writes a policy, and names the two lines that switch it on",
            f"{call} explain --ua GPTBot/1.2 --ip 203.0.113.7": "shows rule by rule how it decides",
        }
        for line, what in lines.items():
            click.echo(f"  {line:<{max(map(len, lines))}}  {click.style(f'# {what}', fg='bright_black')}")


def _row(visit: Visit) -> tuple[Cell, ...]:
    bad = bool(visit.problems())
    decided = sorted({(rule, shadow, action) for rule, action, shadow in visit.rules}, key=lambda r: (r[1], r[0]))
    rules = ", ".join(f"{rule} (shadow: would {action})" if shadow else rule for rule, shadow, action in decided)
    refused = f"{visit.refused.total()} ({', '.join(map(str, sorted(visit.refused)))})" if visit.refused else "-"
    if bad:
        rules = f"{rules or visit.unruled}  WRONG: must be {visit.must}"
    return (
        (f"{visit.client} ({visit.program})" if visit.program in ("curl", "httpx") else visit.client, "red" if bad else None),
        (visit.site.name, None),
        (str(visit.requests), None),
        (str(visit.served) if visit.served else "-", "green" if visit.served else None),
        (refused, None if not visit.refused else "yellow" if 429 in visit.refused else "red"),
        (rules or visit.unruled, "red" if bad else None if any(not shadow for _, shadow, _ in decided) else "bright_black"),
    )


def _event(rule: str | None, action: str, shadow: bool, count: int) -> tuple[Cell, ...]:
    colour = "bright_black" if shadow else {"allow": "green", "throttle": "yellow"}.get(action, "red")
    return (
        (rule or "no rule matched", None),
        (action, colour),
        ("shadow: logged, not acted on" if shadow else "", colour),
        (str(count), None),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[int]) -> None:
    widths = [max(len(head[i]), *(len(row[i][0]) for row in rows if row)) for i in range(len(head))]

    def line(cells: Sequence[Cell], bold: bool = False) -> str:
        shown = []
        for i, (text, colour) in enumerate(cells):
            gap = " " * (widths[i] - len(text))
            styled = click.style(text, fg=colour, bold=bold or None) if text and (colour or bold) else text
            shown.append(gap + styled if i in right else styled + gap)
        return f"  {'  '.join(shown)}".rstrip()

    click.echo(line([(text, None) for text in head], bold=True))
    for row in rows:
        click.echo(line(row))


def _client(visit: Visit) -> dict[str, Any]:
    return {
        "client": visit.client,
        "program": visit.program,
        "site": visit.site.name,
        "must": visit.must,
        "requests": visit.requests,
        "served": visit.served,
        "refused": visit.refused.total(),
        "statuses": {str(status): count for status, count in sorted(visit.refused.items())},
        "errors": visit.errors,
        "rules": [{"rule": r, "action": a, "shadow": s, "count": n} for (r, a, s), n in sorted(visit.rules.items())],
        "problems": visit.problems(),
    }
