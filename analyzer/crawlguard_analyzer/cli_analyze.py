"""``crawlguard analyze``: reads what is new in access logs, remembers it if asked to, and says in a few lines who came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crawlguard.console import JSON_OPTION, POLICY_OPTION, emit
from crawlguard.errors import DataError

from .analyze import analyse
from .clients import CLIENTS_VERSION
from .report.private import LEVELS
from .whole import whole


@click.command()
@click.argument("logs", metavar="[LOG]...", nargs=-1)
@click.option("--clients", "table", metavar="FILE", help="Write one row per client as a Parquet file: its class, score and features.")
@click.option("--state", metavar="DIR", help="Remember what was read in this directory: the next run reads only what is new.")
@click.option(
    "--merge", "merged", metavar="PLACE", multiple=True, help="Add the state or rollup of another host: a path or URL. More than once."
)
@click.option("--rollup", metavar="FILE", help="Write what was counted as a Parquet file (or URL) that --merge takes.")
@click.option("--robots", "robots_file", metavar="FILE", help="The site's robots.txt, to tell who obeys; else the one the policy serves.")
@click.option(
    "--trap", metavar="PATTERN", multiple=True, help="A path of the site that no person asks for, as in robots.txt. More than once."
)
@click.option("--asn", metavar="FILE", help="A database (mmdb) of autonomous systems; without one, networks are subnets.")
@click.option("--country", metavar="FILE", help="A database (mmdb) of countries.")
@click.option(
    "--format", "log_format", metavar="FORMAT", help="A format's name or a log_format string, when it cannot be told from the lines."
)
@click.option("--nginx-conf", metavar="FILE", help="Take the logs and their formats from an nginx.conf.")
@click.option("--client-field", default="", metavar="NAME", help="The field with the client's address, if it is not the usual one.")
@click.option("--rejects", metavar="FILE", help="Write the lines that are no requests to this file.")
@click.option("--privacy", type=click.Choice(LEVELS), default="full", show_default=True, help="What addresses become in all that is kept.")
@click.option("--cluster", metavar="dask://HOST:PORT", help="Count on a dask cluster whose workers see the same logs.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors; for cron.")
@POLICY_OPTION
@JSON_OPTION
def analyze(
    logs: tuple[str, ...], table: str | None, rollup: str | None, nginx_conf: str | None, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Read access logs: who is a person, who a machine, and which machines say so.

    A LOG is a file (compressed or not), a pattern, a directory, a URL (https, s3, gs) or - for stdin.

    Traps, which tell a machine, are the paths of --trap, what robots.txt forbids everybody (see --robots) unless likely people ask for it
    too, and well-known probes such as /.env that the site answers with 403 or 404 and never with 200.

    Exit codes: 0 done; 1 a log, the state or a file cannot be used; 2 called wrongly.
    """
    if not (logs or nginx_conf or options["merged"] or options["state"]):
        raise click.UsageError("name access logs: crawlguard analyze /var/log/nginx/access.log*")
    for place in filter(None, (table, options["rejects"])):
        if not Path(place).parent.is_dir():  # told before the logs are read, not after
            raise DataError(f"{place}: its directory does not exist; make it, or name another file")
    silent = quiet and not as_json
    analysis = analyse(logs, nginx_conf=nginx_conf, rollup=rollup, quiet=quiet or as_json, only_clients=silent, **options)
    if table:
        version = {"crawlguard.clients": str(CLIENTS_VERSION)}
        whole(
            Path(table),
            lambda partial: analysis.clients.write_parquet(partial, compression_level=1, metadata=version),
            "free some space, or name another --clients file",
        )
    if as_json:
        emit(analysis.to_dict())
    elif not quiet:
        from .report.terminal import echo

        then = f"--state {options['state']}" if options["state"] else " ".join(logs) or "LOG..."
        echo(analysis, then=f"crawlguard report {then}", brief=True)
