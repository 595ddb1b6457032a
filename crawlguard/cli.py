"""The command line: one command, ``crawlguard``, whose subcommands are loaded only when they are asked for.

Exit codes: 0 all is well; 1 something was found (errors in a policy, a demo that did not go as it must); 2 the command itself
was called wrongly. Every subcommand has ``--json``, whose shape carries a "version".

The analyzer, and anybody else, adds subcommands through the entry-point group ``crawlguard.commands``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .errors import CrawlGuardError, PolicyError, Problem

if TYPE_CHECKING:
    from .decision import Decision
    from .policy.ruleset import Client, RuleVerdict, UaFacts

JSON_VERSION = 1
DEFAULT_FILE = "crawlguard.yaml"


class Commands(click.Group):
    """The built-in subcommands, and those of installed plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *(p.name for p in _plugins())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            for plugin in _plugins():
                if plugin.name == cmd_name:
                    return plugin.load()  # type: ignore[no-any-return]
        return found


def _plugins() -> Iterable[Any]:
    from importlib.metadata import entry_points  # 20 ms that the built-in commands need not wait for

    return entry_points(group="crawlguard.commands")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="crawlguard")
def cli() -> None:
    """Keep LLM crawlers off a site: by who they say they are, where they come from and how they behave."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        click.get_current_context().color = False


def main() -> None:
    """The console script. Errors of ours become a message and exit code 1, never a traceback."""
    try:
        cli.main(prog_name="crawlguard", standalone_mode=True)
    except CrawlGuardError as error:
        problems = error.problems if isinstance(error, PolicyError) else ()
        if "--json" in sys.argv:
            _emit({"ok": False, "error": str(error), "errors": [_problem(p) for p in problems]})
        if problems:
            _show_problems(problems)
            sys.exit(1)
        click.secho(f"crawlguard: {error}", fg="red", err=True)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _emit(value: dict[str, Any]) -> None:
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


# ---- check


@cli.command()
@click.argument("files", nargs=-1, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def check(files: tuple[str, ...], as_json: bool) -> None:
    """Look for everything that is wrong with policies.

    FILES are policies, or builtin:NAME; without any, crawlguard.yaml if it is there, else the bundled default. Each problem has
    a place, a stable id and advice. Exit code 1 when there are errors.
    """
    found = [(name, *_checked(name)) for name in files or (_default_policy(),)]
    problems = [p for _, _, ps in found for p in ps]
    wrong = [p for p in problems if p.severity == "error"]
    if as_json:
        _emit(
            {
                "ok": not wrong,
                "files": [{"file": name, "ok": policy is not None, **_summary(policy)} for name, policy, _ in found],
                "errors": [_problem(p) for p in wrong],
                "warnings": [_problem(p) for p in problems if p.severity != "error"],
            }
        )
    else:
        _show_problems(problems)
        for name, policy, _ in found:
            if policy is not None:
                told = _summary(policy)
                click.echo(
                    f"{click.style('ok', fg='green')} {name}: {told['rules']} rules, mode {told['mode']}, {told['agents']} agents known"
                )
    sys.exit(1 if wrong else 0)


def _default_policy() -> str:
    return DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else "builtin:default"


def _checked(name: str) -> tuple[Any, list[Problem]]:
    """A policy and its problems, as far as the guard itself would see them: databases are read, rules compiled."""
    from .errors import DataError
    from .ipdb import build_table
    from .loader import read_policy
    from .policy.compile import compile_policy

    policy, problems = read_policy(name)
    if policy is not None:
        ruleset = compile_policy(policy)
        needs = ruleset.needs
        try:
            build_table(ruleset.addresses, policy.asn if "asn" in needs else None, policy.country if "country" in needs else None)
        except DataError as error:
            message, _, advice = str(error).partition("; ")
            return None, [*problems, Problem(id="CG028", message=message, advice=advice or "fetch it again", file=name)]
    return policy, problems


def _summary(policy: Any) -> dict[str, Any]:
    if policy is None:
        return {}
    return {"rules": len(policy.rules), "agents": len(policy.agents), "mode": policy.mode, "sources": list(policy.sources)}


def _problem(found: Problem) -> dict[str, Any]:
    keys = ("file", "line", "column", "id", "severity", "message", "advice")
    return {key: getattr(found, key) for key in keys}


def _show_problems(problems: Sequence[Problem]) -> None:
    for found in problems:
        place = f"{found.file}:{found.line}:{found.column}" if found.line else found.file
        colour = "red" if found.severity == "error" else "yellow"
        click.echo(f"{click.style(place, bold=True)}: {click.style(f'{found.severity} {found.id}', fg=colour)}: {found.message}", err=True)
        click.echo(f"    {found.advice}", err=True)


# ---- explain


def _headers(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    found = []
    for value in values:
        name, colon, text = value.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{value!r} is not a header; write 'Name: value'")
        found.append((name.strip().lower().encode("latin-1", "replace"), text.strip().encode("utf-8", "surrogateescape")))
    return found


def _address(ctx: click.Context, param: click.Parameter, value: str | None) -> bytes | None:
    from .client_ip import parse_ip

    packed = parse_ip(value) if value is not None else None
    if value is not None and packed is None:
        raise click.BadParameter(f"{value!r} is not an IP address; write for example 203.0.113.7 or 2001:db8::7")
    return packed


@cli.command()
@click.option(
    "--policy", "-p", metavar="FILE", help="A policy, or builtin:NAME. Default: crawlguard.yaml if it is there, else builtin:default."
)
@click.option("--ua", metavar="TEXT", help="The User-Agent. Without it the request has none.")
@click.option(
    "--ip",
    metavar="ADDRESS",
    callback=_address,
    help="The client's address (the peer's, when a forwarding header is given). Without it the client is unknown.",
)
@click.option("--path", default="/", show_default=True, help="The path asked for.")
@click.option("--method", default="GET", show_default=True, help="The HTTP method.")
@click.option("--host", help="The Host header.")
@click.option("--header", "headers", multiple=True, metavar="'N: V'", callback=_headers, help="A header; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def explain(
    policy: str | None,
    ua: str | None,
    ip: bytes | None,
    path: str,
    method: str,
    host: str | None,
    headers: list[tuple[bytes, bytes]],
    as_json: bool,
) -> None:
    """Show what a policy decides about one request, and what every rule says.

    Rates start from nothing: the request is the first of its client.
    """
    from urllib.parse import unquote

    from .client_ip import FORWARDING, format_ip
    from .guard import Guard
    from .request import RequestView
    from .signals.headers import fingerprint

    guard = Guard(policy or _default_policy(), store="memory", log="off", watch=False)
    if ua is not None:
        headers = [(b"user-agent", ua.encode("utf-8", "surrogateescape")), *headers]
    if host is not None:
        headers = [(b"host", _host(host)), *headers]
    path, _, query = path.partition("?")
    path = unquote(path if path.startswith("/") else "/" + path)  # as a server hands it over
    view = RequestView(method.upper(), path, headers, format_ip(ip) if ip else "", query=query.encode("utf-8", "surrogateescape"))
    forwarded = any(name in FORWARDING or name == guard.policy.client_ip.header.lower().encode() for name, _ in headers)
    decision, verdicts, facts, client = guard.explain(view, guard.client_facts(ip) if not forwarded else None)
    told = _facts(guard, view, facts, client, fingerprint(view))
    if as_json:
        rules = [{"rule": v.rule, "verdict": v.verdict, "action": v.action, "shadow": v.shadow, "note": v.note} for v in verdicts]
        plain = decision.as_dict()
        _emit(
            {
                "policy": guard.policy.name,
                "action": plain["action"],
                "rule": plain["rule"],
                "decision": plain,
                "facts": told,
                "rules": rules,
            }
        )
        return
    _show_decision(decision, told, verdicts)


def _host(name: str) -> bytes:
    try:
        return name.encode("ascii" if name.isascii() else "idna")
    except UnicodeError:
        raise click.BadParameter(f"{name!r} is not a host name") from None


def _facts(guard: Any, view: Any, ua: UaFacts, client: Client, mark: str) -> dict[str, Any]:
    from .client_ip import format_ip

    names = [name for name, bit in guard.ruleset.networks.items() if client.mask & bit]
    agents = [{"name": a.name, "operator": a.operator, "category": a.category, "ai": a.ai, "docs": a.docs} for a in ua.agents]
    return {
        "agent": agents[0] if agents else None,
        "agents": agents,
        "client": format_ip(client.packed) if client.packed else None,
        "networks": names,
        "asn": client.asn or None,
        "country": client.country or None,
        "method": view.method,
        "host": view.host or None,
        "path": view.path,
        "fingerprint": mark,
    }


_COLOURS = {
    "allow": "green", "block": "red", "throttle": "yellow", "hide": "red", "price": "yellow",
    "matched": "cyan", "unknown": "yellow", "inactive": "yellow", "not reached": "bright_black",
}  # fmt: skip


def _show_decision(decision: Decision, facts: dict[str, Any], verdicts: Sequence[RuleVerdict]) -> None:
    action = str(decision.action)
    head = click.style(action.upper(), fg=_COLOURS[action], bold=True)
    wait = f", retry after {decision.retry_after} s" if decision.retry_after is not None else ""
    by = f" by {click.style(decision.rule, bold=True)} (HTTP {decision.status}{wait})" if decision.rule else ""
    click.echo(f"{head}{by}: {decision.reason}")
    for one in decision.shadow:
        click.echo(f"  shadow: would {one.action} by {one.rule}: {one.reason}")
    if decision.tags or decision.score:
        click.echo(f"  tags: {', '.join(decision.tags) or '-'}   score: {decision.score}")
    agent = facts["agent"]
    who = f"{agent['name']} ({agent['operator']}, {agent['category']})" if agent else "nobody in the catalogue"
    click.echo(f"\n  agent    {who}")
    click.echo(f"  client   {facts['client'] or 'unknown'}" + "".join(f"  {k} {facts[k]}" for k in ("asn", "country") if facts[k]))
    if facts["networks"]:
        click.echo(f"  network  {', '.join(facts['networks'])}")
    click.echo(f"  request  {facts['method']} {facts['path']}\n")
    rows = [[v.rule, v.verdict, v.action, "shadow" if v.shadow else "", v.note] for v in verdicts]
    click.echo(table(rows, ["rule", "verdict", "action", "mode", "note"], _COLOURS))


# ---- the rest


@cli.command()
@click.option("--output", "-o", default=DEFAULT_FILE, show_default=True, help="The file to write.")
@click.option(
    "--framework",
    type=click.Choice(["fastapi", "flask", "django", "starlette", "litestar", "quart", "wsgi", "asgi"]),
    help="Instead of looking for it.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def init(output: str, framework: str | None, force: bool, as_json: bool) -> None:
    """Write a commented starter policy for the framework found here, and say which two lines to add."""
    from .init import detect, lines_for, write_starter

    name, why = (framework, "--framework") if framework else detect(os.curdir)
    write_starter(output, name, force)
    lines = lines_for(name, output)
    if as_json:
        _emit({"file": output, "framework": name, "found_by": why, "lines": lines})
        return
    click.echo(f"{click.style('written', fg='green')} {output} for {name} ({why})\n")
    click.echo("Add to your application:\n")
    for line in lines:
        click.echo(f"    {line}")
    click.echo(
        f"\nThen look at what it does:\n\n    crawlguard check {output}\n    crawlguard explain --policy {output} --ua 'GPTBot/1.2' --ip 203.0.113.7"
    )


@cli.command()
@click.option("--serve", is_flag=True, help="Keep the guarded sites running to look at, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def demo(serve: bool, as_json: bool) -> None:
    """Start two guarded sites on this machine, send them real crawlers and real browsers, and show what happens."""
    from .demo import run

    sys.exit(run(serve=serve, as_json=as_json))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    For bash: crawlguard completion bash > ~/.local/share/bash-completion/completions/crawlguard
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(cli, {}, "crawlguard", "_CRAWLGUARD_COMPLETE").source())


@cli.command()
def schema() -> None:
    """Print the JSON Schema of policies, for editors that complete and check YAML by one."""
    from .policy.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
