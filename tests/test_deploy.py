"""What ``deploy/`` says is what the command and the system understand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from crawlguard.commands.group import cli

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("crawlguard-*.*"))
CRON = sorted((DEPLOY / "cron").iterdir())
SCRIPT = DEPLOY / "crawlguard-report"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units() -> None:
    assert [unit.name for unit in UNITS] == [f"crawlguard-{what}.{kind}" for what in ("report", "update") for kind in ("service", "timer")]
    found = subprocess.run(["systemd-analyze", "verify", "--man=no", *UNITS], check=False, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("path", [*UNITS, *CRON, SCRIPT, DEPLOY / "README.md"], ids=lambda p: f"{p.parent.name}/{p.name}")
def test_only_options_that_there_are_stand_in_it(path: Path) -> None:
    for name, line in re.findall(r"crawlguard ([a-z]+)( --[^`\n]*)", path.read_text()):
        told = CliRunner().invoke(cli, [name, "--help"])
        assert told.exit_code == 0
        assert set(re.findall(r"--[a-z-]+", line)) <= set(re.findall(r"--[a-z-]+", told.output))


@pytest.mark.parametrize("path", CRON, ids=lambda p: p.name)
def test_the_cron_lines_run_as_a_user_and_escape_what_cron_would_eat(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not re.match(r"#|[A-Z_]+=", line)]
    assert lines
    for line in lines:
        *when, user, _ = line.split(maxsplit=6)
        assert all(re.fullmatch(r"[0-9*,-]+", field) for field in when)
        assert user == "crawlguard"
        assert not re.search(r"(?<!\\)%", line)


def test_every_day_has_one_report() -> None:
    days = re.findall(
        r"^[0-9]+ [0-9]+ \* \* (\S+) crawlguard crawlguard-report(.*)$", (DEPLOY / "cron" / "crawlguard-report").read_text(), re.MULTILINE
    )
    assert days == [("1", " --mail"), ("0,2-6", "")]


STAND_IN = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
  *--mail*) echo "the week" ;;
  analyze*) : > seen; exit "$ANALYZE" ;;
  propose*) printf %s "$PROPOSED" ;;
esac
"""
"""A crawlguard that notes what it is asked for, and does as the test says."""


class Host:
    """A directory in which the script finds everything that it needs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("bin", "reports", "log"):
            (directory / name).mkdir()
        (directory / "bin" / "crawlguard").write_text(STAND_IN)
        (directory / "bin" / "crawlguard").chmod(0o755)
        for name in ("access.log", "access.log.1"):
            (directory / "log" / name).touch()

    def run(self, *arguments: str, **more: str) -> tuple[int, str, list[str]]:
        """The script's exit code, what it prints, and what it asked of crawlguard."""
        calls = self.directory / "calls"
        calls.write_text("")
        env = {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "ANALYZE": "0",
            "PROPOSED": "",
            "CRAWLGUARD_LOGS": f"{self.directory}/log/access.log* other.log",
            "CRAWLGUARD_POLICY": "/etc/crawl guard.yaml",
            "CRAWLGUARD_REPORT_DIR": str(self.directory / "reports"),
            **more,
        }
        done = subprocess.run([SCRIPT, *arguments], env=env, check=False, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr, calls.read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_report_is_quiet_when_all_is_well(host: Host) -> None:
    code, told, calls = host.run()
    assert (code, told) == (0, "")
    given = f"--state {host.directory}/reports/state --policy=/etc/crawl guard.yaml"
    logs = f"{host.directory}/log/access.log* other.log"  # patterns are crawlguard's to expand: it sorts by time
    assert calls == [
        f"analyze --quiet {given} {logs}",
        f"report --quiet {given} --html report.html",
        f"propose --quiet {given} --apply crawlguard-proposed.yaml --yes {logs}",
    ]


def test_it_keeps_what_it_writes_from_others(host: Host) -> None:
    host.run()
    assert (host.directory / "reports" / "seen").stat().st_mode & 0o007 == 0


def test_the_weekly_mail_is_the_report_and_then_what_is_proposed(host: Host) -> None:
    assert host.run("--mail")[:2] == (0, "the week\n")
    assert host.run("--mail", PROPOSED="+ a rule\n")[:2] == (0, "the week\n+ a rule\n")


def test_new_proposals_are_told_every_day(host: Host) -> None:
    assert host.run(PROPOSED="+ a rule\n")[:2] == (0, "+ a rule\n")


def test_after_an_analysis_that_failed_nothing_is_reported(host: Host) -> None:
    code, _, calls = host.run("--mail", ANALYZE="1")
    assert (code, [call.split()[0] for call in calls]) == (1, ["analyze"])


def test_without_a_policy_of_its_own_none_is_named(host: Host) -> None:
    _, _, calls = host.run(CRAWLGUARD_POLICY="")
    assert len(calls) == 3
    assert not any("--policy" in call for call in calls)


def test_an_empty_setting_is_the_usual_one(host: Host) -> None:
    _, _, calls = host.run(CRAWLGUARD_LOGS="")
    assert calls[0].endswith(" /var/log/nginx/access.log*")
    assert calls[-1].endswith(" /var/log/nginx/access.log*")


@pytest.mark.parametrize("arguments", [("--weekly",), ("--mail", "more"), ("",)])
def test_called_wrongly_it_says_how(host: Host, arguments: tuple[str, ...]) -> None:
    code, told, calls = host.run(*arguments)
    assert (code, told, calls) == (2, "usage: crawlguard-report [--mail]\n", [])


def test_where_there_is_no_directory_it_says_so(host: Host) -> None:
    code, told, calls = host.run(CRAWLGUARD_REPORT_DIR="/nowhere")
    assert (code, calls) == (1, [])
    assert "/nowhere" in told


@pytest.mark.parametrize("shell", [name for name in ("sh", "dash", "bash", "busybox") if shutil.which(name)])
def test_every_shell_reads_the_script(shell: str) -> None:
    command = [shell, "sh"] if shell == "busybox" else [shell]
    assert subprocess.run([*command, "-n", SCRIPT], check=False, capture_output=True).returncode == 0
