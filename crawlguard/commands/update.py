"""``crawlguard update`` as people and cron see it. What it does stands in ``..update``; this file asks, shows, and sets the exit code."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ..console import JSON_OPTION, POLICY_OPTION, default_policy, emit, table

if TYPE_CHECKING:
    from ..update.outcome import Outcome
    from ..update.run import Progress

MAX_SHOWN = 12
"""Added and removed entries of one list that are shown as text; --json has them all."""
PATIENCE = 1.0
"""Seconds after which a terminal is told what is going on."""

_COLOURS = {"updated": "green", "unchanged": "bright_black", "kept": "red", "no list": "bright_black"}


@click.command(short_help="Fetch the address lists that a policy needs.")
@POLICY_OPTION
@click.option("--all", "every", is_flag=True, help="Fetch every list of the catalogue, not only those that the policy's rules name.")
@click.option(
    "--catalogue",
    "url",
    metavar="URL",
    envvar="CRAWLGUARD_CATALOGUE_URL",
    help="Fetch the catalogue itself, too, from this https URL. Default: CRAWLGUARD_CATALOGUE_URL.",
)
@click.option("--accept", "accept", multiple=True, metavar="NAME", help="Take this list although it is surprising; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Fetch and judge, and write nothing.")
@JSON_OPTION
@click.option("--quiet", "-q", is_flag=True, help="Print only what needs a person.")
@click.option("--print-catalogue", is_flag=True, help="Print this installation's catalogue, as --catalogue takes it, and fetch nothing.")
def command(
    policy: str | None,
    every: bool,
    url: str | None,
    accept: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    print_catalogue: bool,
) -> None:
    """Fetch the published address lists that a policy needs, and put those in force that leave no doubt.

    They are kept in CRAWLGUARD_DATA_DIR, for root in /var/lib/crawlguard, else in ~/.local/share/crawlguard; running guards take them
    up within a second. A list is kept as it is when the new one is broken or surprising: less than half of the old one, wider than such
    a network can be, reaching into people's shared exits or another operator's list, or older than what is there. --accept takes
    a surprising one after you have looked at it.

    Connections go straight to public addresses over https; HTTPS_PROXY is not used.

    Exit codes: 0 all is well, whether there was anything new or not; 1 a list was kept because it could not be fetched or is doubtful, or
    nothing could be done at all; 2 called wrongly.
    """
    if print_catalogue:
        _print_catalogue()
        return
    from ..errors import ConfigError
    from ..update.outcome import KEPT
    from ..update.run import run

    source = policy or default_policy()
    try:
        with _progress(quiet or as_json) as progress:
            outcomes = run(source, every=every, catalogue_url=url or "", accept=accept, dry_run=dry_run, progress=progress)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    kept = [outcome for outcome in outcomes if outcome.verdict == KEPT]
    if as_json:
        emit({"ok": not kept, "dry_run": dry_run, "lists": [outcome._asdict() for outcome in outcomes]})
    elif not quiet:
        _show(outcomes, dry_run=dry_run)
    elif kept:
        _table(kept)
    sys.exit(1 if kept else 0)


def _print_catalogue() -> None:
    from datetime import UTC, datetime

    from ..update.newcatalogue import document

    click.echo(json.dumps(document(datetime.now(UTC).date()), separators=(",", ":")))


@contextmanager
def _progress(silent: bool) -> Iterator[Progress]:
    """Tells a person at a terminal, on one line that goes away again, which list is being fetched, once it takes a while."""
    begun = time.monotonic()
    shown = not silent and sys.stderr.isatty()

    def tell(name: str) -> None:
        if shown and time.monotonic() - begun > PATIENCE:
            click.echo(f"\r\033[Kfetching {name} ...", nl=False, err=True)

    try:
        yield tell
    finally:
        if shown:
            click.echo("\r\033[K", nl=False, err=True)


def _show(outcomes: Sequence[Outcome], *, dry_run: bool) -> None:
    if not outcomes:
        click.echo("The policy's rules name no network with a published list: there is nothing to fetch (--all fetches every list).")
        return
    _table(outcomes)
    for outcome in outcomes:
        if outcome.added or outcome.removed:
            click.echo(f"\n{click.style(outcome.name, bold=True)}")
            _changes("+", outcome.added, "green")
            _changes("-", outcome.removed, "red")
    if dry_run:
        click.echo("\nNothing was written (--dry-run).")


def _table(outcomes: Sequence[Outcome]) -> None:
    rows = [[_plain(o.name), str(o.old), "-" if o.new is None else str(o.new), o.verdict, _plain(o.reason)] for o in outcomes]
    click.echo(table(rows, ["list", "old", "new", "verdict", "reason"], _COLOURS))


def _changes(sign: str, entries: Sequence[str], colour: str) -> None:
    for entry in entries[:MAX_SHOWN]:
        click.echo("  " + click.style(f"{sign} {_plain(entry)}", fg=colour))
    if len(entries) > MAX_SHOWN:
        click.echo("  " + click.style(f"{sign} {len(entries) - MAX_SHOWN} more (--json has them all)", fg=colour))


def _plain(text: str) -> str:
    """A text that a server had a hand in, fit for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
