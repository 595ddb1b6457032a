"""The console script. It loads next to nothing by itself: Ctrl-C while modules load must end in a line, as it does later."""

from __future__ import annotations

from .commands import stopped


def main() -> None:
    """Do what the command line says, see ``commands.group``."""
    try:
        from .commands.group import run

        run()
    except KeyboardInterrupt:
        stopped()
