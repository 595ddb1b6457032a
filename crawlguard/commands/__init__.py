"""Subcommands in modules of their own: each has its ``command``, and is imported when it is asked for. ``group`` puts them together."""

import os
import sys


def stopped() -> None:
    """End a command that was stopped by Ctrl-C as shells expect it: in a line, with 128 + SIGINT. Raises SystemExit."""
    print("\ncrawlguard: stopped", file=sys.stderr)  # the terminal has written ^C
    sys.exit(130)


def called() -> str:
    """What to type for this command: ``crawlguard`` where the shell finds it, else the way to it, as after ``make demo`` in a checkout."""
    import shutil

    own = os.path.abspath(sys.argv[0])
    found = shutil.which("crawlguard")
    if os.path.basename(own) != "crawlguard" or (found and os.path.samefile(found, own)):
        return "crawlguard"
    return own
