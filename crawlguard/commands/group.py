"""The command line: one command, ``crawlguard``, whose subcommands are loaded only when they are asked for.

Exit codes: 0 all is well; 1 something was found (errors in a policy, a demo that did not go as it must); 2 the command itself
was called wrongly; 130 it was stopped by Ctrl-C. Every subcommand has ``--json``, whose shape carries a "version".

The analyzer, and anybody else, adds subcommands through the entry-point group ``crawlguard.commands``.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from .. import __version__
from ..console import DEFAULT_FILE, JSON_OPTION, emit, problem_dict, show_problems
from ..errors import CrawlGuardError, PolicyError
from . import called, stopped

_LATER = ("ban", "check", "explain", "robots", "update")
"""Commands in modules of their own, which are imported when they are asked for."""


class Commands(click.Group):
    """The built-in subcommands, and those of installed plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_LATER, *(p.name for p in _plugins())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if cmd_name in _LATER:
            module = import_module(f".{cmd_name}", __package__)
            return module.command  # type: ignore[no-any-return]
        if found is None:
            for plugin in _plugins():
                if plugin.name == cmd_name:
                    return plugin.load()  # type: ignore[no-any-return]
        return found

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """The context of a command. Ctrl-C stays what it is."""
        with _interruptible():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """The command. Ctrl-C stays what it is."""
        with _interruptible():
            return super().invoke(ctx)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the command before click takes it for a "no", with another exit code."""
    try:
        yield
    except KeyboardInterrupt:
        stopped()


def _plugins() -> Iterable[Any]:
    from importlib.metadata import entry_points  # 20 ms that the built-in commands need not wait for

    return entry_points(group="crawlguard.commands")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="crawlguard")
def cli() -> None:
    """Keep LLM crawlers off a site: by who they say they are, where they come from and how they behave."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        click.get_current_context().color = False


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A disk, or a user's part of it, that is full."""


def run() -> None:
    """Do what the command line says. Errors of ours become a message and exit code 1, never a traceback."""
    try:
        cli.main(prog_name="crawlguard", standalone_mode=True)
    except CrawlGuardError as error:
        problems = error.problems if isinstance(error, PolicyError) else ()
        if "--json" in sys.argv:
            emit({"ok": False, "error": str(error), "errors": [problem_dict(p) for p in problems]})
        if problems:
            show_problems(problems)
            sys.exit(1)
        click.secho(f"crawlguard: {error}", fg="red", err=True)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("CRAWLGUARD_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what it still holds cannot be written either
            where = error.filename or "standard output, or a temporary file"
            click.secho(f"crawlguard: {where}: {error.strerror}; make room, and run it again", fg="red", err=True)
            sys.exit(1)
        click.secho(f"crawlguard: {type(error).__name__}: {error}", fg="red", err=True)
        click.echo(
            "This is a mistake of ours. Please report it, with what the same command prints with CRAWLGUARD_DEBUG=1 before it.", err=True
        )
        sys.exit(1)
    finally:
        gc.freeze()  # Python looks through all of it three times more while it ends: a quarter of a short command's time


@cli.command(short_help="Write a starter policy, and name the two lines to add.")
@click.option("--output", "-o", default=DEFAULT_FILE, show_default=True, help="The file to write.")
@click.option(
    "--framework",
    type=click.Choice(["fastapi", "flask", "django", "starlette", "litestar", "quart", "wsgi", "asgi"]),
    help="Instead of looking for it.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@JSON_OPTION
def init(output: str, framework: str | None, force: bool, as_json: bool) -> None:
    """Write a commented starter policy for the framework found here, and say which two lines to add."""
    from ..init import detect, lines_for, write_starter

    name, why = (framework, "--framework") if framework else detect(os.curdir)
    write_starter(output, name, force)
    lines = lines_for(name, output)
    if as_json:
        emit({"file": output, "framework": name, "found_by": why, "lines": lines})
        return
    click.echo(f"{click.style('written', fg='green')} {output} for {name} ({why})\n")
    click.echo("Add to your application:\n")
    for line in lines:
        click.echo(f"    {line}")
    click.echo(
        f"\nThen look at what it does:\n\n    {called()} check {output}\n    {called()} explain --policy {output} --ua 'GPTBot/1.2' --ip 203.0.113.7"
    )


@cli.command(short_help="Show real crawlers and browsers at two guarded sites.")
@click.option("--serve", is_flag=True, help="Keep the guarded sites running to look at, until Ctrl-C.")
@JSON_OPTION
def demo(serve: bool, as_json: bool) -> None:
    """Start two guarded sites on this machine, send them real crawlers and real browsers, and show what happens."""
    from ..demo import run

    sys.exit(run(serve=serve, as_json=as_json, call=called()))


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


@cli.command(short_help="Print the JSON Schema of policies, for editors.")
def schema() -> None:
    """Print the JSON Schema of policies, for editors that complete and check YAML by one."""
    from ..policy.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
