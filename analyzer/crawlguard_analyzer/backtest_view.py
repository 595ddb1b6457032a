"""Shows backtests to eyes: tables and a few sentences. Everything that a log or its agents wrote is made printable first."""

from __future__ import annotations

from collections.abc import Iterator

import click

from crawlguard.console import table

from .backtest import Change, Difference, Outcome, RuleOutcome
from .backtest_tally import Told
from .report.words import count, moment, percent, plain, size

COLOURS = {"allow": "green", "block": "red", "throttle": "yellow", "hide": "red", "price": "yellow", "shadow": "cyan"}
MOST_RULES, MOST_CHANGES = 200, 40
"""Rules and changes that are shown; ``--json`` has all."""
NARROW = 48
"""Characters of an agent's name, or of a rule's, in a table."""
PEOPLE_UNKNOWN = "who of them is a person is not known: name the clients table of crawlguard analyze with --clients FILE"


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """What one policy would have done."""
    yield from _head(outcome)
    yield ""
    hit = [rule for rule in outcome.rules if rule.told.hits]
    if hit:
        rows = [_row(rule, outcome) for rule in hit[:MOST_RULES]]
        yield table(rows, ["rule", "does", "mode", "requests", "share", "clients", "people", "bytes"], COLOURS)
        if len(hit) > MOST_RULES:
            yield f"  ... and {len(hit) - MOST_RULES} more: see --json"
        for rule in hit[:MOST_RULES]:
            yield ""
            yield f"{click.style(plain(rule.rule), bold=True)}  {_when(rule.told)}"
            yield from _details(rule.told, refuses=rule.refuses)
    else:
        yield "No rule would have matched a request."
    silent = [plain(rule.rule) for rule in outcome.rules if not rule.told.hits]
    if silent and hit:
        yield ""
        yield f"without a request: {', '.join(silent[:MOST_RULES])}"
    yield from _doubts(outcome)


def difference_lines(difference: Difference) -> Iterator[str]:
    """What would change from one policy to the other."""
    old, new = difference.old, difference.new
    yield from _head(new, f"{old.policy} -> {new.policy}")
    before, after = (", ".join(f"{name} {number:,}" for name, number in one.actions.items()) or "nothing" for one in (old, new))
    yield f"  before: {before}"
    yield f"  after:  {after}"
    yield ""
    changes = difference.changes
    if not changes:
        yield "No request would be treated otherwise."
    else:
        rows = [_change_row(change, new) for change in changes[:MOST_CHANGES]]
        yield table(rows, ["before", "by", "after", "by", "requests", "share", "clients", "people"], COLOURS)
        if len(changes) > MOST_CHANGES:
            yield f"  ... and {len(changes) - MOST_CHANGES} more: see --json"
        for change in changes[:MOST_CHANGES]:
            yield ""
            told = f"{change.old_action} ({_by(change.old_rule)}) -> {change.new_action} ({_by(change.new_rule)})"
            yield f"{click.style(told, bold=True)}  {_when(change.told)}"
            yield from _details(change.told, refuses=change.new_action != "allow")
    watched = [rule for rule in new.rules if rule.shadow and rule.told.hits]
    if watched:
        yield ""
        yield "only watched after it:"
        yield table(
            [_row(rule, new) for rule in watched[:MOST_RULES]],
            ["rule", "does", "mode", "requests", "share", "clients", "people", "bytes"],
            COLOURS,
        )
    yield from _doubts(new)


def _head(outcome: Outcome, name: str = "") -> Iterator[str]:
    first, last = moment(outcome.first), moment(outcome.last)
    span = f", {first} to {last} UTC" if first and last else ""
    yield f"{click.style(plain(name or outcome.policy), bold=True)} on {count(outcome.rows, 'request')}{span}"
    if outcome.unparsed:
        yield f"  {count(outcome.unparsed, 'line')} could not be read"
    if not name:
        parts = [f"{action} {number:,} ({percent(number, outcome.rows)})" for action, number in outcome.actions.items()]
        yield f"  {', '.join(parts)}" if parts else "  the log holds no request"
        if outcome.mode == "shadow":
            yield "  the policy is in shadow mode: its rules would only be logged"


def _row(rule: RuleOutcome, outcome: Outcome) -> list[str]:
    told = rule.told
    people = f"{told.people.clients:,}" if told.people and rule.refuses else "-" if told.people else "?"
    share = percent(told.hits, outcome.rows)
    return [
        plain(rule.rule, NARROW),
        rule.action,
        "shadow" if rule.shadow else "",
        f"{told.hits:,}",
        share,
        f"{told.clients:,}",
        people,
        size(told.bytes),
    ]


def _change_row(change: Change, outcome: Outcome) -> list[str]:
    told = change.told
    people = f"{told.people.clients:,}" if told.people else "?"
    told_of = [f"{told.hits:,}", percent(told.hits, outcome.rows), f"{told.clients:,}", people]
    return [change.old_action, _by(change.old_rule), change.new_action, _by(change.new_rule), *told_of]


def _by(rule: str) -> str:
    return plain(rule, NARROW) or "no rule"


def _when(told: Told) -> str:
    first, last = moment(told.first), moment(told.last)
    return f"first {first}, last {last} UTC" if first and last else ""


def _details(told: Told, *, refuses: bool) -> Iterator[str]:
    agents = ", ".join(f"{plain(name, NARROW)} {number:,}" for name, number in told.agents)
    yield f"  agents  {agents}"
    if told.people and told.people.clients and refuses:
        some = ", ".join(f"{plain(name, NARROW)} ({number:,})" for name, number in told.people.examples)
        risk = f"{count(told.people.clients, 'person', 'people')} with {count(told.people.requests, 'request')}"
        yield f"  {click.style('people', fg='red')}  {risk}: {some}"
    for row in told.samples:
        line = f"{moment(row['time'])} {row['ip']} {row['method']} {row['target']} {row['status']} {row['ua']}"
        yield f"    {plain(line, 110)}"


def _doubts(outcome: Outcome) -> Iterator[str]:
    judged = {True: "cannot be judged", False: "judged in part"}
    lines = [f"{plain(one.rule)}: {judged[one.never]}: {plain(one.why)}" for one in outcome.unjudged]
    if outcome.unknown_clients:
        told = count(outcome.unknown_clients, "request")
        lines.append(f"{told} from what is no address: rules about addresses and rates do not see them")
    if outcome.restarts:
        lines.append(f"the log begins again at an earlier time {count(outcome.restarts, 'time')}; rates then start afresh")
    if outcome.people is None and any(rule.told.hits and rule.refuses for rule in outcome.rules):
        lines.append(PEOPLE_UNKNOWN)
    if lines:
        yield ""
        yield from (f"{click.style('note', fg='yellow')}: {line}" for line in lines)
