"""``crawlguard check``: everything that is wrong with policies, at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..console import JSON_OPTION, default_policy, emit, problem_dict, show_problems
from ..errors import Problem
from ..policy.problems import problem

if TYPE_CHECKING:
    from ..policy.model import Policy


@click.command()
@click.argument("files", nargs=-1, type=click.Path())
@JSON_OPTION
def command(files: tuple[str, ...], as_json: bool) -> None:
    """Look for everything that is wrong with policies.

    FILES are policies, or builtin:NAME; without any, crawlguard.yaml if it is there, else the bundled default. Each problem has
    a place, a stable id and advice. Exit code 1 when there are errors.
    """
    found = [(name, *_checked(name)) for name in files or (default_policy(),)]
    problems = [p for _, _, ps in found for p in ps]
    wrong = [p for p in problems if p.severity == "error"]
    if as_json:
        emit(
            {
                "ok": not wrong,
                "files": [{"file": name, "ok": policy is not None, **_summary(policy)} for name, policy, _ in found],
                "errors": [problem_dict(p) for p in wrong],
                "warnings": [problem_dict(p) for p in problems if p.severity != "error"],
            }
        )
    else:
        show_problems(problems)
        for name, policy, _ in found:
            if policy is not None:
                told = _summary(policy)
                click.echo(
                    f"{click.style('ok', fg='green')} {name}: {told['rules']} rules, mode {told['mode']}, {told['agents']} agents known"
                )
    sys.exit(1 if wrong else 0)


def _checked(name: str) -> tuple[Any, list[Problem]]:
    """A policy and its problems, as far as the guard itself would see them: databases are read, rules compiled."""
    from datetime import UTC, datetime

    from ..errors import DataError
    from ..ipdb import build_table
    from ..loader import read_policy
    from ..policy.compile import compile_policy
    from ..update.staleness import stale

    policy, problems = read_policy(name)
    if policy is not None:
        problems = [*problems, *_said_otherwise(policy), *stale(policy, datetime.now(UTC).date())]
        ruleset = compile_policy(policy)
        needs = ruleset.needs
        try:
            build_table(ruleset.addresses, policy.asn if "asn" in needs else None, policy.country if "country" in needs else None)
        except DataError as error:
            message, _, advice = str(error).partition("; ")
            return None, [*problems, Problem(id="CG028", message=message, advice=advice or "fetch it again", file=name)]
    return policy, problems


def _said_otherwise(policy: Policy) -> Iterator[Problem]:
    """What the documents that the policy publishes say, and its rules do not."""
    if not any(policy.serve) and not policy.robots.place.line:
        return
    from ..export.documents import doubts
    from ..export.robots import will_of

    for doubt in doubts(policy, will_of(policy)):
        message, _, advice = doubt.rpartition("; ")
        yield problem("CG105", policy.robots.place, message, advice, severity="warning")


def _summary(policy: Any) -> dict[str, Any]:
    if policy is None:
        return {}
    return {"rules": len(policy.rules), "agents": len(policy.agents), "mode": policy.mode, "sources": list(policy.sources)}
