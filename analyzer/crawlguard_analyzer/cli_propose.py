"""``crawlguard propose``: rules for the policy from the logs, with evidence and the people at risk; written to a reviewed file on request."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click
import polars as pl

from crawlguard.console import JSON_OPTION, POLICY_OPTION, default_policy, emit
from crawlguard.errors import DataError
from crawlguard.loader import load_policy
from crawlguard.policy.model import Policy

from .counting import Form
from .progress import bytes_line
from .propose import MOST, Proposals
from .propose import propose as find_rules
from .propose.proof import Shards
from .propose.reviewed import PROPOSED, Change, Reviewed, change, diff, include_line, read_reviewed, takes_part, write
from .propose.view import show
from .propose.written import needs_asn
from .report.words import count, plain

COLUMNS = (
    "client", "class", "score", "agent", "category", "identity", "swarm", "requests", "documents", "assets", "bytes", "first", "last", "days",
    "subnet", "asn", "ua",
)  # fmt: skip
"""What a clients table must have to be proposed from."""


@click.command()
@click.argument("logs", metavar="[LOG]...", nargs=-1)
@click.option(
    "--state", metavar="DIR", help="Propose from what 'crawlguard analyze --state DIR' has gathered; logs named besides are the proof."
)
@click.option("--clients", "table", metavar="FILE", help="Propose from a table of 'crawlguard analyze --clients FILE'; logs are the proof.")
@click.option(
    "--apply",
    "target",
    metavar="FILE",
    is_flag=False,
    flag_value=PROPOSED,
    help=f"Append the rules to a file of their own (with no name given: {PROPOSED}), in shadow mode, after showing the change.",
)
@click.option("--yes", is_flag=True, help="With --apply: do not ask.")
@click.option("--prune", is_flag=True, help="With --apply: take out rules whose date has passed; what is still needed is added anew.")
@click.option("--max", "most", type=click.IntRange(1, 100), default=MOST, show_default=True, help="The most rules to propose.")
@click.option(
    "--robots",
    "robots_file",
    metavar="FILE",
    help="The site's robots.txt, whose forbidden paths are traps; else the one the policy serves.",
)
@click.option(
    "--trap", metavar="PATTERN", multiple=True, help="A path of the site that no person asks for, as in robots.txt. More than once."
)
@click.option("--asn", metavar="FILE", help="A database (mmdb) of autonomous systems; without one, networks are subnets.")
@click.option("--country", metavar="FILE", help="A database (mmdb) of countries.")
@click.option("--format", "log_format", metavar="FORMAT", help="The logs' format, when it cannot be told from their lines.")
@click.option("--client-field", default="", metavar="NAME", help="The field with the client's address, if it is not the usual one.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing when there is nothing new.")
@POLICY_OPTION
@JSON_OPTION
def propose(
    logs: tuple[str, ...],
    state: str | None,
    table: str | None,
    target: str | None,
    yes: bool,
    prune: bool,
    most: int,
    policy: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Propose a few rules that cover the load of machines which the policy leaves alone, and say whom each would hit.

    The logs are read several times: each rule is tried on them by the guard's own engine. The policy itself is never written to.
    A file of proposals that is there (see --apply) counts: what it holds is not proposed again.

    The CPU that a rule would save is told where the log says how long the server took: log $upstream_response_time or $request_time
    (nginx) or %D (Apache), and name that format with --format; most JSON and load balancer logs say it already.

    Exit codes, as of every command: 0 nothing new, or it has been applied; 1 there are new proposals, or something cannot be used;
    2 called wrongly.
    """
    if not (logs or state or table):
        raise click.UsageError("name access logs, --state DIR of an earlier 'crawlguard analyze', or --clients FILE")
    if state and table:
        raise click.UsageError("--state and --clients both say where the clients come from: choose one")
    if (yes or prune) and not target:
        raise click.UsageError("--yes and --prune go with --apply FILE")
    if as_json and target and not yes:
        raise click.UsageError("--json cannot ask: add --yes")
    today = datetime.now(UTC).date()
    live = load_policy(policy or default_policy())
    before = _reviewed(target, live)
    expired = before.expired(today) if before else []
    clients = _table(table) if table else _analysed(logs, state=state, policy=policy, quiet=quiet or as_json, **options)
    found = find_rules(
        clients,
        replace(live, asn=options["asn"] or live.asn, country=options["country"] or live.country),
        today=today,
        shards=_shards(logs, Form(options["log_format"] or "", options["client_field"]), quiet=quiet or as_json),
        reviewed=[rule for rule in before.rules if rule.id not in expired] if before else (),
        renew=expired,
        most=most,
    )
    made = _change(before, found, live, expired if prune else ()) if target and before else None
    if as_json:
        emit({**found.to_dict(), "reviewed": _told(before, expired), **_apply_quietly(made)})
    elif not (quiet and not found.proposals and not expired):
        _print(found, before, expired, made is None)
        if made is not None and before is not None and not _apply(made, live, yes):
            sys.exit(1)
    sys.exit(1 if found.proposals and (made is None or len(made.added) < len(found.proposals)) else 0)


