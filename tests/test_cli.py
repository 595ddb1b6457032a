"""The command line as people and scripts meet it: text, JSON, exit codes, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import crawlguard

GPTBOT = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
CLI = [sys.executable, "-m", "crawlguard"]


def run(*args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """One call of the command."""
    return subprocess.run([*CLI, *args], capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}, check=False)


def as_json(*args: str, cwd: Path | None = None) -> dict[str, Any]:
    """What a call prints with --json."""
    done = run(*args, "--json", cwd=cwd)
    value: dict[str, Any] = json.loads(done.stdout)
    assert value["version"] == 1
    return value


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy with an address rule and a rate."""
    path = tmp_path / "crawlguard.yaml"
    path.write_text(
        "version: 1\ninclude: [builtin:default]\nclient_ip: {trusted_proxies: [10.0.0.0/8]}\n"
        "networks: {office: [203.0.113.0/24]}\nrules:\n"
        "- {id: office, when: {network: office}, then: allow}\n"
        "- {id: admin, when: {path: /admin, header: {name: x-key, missing: true}}, then: hide}\n"
    )
    return path


@pytest.mark.parametrize(
    ("args", "action", "rule"),
    [
        (["--ua", GPTBOT, "--ip", "198.51.100.7"], "block", "ai-training"),
        (["--ua", GPTBOT, "--ip", "203.0.113.9"], "allow", "office"),
        (["--ua", GPTBOT, "--ip", "::ffff:203.0.113.9"], "allow", "office"),
        (["--ua", "Mozilla/5.0 Firefox/156.0", "--ip", "2001:db8::1"], "allow", None),
        (["--ua", "Mozilla/5.0 Firefox/156.0"], "allow", None),
        (["--path", "/admin"], "hide", "admin"),
        (["--path", "/admin", "--header", "X-Key: 1"], "allow", None),
        (["--ua", GPTBOT, "--path", "/robots.txt"], "allow", None),
        # With a forwarding header, --ip is the peer's address.
        (["--ua", GPTBOT, "--ip", "10.1.2.3", "--header", "X-Forwarded-For: 203.0.113.4"], "allow", "office"),
        (["--ua", GPTBOT, "--ip", "198.51.100.7", "--header", "X-Forwarded-For: 203.0.113.4"], "block", "ai-training"),
    ],
)
def test_explain_says_what_the_guard_decides(policy: Path, args: list[str], action: str, rule: str | None) -> None:
    found = as_json("explain", "--policy", str(policy), *args)
    assert (found["action"], found["rule"]) == (action, rule)
    assert (found["decision"]["action"], found["decision"]["rule"]) == (action, rule)
    assert [r["rule"] for r in found["rules"]][:2] == ["office", "admin"]
    matched = [r["rule"] for r in found["rules"] if r["verdict"] == "matched" and not r["shadow"]]
    assert matched == [] if rule is None else matched[-1] == rule


def test_explain_uses_the_policy_that_is_here(policy: Path) -> None:
    found = as_json("explain", "--ip", "203.0.113.9", cwd=policy.parent)
    assert found["policy"] == "crawlguard.yaml"
    assert found["facts"]["networks"] == ["office"]
    assert found["facts"]["client"] == "203.0.113.9"


