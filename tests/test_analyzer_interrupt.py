"""Ctrl-C on a terminal, in the middle of a log: one line, the exit code that shells expect, and nothing half-written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

SPAWN = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
LINE = b'203.0.113.7 - - [26/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 512 "-" "Mozilla/5.0"\n'
DEADLINE = 60
PRESSED = 5
"""Seconds after which an operator presses again."""


def reader_of(path: Path, process: subprocess.Popen[bytes]) -> int:
    """The pipe's writing end, as soon as somebody reads it."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(0.01)
    raise AssertionError(f"nobody has opened {path}")


@pytest.mark.parametrize(
    "command",
    [
        ("analyze", "LOG", "--state", "state", "--clients", "clients.parquet", "--rollup", "rollup.parquet", "--rejects", "rejects.txt"),
        ("report", "LOG", "--html", "page.html", "--csv", "csv"),
        ("propose", "LOG", "--apply", "proposed.yaml", "--yes"),
        ("backtest", "builtin:default", "LOG"),
    ],
    ids=lambda command: command[0],
)
def test_ctrl_c(command: tuple[str, ...], tmp_path: Path) -> None:
    pipe = tmp_path / "access.log"
    os.mkfifo(pipe)
    call = [sys.executable, "-m", "crawlguard", *(str(pipe) if word == "LOG" else word for word in command)]
    process = subprocess.Popen([sys.executable, "-c", SPAWN, *call], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    with process:
        assert process.stdin is not None
        log = reader_of(pipe, process)
        try:
            os.write(log, LINE * 100)
            end = time.monotonic() + DEADLINE
            while (
                process.poll() is None and time.monotonic() < end
            ):  # one that comes right before a blocking read is only seen with the next
                process.stdin.write(b"\x03")
                process.stdin.flush()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(PRESSED)
        finally:
            os.close(log)
            process.kill()
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 130
    told = [line for line in output.decode().replace("\r", "\n").split("\n") if line.strip() and "%" not in line and "\x1b" not in line]
    assert told[-1] == "crawlguard: stopped"
    assert "Traceback" not in output.decode()
    assert {path.name for path in tmp_path.rglob("*")} <= {"access.log", "state", "lock"}
