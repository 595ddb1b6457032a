"""Proposals in the terminal: what each is worth and costs in a table, then the rules themselves, and what to do next."""

from __future__ import annotations

import click

from crawlguard.console import table

from ..report.words import UNTIMED, count, duration, plain
from .proposal import Proposal, Proposals, day

COLOURS = {"high": "green", "medium": "yellow", "low": "red"}


def show(found: Proposals, *, rules: bool = True, beside: str = "") -> str:
    """The whole of it as text. ``rules``: with the YAML of each. ``beside``: a file of earlier proposals that counted, too."""
    parts = [_head(found, beside)]
    if found.proposals:
        untimed = _untimed(found)
        rows = [_row(one, untimed) for one in found.proposals]
        head = ("rule", "does", "requests", "of all", *["CPU"] * (not untimed), "people", "unsure", "confidence", "shadow", "expires")
        parts.append(table(rows, head, COLOURS))
    notes = [*found.notes, *[f"CPU saved: n/a, as the log does not say how long the server took; to know it, {UNTIMED}"] * _untimed(found)]
    parts += [f"  note: {plain(note, 400)}" for note in notes]
    if rules and found.proposals:
        parts += ["", "\n".join(_painted(one.yaml) for one in found.proposals).rstrip("\n")]
    return "\n".join(parts)


def _head(found: Proposals, beside: str) -> str:
    span = f"{day(found.first)} to {day(found.last)}" if found.requests else "an empty log"
    alone = f"{plain(found.policy)} and {plain(beside)} leave alone" if beside else f"{plain(found.policy)} leaves alone"
    load = f"{found.load:,} of {count(found.requests, 'request')} ({span}) are those of machines that {alone}"
    if not found.proposals:
        return f"{load}.\n{click.style('Nothing to propose.', bold=True)}"
    share = found.covered / max(1, found.load)
    sure = f"{count(len(found.proposals), 'new rule')} would cover {found.covered:,} of them ({share:.0%})."
    return f"{load}.\n{click.style(sure, bold=True)}\n"


def _row(one: Proposal, untimed: bool) -> tuple[str, ...]:
    seen, risk = one.evidence, one.risk
    people, unsure = (str(n) if n else "-" for n in (risk.people, risk.unsure))
    return (
        one.id, one.then, f"{seen.requests:,}", f"{seen.share:.1%}", *[duration(seen.spent or 0)] * (not untimed), people, unsure, one.confidence, f"{one.shadow_days} d",
        one.expires.isoformat(),
    )  # fmt: skip


def _untimed(found: Proposals) -> bool:
    return any(one.evidence.spent is None for one in found.proposals)


def _painted(yaml: str) -> str:
    return "\n".join(click.style(line, dim=True) if line.lstrip().startswith("#") else line for line in yaml.split("\n"))
