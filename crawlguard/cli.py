"""The console script. It loads next to nothing by itself: Ctrl-C while modules load must end in a line, as it does later."""

from __future__ import annotations

from .commands import stopped


def main() -> None:
    """Do what the command line says, see ``commands.group``."""
    try:
        import gc

        gc.set_threshold(50_000)  # what a command loads stays: to look through it for garbage again and again is in vain
        from .commands.group import run

        run()
    except KeyboardInterrupt:
        stopped()
