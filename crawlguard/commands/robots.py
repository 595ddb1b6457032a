"""``crawlguard robots``: the documents by which a site states its will, and what a robots.txt that is there already really does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import click

from ..console import JSON_OPTION, POLICY_OPTION, default_policy, emit
from ..errors import ConfigError, DataError
from ..paths import MAX_BYTES

if TYPE_CHECKING:
    from ..export.robots import Export
    from ..policy.model import Policy
    from ..signals.ua import Agent

DOCUMENTS = ("robots", "tdmrep", "rsl", "ai-txt", "headers")


@click.command(short_help="Write robots.txt from a policy, or check one.")
@POLICY_OPTION
@click.option(
    "--check", "checked", metavar="FILE|URL", help="Say what this robots.txt does, and where it contradicts the policy. - is stdin."
)
@click.option("--document", type=click.Choice(DOCUMENTS), default="robots", show_default=True, help="Which document to write.")
@click.option("--merge", metavar="FILE", help="Keep the groups of this robots.txt, and report what contradicts the policy.")
@click.option("--host", help="The site's host name, for rules that name hosts.")
@click.option("--path", default="/", show_default=True, help="For --document headers: the path of the answer.")
@click.option("--enforced", is_flag=True, help="Take rules in shadow mode for what they would do.")
@click.option("--output", "-o", metavar="FILE", help="Write to this file, whole or not at all, instead of printing.")
@JSON_OPTION
def command(
    policy: str | None,
    checked: str | None,
    document: str,
    merge: str | None,
    host: str | None,
    path: str,
    enforced: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Write robots.txt and its neighbours from a policy, or check one that is there.

    An agent reads in it what the rules would tell it, by its name and for each path. What robots.txt cannot say is told on stderr.

    Exit codes: 0 all is well; 1 the policy cannot be used, or --check found lines that do nothing or contradict it; 2 called wrongly.
    """
    from ..loader import load_policy

    loaded = load_policy(policy or default_policy())
    if merge:
        loaded.robots = loaded.robots._replace(merge=merge, existing=_read(merge))
    if checked:
        sys.exit(_check(loaded, checked, host, enforced, as_json))
    made = _document(loaded, document, host, path, enforced)
    if output:
        _write(Path(output), made.text)
    if as_json:
        emit({"policy": loaded.name, "document": document, "file": output, "text": made.text, "notes": list(made.notes)})
        return
    if not output:
        click.echo(made.text, nl=False)
    for note in made.notes:
        click.echo(f"{click.style('note', fg='yellow')}: {note}", err=True)


def _document(policy: Policy, document: str, host: str | None, path: str, enforced: bool) -> Export:
    from ..export.robots import Export, robots_txt, will_of

    if document == "robots":
        return robots_txt(policy, host, enforced=enforced)
    from ..export import documents

    will = will_of(policy, host, enforced=enforced)
    if document == "headers":
        lines = [f"{name}: {value}" for name, value in documents.response_headers(policy, will, unquote(path))]
        return Export("".join(line + "\n" for line in lines), tuple(documents.doubts(policy, will)))
    write: dict[str, Callable[[], str]] = {
        "tdmrep": lambda: documents.tdmrep_json(policy, will),
        "rsl": lambda: documents.rsl_xml(policy, will, host),
        "ai-txt": lambda: documents.ai_txt(policy, will),
    }
    return Export(write[document](), tuple(documents.doubts(policy, will)))


def _read(name: str) -> bytes:
    """A file, or stdin for "-", or what is at an https URL. Raises DataError."""
    if name.startswith("https://"):
        from ..update.fetch import Fetcher

        return Fetcher().get(name).body
    if name.startswith("http://"):
        raise ConfigError(f"{name}: only https is fetched; for this one: curl {name} | crawlguard robots --check -")
    try:
        if name == "-":
            return sys.stdin.buffer.read(MAX_BYTES)
        with open(name, "rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error}); check the name and the permissions") from None


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, "utf-8", newline="\n")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); check the directory and its permissions") from None


def _check(policy: Policy, name: str, host: str | None, enforced: bool, as_json: bool) -> int:
    from ..export.lint import lint
    from ..export.robotstxt import parse
    from .robots_report import show

    report = lint(parse(_read(name)), policy.agents, _verdict(policy, host, enforced), _paths(policy, host, enforced))
    # A site may ask for more than it enforces; what it must not do is invite those whom it refuses.
    ok = not report.warnings and not any(conflict.allows for conflict in report.conflicts or ())
    if as_json:
        emit({"policy": policy.name, "file": name, "ok": ok, **report.as_dict()})
    else:
        click.echo(show(report, name))
    return 0 if ok else 1


def _verdict(policy: Policy, host: str | None, enforced: bool) -> Callable[[Agent, str], bool]:
    """What the policy says to an agent about a URL path with query, percent-encoded."""
    from ..export.verdicts import Speaker, Verdicts

    verdicts = Verdicts(policy, host, enforced=enforced)
    keys = {agent.name: verdicts.key(Speaker(number, agent)) for number, agent in enumerate(policy.agents)}
    return lambda agent, path: verdicts.allowed(keys[agent.name], unquote(path.partition("?")[0]))


def _paths(policy: Policy, host: str | None, enforced: bool) -> Sequence[str]:
    """Paths at which the policy's own rules differ."""
    from ..export.robots import will_of

    return [line.glob.member() for group in will_of(policy, host, enforced=enforced).groups for line in group.lines]
