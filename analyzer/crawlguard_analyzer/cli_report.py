"""``crawlguard report``: shows what the logs have told, in the terminal, as a page, as a mail or as tables."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from crawlguard.console import JSON_OPTION, POLICY_OPTION, emit

from .analysis import Analysis
from .analyze import analyse
from .report.exports import to_csv, to_parquet, write_text
from .report.private import LEVELS, private
from .report.words import plain, size


@click.command()
@click.argument("logs", metavar="[LOG]...", nargs=-1)
@click.option("--state", metavar="DIR", help="Report what 'crawlguard analyze --state DIR' has gathered; logs named besides are added.")
@click.option("--html", "page", metavar="FILE", help="Write one self-contained HTML page. - is stdout.")
@click.option("--csv", "csv", metavar="DIR", help="Write every table as a CSV file into this directory.")
@click.option("--parquet", metavar="DIR", help="Write every table as a Parquet file into this directory.")
@click.option("--mail", "as_mail", is_flag=True, help="Print the last week as a plain text of 78 columns, against the week before.")
@click.option("--privacy", type=click.Choice(LEVELS), default="full", show_default=True, help="How addresses are shown.")
@click.option("--robots", "robots_file", metavar="FILE", help="The site's robots.txt, to tell who obeys; else the one the policy serves.")
@click.option(
    "--trap", metavar="PATTERN", multiple=True, help="A path of the site that no person asks for, as in robots.txt. More than once."
)
@click.option("--asn", metavar="FILE", help="A database (mmdb) of autonomous systems; without one, networks are subnets.")
@click.option("--country", metavar="FILE", help="A database (mmdb) of countries.")
@click.option("--format", "log_format", metavar="FORMAT", help="The logs' format, when it cannot be told from their lines.")
@click.option("--client-field", default="", metavar="NAME", help="The field with the client's address, if it is not the usual one.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors; for cron, with --html, --csv or --parquet.")
@POLICY_OPTION
@JSON_OPTION
def report(
    logs: tuple[str, ...],
    page: str | None,
    csv: str | None,
    parquet: str | None,
    as_mail: bool,
    privacy: str,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what the logs have told: who takes how much of the load, and what to do about it.

    Prints to the terminal, unless files are asked for. How long the server took is told where the log says it: log
    $upstream_response_time or $request_time (nginx) or %D (Apache), and name that format with --format.

    Exit codes: 0 the report is made; 1 the logs, the state or a file cannot be used; 2 called wrongly.
    """
    state = options["state"]
    if not logs and not state:
        raise click.UsageError("name access logs, or --state DIR of an earlier 'crawlguard analyze'")
    if as_json and as_mail:
        raise click.UsageError("--json and --mail both go to stdout: choose one")
    if page == "-" and (as_json or as_mail):
        raise click.UsageError("--html - goes to stdout, as --json and --mail do: name a file")
    analysis = private(analyse(logs, quiet=quiet or as_json or as_mail, **options), privacy)
    then = f"crawlguard propose {f'--state {state}' if state else ' '.join(logs)}"
    written = _files(analysis, page, csv, parquet, then)
    if as_json:
        emit(analysis.to_dict())
    elif as_mail:
        from .report.mail import mail

        click.echo(mail(analysis, then=then), nl=False)
    elif not written and page != "-" and not quiet:
        from .report.terminal import echo

        echo(analysis, then=then)
    elif not quiet:
        for path in written:
            click.echo(f"{click.style('written', fg='green')} {plain(str(path))} ({size(path.stat().st_size)})", err=True)


def _files(analysis: Analysis, page: str | None, csv: str | None, parquet: str | None, then: str) -> list[Path]:
    written = []
    if page:
        from .report.html import page as html

        text = html(analysis, now=int(time.time()), then=then)
        if page == "-":
            click.echo(text, nl=False)
        else:
            write_text(page, text)
            written.append(Path(page))
    if csv:
        written += to_csv(analysis, csv)
    if parquet:
        written += to_parquet(analysis, parquet)
    return written