def test_explain_for_eyes(policy: Path) -> None:
    done = run("explain", "--policy", str(policy), "--ua", GPTBOT, "--ip", "198.51.100.7")
    assert done.returncode == 0
    assert done.stdout.startswith("BLOCK by ai-training (HTTP 403)")
    assert "GPTBot (OpenAI, training)" in done.stdout
    assert "\x1b[" not in done.stdout  # no colour into a pipe


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["explain", "--ip", "1.2.3"], "'1.2.3' is not an IP address"),
        (["explain", "--header", "nonsense"], "write 'Name: value'"),
        (["nonsense"], "No such command"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
def test_a_wrong_call_says_how_to_call_it(args: list[str], words: str) -> None:
    done = run(*args)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_check_of_good_policies(policy: Path) -> None:
    done = run("check", str(policy), "builtin:default")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok ") == 2
    found = as_json("check", str(policy))
    assert found["ok"] is True
    assert found["errors"] == []
    assert found["files"][0]["rules"] > 2


def test_check_names_every_error_with_its_place(tmp_path: Path) -> None:
    bad, missing = tmp_path / "bad.yaml", tmp_path / "none.yaml"
    bad.write_text("version: 1\nrules:\n- {id: a, when: {ip: 10.0.0.1/8}, then: block}\n- {id: b, then: bloc}\n")
    found = as_json("check", str(bad), str(missing))
    assert found["ok"] is False
    got = [(e["file"], e["line"], e["column"], e["id"]) for e in found["errors"]]
    assert got == [(str(bad), 3, 22, "CG012"), (str(bad), 4, 17, "CG007"), (str(missing), 0, 0, "CG001")]
    assert all(e["advice"] and e["message"] for e in found["errors"])
    done = run("check", str(bad))
    assert done.returncode == 1
    assert f"{bad}:3:22" in done.stderr


def test_check_reads_the_databases_that_a_policy_names(tmp_path: Path) -> None:
    (tmp_path / "asn.mmdb").write_bytes(b"not a database")
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\ndata: {asn: asn.mmdb}\nrules:\n- {id: a, when: {asn: AS64496}, then: block}\n")
    found = as_json("check", str(policy))
    assert [e["id"] for e in found["errors"]] == ["CG028"]
    assert "asn.mmdb" in found["errors"][0]["message"]


@pytest.mark.parametrize("args", [["explain"], ["explain", "--json"]])
def test_a_broken_policy_is_no_traceback(tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "crawlguard.yaml").write_text("version: 1\nrules: {")
    done = run(*args, cwd=tmp_path)
    assert done.returncode == 1
    assert "CG002" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("files", "framework"),
    [
        ({"main.py": "from fastapi import FastAPI\n"}, "fastapi"),
        ({"app.py": "import flask\n"}, "flask"),
        ({"manage.py": ""}, "django"),
        ({"shop/__init__.py": "from quart import Quart\n"}, "quart"),
        ({"requirements.txt": "starlette==1.0\n"}, "starlette"),
        ({"pyproject.toml": 'dependencies = ["litestar[standard]"]\n'}, "litestar"),
        ({"requirements.txt": "flask-cors\nsomething-django\n"}, "wsgi"),
        ({}, "wsgi"),
    ],
)
def test_init_finds_the_framework(tmp_path: Path, files: dict[str, str], framework: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = as_json("init", cwd=tmp_path)
    assert found["framework"] == framework
    assert len(found["lines"]) == 2
    assert run("check", "crawlguard.yaml", cwd=tmp_path).returncode == 0


def test_init_keeps_what_is_there(tmp_path: Path) -> None:
    assert run("init", cwd=tmp_path).returncode == 0
    (tmp_path / "crawlguard.yaml").write_text("mine")
    done = run("init", cwd=tmp_path)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert (tmp_path / "crawlguard.yaml").read_text() == "mine"
    assert run("init", "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "crawlguard.yaml").read_text() != "mine"


def test_init_into_nowhere_is_one_sentence(tmp_path: Path) -> None:
    done = run("init", "--output", "no/such/place.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_complete(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_CRAWLGUARD_COMPLETE" in done.stdout


def test_completion_offers_the_commands() -> None:
    done = run(_CRAWLGUARD_COMPLETE="bash_complete", COMP_WORDS="crawlguard ex", COMP_CWORD="1")
    assert "explain" in done.stdout


def test_help_and_version() -> None:
    shown = run("--help").stdout
    for command in ("check", "completion", "demo", "explain", "init", "schema"):
        assert command in shown
    assert run("--version").stdout.startswith("crawlguard, version ")


def test_start_up_imports_no_server_and_no_framework() -> None:
    run("check")  # a checkout that has just been made reads its YAML once
    code = "import sys; sys.argv = ['crawlguard', 'check']\ntry:\n import crawlguard.cli as c; c.main()\nexcept SystemExit: print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    for heavy in ("'yaml'", "'asyncio'", "'fastapi'", "'flask'", "'django'", "'polars'", "'re2'", "'maxminddb'", "'httpx'"):
        assert heavy not in loaded


PRESSED = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Presser(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == at:
            os.kill(os.getpid(), signal.SIGINT)

at = sys.argv.pop()
sys.meta_path.insert(0, Presser())
from crawlguard.cli import main
main()
"""


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("click", ["check"]),
        ("crawlguard.console", ["check"]),
        ("importlib.metadata", ["--help"]),
        ("crawlguard.commands.check", ["check"]),
        ("yaml", ["explain", "--policy", str(Path(__file__).parent / "data/policies/good/actions.yaml")]),
        ("crawlguard.guard", ["explain"]),
        ("crawlguard_analyzer.commands", ["analyze"]),
        ("polars", ["analyze", "--help"]),
        ("crawlguard_analyzer.analyze", ["analyze", "--help"]),
    ],
)
def test_ctrl_c_while_modules_load_ends_in_a_line(module: str, command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PRESSED, *command, module], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\ncrawlguard: stopped\n")


def test_the_console_script_loads_next_to_nothing_before_it_can_be_stopped() -> None:
    code = "import sys; before = {*sys.modules}; import crawlguard.cli; print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if not name.startswith("importlib")}
    assert loaded <= {"__future__", "crawlguard", "crawlguard.cli", "crawlguard.commands", "warnings"}


def test_who_has_the_command_in_a_directory_of_its_own_is_told_where(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "crawlguard"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom crawlguard.cli import main\nmain()\n")
    script.chmod(0o755)
    shown = {}
    for path in (os.environ["PATH"], f"{script.parent}:{os.environ['PATH']}"):
        call = [str(script), "init", "--force"]
        shown[path] = subprocess.run(
            call, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PATH": path}, check=True
        ).stdout
    away, near = shown.values()
    assert f"\n    {script} check crawlguard.yaml\n    {script} explain " in away
    assert "\n    crawlguard check crawlguard.yaml\n    crawlguard explain " in near


def test_explain_says_how_to_name_who_asks(tmp_path: Path) -> None:
    hint = "--ua TEXT and --ip ADDRESS say who does"
    assert hint in run("explain", cwd=tmp_path).stderr
    assert hint not in run("explain", "--ua", GPTBOT, cwd=tmp_path).stderr
    assert hint not in run("explain", "--header", "Accept: */*", cwd=tmp_path).stderr


@pytest.mark.parametrize("width", ["80", "200"])
def test_each_command_says_in_a_line_what_it_does(width: str) -> None:
    _, _, listed = run("--help", COLUMNS=width).stdout.partition("Commands:\n")
    lines = listed.rstrip().splitlines()
    assert len(lines) >= 13
    assert all(line.startswith("  ") and line[2] != " " and line.endswith(".") and not line.endswith("...") for line in lines)


def test_the_package_has_what_it_names() -> None:
    for name in crawlguard.__all__:
        assert getattr(crawlguard, name).__name__ == name
        assert name in dir(crawlguard)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        crawlguard.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_full_disk_behind_the_output_is_told_with_its_cure(flags: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*CLI, "check", *flags, "builtin:default"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("crawlguard: standard output, or a temporary file: No space left on device; make room, and run it again\n")
