"""The analyzer's subcommands, as the ``crawlguard`` command finds them by their entry points. Light to import: polars comes with a command.

The package is installed with the middleware, polars only with the extra ``analyze``; without it each command says so.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from crawlguard.errors import ConfigError

SUMMARIES = {
    "analyze": "Read access logs: who is a person, and who a machine.",
    "report": "Show what the logs tell: in the terminal, as a page, as a mail.",
    "propose": "Propose rules from the logs, with evidence.",
    "backtest": "Show what a policy would have done to a log.",
}

ALLOCATOR = f"narenas:{os.cpu_count() or 1},dirty_decay_ms:5000"
"""How polars' jemalloc (see its manual, TUNING) is to keep memory, unless the environment says otherwise. Threads that take turns with chunks of
a log share one arena per core instead of having four: what one has freed another takes, and the pages need not be returned and fetched
again, which was a sixth of all CPU time; to keep them for 5 s saves another 4%.
"""

NO_REGION = r"'\(default_\)region' not set"
"""What polars warns of before it asks a bucket (s3://) for its region: nobody need do anything about it."""


class Lazy(click.Command):
    """A command that is imported when it is run, not when it is listed."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """The context of the real command. Raises ConfigError without polars."""
        if find_spec("polars") is None:
            raise ConfigError(f"crawlguard {self.name} needs polars: {_install(Path(__file__).resolve().parents[2])}")
        from .trim import share  # ctypes, which only a command needs

        warnings.filterwarnings("ignore", NO_REGION, UserWarning)
        os.environ.setdefault("_RJEM_MALLOC_CONF", ALLOCATOR)  # read when polars is loaded
        share()
        gc.disable()
        module = import_module(f".cli_{self.name}", __package__)
        gc.freeze()  # what was loaded stays: the collector looks through it neither now nor at the end, which is 0.1 s
        gc.enable()
        if hasattr(signal, "siginterrupt"):  # polars asks for system calls to go on after Ctrl-C: a silent pipe would be read for ever
            signal.siginterrupt(signal.SIGINT, True)
        real: click.Command = getattr(module, self.name or "")
        return real.make_context(info_name, args, parent, **extra)


def _install(root: Path) -> str:
    """The command that installs what is missing, where this is installed: from a checkout in ``root``, if it is one."""
    what = f"-e '{root}[analyze]'" if (root / "pyproject.toml").is_file() else "'crawlguard[analyze]'"
    return f"{sys.executable} -m pip install {what}"


analyze, report, propose, backtest = (Lazy(name, short_help=text) for name, text in SUMMARIES.items())
