"""Processes of their own follow their policy's file: by themselves, after a fork, and by SIGHUP where there is no terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .policy_corpus import simple_policy as policy

PATIENCE = 20.0
"""Seconds after which a change that should be seen counts as missed; a look is due each second."""


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "main.yaml"
    path.write_text(policy("old"))
    return path


SERVE = """
import os, sys
from crawlguard import Guard
from crawlguard.request import RequestView
guard = Guard(sys.argv[1], store="memory")
if "every-hour" in sys.argv:
    import crawlguard.watch
    crawlguard.watch.WATCH_EVERY = 3600.0
def answer(who, line):
    rule = guard.decide(RequestView("GET", line.strip(), [], "203.0.113.7")).rule
    print(who, rule, flush=True)
if "fork" in sys.argv:
    ask, tell = os.pipe()
    if os.fork() == 0:
        os.close(tell)
        with os.fdopen(ask) as lines:
            for line in lines:
                answer("child", line)
        os._exit(0)
    os.close(ask)
    pipe = os.fdopen(tell, "w")
print("ready", flush=True)
for line in sys.stdin:
    if "fork" in sys.argv:
        pipe.write(line); pipe.flush()
    else:
        answer("parent", line)
"""


class Server:
    """A process of its own with a guard in it, and no terminal: it answers a path with the rule that decided."""

    def __init__(self, path: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(path), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.line() == "ready"

    def line(self) -> str:
        """The next line of its output; an error when none comes in time."""
        out = self.process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], PATIENCE)
        assert ready, "the process does not answer"
        return out.readline().strip()

    def ask(self, path: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(path + "\n")
        self.process.stdin.flush()
        return self.line()

    def until(self, path: str, answer: str) -> bool:
        """Whether the process comes to give an answer, asked over and over."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.ask(path) == answer:
                return True
        return False

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


def test_a_running_process_follows_its_file(main: Path) -> None:
    with Server(main) as server:
        assert server.ask("/new") == "parent None"
        main.write_text(policy("new"))
        assert server.until("/new", "parent new")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_follows_the_file_too(main: Path) -> None:
    with Server(main, "fork") as server:
        assert server.ask("/old") == "child old"
        main.write_text(policy("new"))
        assert server.until("/new", "child new")


HUP: Callable[[Server], None] = lambda server: os.kill(server.process.pid, 1)  # noqa: E731


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP on this system")
def test_sighup_reloads_at_once_where_there_is_no_terminal(main: Path) -> None:
    with Server(main, "every-hour") as server:
        assert server.until("/old", "parent old")
        # The first look may still be due in a second, with the interval that held before; from then on only the signal counts.
        main.write_text(policy("new"))
        HUP(server)
        assert server.until("/new", "parent new")
        main.write_text(policy("newer"))
        HUP(server)
        assert server.until("/newer", "parent newer")
        assert server.process.poll() is None


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP on this system")
def test_a_storm_of_sighups_does_not_stop_a_process(main: Path) -> None:
    with Server(main) as server:
        for _ in range(10_000):
            HUP(server)
        assert server.until("/old", "parent old")
        main.write_text(policy("new"))
        assert server.until("/new", "parent new")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP on this system")
def test_sighup_that_the_application_wants_for_itself_is_left_alone(main: Path) -> None:
    code = (
        "import signal, sys\nmine = lambda *_: None\nsignal.signal(signal.SIGHUP, mine)\n"
        "from crawlguard import Guard\nGuard(sys.argv[1], store='memory')\nprint(signal.getsignal(signal.SIGHUP) is mine)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(main)], capture_output=True, text=True, check=True, start_new_session=True)
    assert done.stdout.strip() == "True"
