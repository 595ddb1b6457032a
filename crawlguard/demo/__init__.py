"""``crawlguard demo``: two guarded sites on this machine, real crawlers and real browsers, and what happened to each.

It stops by itself in under a minute, and its processes with it. FastAPI, Flask and their servers are wanted by the demo only.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .report import Report
    from .sites import Site

ALL_WITHIN = 50.0
"""Seconds after which no further client is waited for."""
INSTALL = "pip install fastapi flask gunicorn httpx uvicorn"
_NEEDED = ("fastapi", "flask", "gunicorn", "httpx", "uvicorn")


def missing() -> list[str]:
    """The packages that the demo needs and that are not installed."""
    return [name for name in _NEEDED if find_spec(name) is None and not (name == "gunicorn" and sys.platform == "win32")]


def run(serve: bool = False, as_json: bool = False, port: int = 0, call: str = "crawlguard") -> int:
    """Run the demo and print what happened. The exit code: 0 all as it must be, 1 not, 2 packages are missing.

    ``serve`` leaves the sites running until Ctrl-C. ``port``: where FastAPI listens, Flask on the next; 0 takes free ones.
    ``call``: what to type for the command.
    """
    context = click.get_current_context(silent=True)
    if context is not None and os.environ.get("NO_COLOR"):  # https://no-color.org; click knows terminals only
        context.color = False
    lacking = missing()
    if lacking:
        message = f"the demo needs {', '.join(lacking)}: {INSTALL}"
        if as_json:
            click.echo(json.dumps({"version": 1, "ok": False, "problems": [message]}))
        click.secho(f"crawlguard: {message}", fg="red", err=True)
        return 2
    from .sites import DemoError, orderly

    directory = Path(tempfile.mkdtemp(prefix="crawlguard-demo-"))
    try:
        with orderly():
            return _run(directory, serve=serve, as_json=as_json, port=port, call=call)
    except DemoError as error:
        if as_json:
            click.echo(json.dumps({"version": 1, "ok": False, "problems": [str(error)]}))
        click.secho(f"crawlguard: {error}", fg="red", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("\nStopped; nothing is left running.", err=True)
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(directory: Path, *, serve: bool, as_json: bool, port: int, call: str) -> int:
    from .sites import loopback_is_wide, plan, running

    began, wide = time.monotonic(), loopback_is_wide()
    sites = plan(directory, port, trust_proxy=not wide)
    if not as_json:
        click.echo("Starting two guarded sites, then sending them crawlers and browsers ...\n", err=True)
    with running(sites, directory) as processes:
        report = _tour(sites, directory, began, wide)
        code = 1 if report.problems() else 0
        if as_json:
            click.echo(json.dumps(report.as_dict(), indent=2))
        else:
            report.show(call)
        if serve:
            _serve(sites, processes, as_json, wide)
    return code


def _tour(sites: tuple[Site, ...], directory: Path, began: float, wide: bool) -> Report:
    from .clients import Tour
    from .report import Report

    starts = [site.events()[1] for site in sites]  # behind the lines of the look whether the site is up
    tours = [Tour(site, wide=wide, home=directory, deadline=began + ALL_WITHIN) for site in sites]
    visits = [visit for tour in tours for visit in tour.all()]
    events: list[dict[str, Any]] = [line for site, start in zip(sites, starts, strict=True) for line in site.events(start)[0]]
    return Report(
        sites=sites, visits=visits, events=events, seconds=time.monotonic() - began, absent=tours[0].absent(), notes=_notes(sites, wide)
    )


def _notes(sites: tuple[Site, ...], wide: bool) -> list[str]:
    notes = []
    if not wide:
        notes.append(
            "This system has one loopback address only: clients are told apart by X-Forwarded-For, with 127.0.0.1 as a trusted proxy."
        )
    if any(site.server == "wsgiref" for site in sites):
        notes.append("gunicorn does not run on this system: the Flask site runs under the standard library's server, in one process.")
    return notes


def _serve(sites: tuple[Site, ...], processes: list[Popen[bytes]], as_json: bool, wide: bool) -> None:
    if not as_json:
        click.echo(f"\n{click.style('The sites stay up until Ctrl-C. Try:', bold=True)}\n")
        first, other = sites
        apart = "--interface 127.66.9.9" if wide else "-H 'X-Forwarded-For: 127.66.9.9'"  # so that the other lines still work after it
        for line, what in (
            (f"curl -i {first.url}/", "served"),
            (f"curl -i -A 'GPTBot/1.2' {first.url}/", "refused"),
            (f"curl -i -A 'GPTBot/1.2' {first.url}/robots.txt", "served: robots.txt always is"),
            (f"curl -i -A 'GPTBot/1.2' -H 'Accept: application/json' {first.url}/", "refused in JSON"),
            (f"curl {apart} -so /dev/null -w '%{{http_code}} ' '{first.url}/?[1-99]'", "slowed down after a while"),
            (f"curl -i -A 'CCBot/2.0' {other.url}/", f"the same under {other.name}"),
            (f"tail -f {first.log}", "the decision log"),
            (f"$EDITOR {first.policy}", "in force a second after you save it"),
        ):
            click.echo(f"  {line:<96}  {click.style(f'# {what}', fg='bright_black')}")
    with suppress(KeyboardInterrupt):
        while all(process.poll() is None for process in processes):
            with suppress(TimeoutExpired):
                processes[0].wait(1.0)
    if not as_json:
        click.echo("\nStopping the sites.")
