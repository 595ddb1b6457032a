"""Subcommands in modules of their own: each has its ``command``, and is imported when it is asked for. ``group`` puts them together."""

import sys


def stopped() -> None:
    """End a command that was stopped by Ctrl-C as shells expect it: in a line, with 128 + SIGINT. Raises SystemExit."""
    print("\ncrawlguard: stopped", file=sys.stderr)  # the terminal has written ^C
    sys.exit(130)
