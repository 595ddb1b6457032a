"""What a process does first that was forked from one which had loaded us, and whether threads run in it.

Servers that load a site before they fork have os.register_at_fork tell us. uWSGI forks without telling Python, and runs no threads unless
it is asked to, so it is asked itself (https://uwsgi-docs.readthedocs.io/en/latest/PythonModule.html).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module

from .log import own

_works: list[Callable[[], None]] = []
_pid = os.getpid()


def in_child(work: Callable[[], None]) -> None:
    """Have each process that is forked from this one do ``work`` before anything else, after what was asked for before."""
    _works.append(work)


def _forked() -> None:
    global _pid
    if os.getpid() != _pid:  # uWSGI with --py-call-osafterfork tells both ways
        _pid = os.getpid()
        for work in _works:
            work()


@cache
def threads_run() -> bool:
    """Whether threads that are begun here run. A uWSGI without --enable-threads runs none: that is logged, once."""
    if getattr(sys.modules.get("uwsgi"), "has_threads", True):
        return True
    own.warning("uWSGI runs no threads, so a changed policy is not noticed, nor what other hosts count: start it with --enable-threads")
    return False


def _asked() -> None:
    server = sys.modules.get("uwsgi")
    if server is None:
        return
    try:
        import_module("uwsgidecorators").postfork(_forked)  # it keeps a list of who wants to know
    except Exception:  # it is not installed, or refuses a uWSGI without a master process
        before = getattr(server, "post_fork_hook", None)

        def hook() -> None:
            if before is not None:
                before()
            _forked()

        server.post_fork_hook = hook  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
_asked()