def _reviewed(target: str | None, live: Policy) -> Reviewed | None:
    """The file of proposals: the one to write to, else the usual one when it is there."""
    if target is not None:
        return read_reviewed(target, live)
    return read_reviewed(PROPOSED, live) if os.path.exists(PROPOSED) else None


def _analysed(logs: Sequence[str], **options: Any) -> pl.DataFrame:
    """The one call into the chain: reading, rollup, clients."""
    from .analyze import analyse

    return analyse(logs, only_clients=True, **options).clients


def _table(path: str) -> pl.DataFrame:
    cure = "make one with crawlguard analyze LOG... --clients FILE"
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: not a clients table ({plain(str(error), 200)}); {cure}") from None
    lacking = [name for name in COLUMNS if name not in table.columns]
    if lacking:
        raise DataError(f"{path}: not a clients table: it has no {', '.join(lacking)}; {cure}")
    return table


def _shards(logs: Sequence[str], form: Form, *, quiet: bool) -> Shards | None:
    """Reads the logs as often as it is called; None where they can be read once only, or there are none."""
    if not logs or any(name == "-" or _pipe(name) for name in logs):
        return None
    from .cli_backtest import Log

    def shards() -> Iterator[pl.DataFrame]:
        log = Log(logs, form)
        with bytes_line([log.total], quiet) as progress:
            for rows, _ in log.shards(progress):
                yield rows

    return shards


def _pipe(name: str) -> bool:
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return False  # a glob, a URL, or what the reader will complain about
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _change(before: Reviewed, found: Proposals, live: Policy, prune: Sequence[str]) -> Change:
    """What is to be written; rules that would break the live policy for want of a database are left out."""
    return change(before, [one for one in found.proposals if live.asn or not needs_asn(one.when)], prune)


def _told(before: Reviewed | None, expired: list[str]) -> dict[str, Any] | None:
    if before is None or before.text is None:
        return None
    return {"file": str(before.path), "rules": [rule.id for rule in before.rules], "expired": expired}


def _apply_quietly(made: Change | None) -> dict[str, Any]:
    if made is None:
        return {}
    if made.added or made.pruned:
        write(made)
    return {"applied": list(made.added), "pruned": list(made.pruned), "skipped": list(made.skipped)}


def _print(found: Proposals, before: Reviewed | None, expired: list[str], rules: bool) -> None:
    click.echo(show(found, rules=rules, beside=before.path.name if before and before.rules else ""))
    if before is not None and before.rules:
        old = f", of which {count(len(expired), 'has expired', 'have expired')}: {', '.join(expired)} (see --prune)" if expired else ""
        click.echo(f"\n{plain(str(before.path))} holds {count(len(before.rules), 'rule')}{old}.")
    if found.proposals and rules:
        click.echo("\nNext: crawlguard propose ... --apply writes them to a file of their own, in shadow mode.")


def _asked(question: str) -> bool:
    """What the user says to it. Raises DataError when there is nobody to ask."""
    try:
        return click.confirm(question)
    except click.Abort:
        if sys.stdin.isatty():  # Ctrl-C, or Ctrl-D
            raise
        click.echo()
        raise DataError("nobody is there to say yes, and nothing was written; --yes writes without being asked") from None


def _apply(made: Change, live: Policy, yes: bool) -> bool:
    """Show the change, ask, and write. False when it was not wanted."""
    name = plain(str(made.before.path))
    if not (made.added or made.pruned):
        click.echo(f"\n{name}: nothing to add.")
        return True
    click.echo(f"\n{diff(made)}\n")
    if not yes and not _asked(f"Write this to {name}?"):
        return False
    write(made)
    pruned = f", {count(len(made.pruned), 'expired one')} taken out" if made.pruned else ""
    click.echo(f"{click.style('written', fg='green')} {name}: {count(len(made.added), 'rule')} added in shadow mode{pruned}")
    if not takes_part(live, made.before.path):
        click.echo(f"To let them watch, write in your policy:\n\n    {include_line(live, made.before.path)}\n")
    return True
