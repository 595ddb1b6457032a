"""What the commands share: JSON for scripts, tables and problems for eyes, the policy that is meant when none is named."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import click

from .errors import Problem

JSON_VERSION = 1
DEFAULT_FILE = "crawlguard.yaml"

POLICY_OPTION = click.option(
    "--policy", "-p", metavar="FILE", help="A policy, or builtin:NAME. Default: crawlguard.yaml if it is there, else builtin:default."
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


def emit(value: dict[str, Any]) -> None:
    """Print one JSON object, with the version of its shape."""
    click.echo(json.dumps({"version": JSON_VERSION, **value}, indent=2))


def table(rows: Sequence[Sequence[str]], head: Sequence[str], colours: dict[str, str] | None = None) -> str:
    """Aligned columns with a head; a cell whose text is in ``colours`` is shown in that colour."""
    widths = [max(len(click.unstyle(row[i])) for row in (head, *rows)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = []
        for text, width in zip(row, widths, strict=True):
            shown = click.style(text, fg=colours[text]) if colours and text in colours else text
            cells.append(shown + " " * (width - len(click.unstyle(text))))
        return "  " + "  ".join(cells).rstrip()

    return "\n".join([click.style(line(head), bold=True), *map(line, rows)])


def default_policy() -> str:
    """The policy of the working directory, else the bundled one."""
    return DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else "builtin:default"


def problem_dict(found: Problem) -> dict[str, Any]:
    """A problem as JSON."""
    keys = ("file", "line", "column", "id", "severity", "message", "advice")
    return {key: getattr(found, key) for key in keys}


def show_problems(problems: Sequence[Problem]) -> None:
    """Problems on stderr, each with its place and its cure."""
    for found in problems:
        place = f"{found.file}:{found.line}:{found.column}" if found.line else found.file
        colour = "red" if found.severity == "error" else "yellow"
        click.echo(f"{click.style(place, bold=True)}: {click.style(f'{found.severity} {found.id}', fg=colour)}: {found.message}", err=True)
        click.echo(f"    {found.advice}", err=True)
