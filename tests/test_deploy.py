"""What ``deploy/`` says is what the command and the system understand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from crawlguard.commands.update import command

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("crawlguard-update.*"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units() -> None:
    assert len(UNITS) == 2
    found = subprocess.run(["systemd-analyze", "verify", "--man=no", *UNITS], check=False, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("path", [*UNITS, DEPLOY / "cron" / "crawlguard-update", DEPLOY / "README.md"], ids=lambda p: p.name)
def test_only_options_that_there_are_stand_in_it(path: Path) -> None:
    known = {option for parameter in command.params for option in parameter.opts}
    for line in re.findall(r"crawlguard update( --[^`\n]*)", path.read_text()):
        assert set(re.findall(r"--[a-z-]+", line)) <= known


def test_the_cron_line_runs_as_a_user_and_escapes_what_cron_would_eat() -> None:
    line = (DEPLOY / "cron" / "crawlguard-update").read_text().splitlines()[-1]
    *when, user, _ = line.split(maxsplit=6)
    assert all(re.fullmatch(r"[0-9*]+", field) for field in when)
    assert user == "crawlguard"
    assert not re.search(r"(?<!\\)%", line)
